"""The parts of a rejected model in which the verified pairs agree with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sfm_lightglue.lookalikes.fold_groups import agreeing_groups
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.pair_agreement import StoredPair, agreement_of_pairs
from sfm_lightglue.mapping.verdict import CENTERS_CHECK
from sfm_lightglue.types import ImagePair

MIN_PART = 3
"""Smallest number of images of a part: with two, no pair can confirm another one."""

_MANY_INLIERS = 50
"""Number of inliers from which a pair has its full weight."""

_CONTRADICTED = {"min_kept_images", "min_agreement", "min_triangulated"}
"""Checks that a model fails because pairs contradict it."""


def is_contradicted_only(judged: JudgedModel) -> bool:
    """Whether a model is rejected for nothing but that pairs contradict it.

    Parts that hardly hang together do not determine the camera centres either.
    """
    failed = set(judged.verdict.failed) - {CENTERS_CHECK}
    return judged.verdict.outcome == "rejected" and len(failed) > 0 and failed <= _CONTRADICTED


def has_parts(judged: JudgedModel) -> bool:
    """Whether a model is rejected because pairs contradict many of its images, so that parts of it may be right."""
    return is_contradicted_only(judged) and "min_kept_images" in judged.verdict.failed


def agreeing_parts(
    judged: JudgedModel, pairs: Sequence[StoredPair], checks: ChecksConfig, probability: Mapping[ImagePair, float]
) -> list[tuple[str, ...]]:
    """The images of each part of a rejected model, the largest part first: pairs agree within it, but not with others.

    Args:
        judged: a rejected model.
        pairs: of the database from which it was built.
        checks: limits.
        probability: that a pair shows the same place, where it is known: its weight.
    """
    names = sorted(judged.verdict.images)
    row_from_name = {name: row for row, name in enumerate(names)}
    evidence = np.zeros((len(names), len(names)))
    for each in agreement_of_pairs(judged.model, list(pairs), checks.max_pair_error_px, checks.max_rotation_error_deg):
        if each.agrees is None:
            continue
        names_of_pair = each.pair.name0, each.pair.name1
        weight = min(each.weight / _MANY_INLIERS, 1.0) * probability.get(ImagePair.from_names(*names_of_pair), 1.0)
        row0, row1 = (row_from_name[name] for name in names_of_pair)
        evidence[row0, row1] = evidence[row1, row0] = weight if each.agrees else -weight
    groups = agreeing_groups(evidence, evidence != 0)
    parts = [tuple(names[row] for row in rows.tolist()) for rows in groups if MIN_PART <= len(rows) < len(names)]
    return sorted(parts, key=lambda part: (-len(part), part))
