"""Each image with those that were taken near it, by GPS or by positions that the user gives."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.messages import shortened
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.scene.cameras import mean_focal_length
from sfm_lightglue.scene.local_frame import LocalPositions, local_positions
from sfm_lightglue.scene.natural_order import natural_order
from sfm_lightglue.types import Scene, SceneImage

logger = logging.getLogger(__name__)

_ORDER_M = 1e-6
"""Metres that a step in the order of the names adds: of images at one place, the next ones are the nearest."""

_TERRAIN = 1.5
"""Factor on the views of the ground: it may be lower than where the drone took off, and the camera may be tilted."""

_NUM_KEPT = 4
"""Each image keeps this many of the nearest ones, whatever the views of the ground say: the height above the place
where the drone took off is too small if that place is a hill."""

_REMOVED_SHARE = 0.5
"""Fraction of the pairs; the user is told if the views of the ground leave out more."""

_PLACED_SHARE = 0.9
"""Fraction of the images that need a position, so that pairs are chosen by position."""

_SPREAD_M = 15.0
"""Smallest median distance from the middle of positions that tell images apart: three times the error of a phone."""

_DISTINCT_SHARE = 0.5
"""Smallest fraction of images of which no other image has the same position. Receivers that lose their signal repeat
the last one."""

_SAME_PLACE_M = 0.01
"""Positions that differ by less are the same."""


@dataclass(frozen=True, slots=True)
class SpatialConfig:
    """Options of the pairs by position."""

    num_neighbors: int = 20
    """Each image is matched with this many of the nearest images."""

    max_distance_m: float = 0.0
    """Images that are farther apart, in metres, are not matched; 0 for no limit."""

    heading_m: float = 10.0
    """Images that look in opposite directions count as this many metres farther apart, if their EXIF data have the
    direction; 0 uses no directions."""

    def __post_init__(self) -> None:
        if self.num_neighbors < 1:
            raise ConfigError(f"`pairs.num_neighbors` must be at least 1, got {self.num_neighbors}")
        if not (0 <= self.max_distance_m < math.inf and 0 <= self.heading_m < math.inf):
            raise ConfigError(
                "`pairs.max_distance_m` and `pairs.heading_m` must be finite and not negative, got"
                f" {self.max_distance_m} and {self.heading_m}"
            )


class SpatialPairs:
    """The nearest images by position, altitude included.

    Of cameras that look straight down from a known height, images whose views of the ground cannot meet are no pair,
    except the four nearest ones of each image.
    """

    def __init__(self, config: SpatialConfig | None = None) -> None:
        self.config = config or SpatialConfig()

    def check(self, scene: Scene) -> None:
        """Find out that no two images have a position.

        Raises:
            DataError: if so.
        """
        num_placed = len(_placed(scene))
        if num_placed < 2 <= len(scene.images):
            raise DataError(
                f"{scene.root}: {num_placed} of {len(scene.images)} images have a position in their EXIF data;"
                " `pairs.name` spatial needs it, or a table `positions`"
            )

    def num_pairs(self, scene: Scene) -> int:
        """An upper bound."""
        num = len(_placed(scene))
        return min(num * self.config.num_neighbors, num * (num - 1) // 2)

    def needs_features(self, scene: Scene) -> bool:
        """No: the positions are enough."""
        return False

    def select(self, context: PairContext) -> IndexedPairs:
        """The pairs, sorted. A warning names the images without a position, which get no pair.

        Raises:
            DataError: if no two images have a position.
        """
        scene = context.scene
        self.check(scene)
        placed = set(_placed(scene))
        without = [name for name in scene.names if name not in placed]
        if without and len(scene.images) > 1:
            logger.warning(
                "%d of %d images have no position, so they get no pair by position: %s; `pairs.name` spatial+retrieval"
                " finds similar images for them",
                len(without),
                len(scene.images),
                shortened(without),
            )
        return pairs_by_position(scene.images, self.config)


def pairs_by_position(images: Sequence[SceneImage], config: SpatialConfig) -> IndexedPairs:
    """The pairs of images that have a position; none if fewer than two have one."""
    names = tuple(image.name for image in images)
    positions = local_positions(images)
    if positions is None:
        return IndexedPairs.from_rows(names, np.zeros((0, 2), np.int64))
    image_from_name = {image.name: image for image in images}
    placed = [image_from_name[name] for name in positions.names]
    num_wanted = min(config.num_neighbors + 1, len(placed))  # the first one is the image itself
    coordinates = _coordinates(positions, placed, config.heading_m)
    _, found = cKDTree(coordinates).query(coordinates, num_wanted)
    rows = np.stack((np.repeat(np.arange(len(placed)), num_wanted), np.ravel(found)), axis=1)
    rank = np.tile(np.arange(num_wanted), len(placed))
    offsets_m = positions.xyz_m[rows[:, 0]] - positions.xyz_m[rows[:, 1]]
    is_wanted = rank > 0
    if config.max_distance_m > 0:
        is_wanted &= np.linalg.norm(offsets_m, axis=1) <= config.max_distance_m
    can_meet = np.hypot(offsets_m[:, 0], offsets_m[:, 1]) <= _ground_radius_m(placed)[rows].sum(axis=1)
    is_kept = is_wanted & (can_meet | (rank <= _NUM_KEPT))
    num_wanted_pairs, num_kept = int(is_wanted.sum()), int(is_kept.sum())
    if num_kept < (1 - _REMOVED_SHARE) * num_wanted_pairs:
        logger.warning(
            "the views of the ground leave out %d of %d pairs of near images: if the drone took off from a place that"
            " is higher than what it photographed, the heights in the images are too small; `pairs.name`"
            " spatial+retrieval finds pairs that are missing",
            num_wanted_pairs - num_kept,
            num_wanted_pairs,
        )
    return IndexedPairs.from_rows(positions.names, rows[is_kept]).among_names(names)


def tell_apart(scene: Scene) -> str:
    """How well positions tell the images apart, for the user; "" if they do not."""
    positions = local_positions(scene.images)
    num = len(scene.images)
    if positions is None or len(positions.names) < max(2.0, _PLACED_SHARE * num):
        return ""
    distances_m = np.linalg.norm(positions.xyz_m - np.median(positions.xyz_m, axis=0), axis=1)
    to_next_m = np.asarray(cKDTree(positions.xyz_m).query(positions.xyz_m, 2)[0])[:, 1]
    is_spread = float(np.median(distances_m)) >= (_SPREAD_M if positions.origin is not None else _SAME_PLACE_M)
    if not is_spread or np.mean(to_next_m > _SAME_PLACE_M) < _DISTINCT_SHARE:
        return ""
    extent_m = float(np.linalg.norm(np.ptp(positions.xyz_m, axis=0)))
    return f"{len(positions.names)} of {num} images have positions, spread over {extent_m:.0f} m"


def _placed(scene: Scene) -> tuple[str, ...]:
    positions = local_positions(scene.images)
    return positions.names if positions is not None else ()


def _coordinates(positions: LocalPositions, images: Sequence[SceneImage], heading_m: float) -> Float64Array:
    """[N, 6] metres whose distances rank the neighbours: position, order of the names, direction of view.

    The directions lie on a circle whose diameter is `heading_m`, images without a direction at its centre.
    """
    order = np.empty(len(images))
    order[sorted(range(len(images)), key=lambda i: natural_order(images[i].name))] = np.arange(len(images))
    headings = np.radians([np.nan if image.heading_deg is None else image.heading_deg for image in images])
    direction = np.nan_to_num(np.stack((np.cos(headings), np.sin(headings)), axis=1)) * heading_m / 2
    return np.concatenate((positions.xyz_m, order[:, None] * _ORDER_M, direction), axis=1)


def _ground_radius_m(images: Sequence[SceneImage]) -> Float64Array:
    """[N] distance from below the camera to the farthest point of its view of the ground; infinite if not known."""
    return _TERRAIN * np.array(
        [
            math.inf
            if image.height_above_ground_m is None or image.camera.source == "guessed"
            else image.height_above_ground_m * math.hypot(*image.camera.size) / 2 / mean_focal_length(image.camera)
            for image in images
        ]
    )
