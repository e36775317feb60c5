"""The square of many cameras: each image has a camera of its own, and depths and poses agree with its distortion."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest

from datasets.ground_truth import read_scene
from sfm_lightglue.scene.cameras import as_pycolmap, normalized_from_pixels
from sfm_lightglue.synthetic import SyntheticPhotos, render_square, write_photos

SIZE = (160, 120)


@pytest.fixture(scope="module")
def photos() -> SyntheticPhotos:
    return render_square(8, SIZE, seed=1)


def surface_points(photos: SyntheticPhotos, name: str) -> tuple[np.ndarray, np.ndarray]:
    """World points [N, 3] at every fourth pixel with a surface, and these pixels [N, 2]."""
    depth = photos.depths[name][::4, ::4]
    y, x = np.nonzero(depth > 0)
    pixels = 4.0 * np.stack([x, y], 1) + 0.5
    rays = np.column_stack([normalized_from_pixels(photos.camera_from_name[name], pixels), np.ones(len(pixels))])
    return photos.cam_from_world_from_name[name].inverse() @ (rays * depth[y, x, None]), pixels


def test_each_camera_is_another_one(photos):
    cameras = list(photos.camera_from_name.values())
    assert len({camera.params for camera in cameras}) == 8
    assert {camera.model for camera in cameras} == {"SIMPLE_RADIAL"}
    assert {camera.size for camera in cameras} == {SIZE, SIZE[::-1]}
    assert all(photos.images[name].shape[:2] == (c.height, c.width) for name, c in photos.camera_from_name.items())


def test_surfaces_seen_twice_agree_in_depth_and_colour(photos):
    """Depths of one image, moved to another by both poses and both distorted cameras, are the depths there."""
    grey = {name: cv2.GaussianBlur(image, (0, 0), 1.0).mean(2) for name, image in photos.images.items()}
    found, colors = 0, []
    for name0, name1 in combinations(photos.images, 2):
        points, pixels0 = surface_points(photos, name0)
        in_camera = photos.cam_from_world_from_name[name1] @ points
        seen = in_camera[:, 2] > 1
        pixels1 = np.full((len(points), 2), np.nan)
        native = as_pycolmap(photos.camera_from_name[name1])
        pixels1[seen] = native.img_from_cam(np.ascontiguousarray(in_camera[seen]))
        height, width = photos.depths[name1].shape
        inside = (pixels1 >= 0).all(1) & (pixels1 < (width, height)).all(1)
        x1, y1 = np.floor(pixels1[inside]).astype(int).T
        ratios = photos.depths[name1][y1, x1] / in_camera[inside, 2]
        same = np.abs(ratios - 1) < 0.02
        found += int(same.sum())
        x0, y0 = np.floor(pixels0[inside][same]).astype(int).T
        colors.append(np.stack([grey[name0][y0, x0], grey[name1][y1[same], x1[same]]]))
    assert found > 2000
    assert np.corrcoef(np.concatenate(colors, 1))[0, 1] > 0.7


def test_the_same_seed_gives_the_same_bytes(photos):
    again = render_square(8, SIZE, seed=1)
    assert all(np.array_equal(photos.images[name], again.images[name]) for name in photos.images)
    assert photos.camera_from_name == again.camera_from_name


def test_truth_on_the_disk_is_the_truth(photos, tmp_path):
    write_photos(photos, tmp_path)
    truth = read_scene(tmp_path)
    assert truth.is_metric and truth.names == tuple(photos.images)
    for name, camera in truth.camera_from_name.items():
        assert camera.model == "SIMPLE_RADIAL"
        assert camera.params == pytest.approx(photos.camera_from_name[name].params)
        assert np.allclose(truth.cam_from_world_from_name[name].t, photos.cam_from_world_from_name[name].t)
