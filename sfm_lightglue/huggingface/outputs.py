"""Input and output of the model: values by attribute, by key and, for outputs, by position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


class ImageBatch(dict[str, Any]):
    """Result of an image processor, for `model(**batch)`.

    `pixel_values` are [B, 2, C, H, W] float32, or [B, 2, H, W, C] with channels last. `image_sizes` [B, 2, 2] int64 are
    (height, width) of the images at their upper left; the rest is padding.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, *args: Any, **kwargs: Any) -> ImageBatch:
        """The batch with tensors on another device or of another type; the type of integer tensors is kept."""
        moved = ImageBatch()
        for key, value in self.items():
            if isinstance(value, Tensor):
                target = value.to(*args, **kwargs)
                moved[key] = target if value.is_floating_point() else target.to(value.dtype)
            else:
                moved[key] = value
        return moved


@dataclass(eq=False)
class LightGlueKeypointMatchingOutput:
    """Matches of B pairs of images, padded to N points per image.

    Fields are read by attribute, by key, or by position among the fields that are not None, as in `transformers`.
    """

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

    def items(self) -> list[tuple[str, Any]]:
        """Names and values of the fields that are not None."""
        names = [field.name for field in fields(self) if field.name not in _OWN_FIELDS]
        return [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]

    def keys(self) -> list[str]:
        """Names of the fields that are not None."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Any]:
        """Values of the fields that are not None."""
        return [value for _, value in self.items()]

    def to_tuple(self) -> tuple[Any, ...]:
        """Values of the fields that are not None, in their order."""
        return tuple(self.values())

    def __getitem__(self, key: str | int | slice) -> Any:
        if isinstance(key, str):
            return dict(self.items())[key] if key in self.keys() else getattr(self, _view(key))
        return self.to_tuple()[key]

    def __contains__(self, key: object) -> bool:
        return key in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())


_OWN_FIELDS = ("image_sizes", "input_size", "filled_sizes")
"""Fields that outputs of `transformers` do not have."""


def _view(key: str) -> str:
    if key[-1:] in ("0", "1") and isinstance(getattr(LightGlueKeypointMatchingOutput, key, None), property):
        return key
    raise KeyError(key)


def _side(values: Tensor | None, side: int) -> Tensor | None:
    return None if values is None else values[:, side]
