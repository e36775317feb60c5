"""Sizes that a processor resizes and pads images to: notations of `transformers`, and the size of each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sfm_lightglue.huggingface.letterbox import fit_within

DEFAULT_SIZE = {"height": 480, "width": 640}

_NOTATIONS = (
    {"height", "width"},
    {"shortest_edge"},
    {"longest_edge"},
    {"shortest_edge", "longest_edge"},
    {"max_height", "max_width"},
)


def as_size(value: Any, name: str, is_square: bool = True) -> dict[str, int]:
    """A size as a dictionary.

    Args:
        value: a dictionary with the keys of one of the notations; (height, width); or one number.
        name: of the option, for the message.
        is_square: whether one number is that of both sides, or of the shortest side.

    Raises:
        ValueError: if it is no size.
    """
    if _is_length(value):
        return {"height": int(value), "width": int(value)} if is_square else {"shortest_edge": int(value)}
    if hasattr(value, "shortest_edge") and not isinstance(value, Mapping):
        value = dict(value)  # the size of a processor of `transformers`
    if isinstance(value, Mapping):
        if set(value) in _NOTATIONS and all(map(_is_length, value.values())):
            return {key: int(length) for key, length in value.items()}
    elif isinstance(value, Sequence) and len(value) == 2 and all(map(_is_length, value)):
        return {"height": int(value[0]), "width": int(value[1])}
    raise ValueError(
        f'{name}: expected {{"height": H, "width": W}}, (height, width), one number, {{"shortest_edge": N}},'
        f' {{"longest_edge": N}}, both of these, or {{"max_height": H, "max_width": W}}, got {value!r}'
    )


def resized_size(image_size: Sequence[int], size: Mapping[str, int], keep_aspect_ratio: bool) -> tuple[int, int]:
    """(height, width) of an image after the resize; the roundings are those of `transformers`.

    Args:
        image_size: (height, width).
        size: of `as_size`. Only {"height", "width"} can change the aspect ratio.
        keep_aspect_ratio: whether an image is fitted into {"height", "width"}, instead of stretched.
    """
    height, width = int(image_size[0]), int(image_size[1])
    if "height" in size:
        frame = size["height"], size["width"]
        return fit_within((height, width), frame) if keep_aspect_ratio else frame
    if "max_height" in size:
        scale = min(size["max_height"] / height, size["max_width"] / width)
        return max(1, int(height * scale)), max(1, int(width * scale))
    short, long = min(height, width), max(height, width)
    if "shortest_edge" not in size:
        new_long = size["longest_edge"]
        new_short = max(1, round(short * new_long / long))
    else:
        new_short = size["shortest_edge"]
        new_long = int(new_short * long / short)
        if long / short * new_short > size.get("longest_edge", float("inf")):
            exact_short = size["longest_edge"] * short / long
            new_short, new_long = max(1, round(exact_short)), int(exact_short * long / short)
    return (new_short, new_long) if height <= width else (new_long, new_short)


def frame_of(
    sizes: Sequence[Sequence[int]], size: Mapping[str, int] | None, pad_size: Mapping[str, int] | None
) -> tuple[int, int]:
    """(height, width) of the model input, into which all images of a batch are placed.

    Args:
        sizes: (height, width) of the images after the resize.
        size: that they are resized to; None without resize.
        pad_size: that they are padded to; None for the smallest that fits.

    Raises:
        ValueError: if an image is larger than `pad_size`.
    """
    if size is not None and "height" in size:
        least = size["height"], size["width"]
    else:
        least = max(each[0] for each in sizes), max(each[1] for each in sizes)
    if pad_size is None:
        return least
    padded = pad_size["height"], pad_size["width"]
    if padded[0] < least[0] or padded[1] < least[1]:
        raise ValueError(f"pad_size: {padded} (height, width) is smaller than the images, which need {least}")
    return padded


def _is_length(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and int(value) > 0
