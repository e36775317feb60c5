"""A small model with its images on disk, for tests of exports and of known poses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pycolmap

from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.types import Camera
from tests.helpers.exact_scenes import ExactScene, make_model, ring_scene
from tests.helpers.foreign_models import write_model

SIZE = (320, 240)
PINHOLE = make_camera("SIMPLE_PINHOLE", SIZE, (290, 160, 120))
RADIAL = make_camera("RADIAL", SIZE, (290, 160, 120, -0.08, 0.02))
OFF_CENTER = make_camera("OPENCV", SIZE, (288, 293, 157, 124, -0.08, 0.02, 0.002, -0.003))
FULL = make_camera("FULL_OPENCV", SIZE, (290, 290, 160, 120, 0.05, 0.01, 0.001, 0, 0.002, 0.1, 0.01, 0.001))
FISHEYE = make_camera("OPENCV_FISHEYE", SIZE, (200, 202, 158, 122, 0.02, -0.01, 0.003, -0.001))
FOV = make_camera("FOV", SIZE, (290, 290, 160, 120, 0.4))

NAMES = ("a b.png", "left/c d.png", "left/é ü.png", "right/0.jpg", "right/1.jpg", "右.png")
"""With spaces, folders and characters of several scripts."""

_BLOB_SIGMA_PX = 1.6


def exact_model(camera: Camera) -> pycolmap.Reconstruction:
    """A model whose points project exactly to its keypoints, with colours."""
    ring = ring_scene(len(NAMES), 120)
    poses = {name: ring.poses[old] for name, old in zip(NAMES, sorted(ring.poses), strict=True)}
    model = make_model(ExactScene(poses, ring.points, camera, noise_px=0.0))
    for point_id, point in model.points3D.items():
        point.color = np.array([point_id % 256, 7 * point_id % 256, 255 - point_id % 256], np.uint8)
    return model


def write_images(model: pycolmap.Reconstruction, folder: Path, orientation: Mapping[str, int] | None = None) -> Path:
    """Grey images with a white blob at some keypoints; JPEG files get an EXIF orientation if one is given."""
    for image in model.images.values():
        width, height = model.cameras[image.camera_id].width, model.cameras[image.camera_id].height
        y, x = np.mgrid[:height, :width] + 0.5
        pixels = np.full((height, width), 40.0)
        for at in blobs(np.array([point.xy for point in image.points2D])):
            pixels += 200 * np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * _BLOB_SIGMA_PX**2))
        path = folder / image.name
        path.parent.mkdir(parents=True, exist_ok=True)
        _, data = cv2.imencode(path.suffix, np.clip(pixels, 0, 255).astype(np.uint8))
        path.write_bytes(_oriented(data.tobytes(), (orientation or {}).get(image.name)))
    return folder


def blobs(xy: np.ndarray, distance_px: float = 16.0) -> np.ndarray:
    """Some keypoints that lie apart from each other."""
    chosen: list[np.ndarray] = []
    for at in xy:
        if all(np.linalg.norm(at - other) > distance_px for other in chosen):
            chosen.append(at)
    return np.array(chosen)


def centroid(grey: np.ndarray, at: np.ndarray, radius: int = 6) -> np.ndarray:
    """Centre of the light around a pixel, in COLMAP's convention."""
    x0, y0 = (round(float(value)) for value in at - 0.5)
    patch = grey[y0 - radius : y0 + radius + 1, x0 - radius : x0 + radius + 1].astype(float)
    weights = np.clip(patch - 45.0, 0, None)
    dy, dx = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.array([x0 + 0.5, y0 + 0.5]) + np.array([(weights * dx).sum(), (weights * dy).sum()]) / weights.sum()


def _oriented(jpeg: bytes, orientation: int | None) -> bytes:
    if orientation is None:
        return jpeg
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation, 0, 0]) + b"\0\0\0\0"
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def write_scene(
    folder: Path, camera: Camera, orientation: Mapping[str, int] | None = None
) -> tuple[pycolmap.Reconstruction, Path]:
    """A model in `folder/sparse/0` and its images in `folder/images`; returns the model and its folder."""
    model = exact_model(camera)
    path = write_model(model, folder / "sparse" / "0")
    write_images(model, folder / "images", orientation)
    return model, path


def project(model: pycolmap.Reconstruction, name: str, points: np.ndarray) -> np.ndarray:
    """Pixels [N, 2] of points [N, 3] in an image, by pycolmap."""
    image = model.find_image_with_name(name)
    seen = points @ image.cam_from_world().matrix()[:, :3].T + image.cam_from_world().matrix()[:, 3]
    return np.asarray(model.cameras[image.camera_id].img_from_cam(seen))
