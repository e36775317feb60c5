"""Models of places that look alike, right and folded, made of points and cameras without images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pycolmap

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import GIVEN, UP

SIZE = np.array(GIVEN.size)


def model_of(poses: Mapping[str, Rigid3], points: np.ndarray, rows_from_name: Mapping[str, np.ndarray], seed: int = 0):
    """A model whose images observe some of the points, if they lie inside the image and are seen twice or more."""
    rng = np.random.default_rng(seed)
    model = pycolmap.Reconstruction()
    native = as_pycolmap(GIVEN)
    native.camera_id = 1
    model.add_camera_with_trivial_rig(native)
    tracks: dict[int, pycolmap.Track] = {}
    for image_id, (name, pose) in enumerate(sorted(poses.items()), 1):
        rows = np.sort(rows_from_name[name])
        seen = pose @ points[rows]
        pixels = native.img_from_cam(seen) + rng.normal(scale=0.3, size=(len(rows), 2))
        inside = (seen[:, 2] > 0.1) & (pixels > 1).all(axis=1) & (pixels < SIZE - 1).all(axis=1)
        image = pycolmap.Image(name=name, keypoints=pixels[inside], image_id=image_id)
        image.camera_id = 1
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(np.column_stack([pose.R, pose.t])))
        for point2d_idx, row in enumerate(rows[inside].tolist()):
            tracks.setdefault(row, pycolmap.Track()).add_element(image_id, point2d_idx)
    for row, track in sorted(tracks.items()):
        if track.length() > 1:
            model.add_point3D(points[row], track)
    model.update_point_3d_errors()
    return model


def street_model(
    is_folded: bool,
    num_houses: int = 2,
    num_images: int = 6,
    num_twins: int = 150,
    num_own: int = 300,
    detected: float = 0.8,
    seed: int = 0,
) -> pycolmap.Reconstruction:
    """Houses that have some points in common, each seen by a walk along it; names are `house-number.jpg`.

    Args:
        is_folded: whether all houses stand at the same place.
        num_houses: equal but for their own points.
        num_images: of each house.
        num_twins: number of points that all houses have.
        num_own: number of points that only one house has.
        detected: fraction of the visible points that an image observes.
        seed: of the points.
    """
    rng = np.random.default_rng(seed)
    extent = np.array([10.0, 1.0, 6.0])
    twins, own = ((rng.uniform(-0.5, 0.5, (count, 3)) * extent) for count in (num_twins, num_own * num_houses))
    poses, points, rows_from_name = {}, [], {}
    step = 0.0 if is_folded else 14.0
    num_clouds = 1 if is_folded else num_houses
    for cloud in range(num_clouds):
        points.append(twins + np.array([cloud * step, 0, 0]))
    for house in range(num_houses):
        points.append(own[house * num_own : (house + 1) * num_own] + np.array([house * step, 0, 0]))
        cloud = 0 if is_folded else house
        first = num_clouds * num_twins + house * num_own
        rows = np.r_[cloud * num_twins : (cloud + 1) * num_twins, first : first + num_own]
        for number in range(num_images):
            x = house * step + np.linspace(-3, 3, num_images)[number] + rng.normal(0, 0.1)
            name = f"{house}-{number}.jpg"
            poses[name] = Rigid3.look_at(np.array([x, -9.0, 0.2]), np.array([x + 0.3, 0, 0]), UP)
            rows_from_name[name] = rows[rng.random(len(rows)) < detected]
    return model_of(poses, np.concatenate(points), rows_from_name)


def all_pairs(names: Sequence[str]) -> list[ImagePair]:
    return [ImagePair(*each) for each in combinations(sorted(names), 2)]
