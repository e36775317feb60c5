"""The uncertainty of camera centres: as large as their errors, and large where images hardly determine the poses."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.center_uncertainty import MAX_IMAGES, center_uncertainty
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.incremental import MappingConfig, adjustment_like
from sfm_lightglue.mapping.judgement import judge_models
from sfm_lightglue.mapping.verdict import CENTERS_CHECK, Check, is_uncertain
from tests.helpers.exact_scenes import (
    EXIF,
    GIVEN,
    GUESSED,
    UP,
    ExactScene,
    make_model,
    plane_scene,
    ring_scene,
    write_database,
)

GIVEN_IDS = frozenset({1})


def narrow_scene(baseline: float, num_points: int = 60, noise_px: float = 0.3) -> ExactScene:
    """Three cameras side by side, at a distance of 8 from a cloud of points."""
    centers = [np.array([baseline * step, -8.0, 0.3 * baseline * (step == 0)]) for step in (-1, 0, 1)]
    poses = {f"{idx}.jpg": Rigid3.look_at(center, np.zeros(3), UP) for idx, center in enumerate(centers)}
    points = np.random.default_rng(0).uniform(-1, 1, (num_points, 3)) * [3, 2, 2]
    return ExactScene(poses, points, GIVEN, noise_px)


def adjusted(scene: ExactScene, constant: frozenset[int] = GIVEN_IDS) -> pycolmap.Reconstruction:
    model = make_model(scene)
    task = MappingTask(Path("unused"), Path("unused"), model.num_reg_images(), constant)
    adjustment_like(MappingConfig(), task)(model)
    return model


@pytest.mark.parametrize("noise_px", [0.05, 0.7])
@pytest.mark.parametrize("baseline", [1.0, 0.3])
def test_it_is_as_large_as_the_errors(baseline: float, noise_px: float) -> None:
    """Over other points: the largest error of three centres in all directions is 1.3 standard deviations of one.

    The noise is small or large in relation to the scale of the robust loss.
    """
    errors, uncertainties = [], []
    for seed in range(12):
        scene = narrow_scene(baseline)
        points = np.random.default_rng(seed).uniform(-1, 1, (60, 3)) * [3, 2, 2]
        model = adjusted(ExactScene(scene.poses, points, GIVEN, noise_px))
        errors.append(align_poses(poses_of_model(model), scene.poses).max_center_error / (2 * baseline))
        uncertainties.append(center_uncertainty(model, GIVEN_IDS))
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(1.3 * np.mean(uncertainties), rel=0.25)


def test_it_grows_as_the_baseline_shrinks() -> None:
    wide, narrow = (center_uncertainty(adjusted(narrow_scene(baseline)), GIVEN_IDS) for baseline in (1.0, 0.1))
    assert wide is not None and narrow is not None
    assert wide < 0.005
    assert 5 * wide < narrow < 20 * wide, "in proportion to one over the baseline"


def test_a_well_determined_model_is_certain_and_an_ill_determined_one_is_rejected(tmp_path: Path) -> None:
    outcomes = {}
    for baseline in (1.0, 0.15, 0.03):
        scene = narrow_scene(baseline, num_points=40, noise_px=0.4)
        database = write_database(tmp_path / f"{baseline}.db", scene)
        config = ChecksConfig(min_triangulation_angle_deg=0.1)  # it would find the narrowest one
        (judged,) = judge_models([make_model(scene)], database, config, GIVEN_IDS)
        outcomes[baseline] = judged.verdict.outcome, is_uncertain(judged.verdict.checks)
        assert (CENTERS_CHECK in judged.verdict.failed) == (judged.verdict.outcome == "rejected")
    assert outcomes[1.0] == ("accepted", False)
    assert outcomes[0.15] == ("accepted", True)
    assert outcomes[0.03] == ("rejected", True)


def test_known_poses_are_not_uncertain(tmp_path: Path) -> None:
    scene = narrow_scene(0.03)
    database = write_database(tmp_path / "database.db", scene)
    (judged,) = judge_models([make_model(scene)], database, ChecksConfig(), GIVEN_IDS, has_known_poses=True)
    assert CENTERS_CHECK not in judged.verdict.checks


def test_unknown_intrinsics_add_uncertainty() -> None:
    model = make_model(plane_scene(0.0, GUESSED))
    free, given = center_uncertainty(model), center_uncertainty(model, GIVEN_IDS)
    assert free is not None and given is not None
    assert free > 2 * given


def test_gross_errors_add_uncertainty() -> None:
    """Of observations that a robust loss keeps away from the poses."""
    scene = narrow_scene(1.0)
    pixels = scene.observed["1.jpg"][1]
    before = center_uncertainty(adjusted(scene), GIVEN_IDS)
    pixels[:6] += 1.5
    after = center_uncertainty(adjusted(scene), GIVEN_IDS)
    assert before is not None and after is not None
    assert after > 1.5 * before


def test_sampled_points_tell_the_same() -> None:
    """Of 2,500 points, every second one is used; the variance is that of all."""
    scene = ring_scene(3, 2500)
    model = make_model(scene)
    sampled = center_uncertainty(model, GIVEN_IDS)
    assert sampled is not None
    few = center_uncertainty(make_model(ring_scene(3, 1250)), GIVEN_IDS)
    assert few is not None
    assert sampled == pytest.approx(few / math.sqrt(2), rel=0.25)


def test_a_sample_tells_no_more_of_what_is_known_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A focal length that only EXIF data tell has the same variance by any number of points."""
    model = make_model(plane_scene(0.0, EXIF))
    of_all = center_uncertainty(model, (), {1})
    monkeypatch.setattr("sfm_lightglue.mapping.center_uncertainty._MAX_POINTS", 100)
    assert center_uncertainty(model, (), {1}) == pytest.approx(of_all, rel=0.3)


def test_a_similarity_changes_nothing() -> None:
    model = make_model(ring_scene(4))
    before = center_uncertainty(model)
    rotation = pycolmap.Rotation3d(np.array([0.3, -0.2, 0.4, 0.8]) / np.linalg.norm([0.3, -0.2, 0.4, 0.8]))
    model.transform(pycolmap.Sim3d(7.0, rotation, np.array([30.0, -4.0, 5.0])))
    assert center_uncertainty(model) == pytest.approx(before, rel=1e-3)


def test_what_is_not_asked() -> None:
    assert center_uncertainty(make_model(ring_scene(MAX_IMAGES + 1))) is None
    assert center_uncertainty(make_model(ring_scene(), max_points=dict.fromkeys(ring_scene().poses, 0))) is None
    assert center_uncertainty(pycolmap.Reconstruction()) is None


def test_centres_at_one_place_are_undetermined() -> None:
    scene = ring_scene(3)
    first = scene.poses["00.jpg"]
    same = {name: Rigid3(pose.R, -pose.R @ first.center) for name, pose in scene.poses.items()}
    model = make_model(scene, same)
    extent = max(
        np.linalg.norm(model.images[i].projection_center() - model.images[1].projection_center()) for i in (1, 2, 3)
    )
    uncertainty = center_uncertainty(model)
    assert extent < 1e-12
    assert uncertainty is not None and (uncertainty == math.inf or uncertainty > 1)


def test_models_are_told_by_their_check() -> None:
    assert is_uncertain({CENTERS_CHECK: Check(0.017, 0.06, True)})
    assert is_uncertain({CENTERS_CHECK: Check(None, 0.06, False)})
    assert not is_uncertain({CENTERS_CHECK: Check(0.015, 0.06, True)})
    assert not is_uncertain({})
