"""Verified matches between images of two models, with the points of both that they connect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import point_ids_of
from sfm_lightglue.geometry.epipolar import homogeneous
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_angles_deg
from sfm_lightglue.mapping.pair_agreement import StoredPair
from sfm_lightglue.types import ImagePair

_REFERENCE_SIZE_PX = 1600.0

_MAX_PER_PAIR = 400
"""Matches of a pair that are used; evenly chosen from more."""

MIN_PROBABILITY = 0.5
"""A pair that is less probably a true overlap connects no models."""

_MIN_CARRIED = 3
"""Fewest common points of a doubtful pair in a model by which it carries the pose of an image there."""

_MAX_SHARED_TURN_DEG, _MAX_SHARED_DISTANCE = 2.0, 0.05
"""Largest differences of the poses of an image in two models that are aligned: of its rotation, and of its centre as a
fraction of the median depth of its points."""


@dataclass(frozen=True, eq=False, slots=True)
class LinkSide:
    """What matches see of one of two models.

    Args:
        names: of the images of the pairs [P] in this model.
        image: [K] id of the image.
        row: [K] keypoint in the image.
        point_id: [K] point of the model, -1 for none.
        xyz: [K, 3] of the point in the world of the model, NaN without.
        R: [K, 3, 3] rotation of `cam_from_world` of the image.
        t: [K, 3] its translation.
        rays: [K, 3] direction of length 1 of the keypoint in the camera frame.
        px_per_radian: [K] focal length in pixels of an image of at most 1600 pixels.
    """

    names: tuple[str, ...]
    image: IndexArray
    row: IndexArray
    point_id: IndexArray
    xyz: Float64Array
    R: Float64Array
    t: Float64Array
    rays: Float64Array
    px_per_radian: Float64Array

    @property
    def has_point(self) -> BoolArray:
        """[K] whether the keypoint has a point."""
        return self.point_id >= 0

    def errors_px(self, xyz: Float64Array) -> Float64Array:
        """Errors [K, C] of C places [K, C, 3] of each point in the world of this model, NaN for NaN."""
        in_camera = xyz @ self.R.transpose(0, 2, 1) + self.t[:, None]
        # `numpy.cross` and `numpy.einsum` take four times as long here
        x, y, z = (in_camera[..., k] for k in range(3))
        rx, ry, rz = (self.rays[:, k, None] for k in range(3))
        sine = np.sqrt((y * rz - z * ry) ** 2 + (z * rx - x * rz) ** 2 + (x * ry - y * rx) ** 2)
        errors: Float64Array = np.arctan2(sine, x * rx + y * ry + z * rz) * self.px_per_radian[:, None]
        return errors

    def depths(self, xyz: Float64Array) -> Float64Array:
        """Depths [K] of points [K, 3] in the world of this model."""
        depths: Float64Array = np.einsum("kj,kj->k", self.R[:, 2], xyz) + self.t[:, 2]
        return depths

    def poses(self) -> dict[int, Rigid3]:
        """`cam_from_world` of each image, by id."""
        first = np.unique(self.image, return_index=True)[1]
        return {int(self.image[k]): Rigid3(self.R[k], self.t[k]) for k in first.tolist()}


@dataclass(frozen=True, eq=False, slots=True)
class PointLinks:
    """The K matches between two models of which at least one keypoint has a point, from P pairs of images.

    Args:
        target: side of one model.
        source: side of the other model.
        pair: [K] number of the pair of images.
        doubted: shared images whose pose in one of the models doubtful pairs carry, too: they may be at another place
            that looks alike.
        shared: all images of both models.
    """

    target: LinkSide
    source: LinkSide
    pair: IndexArray
    doubted: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.pair)

    def depth_ratios(self) -> list[tuple[int, Float64Array]]:
        """For each undoubted image of both models, a row of it, and the ratios of the depths of its points of both.

        The depth in the target is divided by that in the source.
        """
        found = []
        for number, names in enumerate(zip(self.target.names, self.source.names, strict=True)):
            rows = np.flatnonzero(self.has_both & (self.pair == number))
            if names[0] != names[1] or names[0] in self.doubted or len(rows) == 0:
                continue
            depths = [side.depths(side.xyz)[rows] for side in (self.target, self.source)]
            is_seen = (depths[0] > 0) & (depths[1] > 0)
            found.append((int(rows[0]), depths[0][is_seen] / depths[1][is_seen]))
        return found

    def shares_pose(self, target_from_source: Sim3) -> bool:
        """Whether both models have undoubted images, and their poses in both are nearly the same ones.

        Args:
            target_from_source: between the worlds of the models.
        """
        both = zip(self.target.names, self.source.names, strict=True)
        is_same = [name == other and name not in self.doubted for name, other in both]
        rows = np.flatnonzero(np.array(is_same, np.bool_)[self.pair])
        if len(rows) == 0:
            return False
        target, source = self.target, self.source
        turns = source.R[rows] @ target_from_source.R.T @ target.R[rows].transpose(0, 2, 1)
        centers = [-np.einsum("kji,kj->ki", side.R[rows], side.t[rows]) for side in (target, source)]
        distances = np.linalg.norm(target_from_source @ centers[1] - centers[0], axis=1)
        depth = float(np.nanmedian(target.depths(target.xyz)[rows]))
        is_turned = rotation_angles_deg(turns).max() > _MAX_SHARED_TURN_DEG
        return bool(not is_turned and distances.max() <= _MAX_SHARED_DISTANCE * depth)

    @property
    def num_pairs(self) -> int:
        """Number P of pairs of images."""
        return len(self.target.names)

    @property
    def has_both(self) -> BoolArray:
        """[K] whether both keypoints have a point."""
        return self.target.has_point & self.source.has_point

    def errors_px(self, target_from_source: Sim3) -> Float64Array:
        """Errors [K] in pixels of images of up to 1600 pixels: the larger one if both keypoints have a point."""
        errors: Float64Array = self.errors_px_of([target_from_source])[:, 0]
        return errors

    def errors_px_of(self, similarities: Sequence[Sim3]) -> Float64Array:
        """The `errors_px` [K, C] of several similarities."""
        inverses = [each.inverse() for each in similarities]
        forward = self.target.errors_px(_moved(self.source.xyz, similarities))
        backward = self.source.errors_px(_moved(self.target.xyz, inverses))
        errors: Float64Array = np.fmax(forward, backward)
        return errors


def _moved(xyz: Float64Array, similarities: Sequence[Sim3]) -> Float64Array:
    """Points [K, 3] moved by each similarity [K, C, 3]."""
    turns = np.concatenate([each.scale * each.R.T for each in similarities], axis=1)
    moved: Float64Array = (xyz @ turns).reshape(len(xyz), len(similarities), 3)
    return moved + np.stack([each.t for each in similarities])


def find_links(
    target: pycolmap.Reconstruction,
    source: pycolmap.Reconstruction,
    pairs: Sequence[StoredPair],
    probability: Mapping[ImagePair, float] | None = None,
) -> PointLinks:
    """The links of two models of one database.

    Args:
        target: a model.
        source: another model.
        pairs: verified pairs of the database.
        probability: that a pair shows the same place, by pair. Doubtful pairs are left out; a pair without an entry is
            not doubtful.
    """
    models = target, source
    images = [{model.images[i].name: model.images[i] for i in sorted(model.reg_image_ids())} for model in models]
    shared = images[0].keys() & images[1].keys()
    asked = shared | {name for pair in pairs for name in (pair.name0, pair.name1)}
    points = [{name: point_ids_of(image) for name, image in each.items() if name in asked} for each in images]
    doubted: set[str] = set()
    found: list[tuple[tuple[str, str], IndexArray]] = []
    for pair in pairs:
        if pair.is_static:
            continue
        if (probability or {}).get(ImagePair.from_names(pair.name0, pair.name1), 1.0) < MIN_PROBABILITY:
            doubted |= {pair.name0, pair.name1} & shared if any(_carries(pair, ids) for ids in points) else set()
            continue
        both = np.stack([pair.rows0, pair.rows1], axis=1)
        for names, rows in (((pair.name0, pair.name1), both), ((pair.name1, pair.name0), both[:, ::-1])):
            if names[0] in points[0] and names[1] in points[1]:
                found.append((names, rows))
    for name in sorted(shared):
        rows = np.flatnonzero((points[0][name] >= 0) & (points[1][name] >= 0))
        found.append(((name, name), np.stack([rows, rows], axis=1)))
    chosen = []
    for names, rows in sorted(found, key=lambda each: each[0]):
        has_point = (points[0][names[0]][rows[:, 0]] >= 0) | (points[1][names[1]][rows[:, 1]] >= 0)
        rows = rows[has_point]
        spread = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _MAX_PER_PAIR)).astype(np.int64))
        if len(spread) > 0:
            chosen.append((names, rows[spread]))
    number = np.repeat(np.arange(len(chosen)), [len(rows) for _, rows in chosen])
    sides = [
        _side(model, own, ids, [(names[k], rows[:, k]) for names, rows in chosen])
        for k, (model, own, ids) in enumerate(zip(models, images, points, strict=True))
    ]
    links = PointLinks(sides[0], sides[1], number, frozenset(doubted), frozenset(shared))
    valid = np.asarray(np.isfinite(links.target.rays).all(axis=1) & np.isfinite(links.source.rays).all(axis=1))
    if valid.all():
        return links
    return replace(links, target=_rows(sides[0], valid), source=_rows(sides[1], valid), pair=number[valid])


def _carries(pair: StoredPair, ids_from_name: Mapping[str, IndexArray]) -> bool:
    """Whether inliers of a pair are common points of its images in a model."""
    if not ids_from_name.keys() >= {pair.name0, pair.name1}:
        return False
    ids0, ids1 = ids_from_name[pair.name0][pair.rows0], ids_from_name[pair.name1][pair.rows1]
    return int(((ids0 == ids1) & (ids0 >= 0)).sum()) >= _MIN_CARRIED


def _rows(side: LinkSide, rows: BoolArray) -> LinkSide:
    image, row, point_id = (array[rows] for array in (side.image, side.row, side.point_id))
    xyz, R, t, rays, px = (array[rows] for array in (side.xyz, side.R, side.t, side.rays, side.px_per_radian))
    return LinkSide(side.names, image, row, point_id, xyz, R, t, rays, px)


def _side(
    model: pycolmap.Reconstruction,
    images: Mapping[str, pycolmap.Image],
    point_ids: Mapping[str, IndexArray],
    chosen: Sequence[tuple[str, IndexArray]],
) -> LinkSide:
    image, row, ids, xyz, R, t, rays, focal = [], [], [], [], [], [], [], []
    for name, rows in chosen:
        own, num = images[name], len(rows)
        camera, matrix = model.cameras[own.camera_id], np.asarray(own.cam_from_world().matrix())
        pixels = np.array([own.points2D[k].xy for k in rows.tolist()], np.float64).reshape(-1, 2)
        directions = homogeneous(np.asarray(camera.cam_from_img(pixels)))
        image.append(np.full(num, own.image_id))
        row.append(rows)
        ids.append(point_ids[name][rows])
        missing = np.full(3, np.nan)
        xyz.append(np.array([model.points3D[k].xyz if k >= 0 else missing for k in ids[-1].tolist()]).reshape(-1, 3))
        R.append(np.broadcast_to(matrix[:, :3], (num, 3, 3)))
        t.append(np.broadcast_to(matrix[:, 3], (num, 3)))
        rays.append(directions / np.linalg.norm(directions, axis=1, keepdims=True))
        scale = min(1.0, _REFERENCE_SIZE_PX / max(camera.width, camera.height))
        focal.append(np.full(num, camera.mean_focal_length() * scale))
    if not chosen:
        none, no_points = np.zeros(0, np.int64), np.zeros((0, 3))
        return LinkSide((), none, none, none, no_points, np.zeros((0, 3, 3)), no_points, no_points, np.zeros(0))
    arrays = [np.concatenate(each) for each in (image, row, ids, xyz, R, t, rays, focal)]
    return LinkSide(tuple(name for name, _ in chosen), *arrays)
