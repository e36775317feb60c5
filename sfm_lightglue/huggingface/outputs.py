"""Outputs of the models: values by attribute, by key and by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from sfm_lightglue.huggingface.model_output import ModelOutput


@dataclass(eq=False, repr=False)
class LightGlueKeypointMatchingOutput(ModelOutput):
    """Matches of B pairs of images, padded to N points per image.

    Fields are read by attribute, by key, or by position among the fields that are not None, as in `transformers`. It is
    a mapping of these fields, and `to_tuple` gives their values.

    Example:
        >>> outputs = sfm_lightglue.LightGlueKeypointMatchingOutput(prune=[3], mask=[1])
        >>> list(outputs), outputs["mask"], outputs[0]
        (['prune', 'mask'], [1], [3])
    """

    further_fields: ClassVar[tuple[str, ...]] = ("image_sizes", "input_size", "filled_sizes")

    loss: Tensor | None = None
    """Scalar, if labels were given."""
    matches: Tensor | None = None
    """[B, 2, N] int64: index of the matching point in the other image, or -1."""
    matching_scores: Tensor | None = None
    """[B, 2, N] float: scores of mutual nearest neighbours, also below the filter threshold; else 0."""
    keypoints: Tensor | None = None
    """[B, 2, N, 2] float (x, y): pixels of the image in the model input, with the first pixel centre at 0, divided by
    width and height of the image without padding."""
    prune: Tensor | None = None
    """[B, 2, N] int64: number of layers that processed a point; 0 on padding."""
    mask: Tensor | None = None
    """[B, 2, N] int32: 1 on points, 0 on padding."""
    hidden_states: tuple[Tensor, ...] | None = None
    """If requested, seven tensors [2 B, N, D or 2 D] per layer: states before; states after the update of
    self-attention, its input and its result; states after the layer, input and result of the update of
    cross-attention. 0 for pruned points."""
    attentions: tuple[Tensor, ...] | None = None
    """If requested, two tensors [2 B, H, N, N] per layer, of self- and cross-attention; queries first."""
    image_sizes: Tensor | None = None
    """[B, 2, 2] int64: `image_sizes` of the call, if given; not part of the tuple."""
    input_size: tuple[int, int] | None = None
    """(height, width) of the model input; not part of the tuple."""
    filled_sizes: Tensor | None = None
    """[B, 2, 2] int64: numbers of rows and columns up to the last one that is not black, if the call had no
    `image_sizes`; not part of the tuple."""

    keypoints0 = property(lambda self: _side(self.keypoints, 0), doc="[B, N, 2] of the first images.")
    keypoints1 = property(lambda self: _side(self.keypoints, 1), doc="[B, N, 2] of the second images.")
    matches0 = property(lambda self: _side(self.matches, 0), doc="[B, N] indices into the second images.")
    matches1 = property(lambda self: _side(self.matches, 1), doc="[B, N] indices into the first images.")
    matching_scores0 = property(lambda self: _side(self.matching_scores, 0), doc="[B, N] of the first images.")
    matching_scores1 = property(lambda self: _side(self.matching_scores, 1), doc="[B, N] of the second images.")
    prune0 = property(lambda self: _side(self.prune, 0), doc="[B, N] of the first images.")
    prune1 = property(lambda self: _side(self.prune, 1), doc="[B, N] of the second images.")
    mask0 = property(lambda self: _side(self.mask, 0), doc="[B, N] of the first images.")
    mask1 = property(lambda self: _side(self.mask, 1), doc="[B, N] of the second images.")

    def __getitem__(self, key: Any) -> Any:
        is_view = isinstance(key, str) and key[-1:] in ("0", "1") and key[:-1] in self
        return getattr(self, key) if is_view else super().__getitem__(key)


@dataclass(eq=False, repr=False)
class SuperPointKeypointDescriptionOutput(ModelOutput):
    """Keypoints of B images, padded to N points per image; fields are read as in the output of LightGlue."""

    further_fields: ClassVar[tuple[str, ...]] = ("image_sizes", "input_size", "filled_sizes")

    loss: Tensor | None = None
    """Always None: SuperPoint is not trained here."""
    keypoints: Tensor | None = None
    """[B, N, 2] float (x, y): pixels of the image in the model input, with the first pixel centre at 0, divided by
    width and height of the image without padding."""
    scores: Tensor | None = None
    """[B, N] float in [0, 1]."""
    descriptors: Tensor | None = None
    """[B, N, D] float of length 1."""
    mask: Tensor | None = None
    """[B, N] int32: 1 on points, 0 on padding."""
    hidden_states: tuple[Tensor, ...] | None = None
    """If requested, the feature maps [B, C, h, w] of the four stages of the encoder."""
    image_sizes: Tensor | None = None
    """[B, 2] int64: `image_sizes` of the call, if given; not part of the tuple."""
    input_size: tuple[int, int] | None = None
    """(height, width) of the model input; not part of the tuple."""
    filled_sizes: Tensor | None = None
    """[B, 2] int64: numbers of rows and columns up to the last one that is not black, if the call had no
    `image_sizes`; not part of the tuple."""


def _side(values: Tensor | None, side: int) -> Tensor | None:
    return None if values is None else values[:, side]
