"""Random camera poses, as ground truth and as a COLMAP model."""

from pathlib import Path

import numpy as np
import pycolmap

from datasets import SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3, rotation_from_rotvec
from sfm_lightglue.types import Camera

SIZE = (640, 480)


def random_rotation(rng: np.random.Generator) -> np.ndarray:
    return rotation_from_rotvec(rng.normal(size=3))


def random_poses(rng: np.random.Generator, num_images: int) -> dict[str, Rigid3]:
    poses = {}
    for i in range(num_images):
        R = random_rotation(rng)
        poses[f"{i:02d}.jpg"] = Rigid3(R, -R @ (rng.normal(size=3) * 3))
    return poses


def as_truth(poses: dict[str, Rigid3]) -> SceneTruth:
    camera = Camera("SIMPLE_PINHOLE", *SIZE, (500.0, 320.0, 240.0))
    return SceneTruth("scene", Path("images"), poses, dict.fromkeys(poses, camera))


def write_model(folder: Path, poses: dict[str, Rigid3], camera: pycolmap.Camera, text: bool = False) -> None:
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(camera)
    for image_id, (name, pose) in enumerate(sorted(poses.items()), start=1):
        image = pycolmap.Image(name=name, camera_id=camera.camera_id, image_id=image_id)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(pose.R), pose.t))
    folder.mkdir(parents=True)
    (model.write_text if text else model.write_binary)(folder)
