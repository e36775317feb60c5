"""What is known about each image at the end of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from sfm_lightglue.images.panorama import PANORAMA_REASONS
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import ImageReason, ImageVerdict
from sfm_lightglue.stages.into_database import VerifiedPairRecord
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import SkippedImage

_BLURRED_FRACTION = 0.1
"""An image has too few keypoints if it has fewer than this fraction of the median over the scene."""

STILL_FRACTION = 0.8
"""A pair stands still if this fraction of its inliers lies at the same pixel of both images."""


def image_verdicts(
    num_keypoints_from_name: Mapping[str, int],
    judged: Sequence[JudgedModel],
    weighed: WeighedPairs,
) -> dict[str, ImageVerdict]:
    """The verdict of each image that could be read, by name.

    Args:
        num_keypoints_from_name: of these images.
        judged: the published models, the largest first, then the rejected ones.
        weighed: the verified pairs.
    """
    verdicts = {name: _left_out(name, num_keypoints_from_name, weighed) for name in num_keypoints_from_name}
    for index in reversed(range(len(judged))):  # an image in several models belongs to the largest
        verdict = judged[index].verdict
        for name, image in verdict.images.items():
            if image.status != "registered":
                reason = static_reason(_pairs_of(name, weighed)) or image.reason
                verdicts[name] = _in_model(replace(image, reason=reason), index)
    for index in reversed(range(len(judged))):
        for name, image in judged[index].verdict.images.items():
            if image.status == "registered":
                verdicts[name] = _in_model(image, index)
    return verdicts


def skipped_verdicts(skipped: Iterable[SkippedImage]) -> dict[str, ImageVerdict]:
    """The verdicts of files that are no usable images, by name."""
    return {
        image.name: ImageVerdict("left_out", "panorama")
        if image.reason in PANORAMA_REASONS.values()
        else ImageVerdict("unreadable", "unreadable")
        for image in skipped
    }


def _in_model(image: ImageVerdict, index: int) -> ImageVerdict:
    status = "other_model" if image.status == "registered" and index > 0 else image.status
    return ImageVerdict(status, image.reason, index, image.num_points, image.support)


def _left_out(name: str, num_keypoints_from_name: Mapping[str, int], weighed: WeighedPairs) -> ImageVerdict:
    kept = _pairs_of(name, weighed)
    reason: ImageReason
    if kept:
        reason = static_reason(kept) or "not_connected"
    elif any(name in (pair.name0, pair.name1) for pair in weighed.contradicted):
        reason = "contradicts"
    else:
        median = float(np.median(list(num_keypoints_from_name.values())))
        is_blurred = num_keypoints_from_name[name] < _BLURRED_FRACTION * median
        reason = "blurred" if is_blurred else "no_matches"
    return ImageVerdict("left_out", reason)


def _pairs_of(name: str, weighed: WeighedPairs) -> list[VerifiedPairRecord]:
    """The kept pairs of an image."""
    return [record for pair, record in weighed.kept.items() if name in (pair.name0, pair.name1)]


def static_reason(records: Sequence[VerifiedPairRecord]) -> ImageReason | None:
    """The reason "still" or "pure_rotation" if the camera did not move in any of the pairs; None if it moved."""
    if not records or any(record.kind != "pure_rotation" for record in records):
        return None
    return "still" if all(record.still_fraction >= STILL_FRACTION for record in records) else "pure_rotation"
