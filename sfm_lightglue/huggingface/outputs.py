"""What goes into the model and what comes out, readable by name, by key and, for outputs, by position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


class ImageBatch(dict[str, Any]):
    """What an image processor gives, so that `model(**batch)` takes it.

    `pixel_values` are [B, 2, C, H, W] float32 (or [B, 2, H, W, C] where asked for). `image_sizes` [B, 2, 2]
    int64 hold (height, width) of the pictures within them, at the upper left; the rest is padding.
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, *args: Any, **kwargs: Any) -> ImageBatch:
        """Tensors on another device, or of another precision; integers keep theirs."""
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
    """Matches of B pairs of images, padded to N points an image.

    Fields are read by name, by key, or by their place among those that are there, as in `transformers`.
    """

    loss: Tensor | None = None
    """Scalar, where labels were given."""
    matches: Tensor | None = None
    """[B, 2, N] int64: index of the point in the other image, or -1."""
    matching_scores: Tensor | None = None
    """[B, 2, N] float: of mutual nearest neighbours, passed by the filter or not; else 0."""
    keypoints: Tensor | None = None
    """[B, 2, N, 2] float (x, y): pixels of the network's picture, whose first centre is at 0, divided by its
    width and height (without padding)."""
    prune: Tensor | None = None
    """[B, 2, N] int64: layers that a point went through; 0 on padding."""
    mask: Tensor | None = None
    """[B, 2, N] int32: 1 on points, 0 on padding."""
    hidden_states: tuple[Tensor, ...] | None = None
    """Where asked for, seven [2 B, N, D or 2 D] a layer: states before, after self-attention's update, input and
    result of that update, states after, input and result of cross-attention's update. 0 for points that had left."""
    attentions: tuple[Tensor, ...] | None = None
    """Where asked for, two [2 B, H, N, N] a layer, within the images and across; queries first."""
    image_sizes: Tensor | None = None
    """[B, 2, 2] int64 (height, width) of the pictures that were seen, where the model was told; no part of the
    tuple."""
    input_size: tuple[int, int] | None = None
    """(height, width) of the model's input; no part of the tuple."""
    filled_sizes: Tensor | None = None
    """[B, 2, 2] int64: rows and columns of the input up to the last that is not black, where the model was not
    told `image_sizes`; no part of the tuple."""

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
        """Names and values of what is there."""
        names = [field.name for field in fields(self) if field.name not in _BESIDE]
        return [(name, getattr(self, name)) for name in names if getattr(self, name) is not None]

    def keys(self) -> list[str]:
        """Names of what is there."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Any]:
        """What is there."""
        return [value for _, value in self.items()]

    def to_tuple(self) -> tuple[Any, ...]:
        """What is there, in the order of the fields."""
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


_BESIDE = ("image_sizes", "input_size", "filled_sizes")
"""What `transformers`' outputs do not have."""


def _view(key: str) -> str:
    if key[-1:] in ("0", "1") and isinstance(getattr(LightGlueKeypointMatchingOutput, key, None), property):
        return key
    raise KeyError(key)


def _side(values: Tensor | None, side: int) -> Tensor | None:
    return None if values is None else values[:, side]
