"""A small model with photos and tracks on disk, for tests of the viewer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap
from PIL import Image, ImageDraw

from sfm_lightglue.geometry.transforms import Rigid3

SIZE = (320, 240)
FOCAL_PX = 260.0
UP = np.array([0.0, -1.0, 0.0])
NUM_LOOSE = 20


def write_viewed_scene(
    folder: Path, num_images: int = 6, num_points: int = 160, noise: float = 0.0, with_photos: bool = True
) -> Path:
    """A scene folder: cameras in a row that look at a wall of points, y downwards; photos are dots at the keypoints.

    Args:
        folder: of the scene; its model is in reconstruction/sparse/0.
        num_images: number of cameras.
        num_points: of the wall.
        noise: standard deviation of the camera centres.
        with_photos: whether photos are written.
    """
    model_folder = folder / "reconstruction" / "sparse" / "0"
    model_folder.mkdir(parents=True)
    (folder / "images").mkdir()
    rng, truth = np.random.default_rng(1), np.random.default_rng(0)
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="SIMPLE_PINHOLE", width=SIZE[0], height=SIZE[1], params=[FOCAL_PX, SIZE[0] / 2, SIZE[1] / 2], camera_id=1
    )
    model.add_camera_with_trivial_rig(camera)
    points = truth.uniform((-3.3, -1, 5), (3.3, 1, 5.3), (num_points, 3))
    tracks: list[list[tuple[int, int]]] = [[] for _ in points]
    for row in range(num_images):
        center = np.array([0.5 * (row - (num_images - 1) / 2), 0.05 * row, 0.0])
        pose = Rigid3.look_at(center, center + np.array([-0.1 * (row - 2), 0, 4.0]), UP)
        in_camera = pose @ points
        pixels = FOCAL_PX * in_camera[:, :2] / in_camera[:, 2:] + np.array(SIZE) / 2
        seen = np.flatnonzero(((pixels > 3) & (pixels < np.array(SIZE) - 3)).all(axis=1))
        for keypoint, point in enumerate(seen.tolist()):
            tracks[point].append((row + 1, keypoint))
        loose = truth.uniform((0, 0), SIZE, (NUM_LOOSE, 2))
        name = f"{row:03d}.jpg"
        moved = Rigid3(pose.R, pose.t + noise * rng.normal(size=3))
        model.add_image_with_trivial_frame(
            pycolmap.Image(name=name, camera_id=1, image_id=row + 1, keypoints=np.concatenate([pixels[seen], loose])),
            pycolmap.Rigid3d(pycolmap.Rotation3d(moved.R), moved.t),
        )
        if with_photos:
            _photo(pixels[seen], row).save(folder / "images" / name, quality=95)
    for point, track in zip(points, tracks, strict=True):
        elements = [pycolmap.TrackElement(image_id, keypoint) for image_id, keypoint in track]
        if len(elements) > 1:
            model.add_point3D(point, pycolmap.Track(elements=elements), np.array([30, 200, 60], np.uint8))
    model.write_binary(model_folder)
    return folder


def _photo(pixels: np.ndarray, row: int) -> Image.Image:
    photo = Image.new("RGB", SIZE, (40 + 20 * row, 60, 120))
    draw = ImageDraw.Draw(photo)
    for x, y in pixels:
        draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=(250, 240, 60))
    return photo
