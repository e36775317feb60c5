"""The image pairs of a model that see the same surface."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap
from scipy.sparse import csr_array

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import observed_ids
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.mapping.density_config import DensityConfig

_MAX_ANGLE_DEG = 45.0
"""Largest angle between the rays of two images to a point that both are predicted to see."""

_MIN_PREDICTED = 0.3
"""Fraction of the points of an image that another image must see by prediction."""

_CELLS_PER_SIDE = 12
"""Cells of a grid over an image whose depths tell which points are hidden."""

_MAX_DEPTH_RATIO = 1.5
"""A point behind this multiple of the median depth of its cell is hidden."""

_WIDE_FACTOR = 2.0
"""A pair is wide if its median angle is at least this multiple of the smallest angle of a point: most of its matches
have the angle of a point, and more tell nothing new."""


@dataclass(frozen=True, eq=False, slots=True)
class _View:
    """What one image sees.

    Args:
        R: [3, 3], camera from world.
        t: [3].
        point: [O] rows of the observed points.
        camera: its intrinsics.
        depth_limits: [cells] largest depth of a point that is not hidden; infinite where no point is observed.
    """

    R: Float64Array
    t: Float64Array
    point: IndexArray
    camera: pycolmap.Camera
    depth_limits: Float64Array

    @property
    def center(self) -> Float64Array:
        """Centre of the camera in the world."""
        return np.asarray(-self.R.T @ self.t)


def pairs_with_common_surface(
    model: pycolmap.Reconstruction,
    image_ids: Sequence[int],
    config: DensityConfig,
    chosen: Collection[int] | None = None,
    max_partners: int | None = None,
    executor: Executor = SERIAL,
    predicts_all: bool = True,
) -> list[tuple[int, int]]:
    """Pairs of images that observe common points, or are predicted to see the same points.

    The arguments are those of `ranked_partners`.

    Returns:
        Pairs (i, j) of positions in `image_ids`, i < j, sorted. Each chosen image keeps the `max_partners` with the
        most common or predicted points, so that an image can have more, which others keep.
    """
    ranked = ranked_partners(model, image_ids, config, chosen, max_partners, executor, predicts_all)
    return sorted({pair for pairs in ranked for pair in pairs})


def ranked_partners(
    model: pycolmap.Reconstruction,
    image_ids: Sequence[int],
    config: DensityConfig,
    chosen: Collection[int] | None = None,
    max_partners: int | None = None,
    executor: Executor = SERIAL,
    predicts_all: bool = True,
) -> list[list[tuple[int, int]]]:
    """For each image, pairs with images that observe common points, or are predicted to see the same points.

    Args:
        model: with points.
        image_ids: registered images, ascending.
        config: limits.
        chosen: positions of images of which pairs are wanted; None for all.
        max_partners: of each image; None for that of the options.
        executor: judges several images at a time.
        predicts_all: False leaves out predictions of pairs whose images both have common points with `max_partners`
            others: they take long in a large dense model, whose common points tell nearly all.

    Returns:
        For each chosen image at most `max_partners` pairs (i, j) of positions in `image_ids`, i < j: as many with
        common points as it is matched with, then those with the most common or predicted points. They come in the
        order of matching: wide pairs, or else the widest, for half of `config.max_matched_partners`, the other pairs
        with common points, predicted pairs; of each kind, those with the most points first. Predicted points are all
        that two images can see, common ones only those that were matched, so predicted pairs come last.
    """
    rows = np.arange(len(image_ids)) if chosen is None else np.array(sorted(chosen), np.int64)
    limit = config.max_partners if max_partners is None else max_partners
    point_ids = np.array(sorted(model.point3D_ids()), np.int64)
    if len(point_ids) == 0:
        return []
    points = model.points3D
    xyz = np.array([points[point_id].xyz for point_id in point_ids.tolist()])
    views = [_view(model, image_id, point_ids, xyz) for image_id in image_ids]
    counts = _num_common(views, len(point_ids))
    linked = counts >= config.min_shared_points
    np.fill_diagonal(linked, False)
    is_chosen = np.isin(np.arange(len(image_ids)), rows)
    unlinked = _near(linked) & (is_chosen[:, None] | is_chosen)
    if not predicts_all:
        lacks = linked.sum(axis=1) < limit
        unlinked &= lacks[:, None] | lacks
    scores = np.where(linked, counts, 0.0)
    pairs = np.argwhere(unlinked).tolist()
    predicted = executor.map(lambda pair: _num_predicted(views[pair[0]], views[pair[1]], xyz, config), pairs)
    for (i, j), number in zip(pairs, predicted, strict=True):
        scores[i, j] = scores[j, i] = number
    ranking = _Ranking(views, xyz, linked, scores, config)
    return list(executor.map(lambda i: ranking.pairs_of(i, limit), rows.tolist()))


class _Ranking:
    """Chooses the partners of images.

    Args:
        views: of all images.
        xyz: [P, 3] the points.
        linked: [I, I] pairs with common points.
        scores: [I, I] number of common or predicted points.
        config: limits.
    """

    def __init__(
        self, views: Sequence[_View], xyz: Float64Array, linked: BoolArray, scores: Float64Array, config: DensityConfig
    ) -> None:
        self._views, self._xyz, self._linked, self._scores, self._config = views, xyz, linked, scores, config
        self._angles_deg: dict[tuple[int, int], float] = {}

    def pairs_of(self, i: int, limit: int) -> list[tuple[int, int]]:
        """At most `limit` pairs of an image, in the order of `ranked_partners`."""
        num_matched = self._config.max_matched_partners
        order = np.argsort(-self._scores[i], kind="stable")
        order = order[self._scores[i, order] > 0]
        is_seen = np.zeros(len(self._xyz), np.bool_)
        is_seen[self._views[i].point] = True
        proven = self._with_parallax(i, order[self._linked[i, order]], min(limit, num_matched), is_seen)
        others = self._with_parallax(i, order[~np.isin(order, proven)], limit - len(proven), is_seen)
        chosen = [*proven, *others]
        linked = [j for j in chosen if self._linked[i, j]]
        wide_deg = _WIDE_FACTOR * self._config.min_point_angle_deg
        widest = sorted(linked, key=lambda j: -min(self._angle_deg(i, j, is_seen), wide_deg))
        wide = widest[: (num_matched + 1) // 2]
        linked = [*wide, *(j for j in linked if j not in wide)]
        return [_pair(i, j) for j in (*linked, *(j for j in chosen if not self._linked[i, j]))]

    def _with_parallax(self, i: int, order: IndexArray, limit: int, is_seen: BoolArray) -> list[int]:
        """The first partners of an image; those below these are not judged: dense models have many."""
        found: list[int] = []
        for j in order.tolist():
            if len(found) == limit:
                break
            if not self._linked[i, j] or self._angle_deg(i, j, is_seen) >= self._config.pair_angle_deg:
                found.append(j)
        return found

    def _angle_deg(self, i: int, j: int, is_seen: BoolArray) -> float:
        """Median angle of a pair with common points; `is_seen` [P] are the points of image i."""
        pair = _pair(i, j)
        if pair not in self._angles_deg:
            common = self._views[j].point[is_seen[self._views[j].point]]
            angle_deg = _median_angle_deg(self._views[pair[0]], self._views[pair[1]], self._xyz[common])
            self._angles_deg[pair] = angle_deg
        return self._angles_deg[pair]


def _pair(i: int, j: int) -> tuple[int, int]:
    return min(i, j), max(i, j)


def pairs_to_match(
    ranked: Sequence[Sequence[tuple[int, int]]],
    num_partners: int,
    matched: Collection[tuple[int, int]] = (),
    failed: Collection[tuple[int, int]] = (),
) -> list[tuple[int, int]]:
    """The pairs that each image needs, and those that are matched already; sorted.

    Args:
        ranked: pairs of each image, the best ones first.
        num_partners: of each image; pairs that are matched already count before all others.
        matched: pairs that are matched already.
        failed: those of `matched` that have too few matches to count.
    """
    chosen = {*matched}
    for pairs in ranked:
        known = [pair for pair in pairs if pair in matched and pair not in failed]
        fresh = [pair for pair in pairs if pair not in matched]
        chosen.update((known + fresh)[:num_partners])
    return sorted(chosen)


def has_all_partners(matched: Collection[tuple[int, int]], num_images: int, num_partners: int) -> bool:
    """Whether each image has so many of these pairs."""
    images = np.array(sorted(matched), np.int64).reshape(-1)
    return bool(np.bincount(images, minlength=num_images).min(initial=num_partners) >= num_partners)


def _near(linked: BoolArray) -> BoolArray:
    """Pairs i < j [I, I] without common points whose images both have some with a third one.

    An image without any may see what all others see.
    """
    weights = linked.astype(np.float32)
    alone: BoolArray = np.asarray(~linked.any(axis=1))
    return np.asarray(np.triu((weights @ weights > 0) | alone[:, None] | alone, 1) & ~linked)


def _num_predicted(view0: _View, view1: _View, xyz: Float64Array, config: DensityConfig) -> int:
    """How many points of one image the other should see; 0 if these are too few, or without parallax."""
    more, fewer = sorted((view0, view1), key=lambda view: -len(view.point))
    common = _predicted(more, fewer, xyz)
    if len(common) < max(config.min_shared_points, _MIN_PREDICTED * len(more.point)):
        return 0
    return len(common) if _median_angle_deg(view0, view1, xyz[common]) >= config.pair_angle_deg else 0


def _num_common(views: Sequence[_View], num_points: int) -> Float64Array:
    """How many points two images both observe [I, I]."""
    starts = np.cumsum([0, *(len(view.point) for view in views)])
    points = np.concatenate([view.point for view in views])
    seen = csr_array((np.ones(len(points), np.float32), points, starts), shape=(len(views), num_points))
    return np.asarray((seen @ seen.T).toarray(), np.float64)  # exact up to 16 million


def _view(model: pycolmap.Reconstruction, image_id: int, point_ids: IndexArray, xyz: Float64Array) -> _View:
    image = model.images[image_id]
    matrix = np.asarray(image.cam_from_world().matrix())
    rows = np.unique(np.searchsorted(point_ids, observed_ids(image)))
    view = _View(matrix[:, :3], matrix[:, 3], rows, model.cameras[image.camera_id], np.full(_CELLS_PER_SIDE**2, np.inf))
    pixels, depth, is_inside = _projected(view, xyz[rows])
    cells, depth = _cells(view, pixels)[is_inside], depth[is_inside]
    order = np.lexsort((depth, cells))
    names, first, counts = np.unique(cells[order], return_index=True, return_counts=True)
    view.depth_limits[names] = _MAX_DEPTH_RATIO * depth[order][first + counts // 2]
    return view


def _predicted(view0: _View, view1: _View, xyz: Float64Array) -> IndexArray:
    """Points of image 0 that image 1 should see: inside, not behind its own points, from a similar side."""
    points = xyz[view0.point]
    pixels, depth, is_inside = _projected(view1, points)
    rays = [points - view.center for view in (view0, view1)]
    lengths = np.linalg.norm(rays[0], axis=1) * np.linalg.norm(rays[1], axis=1)
    similar = (rays[0] * rays[1]).sum(axis=1) >= np.cos(np.radians(_MAX_ANGLE_DEG)) * lengths
    limit = view1.depth_limits[_cells(view1, pixels)]
    return np.asarray(view0.point[is_inside & similar & (depth <= limit)])


def _projected(view: _View, points: Float64Array) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Pixels [N, 2], depths [N], and whether a point lies in front and inside the image [N]."""
    in_camera = points @ view.R.T + view.t
    depth = in_camera[:, 2]
    pixels = np.full((len(points), 2), -1.0)
    front = depth > 0
    if front.any():
        pixels[front] = view.camera.img_from_cam(in_camera[front])
    size = (view.camera.width, view.camera.height)
    is_inside: BoolArray = (
        front & np.isfinite(pixels).all(axis=1) & (pixels >= 0).all(axis=1) & (pixels < size).all(axis=1)
    )
    return pixels, depth, is_inside


def _cells(view: _View, pixels: Float64Array) -> IndexArray:
    cells = np.nan_to_num(pixels / (view.camera.width, view.camera.height) * _CELLS_PER_SIDE, nan=0.0)
    columns, rows = np.clip(cells, 0, _CELLS_PER_SIDE - 1).astype(np.int64).T
    return np.asarray(rows * _CELLS_PER_SIDE + columns)


def _median_angle_deg(view0: _View, view1: _View, points: Float64Array) -> float:
    rays0, rays1 = points - view0.center, points - view1.center
    lengths = np.maximum(np.linalg.norm(rays0, axis=1) * np.linalg.norm(rays1, axis=1), 1e-12)
    return float(np.degrees(np.median(np.arccos(np.clip((rays0 * rays1).sum(axis=1) / lengths, -1, 1)))))
