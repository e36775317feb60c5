"""Models of a rendered scene with exact tracks, of which the keypoints can be disturbed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.synthetic import SyntheticScene, corresponding_points, write_scene

STEP_PX = 10


def exact_model(scene: SyntheticScene) -> pycolmap.Reconstruction:
    """True poses, and points on a grid of pixels of each image, in all images that see them; at least three."""
    keypoints: dict[str, list[np.ndarray]] = {name: [] for name in scene.names}
    positions, tracks = [], []
    for name0 in scene.names:
        seen = {name: corresponding_points(scene, name0, name, STEP_PX) for name in scene.names if name != name0}
        pixels_from_key: dict[tuple[float, float], dict[str, np.ndarray]] = {}
        for name, (pixels0, pixels) in seen.items():
            for pixel0, pixel in zip(pixels0, pixels, strict=True):
                pixels_from_key.setdefault(tuple(pixel0), {name0: pixel0})[name] = pixel
        for key, pixels_from_name in pixels_from_key.items():
            if len(pixels_from_name) < 3:
                continue
            positions.append(_unproject(scene, name0, np.array(key)))
            tracks.append([(name, len(keypoints[name])) for name in pixels_from_name])
            for name, pixel in pixels_from_name.items():
                keypoints[name].append(pixel)
    model = pycolmap.Reconstruction()
    camera = as_pycolmap(scene.camera)
    camera.camera_id = 1
    model.add_camera_with_trivial_rig(camera)
    for image_id, (name, pose) in enumerate(scene.cam_from_world_from_name.items(), start=1):
        image = pycolmap.Image(name=name, keypoints=np.array(keypoints[name]), image_id=image_id, camera_id=1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(np.column_stack([pose.R, pose.t])))
    id_from_name = {name: image_id for image_id, name in enumerate(scene.names, start=1)}
    for position, track in zip(positions, tracks, strict=True):
        elements = [pycolmap.TrackElement(id_from_name[name], index) for name, index in track]
        model.add_point3D(position, pycolmap.Track(elements))
    return model


def _unproject(scene: SyntheticScene, name: str, pixel: np.ndarray) -> np.ndarray:
    x, y = pixel
    depth = float(scene.depths[name][int(y), int(x)])
    focal, cx, cy = scene.camera.params
    in_camera = np.array([[(x - cx) / focal * depth, (y - cy) / focal * depth, depth]])
    return (scene.cam_from_world_from_name[name].inverse() @ in_camera)[0]


def written(scene: SyntheticScene, folder: Path) -> dict[str, Path]:
    """The files of the images by name."""
    write_scene(scene, folder)
    return {name: folder / "images" / name for name in scene.names}
