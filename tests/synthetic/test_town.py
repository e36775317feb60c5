"""The town: exact truth, overlaps that agree with depths, and the same images for any number of images."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest

from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.synthetic import (
    SyntheticScene,
    Town,
    corresponding_points,
    read_truth,
    render_town,
    town_overlaps,
    write_town,
)
from sfm_lightglue.synthetic.rays import cast
from sfm_lightglue.synthetic.render import pixel_rays
from sfm_lightglue.synthetic.shapes import Box
from sfm_lightglue.synthetic.town_houses import town_solids

SIZE = (144, 96)
NUM_IMAGES = 6


@pytest.fixture(scope="module")
def town() -> Town:
    return Town(NUM_IMAGES, SIZE, seed=2)


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return render_town(NUM_IMAGES, SIZE, seed=2)


def test_correspondences_obey_the_epipolar_geometry_and_have_one_colour(scene: SyntheticScene) -> None:
    name0, name1 = scene.names[2:4]
    pixels0, pixels1 = corresponding_points(scene, name0, name1, step=2)
    assert len(pixels0) > 500, "neighbouring views do not overlap"
    K_inv = np.linalg.inv(scene.K)
    poses = scene.cam_from_world_from_name
    F = K_inv.T @ essential_from_pose(poses[name1] @ poses[name0].inverse()) @ K_inv
    assert np.sqrt(squared_sampson_errors(F, pixels0, pixels1)).max() < 2e-3

    def colors(name: str, pixels: np.ndarray) -> np.ndarray:
        x, y = (pixels - 0.5).astype(np.float32).T
        smooth = cv2.GaussianBlur(scene.images[name].astype(np.float32), (0, 0), 1.5)
        return cv2.remap(smooth, x[None], y[None], cv2.INTER_LINEAR)[0].mean(1)

    same = np.corrcoef(colors(name0, pixels0), colors(name1, pixels1))[0, 1]
    shifted = np.corrcoef(colors(name0, pixels0), colors(name1, pixels1 + np.array([8.0, 0.0])))[0, 1]
    assert same > 0.85 > shifted


def test_shapes_that_are_left_out_are_not_seen(town: Town) -> None:
    """The renderer of tiles finds the same surfaces as a search through all shapes."""
    x, y = np.meshgrid(np.arange(8, SIZE[0], 16) + 0.5, np.arange(8, SIZE[1], 16) + 0.5)
    rays = pixel_rays(town.camera, town.cam_from_world_from_name[town.names[4]], x.ravel(), y.ravel())
    expected, _ = cast(town.index.shapes, rays)
    assert np.array_equal(town.index.cast(rays), expected)
    depth = town.render(town.names[4])[1][8::16, 8::16].ravel()
    assert np.allclose(depth, np.where(np.isfinite(expected), expected, 0), rtol=1e-5)
    assert np.isfinite(expected).mean() > 0.5


def test_overlaps_agree_with_depths(town: Town, scene: SyntheticScene) -> None:
    overlaps = town_overlaps(town)
    assert overlaps.shape == (NUM_IMAGES, NUM_IMAGES) and overlaps.dtype == np.float32
    assert np.array_equal(np.diag(overlaps), np.ones(NUM_IMAGES))
    for i, j in ((0, 1), (1, 0), (2, 5), (5, 0)):
        points, _ = town.sampled_points(scene.names[i])
        x, y, z = (scene.cam_from_world_from_name[scene.names[j]] @ points.T).T
        focal, cx, cy = scene.camera.params
        columns, rows = (np.floor(focal * axis / z + c).astype(int) for axis, c in ((x, cx), (y, cy)))
        inside = (z > 0) & (columns >= 0) & (columns < SIZE[0]) & (rows >= 0) & (rows < SIZE[1])
        depth = scene.depths[scene.names[j]][rows[inside], columns[inside]]
        assert overlaps[i, j] == pytest.approx((np.abs(depth / z[inside] - 1) < 0.1).sum() / len(z), abs=0.06)


def test_neighbours_of_a_long_walk_overlap_and_the_walk_comes_back() -> None:
    """The next image sees the same surfaces; there are loops, and images of different streets see nothing in common."""
    town = Town(150, SIZE, seed=0)
    centers = np.array([pose.center for pose in town.cam_from_world_from_name.values()])
    steps = np.linalg.norm(np.diff(centers, axis=0), axis=1)
    assert steps.max() < 3.5
    chosen = range(0, 150, 10)
    neighbours = [(town.names[idx], town.names[idx + 1]) for idx in chosen]
    for name0, name1 in neighbours:
        assert town.sees(name1, *town.sampled_points(name0)).mean() > 0.15
    apart = np.linalg.norm(centers[:, None] - centers, axis=2)
    order = np.abs(np.arange(150)[:, None] - np.arange(150))
    assert ((apart < 5) & (order > 40)).any()
    assert apart.max() > 60


def test_the_first_images_do_not_depend_on_the_number_of_images(town: Town, scene: SyntheticScene) -> None:
    longer = Town(40, SIZE, seed=2)
    for name in town.names:
        pose, same = (one.cam_from_world_from_name[name] for one in (longer, town))
        assert np.array_equal(pose.R, same.R) and np.array_equal(pose.t, same.t)
    image, depth = longer.render(town.names[3])
    assert np.array_equal(image, scene.images[town.names[3]])
    assert np.array_equal(depth, scene.depths[town.names[3]])
    other = Town(2, SIZE, seed=3).render(town.names[0])[0]
    assert not np.array_equal(other, scene.images[town.names[0]])


def test_no_two_houses_are_alike() -> None:
    """Facades of the same size have different pixels, beyond what the light changes."""
    solids = town_solids(6.0, seed=1)
    houses = [solid for solid in solids if isinstance(solid.shape, Box) and solid.shape.half_size_m[2] > 3]
    painters = [next(iter(house.painters.values())) for house in houses if house.painters][:12]
    facades = [painter((6.0, 6.0), np.random.default_rng(0)) for painter in painters]
    assert len(facades) == 12
    for facade0, facade1 in combinations(facades, 2):
        correlation = np.corrcoef(facade0.mean(2).ravel(), facade1.mean(2).ravel())[0, 1]
        assert correlation < 0.7


def test_a_written_town_has_its_truth_and_goes_on_where_it_was_interrupted(town: Town, tmp_path) -> None:
    calls: list[int] = []
    write_town(town, tmp_path, 1, lambda stage, done, total: calls.append(done))
    assert calls == list(range(1, NUM_IMAGES + 1))
    first = (tmp_path / "images" / town.names[0]).read_bytes()
    (tmp_path / "images" / town.names[0]).write_bytes(b"kept")
    (tmp_path / "images" / town.names[1]).unlink()
    write_town(town, tmp_path, 1)
    assert (tmp_path / "images" / town.names[0]).read_bytes() == b"kept" != first
    cameras, poses = read_truth(tmp_path)
    truth = SceneTruth("town", tmp_path / "images", poses, cameras, is_metric=True)
    assert truth.names == town.names
    assert np.allclose(poses[town.names[2]].t, town.cam_from_world_from_name[town.names[2]].t)


def test_sizes_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="render_town"):
        render_town(1)
