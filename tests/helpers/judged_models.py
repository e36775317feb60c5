"""Records, weighed pairs and judged models with chosen values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pycolmap

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import Check, ImageVerdict, ModelVerdict, Outcome
from sfm_lightglue.stages.into_database import VerifiedPairRecord
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.two_view.still_matches import StillContent
from sfm_lightglue.types import ImagePair, TwoViewKind


def record(
    kind: TwoViewKind = "general", weight: float = 10.0, num_inliers: int = 100, still_fraction: float = 0.0
) -> VerifiedPairRecord:
    pose = Rigid3(np.eye(3), np.array([0.0, 0, 0] if kind == "pure_rotation" else [1.0, 0, 0]))
    return VerifiedPairRecord(kind, pose, weight, num_inliers, still_fraction)


TURNED = record("pure_rotation")
STILL = record("pure_rotation", still_fraction=0.95)


def weighed_pairs(
    kept: Mapping[tuple[str, str], VerifiedPairRecord] | None = None,
    contradicted: Iterable[tuple[str, str]] = (),
    still: StillContent | None = None,
) -> WeighedPairs:
    """Weighed pairs by the names of their images."""
    return WeighedPairs(
        {ImagePair(*names): each for names, each in (kept or {}).items()},
        {ImagePair(*names): record() for names in contradicted},
        {},
        still,
    )


def still_content(num_dominated: int, num_pairs: int) -> StillContent:
    return StillContent({(640, 480): np.ones((121, 161), np.bool_)}, (), num_dominated, num_pairs)


def judged_model(
    images: Mapping[str, ImageVerdict],
    outcome: Outcome = "accepted",
    checks: Mapping[str, Check] | None = None,
    model: pycolmap.Reconstruction | None = None,
) -> JudgedModel:
    return JudgedModel(model or pycolmap.Reconstruction(), ModelVerdict(outcome, checks or {}, images))
