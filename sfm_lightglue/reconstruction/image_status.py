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
from sfm_lightglue.types import ImagePair, SkippedImage

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
    kept, contradicted, apart = (_by_name(pairs) for pairs in (weighed.kept, weighed.contradicted, weighed.apart))
    fewest_keypoints = _BLURRED_FRACTION * float(np.median(list(num_keypoints_from_name.values())))
    verdicts = {
        name: _left_out(kept.get(name, []), apart.get(name, []), name in contradicted, num_keypoints < fewest_keypoints)
        for name, num_keypoints in num_keypoints_from_name.items()
    }
    for index in reversed(range(len(judged))):  # an image in several models belongs to the largest
        verdict = judged[index].verdict
        for name, image in verdict.images.items():
            if image.status != "registered":
                reason = static_reason(kept.get(name, [])) or image.reason
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


def _left_out(
    kept: Sequence[VerifiedPairRecord],
    apart: Sequence[VerifiedPairRecord],
    is_contradicted: bool,
    has_few_keypoints: bool,
) -> ImageVerdict:
    reason: ImageReason
    if kept:
        reason = static_reason(kept) or "not_connected"
    elif apart:
        reason = static_reason(apart) or "kept_apart"
    elif is_contradicted:
        reason = "contradicts"
    else:
        reason = "blurred" if has_few_keypoints else "no_matches"
    return ImageVerdict("left_out", reason)


def _by_name(records: Mapping[ImagePair, VerifiedPairRecord]) -> dict[str, list[VerifiedPairRecord]]:
    """The pairs of each image."""
    found: dict[str, list[VerifiedPairRecord]] = {}
    for pair, record in records.items():
        for name in (pair.name0, pair.name1):
            found.setdefault(name, []).append(record)
    return found


def static_reason(records: Sequence[VerifiedPairRecord]) -> ImageReason | None:
    """The reason "still" or "pure_rotation" if the camera did not move in any of the pairs; None if it moved."""
    if not records or any(record.kind != "pure_rotation" for record in records):
        return None
    return "still" if all(record.still_fraction >= STILL_FRACTION for record in records) else "pure_rotation"
