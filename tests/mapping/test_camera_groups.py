"""Groups of images with different focal lengths, on noisy observations of random points from known poses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.camera_groups import CameraGroup, find_camera_groups
from sfm_lightglue.mapping.incremental import MappingConfig, adjust_robustly, mapper_options

SIZE = (800, 600)
FOCAL_PX = 700.0
NUM_IMAGES = 10
TWO_ZOOMS = (1.0, 1.5) * (NUM_IMAGES // 2)
NO_ZOOM = (1.0,) * NUM_IMAGES


def ring_poses(num_images: int = NUM_IMAGES) -> list[Rigid3]:
    """Cameras on an arc around the origin."""
    poses = []
    for idx, angle in enumerate(np.linspace(-1.2, 1.2, num_images)):
        center = np.array([8 * np.sin(angle), -8 * np.cos(angle), 1 + 0.8 * np.sin(2.1 * idx)])
        poses.append(Rigid3.look_at(center, np.array([0.1 * np.sin(idx), 0.0, 0.0]), np.array([0.0, 0.0, 1.0])))
    return poses


def forward_poses(num_images: int = NUM_IMAGES) -> list[Rigid3]:
    """A camera that moves straight ahead along +y."""
    up = np.array([0.0, 0.0, 1.0])
    centers = [np.array([0.02 * np.sin(idx), -12 + 0.5 * idx, 0.02 * np.cos(idx)]) for idx in range(num_images)]
    return [Rigid3.look_at(center, center + np.array([0.0, 1.0, 0.0]), up) for center in centers]


def above_poses(num_images: int = NUM_IMAGES) -> list[Rigid3]:
    """Cameras that look straight down from one height."""
    up = np.array([0.0, 1.0, 0.0])
    centers = [np.array([0.8 * (idx % 5) - 1.6, 1.5 * (idx // 5) - 0.7, 8.0]) for idx in range(num_images)]
    return [Rigid3.look_at(center, center - np.array([0.0, 0.0, 1.0]), up) for center in centers]


def random_points(seed: int, half_size: Sequence[float] = (3.0, 3.0, 2.0), num_points: int = 250) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (num_points, 3)) * half_size


def mapped_model(
    poses: Sequence[Rigid3],
    points: np.ndarray,
    zooms: Sequence[float],
    seed: int = 0,
    noise_px: float = 0.4,
    num_other: int = 0,
) -> pycolmap.Reconstruction:
    """A model that was adjusted with one camera for images with the focal lengths `FOCAL_PX` times `zooms`.

    It starts at the true poses and points. Observations with large errors are removed, as mapping does. The last
    `num_other` images have a second camera.
    """
    generator = np.random.default_rng(seed)
    size = np.array(SIZE)
    params = [FOCAL_PX * float(np.exp(np.mean(np.log(zooms)))), *(size / 2), 0.0]
    model = pycolmap.Reconstruction()
    for camera_id in (1, 2):
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(camera_id=camera_id, model="SIMPLE_RADIAL", width=SIZE[0], height=SIZE[1], params=params)
        )
    tracks: dict[int, list[tuple[int, int]]] = {}
    for idx, (pose, zoom) in enumerate(zip(poses, zooms, strict=True)):
        seen = pose @ points
        pixels = FOCAL_PX * zoom * seen[:, :2] / seen[:, 2:] + size / 2
        pixels += generator.normal(scale=noise_px, size=pixels.shape)
        visible = np.flatnonzero((seen[:, 2] > 0.5) & (pixels > 0).all(axis=1) & (pixels < size).all(axis=1))
        for row, point_idx in enumerate(visible.tolist()):
            tracks.setdefault(point_idx, []).append((idx + 1, row))
        image = pycolmap.Image(name=f"view_{idx:02d}.jpg", keypoints=pixels[visible], image_id=idx + 1)
        image.camera_id = 1 if idx < len(poses) - num_other else 2
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(np.column_stack([pose.R, pose.t])))
    for point_idx, observations in sorted(tracks.items()):
        if len(observations) > 2:
            track = pycolmap.Track()
            for image_id, row in observations:
                track.add_element(image_id, row)
            model.add_point3D(points[point_idx], track)
    config = MappingConfig(max_reprojection_error_px=4.0)
    adjust_robustly(model, 0.5, mapper_options(config, len(poses), frozenset(), 1, 0))
    return model


def found(model: pycolmap.Reconstruction, constant: frozenset[int] = frozenset()) -> tuple[CameraGroup, ...]:
    return find_camera_groups(model, constant, 1)


def assert_groups_are(groups: tuple[CameraGroup, ...], zooms: Sequence[float]) -> None:
    """The groups are those of equal zooms, with focal lengths within 3 %."""
    expected = {
        tuple(f"view_{idx:02d}.jpg" for idx, each in enumerate(zooms) if each == zoom): FOCAL_PX * zoom
        for zoom in zooms
    }
    assert {group.names for group in groups} == set(expected)
    for group in groups:
        assert group.camera.params[0] == pytest.approx(expected[group.names], rel=0.03)
        assert group.camera.model == "SIMPLE_RADIAL" and group.camera.size == SIZE
        assert group.camera.source == "estimated"


def contents(model: pycolmap.Reconstruction) -> tuple[object, ...]:
    cameras = {key: camera.params.tolist() for key, camera in model.cameras.items()}
    poses = {key: image.cam_from_world().matrix().tolist() for key, image in model.images.items()}
    cameras_of = {key: image.camera_id for key, image in model.images.items()}
    points = {key: (point.xyz.tolist(), point.track.length()) for key, point in model.points3D.items()}
    return cameras, poses, cameras_of, points


@pytest.mark.parametrize("ratio", [1.1, 1.3, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_two_focal_lengths_are_two_groups(ratio: float, seed: int) -> None:
    zooms = (1.0, ratio) * (NUM_IMAGES // 2)
    assert_groups_are(found(mapped_model(ring_poses(), random_points(seed), zooms, seed)), zooms)


@pytest.mark.parametrize(
    "zooms",
    [
        (1.0, 1.0, 1.7, 1.0, 1.0, 2.5, 1.7, 2.5, 1.0, 1.7, 2.5, 1.0),
        (1.0, 1.0, 1.0, 1.0, 1.7, 1.0, 1.0, 1.0, 1.7, 1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.4, 1.0, 1.0, 1.0, 1.0),
        (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.5, 1.5, 1.5),
    ],
    ids=["three", "two of twelve", "one of twelve", "halves"],
)
def test_groups_of_other_numbers_and_sizes(zooms: tuple[float, ...]) -> None:
    assert_groups_are(found(mapped_model(ring_poses(len(zooms)), random_points(0), zooms)), zooms)


def test_a_continuous_zoom_gives_each_image_its_camera() -> None:
    zooms = tuple(np.geomspace(1, 1.6, NUM_IMAGES)[[3, 7, 0, 9, 5, 1, 8, 2, 6, 4]].tolist())
    assert_groups_are(found(mapped_model(ring_poses(), random_points(0), zooms)), zooms)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("noise_px", [0.05, 1.0])
def test_one_camera_is_not_split(seed: int, noise_px: float) -> None:
    assert found(mapped_model(ring_poses(), random_points(seed), NO_ZOOM, seed, noise_px)) == ()


@pytest.mark.parametrize("seed", range(4))
def test_forward_motion_of_one_camera_is_not_split(seed: int) -> None:
    assert found(mapped_model(forward_poses(), random_points(seed, (4.0, 10.0, 3.0)), NO_ZOOM, seed)) == ()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("height", [0.0, 0.05])
def test_a_flat_scene_of_one_camera_is_not_split(seed: int, height: float) -> None:
    points = random_points(seed, (5.0, 4.0, height))
    assert found(mapped_model(above_poses(), points, NO_ZOOM, seed)) == ()
    assert found(mapped_model(ring_poses(), points, NO_ZOOM, seed)) == ()


def test_the_model_is_not_changed_and_the_result_is_the_same_again() -> None:
    model = mapped_model(ring_poses(), random_points(0), TWO_ZOOMS)
    before = contents(model)
    groups = found(model)
    assert len(groups) == 2
    assert contents(model) == before
    assert found(model) == groups


def test_known_intrinsics_are_not_examined() -> None:
    assert found(mapped_model(ring_poses(), random_points(0), TWO_ZOOMS), frozenset({1})) == ()


def test_only_the_camera_that_was_zoomed_is_split() -> None:
    zooms = (*TWO_ZOOMS, 1.2, 1.2, 1.2, 1.2, 1.2)
    model = mapped_model(ring_poses(len(zooms)), random_points(0), zooms, num_other=5)
    assert_groups_are(found(model), TWO_ZOOMS)


def test_three_images_and_an_empty_model_have_no_groups() -> None:
    assert found(mapped_model(ring_poses(3), random_points(0), (1.0, 1.5, 1.0))) == ()
    assert found(pycolmap.Reconstruction()) == ()


def test_an_image_without_points_keeps_the_groups_of_the_others() -> None:
    model = mapped_model(ring_poses(), random_points(0), TWO_ZOOMS)
    image = model.images[1]
    for idx in range(image.num_points2D()):
        if image.points2D[idx].has_point3D():
            model.delete_observation(1, idx)
    names = [set(group.names) - {"view_00.jpg"} for group in found(model)]
    assert sorted(map(len, names)) == [4, 5]
