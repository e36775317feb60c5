"""Thresholds of LightGlue that a file of weights recommends in its metadata; without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from safetensors import SafetensorError, safe_open

from sfm_lightglue.errors import WeightsError

FORMAT = "sfm_lightglue"
"""Value of "format" in the metadata of files that this project writes."""

THRESHOLDS = "thresholds"
"""Key of the metadata for recommended thresholds, as JSON; in files of LightGlue that this project writes."""

PAPERS_THRESHOLDS: Mapping[str, float] = MappingProxyType(
    {"depth_confidence": 0.95, "width_confidence": 0.99, "filter_threshold": 0.1}
)
"""Values of the authors' code, for weights without recommendations."""


def check_thresholds(values: Mapping[str, float]) -> None:
    """Checks names and ranges of thresholds.

    Args:
        values: by name, some of `PAPERS_THRESHOLDS`; the confidences may be -1 for off.

    Raises:
        ValueError: an unknown name, or a number out of range.
    """
    for name, value in values.items():
        if name not in PAPERS_THRESHOLDS:
            raise ValueError(f"{name} is none of {', '.join(PAPERS_THRESHOLDS)}")
        may_be_off = name != "filter_threshold"
        if not (0 <= value <= 1 or (may_be_off and value == -1)):
            off = ", or be -1 for off" if may_be_off else ""
            raise ValueError(f"{name} must lie in [0, 1]{off}; got {value}")


def recommended_thresholds(path: str | Path) -> dict[str, float]:
    """Thresholds that a file of LightGlue's weights recommends; reads its metadata only.

    Returns:
        Some of `PAPERS_THRESHOLDS` by name; empty if this project did not write the file.

    Raises:
        WeightsError: the recommendation cannot be parsed.
    """
    try:
        with safe_open(path, framework="numpy") as tensors:
            metadata = tensors.metadata() or {}
    except (OSError, SafetensorError):
        return {}
    return thresholds_from_metadata(metadata, path)


def thresholds_from_metadata(metadata: Mapping[str, str], source: str | Path) -> dict[str, float]:
    """As `recommended_thresholds`, from metadata that were read before.

    Args:
        metadata: of a file of weights.
        source: path of that file, for messages.

    Raises:
        WeightsError: the recommendation cannot be parsed.
    """
    if metadata.get("format") != FORMAT:
        return {}
    try:
        stored = json.loads(metadata.get(THRESHOLDS, "{}"))
        thresholds = {str(name): float(value) for name, value in stored.items()}
        check_thresholds(thresholds)
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(f"{source}: its recommended thresholds cannot be read ({error})") from error
    return thresholds
