"""Whether the models of a scene are right, folded or split, by the true poses or by the true order of the images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import spearmanr

from sfm_lightglue.geometry.alignment import MIN_ALIGNED, align_consistent_poses
from sfm_lightglue.geometry.transforms import Rigid3

MAX_CENTER_ERROR = 0.1
"""Limit of a right camera, as a fraction of the largest distance between two true centres of its model."""

MIN_CENTER_ERROR = 0.03
"""The limit is at least this fraction of the largest distance in the whole scene."""

MAX_ROTATION_ERROR_DEG = 10.0
MAX_WRONG = 0.1
"""A model is folded if more than this fraction of its cameras, and at least two of them, are wrong; one is enough in a
model of three cameras, because no two of them agree then with a third one."""

MIN_REGISTERED = 0.9
"""A group of connected images is in one model if at least this fraction of it is."""

MIN_GROUP = 4
"""Smaller groups of connected images need no model."""

VERDICTS = ("right", "folded", "split", "partial", "none")


@dataclass(frozen=True, slots=True)
class ModelVerdict:
    """A model against the truth.

    Args:
        num_registered: its cameras.
        num_wrong: of them, wrong after the similarity with which the most are right.
        is_folded: whether they are so many that places were made one, or cameras are at wrong places.
    """

    num_registered: int
    num_wrong: int
    is_folded: bool


def judge_by_poses(estimate: Mapping[str, Rigid3], truth: Mapping[str, Rigid3]) -> ModelVerdict:
    """Judge the cameras of a model by the true poses; a model of fewer than three cameras is not folded."""
    names = sorted(estimate.keys() & truth.keys())
    if len(names) < MIN_ALIGNED:
        return ModelVerdict(len(names), 0, False)
    limit = max(
        MAX_CENTER_ERROR * _extent([truth[name] for name in names]), MIN_CENTER_ERROR * _extent(list(truth.values()))
    )
    try:
        found = align_consistent_poses(estimate, truth, limit, MAX_ROTATION_ERROR_DEG)
    except ValueError:  # all centres coincide
        return ModelVerdict(len(names), len(names), True)
    num_wrong = len(names) - len(found.right)
    return ModelVerdict(len(names), num_wrong, num_wrong >= 2 and num_wrong > MAX_WRONG * len(names))


def judge_by_order(
    estimate: Mapping[str, Rigid3], number_from_name: Mapping[str, int], min_correlation: float
) -> ModelVerdict:
    """Judge a walk along a line by the order of the centres along their main axis.

    Args:
        estimate: cam_from_world by name.
        number_from_name: true number of each image in the walk.
        min_correlation: a model whose rank correlation between number and place is smaller is folded.
    """
    names = sorted(estimate)
    if len(names) < MIN_ALIGNED:
        return ModelVerdict(len(names), 0, False)
    centers = np.array([estimate[name].center for name in names])
    axis = np.linalg.svd(centers - centers.mean(0))[2][0]
    correlation = abs(float(spearmanr(centers @ axis, [number_from_name[name] for name in names])[0]))
    is_folded = not correlation >= min_correlation
    return ModelVerdict(len(names), len(names) if is_folded else 0, is_folded)


def scene_verdict(
    models: Sequence[ModelVerdict], members: Sequence[Sequence[str]], groups: Sequence[Sequence[str]]
) -> str:
    """The verdict of a scene, one of `VERDICTS`.

    Args:
        models: verdict of each published model.
        members: names of its images, in the same order.
        groups: names of the images that common surfaces connect; each should be in one model.
    """
    if not models:
        return "none"
    if any(model.is_folded for model in models):
        return "folded"
    needed = [group for group in groups if len(group) >= MIN_GROUP]
    largest = [max(len(set(group) & set(names)) / len(group) for names in members) for group in needed]
    if min(largest, default=1.0) >= MIN_REGISTERED:
        return "right"
    return "split" if len(models) > 1 else "partial"


def _extent(poses: Sequence[Rigid3]) -> float:
    centers = np.array([pose.center for pose in poses])
    return float(np.linalg.norm(centers[:, None] - centers, axis=2).max())
