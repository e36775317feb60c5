"""Each image with those whose field of view overlaps its own, by known poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import AnyArray, BoolArray, Float64Array, IndexArray
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.scene.cameras import mean_focal_length, normalized_from_pixels
from sfm_lightglue.types import Scene, SceneImage

_GRID = 6
"""Rays along each side of an image."""

_DEPTHS = (0.5, 1.0, 2.0)
"""Depths of the points on each ray, as multiples of the distance at which the viewing axes of cameras meet."""

_NUM_NEAREST, _QUANTILE = 20, 0.25
"""The axis of an image is intersected with those of so many of the nearest cameras. This quantile of the distances is
that of the scene: axes of cameras that look at another place meet too, but mostly far away."""

_NUM_CANDIDATES = 400
"""An image is compared with so many of the nearest cameras: time and memory grow with the number of images, not with
its square."""

_CHUNK = 200
"""Images that are compared with an image at once, which limits the memory."""

_PARALLEL = 1e-4
"""Axes with a smaller squared sine of the angle between them do not meet."""


@dataclass(frozen=True, slots=True)
class FrustaConfig:
    """Options of the pairs by overlapping fields of view."""

    num_neighbors: int = 20
    """Each image is matched with this many of the images whose field of view overlaps most."""

    min_overlap: float = 0.05
    """Smallest fraction of the points in the field of view of one image that the other one sees."""

    max_angle_deg: float = 80.0
    """Images whose viewing directions differ by more are not matched: they see other sides of things."""

    def __post_init__(self) -> None:
        if self.num_neighbors < 1:
            raise ConfigError(f"`pairs.num_neighbors` must be at least 1, got {self.num_neighbors}")
        if not 0 <= self.min_overlap <= 1:
            raise ConfigError(f"`pairs.min_overlap` must lie in [0, 1], got {self.min_overlap}")
        if not 0 < self.max_angle_deg <= 180:
            raise ConfigError(f"`pairs.max_angle_deg` must lie in (0, 180], got {self.max_angle_deg}")


class FrustaPairs:
    """The images whose fields of view overlap most, by the poses that the user gives.

    Points are put on rays of each image, at about the distance of the scene. The overlap of two images is the fraction
    of the points of one that the other sees, the larger one of both directions.
    """

    def __init__(self, config: FrustaConfig | None = None) -> None:
        self.config = config or FrustaConfig()

    def check(self, scene: Scene) -> None:
        """Find out that no pose is known.

        Raises:
            ConfigError: if fewer than two images have one.
        """
        if len(scene.known_poses) < 2:
            raise ConfigError("`pairs.name` frusta needs the poses of the images; give them by `poses`")

    def num_pairs(self, scene: Scene) -> int:
        """An upper bound."""
        num = len(scene.images)
        return min(num * self.config.num_neighbors, num * (num - 1) // 2)

    def needs_features(self, scene: Scene) -> bool:
        """No: the poses are enough."""
        return False

    def select(self, context: PairContext) -> IndexedPairs:
        """The pairs, sorted.

        Raises:
            ConfigError: if fewer than two images have a pose.
        """
        self.check(context.scene)
        images = [image for image in context.scene.images if image.cam_from_world is not None]
        first, second, overlaps = frustum_overlaps(images, self.config.max_angle_deg)
        enough = overlaps >= max(self.config.min_overlap, 1e-12)
        first, second, overlaps = first[enough], second[enough], overlaps[enough]
        order = np.lexsort((second, -overlaps, first))  # the best ones of each image come first
        starts = np.searchsorted(first[order], np.arange(len(images)))
        rank = np.arange(len(order)) - starts[first[order]]
        best = order[rank < self.config.num_neighbors]
        found = np.stack((first[best], second[best]), axis=1).astype(np.int32)
        names = tuple(image.name for image in images)
        return IndexedPairs.from_rows(names, found).among_names(context.scene.names)


def frustum_overlaps(images: list[SceneImage], max_angle_deg: float) -> tuple[IndexArray, IndexArray, Float64Array]:
    """Overlaps of the fields of view of images whose cameras are near each other.

    Args:
        images: with known poses.
        max_angle_deg: images whose viewing directions differ by more do not overlap.

    Returns:
        Index of the one image [P], of the other one [P], and the overlap [P]: the fraction of the points in the field
        of view of one that the other sees, the larger one of both directions. Each pair is there in both orders;
        pairs without an overlap are left out.
    """
    poses = [image.cam_from_world for image in images if image.cam_from_world is not None]
    R, t = np.array([pose.R for pose in poses]), np.array([pose.t for pose in poses])
    centers, axes = np.array([pose.center for pose in poses]), R[:, 2]
    tree = cKDTree(centers)
    depths = _scene_depths(centers, axes, tree)
    limits = np.array([_half_angles(image) for image in images])
    firsts, seconds, values = [], [], []
    for idx, image in enumerate(images):
        near = _nearest(tree, centers[idx], _NUM_CANDIDATES + 1)
        near = near[(near != idx) & (axes[near] @ axes[idx] >= np.cos(np.radians(max_angle_deg)))]
        rays = _rays(image)
        in_cam = np.concatenate([rays * (depth * depths[idx]) for depth in _DEPTHS])
        points = (in_cam - t[idx]) @ R[idx]
        for chosen in (near[start : start + _CHUNK] for start in range(0, len(near), _CHUNK)):
            seen = np.einsum("nij,pj->npi", R[chosen], points) + t[chosen, None]
            overlap = _visible(seen, limits[chosen]).mean(axis=1)
            firsts.append(np.full(np.count_nonzero(overlap), idx))
            seconds.append(chosen[overlap > 0])
            values.append(overlap[overlap > 0])
    return _in_both_orders(_joined(firsts, np.int64), _joined(seconds, np.int64), _joined(values, np.float64))


def _joined(parts: list[AnyArray], dtype: type) -> AnyArray:
    return np.concatenate([np.zeros(0, dtype), *parts])


def _in_both_orders(
    first: IndexArray, second: IndexArray, overlaps: Float64Array
) -> tuple[IndexArray, IndexArray, Float64Array]:
    """Each pair in both orders, once, with the larger overlap; sorted."""
    first, second = np.concatenate([first, second]), np.concatenate([second, first])
    overlaps = np.tile(overlaps, 2)
    order = np.lexsort((-overlaps, second, first))
    first, second, overlaps = first[order], second[order], overlaps[order]
    is_new = np.ones(len(first), np.bool_)
    is_new[1:] = (np.diff(first) != 0) | (np.diff(second) != 0)
    return first[is_new], second[is_new], overlaps[is_new]


def _nearest(tree: cKDTree, center: Float64Array, num: int) -> IndexArray:
    """Indices of the cameras nearest to a position, itself among them, nearest first and ties by index."""
    # The tree breaks ties in its own way, so it is asked for more than a few.
    distances, found = tree.query(center, min(max(num, _NUM_CANDIDATES + 1), tree.n))
    found = np.atleast_1d(found)
    return np.asarray(found[np.lexsort((found, np.atleast_1d(distances)))][:num], np.int64)


def _visible(seen: Float64Array, limits: Float64Array) -> BoolArray:
    """Whether each of N images sees each of P points, seen [N, P, 3] in the frames of the cameras."""
    z = seen[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        inside = (np.abs(seen[..., :2]) / z[..., None] <= limits[:, None]).all(axis=2)
    return np.asarray(inside & (z > 0))


def _half_angles(image: SceneImage) -> tuple[float, float]:
    """Tangents of half of the angles of view."""
    focal = mean_focal_length(image.camera)
    return image.camera.width / 2 / focal, image.camera.height / 2 / focal


def _rays(image: SceneImage) -> Float64Array:
    """Rays [G, 3] with z = 1 through a grid of pixels."""
    width, height = image.camera.size
    at = (np.arange(_GRID) + 0.5) / _GRID
    x, y = np.meshgrid(at * width, at * height)
    plane = normalized_from_pixels(image.camera, np.column_stack([x.ravel(), y.ravel()]))
    plane = plane[np.isfinite(plane).all(axis=1)]
    if len(plane) == 0:
        plane = np.zeros((1, 2))
    return np.column_stack([plane, np.ones(len(plane))])


def _scene_depths(centers: Float64Array, axes: Float64Array, tree: cKDTree) -> Float64Array:
    """Distance [N] of the scene from each camera: that at which its axis meets those of cameras near it.

    Cameras whose axes meet no other one in front of both have the median of all, or the extent of the cameras.
    """
    depths = np.full(len(centers), np.nan)
    for idx, (center, axis) in enumerate(zip(centers, axes, strict=True)):
        others = _nearest(tree, center, _NUM_NEAREST + 1)
        between, cosine = centers[others] - center, axes[others] @ axis
        sine2 = 1 - cosine**2
        along, along_other = between @ axis, (between * axes[others]).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth = (along - cosine * along_other) / sine2
            depth_other = (cosine * along - along_other) / sine2
        found = depth[(sine2 > _PARALLEL) & (depth > 0) & (depth_other > 0)]
        if len(found) > 0:
            depths[idx] = np.quantile(found, _QUANTILE)
    extent = float(np.linalg.norm(np.ptp(centers, axis=0))) or 1.0
    usual = float(np.nanmedian(depths)) if np.isfinite(depths).any() else extent
    return np.where(np.isfinite(depths), depths, usual)
