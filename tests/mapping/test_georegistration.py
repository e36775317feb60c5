"""Known positions turn a model into metres, and are refused where they do not determine it."""

from __future__ import annotations

import json

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_angle_deg
from sfm_lightglue.mapping.georegistration import GeoRegistration, georegister
from sfm_lightglue.scene.local_frame import LocalPositions
from tests.helpers.exact_scenes import UP, ExactScene, make_model
from tests.helpers.rigged_models import with_common_frame

ORIGIN = (59.33, 18.06, 30.0)


def scene_of(extent_m: float, num_images: int = 20, across: float = 0.6) -> ExactScene:
    """Cameras spread over a field, in metres."""
    generator = np.random.default_rng(0)
    poses = {}
    for idx in range(num_images):
        center = generator.uniform(-0.5, 0.5, 3) * [extent_m, across * extent_m, 0.1 * across * extent_m]
        poses[f"{idx:02d}.jpg"] = Rigid3.look_at(
            np.add(center, [0, 0, 1]), center + generator.normal(0, 0.1, 3), [0, 1, 0]
        )
    return ExactScene(poses, np.zeros((0, 3)))


def model_of(scene: ExactScene) -> pycolmap.Reconstruction:
    """A model in a world of its own."""
    model = make_model(scene)
    model.transform(pycolmap.Sim3d(np.column_stack([0.03 * Rigid3.from_rotvec([1, 2, -0.5], [0, 0, 0]).R, [3, 1, 9]])))
    return model


def positions_of(
    scene: ExactScene, noise_m: float = 0.0, origin: tuple[float, float, float] | None = ORIGIN
) -> LocalPositions:
    names = tuple(sorted(scene.poses))
    centers = np.array([scene.poses[name].center for name in names])
    return LocalPositions(names, centers + np.random.default_rng(1).normal(0, noise_m, centers.shape), origin)


def test_the_model_gets_its_true_size_and_place() -> None:
    scene = scene_of(300.0)
    model = model_of(scene)
    found = georegister(model, positions_of(scene))
    assert found is not None
    assert found.local_from_model.scale == pytest.approx(1 / 0.03)
    found.apply(model)
    for name, pose in poses_of_model(model).items():
        assert np.allclose(pose.as_matrix(), scene.poses[name].as_matrix(), atol=1e-6)
    assert found.names == tuple(sorted(scene.poses))
    assert found.outliers == ()
    assert found.median_residual_m < 1e-6


def test_errors_of_metres_and_wrong_positions_are_normal() -> None:
    scene = scene_of(300.0)
    positions = positions_of(scene, 3.0)
    positions.xyz_m[[2, 7, 11]] += [150, -80, 40]
    found = georegister(model_of(scene), positions)
    assert found is not None
    assert found.outliers == ("02.jpg", "07.jpg", "11.jpg")
    assert found.local_from_model.scale == pytest.approx(1 / 0.03, rel=0.03)
    assert 2 < found.median_residual_m < 8
    assert 0 < found.scale_error < 0.02
    assert found.residuals_m["02.jpg"] > 100


def test_the_stated_errors_are_those_of_repeated_trials() -> None:
    scene = scene_of(100.0, 12)
    names, centers = tuple(sorted(scene.poses)), positions_of(scene).xyz_m
    scales, stated = [], []
    for seed in range(15):
        noisy = centers + np.random.default_rng(seed).normal(0, 2.0, centers.shape)
        found = georegister(model_of(scene), LocalPositions(names, noisy, None))
        assert found is not None
        scales.append(found.local_from_model.scale * 0.03)
        stated.append(found.scale_error)
    assert np.std(scales) == pytest.approx(np.mean(stated), rel=0.4)


@pytest.mark.parametrize(("extent_m", "num_images"), [(5.0, 20), (20.0, 4)])
def test_small_scenes_are_not_scaled_by_gps(extent_m: float, num_images: int, caplog: pytest.LogCaptureFixture) -> None:
    """Also where the positions happen to fit well."""
    scene = scene_of(extent_m, num_images)
    model = model_of(scene)
    before = {name: pose.as_matrix() for name, pose in poses_of_model(model).items()}
    assert georegister(model, positions_of(scene)) is None
    assert "the model is not in metres" in caplog.text
    assert "determine its scale only to" in caplog.text
    assert all(np.array_equal(pose.as_matrix(), before[name]) for name, pose in poses_of_model(model).items())
    assert georegister(model, positions_of(scene), assumed_error_m=0.02) is not None, "positions of a survey"
    given = georegister(model, positions_of(scene, origin=None))
    assert given is not None
    assert given.as_dict()["frame"] == "given"


def test_positions_of_another_place_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    scene = scene_of(300.0)
    positions = positions_of(scene)
    shuffled = LocalPositions(positions.names, np.random.default_rng(5).permutation(positions.xyz_m), ORIGIN)
    assert georegister(model_of(scene), shuffled) is None
    assert "the model is not in metres" in caplog.text


@pytest.mark.parametrize("across", [0.0, 1e-4])
def test_positions_on_a_line_are_refused(across: float, caplog: pytest.LogCaptureFixture) -> None:
    scene = scene_of(300.0, across=across)
    assert georegister(model_of(scene), positions_of(scene)) is None
    assert "on a line" in caplog.text


def test_a_narrow_strip_leaves_the_roll_open(caplog: pytest.LogCaptureFixture) -> None:
    """Errors of metres across a strip of metres are degrees."""
    scene = scene_of(300.0, 20, 0.03)
    assert georegister(model_of(scene), positions_of(scene, 3.0)) is None
    assert "orientation only to" in caplog.text


@pytest.mark.parametrize(("width_m", "is_accepted"), [(1.0, False), (40.0, True)])
def test_errors_of_positions_are_no_lever_arm(width_m: float, is_accepted: bool) -> None:
    """A nearly straight walk leaves the roll open, however far GPS scatters across it. Altitudes scatter more."""
    generator = np.random.default_rng(3)
    centers = np.column_stack(
        [np.linspace(0, 100, 50), generator.normal(0, width_m, (50, 2)) * [1, min(1, 2 / width_m)]]
    )
    poses = {
        f"{idx:02d}.jpg": Rigid3.look_at(center, np.add(center, [1, 0, 0]), UP) for idx, center in enumerate(centers)
    }
    scene = ExactScene(poses, np.zeros((0, 3)))
    for seed in range(5):
        noise_m = np.random.default_rng(seed).normal(0, 1, (50, 3)) * [3, 3, 6]
        found = georegister(model_of(scene), LocalPositions(tuple(sorted(poses)), centers + noise_m, ORIGIN))
        assert (found is not None) == is_accepted


def test_the_stated_rotation_error_counts_the_altitude() -> None:
    """A strip of a flat field from east to west: its roll follows from altitudes only."""
    scene = scene_of(200.0, 30, 0.2)
    names, centers = tuple(sorted(scene.poses)), positions_of(scene).xyz_m
    angles, stated = [], []
    truth = Rigid3.from_rotvec([1, 2, -0.5], [0, 0, 0]).R.T
    for seed in range(15):
        noisy = centers + np.random.default_rng(seed).normal(0, 1, centers.shape) * [3, 3, 6]
        found = georegister(model_of(scene), LocalPositions(names, noisy, ORIGIN))
        assert found is not None
        angles.append(rotation_angle_deg(found.local_from_model.R @ truth.T))
        stated.append(found.rotation_error_deg)
    assert np.sqrt(np.mean(np.square(angles))) == pytest.approx(np.mean(stated), rel=0.35)


def test_a_repeated_position_is_named(caplog: pytest.LogCaptureFixture) -> None:
    scene = scene_of(300.0)
    positions = positions_of(scene)
    positions.xyz_m[:12] = positions.xyz_m[0]
    assert georegister(model_of(scene), positions) is None
    assert "most of these positions are equal" in caplog.text


def test_coinciding_positions_are_refused(caplog: pytest.LogCaptureFixture) -> None:
    scene = scene_of(300.0)
    positions = positions_of(scene)
    assert georegister(model_of(scene), LocalPositions(positions.names, np.zeros((20, 3)), ORIGIN)) is None
    assert "not in metres" in caplog.text


def test_two_positions_are_silently_too_few(caplog: pytest.LogCaptureFixture) -> None:
    scene = scene_of(300.0)
    positions = positions_of(scene)
    few = LocalPositions((*positions.names[:2], "elsewhere.jpg"), positions.xyz_m[:3], ORIGIN)
    assert georegister(model_of(scene), few) is None
    assert caplog.text == ""


@pytest.mark.parametrize(("size", "is_accepted"), [(1.0, True), (1.1, True), (1.5, False)])
def test_a_rig_with_known_distances_keeps_its_metres(size: float, is_accepted: bool) -> None:
    scene = scene_of(300.0)
    model = with_common_frame(make_model(scene), "00.jpg", "01.jpg")
    positions = positions_of(scene, 1.0)
    found = georegister(model, LocalPositions(positions.names, size * positions.xyz_m, ORIGIN))
    assert (found is not None) == is_accepted
    if found is not None:
        assert (found.local_from_model.scale, found.scale_error) == (1.0, 0.0)
        assert found.rotation_error_deg > 0


def test_cameras_of_a_rig_in_one_place_tell_no_metres() -> None:
    scene = scene_of(300.0)
    scene.poses["01.jpg"] = Rigid3(np.diag([-1.0, 1, -1]), np.zeros(3)) @ scene.poses["00.jpg"]
    found = georegister(
        with_common_frame(make_model(scene), "00.jpg", "01.jpg"),
        LocalPositions(tuple(sorted(scene.poses)), 2 * positions_of(scene).xyz_m, ORIGIN),
    )
    assert found is not None
    assert found.local_from_model.scale == pytest.approx(2.0)


def test_the_record_reproduces_the_transform() -> None:
    scene = scene_of(300.0)
    found = georegister(model_of(scene), positions_of(scene, 1.0))
    assert isinstance(found, GeoRegistration)
    record = json.loads(json.dumps(found.as_dict()))
    assert record["origin"] == {"latitude_deg": 59.33, "longitude_deg": 18.06, "altitude_m": 30.0}
    assert record["frame"] == "east_north_up"
    values = record["local_from_model"]
    again = Sim3(values["scale"], np.array(values["rotation"]), np.array(values["translation_m"]))
    assert np.allclose(again @ UP, found.local_from_model @ UP)
    assert record["num_used"] == sum(image["used"] for image in record["images"].values())
