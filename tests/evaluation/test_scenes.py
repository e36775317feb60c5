"""Errors of a reconstruction equal the errors that were added to the true poses."""

import itertools
import math

import numpy as np
import pycolmap
import pytest

from datasets import NotAligned, SceneTruth, evaluate_model, evaluate_poses
from sfm_lightglue.geometry.alignment import AlignedPoses
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, relative_pose_error_deg, rotation_from_rotvec
from tests.helpers.camera_poses import as_truth, random_poses, random_rotation, write_model


def transformed(poses: dict[str, Rigid3], new_from_old: Sim3) -> dict[str, Rigid3]:
    """The same cameras in another world frame and another unit."""
    moved = {}
    for name, pose in poses.items():
        R = pose.R @ new_from_old.R.T
        moved[name] = Rigid3(R, -R @ (new_from_old @ pose.center))
    return moved


def accuracy_of(poses: dict[str, Rigid3], truth: SceneTruth) -> AlignedPoses:
    accuracy = evaluate_poses(poses, truth).accuracy
    assert isinstance(accuracy, AlignedPoses)
    return accuracy


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_in_another_frame_and_unit_has_no_error(seed):
    rng = np.random.default_rng(seed)
    poses = random_poses(rng, 8)
    moved = Sim3(float(rng.uniform(0.01, 100)), random_rotation(rng), rng.normal(size=3) * 50)
    evaluation = evaluate_poses(transformed(poses, moved), as_truth(poses))
    accuracy = evaluation.accuracy
    assert isinstance(accuracy, AlignedPoses) and not accuracy.is_collinear
    assert accuracy.max_center_error < 1e-10
    assert max(accuracy.rotation_errors_deg.values()) < 1e-9
    assert accuracy.truth_from_estimate.scale == pytest.approx(1 / moved.scale)
    assert evaluation.pair_errors_deg.shape == (28,) and evaluation.pair_errors_deg.max() < 1e-6
    assert evaluation.auc() == pytest.approx((1, 1, 1, 1), abs=1e-6)


def test_a_displaced_camera_has_the_known_error():
    """The shift of one of N cameras moves the alignment by a fraction 1/N of it."""
    rng = np.random.default_rng(0)
    poses = random_poses(rng, 200)
    displaced = dict(poses)
    pose, shift = poses["07.jpg"], np.array([0.3, 0.0, 0.4]) * 1e-2
    displaced["07.jpg"] = Rigid3(pose.R, -pose.R @ (pose.center + shift))
    accuracy = accuracy_of(displaced, as_truth(poses))
    assert accuracy.center_errors["07.jpg"] == pytest.approx(0.5e-2, rel=0.05)
    assert accuracy.median_center_error < 0.05e-2
    assert accuracy.max_center_error == accuracy.center_errors["07.jpg"]
    assert accuracy.mean_center_error == pytest.approx(np.mean(list(accuracy.center_errors.values())))


def test_noise_of_known_size_leaves_the_known_rms_error():
    """Least squares over 3N numbers with 7 unknowns leave a fraction 1 - 7 / 3N of the variance."""
    rng = np.random.default_rng(3)
    poses = random_poses(rng, 20)
    squares = []
    for _ in range(100):
        noisy = {
            name: Rigid3(pose.R, -pose.R @ (pose.center + rng.normal(scale=1e-3, size=3)))
            for name, pose in poses.items()
        }
        squares += [error**2 for error in accuracy_of(noisy, as_truth(poses)).center_errors.values()]
    assert math.sqrt(np.mean(squares)) == pytest.approx(1e-3 * math.sqrt(3 * (1 - 7 / 60)), rel=0.05)


def test_a_turned_camera_has_the_known_rotation_and_pair_errors():
    poses = random_poses(np.random.default_rng(4), 6)
    turn = rotation_from_rotvec(np.radians([0.0, 3.0, 0.0]))
    turned = dict(poses)
    pose = poses["02.jpg"]
    turned["02.jpg"] = Rigid3(turn @ pose.R, turn @ pose.t)
    evaluation = evaluate_poses(turned, as_truth(poses))
    assert isinstance(evaluation.accuracy, AlignedPoses)
    errors = evaluation.accuracy.rotation_errors_deg
    assert errors["02.jpg"] == pytest.approx(3)
    assert max(error for name, error in errors.items() if name != "02.jpg") < 1e-9
    assert evaluation.accuracy.median_rotation_error_deg < 1e-9
    # 5 of 15 pairs contain the rotated camera and have an error of 3 degrees; the error of their direction is smaller.
    assert np.sort(evaluation.pair_errors_deg) == pytest.approx([0] * 10 + [3] * 5, abs=1e-6)
    assert evaluation.auc((1.0, 3.0, 6.0))[0] == pytest.approx(10 / 15)


def test_unregistered_images_and_images_without_truth_are_counted():
    poses = random_poses(np.random.default_rng(5), 6)
    found = {name: pose for name, pose in poses.items() if name not in {"00.jpg", "03.jpg"}}
    evaluation = evaluate_poses(found | {"new.jpg": Rigid3.identity()}, as_truth(poses))
    assert (evaluation.num_images, evaluation.num_registered, evaluation.num_unregistered) == (6, 4, 2)
    assert evaluation.num_without_truth == 1
    assert isinstance(evaluation.accuracy, AlignedPoses) and set(evaluation.accuracy.center_errors) == set(found)
    # 6 of 15 pairs have both images.
    assert np.isinf(evaluation.pair_errors_deg).sum() == 9
    assert evaluation.auc() == pytest.approx([6 / 15] * 4)


def test_pair_errors_are_those_of_the_relative_poses():
    rng = np.random.default_rng(11)
    poses, guesses = random_poses(rng, 7), random_poses(rng, 7)
    del guesses["02.jpg"]
    expected = [
        max(relative_pose_error_deg(guesses[name1] @ guesses[name0].inverse(), poses[name1] @ poses[name0].inverse()))
        if "02.jpg" not in (name0, name1)
        else math.inf
        for name0, name1 in itertools.combinations(sorted(poses), 2)
    ]
    evaluation = evaluate_poses(guesses, as_truth(poses))
    np.testing.assert_allclose(evaluation.pair_errors_deg, expected, atol=1e-9)


@pytest.mark.parametrize("num_registered", [0, 1, 2])
def test_too_few_images_for_an_alignment_are_errors(num_registered):
    poses = random_poses(np.random.default_rng(6), 4)
    evaluation = evaluate_poses(dict(list(poses.items())[:num_registered]), as_truth(poses))
    assert isinstance(evaluation.accuracy, NotAligned)
    assert f"{num_registered} registered" in evaluation.accuracy.reason
    assert evaluation.num_registered == num_registered
    assert evaluation.auc() == pytest.approx([(1 if num_registered == 2 else 0) / 6] * 4)


@pytest.mark.parametrize("which", ["model", "truth"])
def test_cameras_at_one_position_are_errors(which):
    poses = random_poses(np.random.default_rng(7), 5)
    coinciding = {name: Rigid3(pose.R, np.zeros(3)) for name, pose in poses.items()}
    model, truth = (coinciding, poses) if which == "model" else (poses, coinciding)
    accuracy = evaluate_poses(model, as_truth(truth)).accuracy
    assert isinstance(accuracy, NotAligned) and "coincide" in accuracy.reason


def test_pairs_from_one_position_have_only_a_rotation_error():
    rng = np.random.default_rng(8)
    poses = {f"{i}.jpg": Rigid3(random_rotation(rng), np.zeros(3)) for i in range(3)}
    evaluation = evaluate_poses(poses, as_truth(poses))
    assert evaluation.pair_errors_deg.max() < 1e-9


@pytest.mark.parametrize("noise", [0.0, 1e-5, 1e-2])
def test_collinear_cameras_keep_their_orientations(noise):
    """Collinear centres do not determine the rotation around their line; the orientations do."""
    rng = np.random.default_rng(9)
    axis = random_rotation(rng)[0]
    poses = {}
    for i in range(6):
        R = random_rotation(rng)
        poses[f"{i}.jpg"] = Rigid3(R, -R @ (i * axis + noise * rng.normal(size=3)))
    moved = transformed(poses, Sim3(0.2, random_rotation(rng), np.ones(3)))
    jitter = {name: Rigid3(pose.R, pose.t + 0.2 * noise * rng.normal(size=3)) for name, pose in moved.items()}
    accuracy = accuracy_of(jitter, as_truth(poses))
    assert accuracy.is_collinear
    assert accuracy.max_center_error < max(10 * noise, 1e-9)
    # The error of the direction of a line of length 5 is about noise / 5; orientations give the rotation around it.
    assert max(accuracy.rotation_errors_deg.values()) < max(math.degrees(noise), 1e-6)


def test_a_pycolmap_model_is_evaluated_as_its_poses_are(tmp_path):
    poses = random_poses(np.random.default_rng(10), 5)
    camera = pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=64, height=48, params=[50, 32, 24])
    write_model(tmp_path / "model", dict(list(poses.items())[:4]), camera)
    evaluation = evaluate_model(pycolmap.Reconstruction(tmp_path / "model"), as_truth(poses))
    assert evaluation.num_registered == 4 and evaluation.num_unregistered == 1
    assert isinstance(evaluation.accuracy, AlignedPoses) and evaluation.accuracy.max_center_error < 1e-10
    assert max(evaluation.accuracy.rotation_errors_deg.values()) < 1e-9
