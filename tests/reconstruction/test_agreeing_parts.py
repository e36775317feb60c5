"""Parts of a rejected model in which pairs agree with it, and are published instead of nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.judgement import JudgedModel, judge_models
from sfm_lightglue.mapping.pair_agreement import read_stored_pairs
from sfm_lightglue.mapping.verdict import CENTERS_CHECK, Check
from sfm_lightglue.reconstruction.agreeing_parts import agreeing_parts, has_parts
from sfm_lightglue.reconstruction.folds import FoldSearch
from sfm_lightglue.reconstruction.map_and_judge import map_and_judge
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import ExactScene, make_model, ring_scene, turned_about_vertical, write_database
from tests.helpers.judged_models import record, weighed_pairs

CHECKS = ChecksConfig()
NAMES = tuple(f"{idx:02d}.jpg" for idx in range(10))


@pytest.fixture(scope="module")
def scene() -> ExactScene:
    return ring_scene()


@pytest.fixture(scope="module")
def database(scene: ExactScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_database(tmp_path_factory.mktemp("parts") / "database.db", scene)


def bent(scene: ExactScene) -> pycolmap.Reconstruction:
    """Half of the cameras at another wall: pairs between the halves contradict the model."""
    turn = Rigid3.from_rotvec([0, 0, np.pi / 2], np.zeros(3))
    poses = turned_about_vertical(scene.poses, NAMES[5:], 90)
    return make_model(scene, poses, dict.fromkeys(NAMES[5:], turn.inverse() @ scene.points))


def rejected(scene: ExactScene, database: Path) -> JudgedModel:
    (judged,) = judge_models([bent(scene)], database, CHECKS, frozenset({1}))
    return judged


def test_the_halves_of_a_bent_model_are_its_parts(scene: ExactScene, database: Path) -> None:
    judged = rejected(scene, database)
    assert has_parts(judged)
    assert agreeing_parts(judged, read_stored_pairs(database), CHECKS, {}) == [NAMES[:5], NAMES[5:]]


def test_improbable_pairs_hold_no_part_together(scene: ExactScene, database: Path) -> None:
    lonely = {ImagePair(NAMES[0], name): 0.0 for name in NAMES[1:]}
    parts = agreeing_parts(rejected(scene, database), read_stored_pairs(database), CHECKS, lonely)
    assert parts == [NAMES[5:], NAMES[1:5]]


def test_only_models_that_pairs_contradict_have_parts(scene: ExactScene, database: Path) -> None:
    judged = rejected(scene, database)
    focal = {**judged.verdict.checks, "max_focal_change": Check.at_most(3.0, 1.6)}
    assert not has_parts(replace(judged, verdict=replace(judged.verdict, checks=focal)))
    assert CENTERS_CHECK in judged.verdict.failed, "its halves hardly hang together"
    uncertain = {CENTERS_CHECK: judged.verdict.checks[CENTERS_CHECK]}
    assert not has_parts(replace(judged, verdict=replace(judged.verdict, checks=uncertain)))
    (right,) = judge_models([make_model(scene)], database, CHECKS, frozenset({1}))
    assert not has_parts(right)


@pytest.mark.parametrize(("has_twins", "sizes"), [(True, [10]), (False, [])])
def test_parts_are_published_in_a_scene_with_look_alikes(
    scene: ExactScene, tmp_path: Path, has_twins: bool, sizes: list[int]
) -> None:
    """The pairs between them merge the right halves of the bent model again."""

    class BentMapper:
        config = None
        version = "bent"

        def map(self, task: MappingTask) -> list[pycolmap.Reconstruction]:
            return [bent(scene)]

    task = MappingTask(write_database(tmp_path / "database.db", scene), tmp_path, 10, frozenset({1}), seed=3)
    pairs = weighed_pairs({(pair.name0, pair.name1): record() for pair in scene.pairs})
    found = map_and_judge(BentMapper(), task, replace(pairs, has_twins=has_twins), CHECKS, search=FoldSearch())
    published = [each for each in found if each.verdict.outcome != "rejected"]
    assert [each.model.num_reg_images() for each in published] == sizes
    for each in published:
        assert align_poses(poses_of_model(each.model), scene.poses).max_center_error < 0.05
