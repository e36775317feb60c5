"""The judgement of models: what is accepted, what is taken out, what is rejected, and what the store keeps of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.cached_models import MapStatistics, PairStatistics, keep_models, load_models
from sfm_lightglue.mapping.camera_groups import CameraGroup
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.judgement import JudgedModel, judge_models
from sfm_lightglue.mapping.verdict import Check, ImageVerdict
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import ImagePair, SkippedImage
from tests.helpers.exact_scenes import (
    EXIF,
    GUESSED,
    ExactScene,
    make_model,
    plane_scene,
    ring_scene,
    turned_about_vertical,
    write_database,
)

CONFIG = ChecksConfig()
GIVEN_IDS = frozenset({1})
NAMES = tuple(f"{idx:02d}.jpg" for idx in range(10))
CHECKS_OF_GIVEN_CAMERAS = {
    "min_kept_images",
    "min_points_per_image",
    "min_agreement",
    "min_triangulated",
    "max_static_pairs",
    "min_triangulation_angle_deg",
    "min_cheirality",
    "max_center_uncertainty",
}


@pytest.fixture(scope="module")
def scene() -> ExactScene:
    return ring_scene()


@pytest.fixture(scope="module")
def database(scene: ExactScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_database(tmp_path_factory.mktemp("judgement") / "database.db", scene)


def judge(model: pycolmap.Reconstruction, database: Path, **options: Any) -> JudgedModel:
    (judged,) = judge_models([model], database, options.pop("config", CONFIG), GIVEN_IDS, **options)
    return judged


def displaced(scene: ExactScene, *names: str) -> dict[str, Rigid3]:
    shift = Rigid3(np.eye(3), np.array([0.4, 1.5, -0.6]))
    return {name: pose @ shift if name in names else pose for name, pose in scene.poses.items()}


def statuses(judged: JudgedModel) -> dict[str, tuple[str, str | None]]:
    return {name: (image.status, image.reason) for name, image in judged.verdict.images.items()}


def test_an_exact_model_is_accepted(scene: ExactScene, database: Path) -> None:
    judged = judge(make_model(scene), database)
    assert judged.verdict.outcome == "accepted"
    assert judged.verdict.failed == ()
    assert judged.verdict.checks.keys() == CHECKS_OF_GIVEN_CAMERAS
    assert judged.verdict.checks["min_agreement"] == Check(1.0, CONFIG.min_agreement, True)
    assert judged.verdict.checks["min_cheirality"].value == 1
    assert judged.model.num_reg_images() == 10
    assert list(judged.verdict.images) == sorted(NAMES)
    for name, image in judged.verdict.images.items():
        assert image == ImageVerdict("registered", None, None, len(scene.observed[name][0]), 1.0)


def test_the_triangulation_angle_is_that_of_the_rays(scene: ExactScene, database: Path) -> None:
    """Two cameras: the angle at each point between its two rays."""
    poses = {name: scene.poses[name] for name in NAMES[:2]}
    judged = judge(make_model(scene, poses), database)
    seen = np.intersect1d(*(scene.observed[name][0] for name in poses))
    rays = [scene.points[seen] - pose.center for pose in poses.values()]
    rays = [ray / np.linalg.norm(ray, axis=1, keepdims=True) for ray in rays]
    angles = np.degrees(np.arccos((rays[0] * rays[1]).sum(axis=1)))
    value = judged.verdict.checks["min_triangulation_angle_deg"].value
    assert value == pytest.approx(np.median(angles), rel=1e-6)


@pytest.mark.parametrize("names", [("03.jpg",), ("00.jpg", "09.jpg"), ("04.jpg", "05.jpg")])
def test_displaced_cameras_are_taken_out_and_named(scene: ExactScene, database: Path, names: tuple[str, ...]) -> None:
    model = make_model(scene, displaced(scene, *names))
    adjusted: list[int] = []
    judged = judge(model, database, adjust=lambda changed: adjusted.append(changed.num_reg_images()))
    assert judged.verdict.outcome == "reduced"
    assert judged.verdict.failed == ()
    assert judged.verdict.checks["min_kept_images"].value == pytest.approx(1 - len(names) / 10)
    assert adjusted == [10 - len(names)], "the rest is adjusted after the images were taken out"
    left = {judged.model.images[image_id].name for image_id in judged.model.reg_image_ids()}
    assert left == set(NAMES) - set(names)
    for name, (status, reason) in statuses(judged).items():
        assert (status, reason) == (("doubtful", "contradicts") if name in names else ("registered", None))
    for point in judged.model.points3D.values():
        assert point.track.length() > 1


def test_displaced_cameras_with_points_of_their_own_are_taken_out(scene: ExactScene, database: Path) -> None:
    """Mapping triangulates points for wrong cameras, so their reprojection errors are small."""
    names = NAMES[4:6]
    shift = Rigid3(np.eye(3), np.array([0.4, 1.5, -0.6]))
    own = shift.inverse() @ scene.points
    model = make_model(scene, displaced(scene, *names), dict.fromkeys(names, own))
    assert model.compute_mean_reprojection_error() < 1
    judged = judge(model, database)
    assert judged.verdict.outcome == "reduced"
    assert {name for name, (status, _) in statuses(judged).items() if status == "doubtful"} == set(names)


def test_a_model_bent_by_a_wrong_pose_is_rejected(scene: ExactScene, database: Path) -> None:
    """Two halves, each right, with a wrong rotation between them."""
    poses = turned_about_vertical(scene.poses, NAMES[5:], 90)
    turn = Rigid3.from_rotvec([0, 0, np.pi / 2], np.zeros(3))
    model = make_model(scene, poses, dict.fromkeys(NAMES[5:], turn.inverse() @ scene.points))
    assert model.compute_mean_reprojection_error() < 1
    judged = judge(model, database)
    assert judged.verdict.outcome == "rejected"
    assert "min_agreement" in judged.verdict.failed
    assert judged.model.num_reg_images() == 10, "a rejected model is left as it is"
    assert all(status == "doubtful" for status, _ in statuses(judged).values())


def test_a_part_that_loses_its_connection_is_taken_out(scene: ExactScene, tmp_path: Path) -> None:
    """Without the images between them, nothing determines where two parts lie in relation to each other."""
    middle = NAMES[3:5]
    far = [pair for pair in scene.pairs if (pair.name0 in NAMES[:3]) and (pair.name1 in NAMES[5:])]
    # Images 3 and 4 contradict most of their pairs, but connect the others.
    wrong_pose = Rigid3.from_rotvec([0, np.pi / 2, 0], [1, 0, 0])
    wrong = [
        ImagePair(*sorted((name, other))) for name in middle for other in (*NAMES[:2], *NAMES[6:]) if name != other
    ]
    pairs = [pair for pair in scene.pairs if pair not in far]
    database = write_database(tmp_path / "database.db", scene, pairs, dict.fromkeys(wrong, wrong_pose))
    judged = judge(make_model(scene), database)
    assert judged.verdict.outcome == "reduced"
    reasons = {name: reason for name, (_, reason) in statuses(judged).items()}
    expected = dict.fromkeys(NAMES[:3], "not_connected") | dict.fromkeys(middle, "contradicts")
    assert reasons == expected | dict.fromkeys(NAMES[5:])


def test_images_with_few_points_are_taken_out(scene: ExactScene, database: Path) -> None:
    model = make_model(scene, max_points={"02.jpg": 8, "07.jpg": 12})
    judged = judge(model, database)
    assert judged.verdict.outcome == "reduced"
    doubtful = {name: image for name, image in judged.verdict.images.items() if image.status == "doubtful"}
    assert doubtful == {"02.jpg": ImageVerdict("doubtful", "few_points", None, 8, 1.0)}
    all_few = make_model(scene, max_points=dict.fromkeys(NAMES, 8))
    judged = judge(all_few, database)
    assert judged.verdict.outcome == "rejected"
    assert {"min_kept_images", "min_points_per_image"} <= set(judged.verdict.failed)


def test_a_model_without_points_is_rejected(scene: ExactScene, database: Path) -> None:
    judged = judge(make_model(scene, max_points=dict.fromkeys(NAMES, 0)), database)
    assert judged.verdict.outcome == "rejected"
    assert judged.verdict.checks["min_points_per_image"] == Check(0.0, CONFIG.min_points_per_image, False)
    assert "min_cheirality" not in judged.verdict.checks
    assert {reason for _, reason in statuses(judged).values()} == {"few_points"}


def test_points_behind_the_cameras_are_refused(scene: ExactScene, database: Path) -> None:
    far = {name: Rigid3(pose.R, -pose.t) for name, pose in scene.poses.items()}
    judged = judge(make_model(replace(scene, points=scene.points), far), database)
    assert not judged.verdict.checks["min_cheirality"].passed


def test_points_at_infinity_are_refused(tmp_path: Path) -> None:
    """Cameras so near to each other that the rays to each point are nearly parallel."""
    scene = ring_scene()
    center = scene.poses[NAMES[0]].center
    poses = {
        name: Rigid3.look_at(center + 1e-3 * idx, np.zeros(3), np.array([0.0, 0, 1])) for idx, name in enumerate(NAMES)
    }
    scene = ExactScene(poses, scene.points)
    judged = judge(make_model(scene), write_database(tmp_path / "database.db", scene))
    assert "min_triangulation_angle_deg" in judged.verdict.failed


@pytest.mark.parametrize(("num_static", "passed"), [(30, True), (45, False)])
def test_pairs_without_translation_do_not_carry_a_model(
    scene: ExactScene, tmp_path: Path, num_static: int, passed: bool
) -> None:
    database = write_database(tmp_path / "database.db", scene, static=scene.pairs[:num_static])
    judged = judge(make_model(scene), database)
    assert judged.verdict.checks["max_static_pairs"].passed is passed
    total = sum(len(scene.matches(pair)) for pair in scene.pairs)
    static = sum(len(scene.matches(pair)) for pair in scene.pairs[:num_static])
    assert judged.verdict.checks["max_static_pairs"].value == pytest.approx(static / total)


def test_a_few_wrong_pairs_do_no_harm(scene: ExactScene, tmp_path: Path) -> None:
    wrong_pose = Rigid3.from_rotvec([0, np.pi / 2, 0], [1, 0, 0])
    wrong = {ImagePair(NAMES[idx], NAMES[idx + 3]): wrong_pose for idx in range(0, 6, 2)}
    judged = judge(make_model(scene), write_database(tmp_path / "database.db", scene, wrong=wrong))
    assert judged.verdict.outcome == "accepted"
    assert judged.verdict.images[NAMES[0]].support is not None
    assert judged.verdict.images[NAMES[0]].support < 1


@pytest.mark.parametrize(("option", "least_gap"), [("probability", 3), ("against", 6)])
@pytest.mark.parametrize(("probability", "outcome"), [(1.0, "rejected"), (0.05, "accepted")])
def test_pairs_that_are_hardly_probable_do_not_reject_a_model(
    scene: ExactScene, tmp_path: Path, option: str, least_gap: int, probability: float, outcome: str
) -> None:
    """A corridor with equal doors: many pairs of far images agree with each other, but not with the right model."""
    wrong_pose = Rigid3.from_rotvec([0, np.pi / 2, 0], [1, 0, 0])
    gaps = {pair: NAMES.index(pair.name1) - NAMES.index(pair.name0) for pair in scene.pairs}
    wrong = {pair: wrong_pose for pair, gap in gaps.items() if gap >= least_gap}
    database = write_database(tmp_path / "database.db", scene, wrong=wrong)
    judged = judge(make_model(scene), database, **{option: dict.fromkeys(wrong, probability)})
    assert judged.verdict.outcome == outcome


@pytest.mark.parametrize("least_gap", [4, 6])
@pytest.mark.parametrize("agreeing", [1.0, 0.05])
def test_improbable_pairs_save_no_model_that_most_others_contradict(
    scene: ExactScene, tmp_path: Path, least_gap: int, agreeing: float
) -> None:
    """Those that agree count by their own cues, too, and 60 % of all must agree."""
    gaps = {pair: NAMES.index(pair.name1) - NAMES.index(pair.name0) for pair in scene.pairs}
    wrong_pose = Rigid3.from_rotvec([0, np.pi / 2, 0], [1, 0, 0])
    wrong = {pair: wrong_pose for pair, gap in gaps.items() if gap >= least_gap}
    database = write_database(tmp_path / "database.db", scene, wrong=wrong)
    against = dict.fromkeys(scene.pairs, agreeing) | dict.fromkeys(wrong, 0.05)
    lenient = replace(CONFIG, min_support=0.0)
    judged = judge(make_model(scene), database, config=lenient, against=against)
    is_mild = least_gap == 6 and agreeing == 1.0
    assert judged.verdict.outcome == ("accepted" if is_mild else "rejected")
    assert len(judged.verdict.notes) == is_mild
    assert ("min_agreement" in judged.verdict.failed) != is_mild


def test_a_scene_whose_pairs_are_hardly_probable_keeps_the_check_of_matches(scene: ExactScene, database: Path) -> None:
    """Too few inliers would be left for it."""
    probability = dict.fromkeys(scene.pairs, 0.4)
    assert "min_triangulated" in judge(make_model(scene), database, probability=probability).verdict.checks


def test_limits_of_the_configuration_decide(scene: ExactScene, database: Path) -> None:
    lenient = replace(CONFIG, min_points_per_image=5)
    few = {"02.jpg": 8}
    assert judge(make_model(scene, max_points=few), database, config=lenient).verdict.outcome == "accepted"
    lenient = replace(CONFIG, min_support=0.0)
    judged = judge(make_model(scene, displaced(scene, "03.jpg")), database, config=lenient)
    assert statuses(judged)["03.jpg"] == ("doubtful", "not_connected"), "no pair holds it"
    strict = replace(CONFIG, min_kept_images=0.95)
    judged = judge(make_model(scene, displaced(scene, "03.jpg")), database, config=strict)
    assert judged.verdict.outcome == "rejected"
    assert statuses(judged)["03.jpg"] == ("doubtful", "contradicts")
    assert statuses(judged)["04.jpg"] == ("doubtful", "model_rejected")


@pytest.mark.parametrize(("tilt_deg", "outcome"), [(0.0, "rejected"), (25.0, "accepted")])
def test_a_plane_with_unknown_focal_length(tmp_path: Path, tilt_deg: float, outcome: str) -> None:
    scene = plane_scene(tilt_deg, GUESSED)
    database = write_database(tmp_path / "database.db", scene)
    (judged,) = judge_models([make_model(scene)], database, CONFIG)
    assert judged.verdict.outcome == outcome
    assert ("max_focal_uncertainty" in judged.verdict.failed) is (outcome == "rejected")
    given = judge(make_model(scene), database)
    assert given.verdict.outcome == "accepted", "with a known focal length both are right"


def test_the_focal_length_of_the_database_is_the_reference(scene: ExactScene, tmp_path: Path) -> None:
    database = write_database(tmp_path / "database.db", replace(scene, camera=EXIF))
    model = make_model(scene)
    model.cameras[1].params = [1300, 400, 300, 0]
    (judged,) = judge_models([model], database, CONFIG)
    assert judged.verdict.checks["max_focal_change"].value == pytest.approx(1300 / 700)
    assert "max_focal_change" in judged.verdict.failed


def test_rejected_models_come_last_and_ties_keep_their_order(scene: ExactScene, database: Path) -> None:
    def part(*idxs: int, max_points: int = 1000) -> pycolmap.Reconstruction:
        poses = {NAMES[idx]: scene.poses[NAMES[idx]] for idx in idxs}
        return make_model(scene, poses, max_points=dict.fromkeys(poses, max_points))

    models = [part(*range(10), max_points=5), part(5, 6, 7), part(4, 5, 9), part(0, 1, 2, 3, 4), part(7, 8, 9)]
    judged = judge_models(models, database, CONFIG, GIVEN_IDS)
    assert [models.index(each.model) for each in judged] == [3, 1, 2, 4, 0]
    assert [each.verdict.outcome for each in judged] == ["accepted"] * 4 + ["rejected"]
    assert judge_models([], database, CONFIG) == []


def test_a_model_within_a_larger_one_is_left_out(scene: ExactScene, database: Path) -> None:
    poses = [{name: scene.poses[name] for name in names} for names in (NAMES[:3], NAMES[:6], NAMES[2:5], NAMES[5:9])]
    models = [make_model(scene, each) for each in poses]
    judged = judge_models(models, database, CONFIG, GIVEN_IDS)
    assert [models.index(each.model) for each in judged] == [1, 3]


def test_the_store_keeps_models_and_verdicts(scene: ExactScene, database: Path, tmp_path: Path) -> None:
    models = [make_model(scene, displaced(scene, "03.jpg")), make_model(scene, max_points=dict.fromkeys(NAMES, 0))]
    judged = judge_models(models, database, CONFIG, GIVEN_IDS)
    images = dict(judged[0].verdict.images) | {"left.jpg": ImageVerdict("left_out", "no_matches")}
    groups = (CameraGroup(("00.jpg", "01.jpg"), EXIF),)
    skipped = (SkippedImage("broken.jpg", "cannot be decoded"),)
    pairs = PairStatistics("exhaustive", 10, 8, (5, 2), (("00.jpg", "05.jpg"),), {"images": ["00.jpg"], "pairs": []})
    store = Store(tmp_path / "store")
    work = tmp_path / "work"
    work.mkdir()
    statistics = MapStatistics((), images, pairs, skipped, groups)
    packed = keep_models(store, "a-key", judged, [{"frame": "given"}, None], statistics, work)
    loaded = load_models(store, "a-key")
    assert loaded is not None
    assert loaded.statistics == packed.statistics == replace(statistics, models=packed.statistics.models)
    assert [model.georegistration for model in loaded.statistics.models] == [{"frame": "given"}, None]
    assert [model.path for model in loaded.statistics.models] == ["sparse/0", "rejected/0"]
    assert loaded.statistics.published == packed.statistics.models[:1]
    assert dict(loaded.statistics.models[0].checks) == dict(judged[0].verdict.checks)
    assert (loaded.statistics.models[1].num_points, loaded.statistics.models[1].mean_track_length) == (0, 0.0)
    assert loaded.files.keys() == packed.files.keys()
    assert all(np.array_equal(loaded.files[name], packed.files[name]) for name in loaded.files)
    assert load_models(store, "another-key") is None


@pytest.mark.parametrize(
    "values",
    [{"min_support": 1.5}, {"max_pair_error_px": 0.0}, {"min_points_per_image": -1}, {"max_focal_change": 0.9}],
)
def test_impossible_limits_are_refused(values: dict[str, float]) -> None:
    (name,) = values
    with pytest.raises(ConfigError, match=f"`checks.{name}`"):
        ChecksConfig(**values)  # type: ignore[arg-type]


def test_without_a_model_the_database_is_not_read(tmp_path: Path) -> None:
    assert judge_models([], tmp_path / "missing.db", ChecksConfig()) == []
