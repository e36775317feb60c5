"""Thresholds that suit weights of LightGlue, told by the weights themselves; without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError, safe_open

from sfm_lightglue.errors import WeightsError

FORMAT = "sfm_lightglue"
"""Value of "format" in the metadata of our own files."""

THRESHOLDS = "thresholds"
"""Key of the metadata of our files of LightGlue that holds recommended thresholds as JSON."""

PAPERS_THRESHOLDS: Mapping[str, float] = MappingProxyType(
    {"depth_confidence": 0.95, "width_confidence": 0.99, "filter_threshold": 0.1}
)
"""Of the authors' code, for weights that recommend nothing."""


def check_thresholds(values: Mapping[str, float]) -> None:
    """Refuses what no matcher would take.

    Args:
        values: by name, some of `PAPERS_THRESHOLDS`; the confidences may be -1 for off.

    Raises:
        ValueError: for an unknown name, or a number out of range.
    """
    for name, value in values.items():
        if name not in PAPERS_THRESHOLDS:
            raise ValueError(f"{name} is none of {', '.join(PAPERS_THRESHOLDS)}")
        may_be_off = name != "filter_threshold"
        if not (0 <= value <= 1 or (may_be_off and value == -1)):
            off = ", or be -1 for off" if may_be_off else ""
            raise ValueError(f"{name} must lie in [0, 1]{off}; got {value}")


def recommended_thresholds(path: str | Path) -> dict[str, float]:
    """What a file of LightGlue's weights recommends: some of the thresholds, none where it is not a file of ours.

    Raises:
        WeightsError: where the recommendation cannot be read.
    """
    try:
        with safe_open(path, framework="numpy") as tensors:
            metadata = tensors.metadata() or {}
    except (OSError, SafetensorError):
        return {}
    if metadata.get("format") != FORMAT:
        return {}
    try:
        stored = json.loads(metadata.get(THRESHOLDS, "{}"))
        thresholds = {str(name): float(value) for name, value in stored.items()}
        check_thresholds(thresholds)
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: its recommended thresholds cannot be read ({error})") from error
    return thresholds
