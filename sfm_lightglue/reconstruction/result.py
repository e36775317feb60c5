"""What `reconstruct` returns."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.reconstruction.run_record import Summary

if TYPE_CHECKING:
    import pycolmap


@dataclass(frozen=True, eq=False)
class ReconstructionResult:
    """A finished reconstruction.

    Args:
        output: the folder of the results.
        summary: counts, accuracy and times.

    Example:
        >>> result = sfm_lightglue.reconstruct("photos/")
        >>> result.summary.num_registered
        4
        >>> result.model.num_reg_images()
        4
    """

    output: Path
    summary: Summary
    _folder: Path = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_folder", self.output.absolute())  # the working directory may change

    @cached_property
    def models(self) -> tuple[pycolmap.Reconstruction, ...]:
        """The published models, the largest first, read from the output folder when they are first asked for.

        Raises:
            DataError: if a model was removed or damaged meanwhile.
        """
        return tuple(
            read_model(self._folder / model["path"]) for model in self.summary.models[: self.summary.num_published]
        )

    @property
    def model(self) -> pycolmap.Reconstruction:
        """The largest model."""
        return self.models[0]

    def __repr__(self) -> str:
        summary = self.summary
        return (
            f"ReconstructionResult({summary.num_registered} of {summary.num_images} images registered,"
            f" {summary.num_points} points, {summary.mean_reprojection_error_px:.2f} px, output={str(self.output)!r})"
        )

    def _repr_html_(self) -> str:
        """The summary and a picture of the largest model, for notebooks."""
        from sfm_lightglue.colmap.drawing import model_arrays  # only notebooks need to load Pillow for it
        from sfm_lightglue.drawing.model import model_svg

        caption = f"{self.summary} -> {self.output / self.summary.models[0]['path']}"
        return f"<figure>{model_svg(model_arrays(self.model))}<figcaption>{html.escape(caption)}</figcaption></figure>"
