"""Models as another tool makes them: other keypoints than ours, in binary or text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pycolmap

NUM_UNMATCHED = 30
"""Keypoints without a point that each image has first."""


def with_other_keypoints(model: pycolmap.Reconstruction, noise_px: float = 0.15) -> pycolmap.Reconstruction:
    """A copy of a model whose keypoints are moved by noise and have other indices."""
    generator = np.random.default_rng(0)
    copy = pycolmap.Reconstruction(model)
    copy.delete_all_points2D_and_points3D()
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        own = np.array([point.xy for point in image.points2D]).reshape(-1, 2)
        own = own + generator.normal(scale=noise_px, size=own.shape)
        others = generator.uniform((5, 5), (image.camera.width - 5, image.camera.height - 5), (NUM_UNMATCHED, 2))
        copy.images[image_id].points2D = pycolmap.Image(keypoints=np.concatenate([others, own])).points2D
    for point_id in sorted(model.point3D_ids()):
        track = pycolmap.Track()
        for element in model.points3D[point_id].track.elements:
            track.add_element(element.image_id, element.point2D_idx + NUM_UNMATCHED)
        copy.add_point3D(model.points3D[point_id].xyz, track)
    return copy


def write_model(model: pycolmap.Reconstruction, folder: Path, as_text: bool = False) -> Path:
    folder.mkdir(parents=True)
    model.write_text(folder) if as_text else model.write_binary(folder)
    return folder
