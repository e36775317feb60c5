"""Calls by `transformers.pipeline`, which passes sizes in another order than it documents."""

from __future__ import annotations

import inspect
from types import FrameType
from typing import Any

from PIL import Image as PilImage

_MODULE = "transformers.pipelines"
_METHOD = "postprocess"
_MAX_DEPTH = 8
_ADVICE = "use sfm_lightglue.pipeline(model=..., image_processor=...)"


def host_swaps_sizes() -> bool:
    """Whether the caller is a pipeline of `transformers` that gives `target_sizes` as (width, height).

    Version 5.23 does so, against the documentation of `post_process_keypoint_matching`. The order is not derived from
    the version: the calling pipeline prepares a small image of known size, and its result tells.

    Raises:
        ValueError: if the pipeline does not tell the order.
    """
    host = _calling_pipeline()
    if host is None:
        return False
    width, height = 3, 2
    probe = PilImage.new("RGB", (width, height), (1, 2, 3))
    try:
        sizes = [tuple(int(side) for side in size) for size in host.preprocess([probe, probe])["target_sizes"]]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"target_sizes: this pipeline of transformers does not tell the order of its sizes ({error}); {_ADVICE}"
        ) from error
    if sizes not in ([(width, height)] * 2, [(height, width)] * 2):
        raise ValueError(
            f"target_sizes: this pipeline of transformers gives sizes {sizes} for images of {width} x {height};"
            f" {_ADVICE}"
        )
    return sizes[0] == (width, height)


def _calling_pipeline() -> Any:
    """The pipeline of `transformers` whose `postprocess` is among the callers; None if there is none."""
    frame: FrameType | None = inspect.currentframe()
    for _ in range(_MAX_DEPTH):
        if frame is None:
            return None
        is_host = str(frame.f_globals.get("__name__", "")).startswith(_MODULE)
        if is_host and frame.f_code.co_name == _METHOD:
            return frame.f_locals.get("self")
        frame = frame.f_back
    return None
