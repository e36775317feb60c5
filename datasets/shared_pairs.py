"""Pairs of the shared data on which combinations are compared: a plane, three scenes, two ranges of overlap."""

from __future__ import annotations

from pathlib import Path

from datasets.ground_truth import read_scene
from datasets.homographies import read_homographies
from datasets.image_pairs import depth_pairs, evenly, scene_pairs
from sfm_lightglue.evaluation.truth import EvaluationPair


def shared_homographies(root: Path) -> list[EvaluationPair]:
    """Graffiti from five viewpoints, all in one group.

    Args:
        root: of the shared data.
    """
    return read_homographies(root / "homographies" / "graf")


def shared_pose_pairs(root: Path, max_pairs: int | None = None) -> list[EvaluationPair]:
    """Pairs with known poses of fountain_p11, lund_door and hololens.

    Args:
        root: of the shared data.
        max_pairs: of each group; of more pairs, an evenly spaced subset.
    """
    pairs: list[EvaluationPair] = []
    for scene in ("fountain_p11", "lund_door"):
        pairs += evenly(scene_pairs(read_scene(root / "scenes" / scene), scene), max_pairs)
    hololens = root / "sequences" / "hololens"
    limit = max_pairs or 10**9
    pairs += depth_pairs(hololens, "hololens 10-50 %", (0.1, 0.5), limit)
    return pairs + depth_pairs(hololens, "hololens > 50 %", (0.5, 1.0), limit)
