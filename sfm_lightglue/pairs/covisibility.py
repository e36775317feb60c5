"""Each image with those that see the same points of an existing model."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array

from sfm_lightglue.arrays import IndexArray, Int32Array
from sfm_lightglue.colmap.model import find_map, read_model
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.messages import shortened
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.scene.listed_names import ListedNames
from sfm_lightglue.types import Scene

if TYPE_CHECKING:
    import pycolmap

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CovisibilityConfig:
    """Options of the pairs by common points."""

    model: str = ""
    """A COLMAP model of the images, or a folder that `reconstruct` has written."""

    num_neighbors: int = 20
    """Each image is matched with this many of the images that share the most points with it."""

    min_common_points: int = 15
    """Images that share fewer points are not matched."""

    def __post_init__(self) -> None:
        for name in ("num_neighbors", "min_common_points"):
            if getattr(self, name) < 1:
                raise ConfigError(f"`pairs.{name}` must be at least 1, got {getattr(self, name)}")


class CovisibilityPairs:
    """The images that share the most points in a model.

    Source: Sarlin et al., From Coarse to Fine: Robust Hierarchical Localization at Large Scale, 2019, section 4.
    """

    def __init__(self, config: CovisibilityConfig | None = None) -> None:
        self.config = config or CovisibilityConfig()

    def check(self, scene: Scene) -> None:
        """Find out that there is no model.

        Raises:
            ConfigError: if none is named.
            DataError: if there is none where it is said to be.
        """
        if not self.config.model:
            raise ConfigError("`pairs.model` is missing: `pairs.name` covisibility needs a COLMAP model of the images")
        find_map(Path(self.config.model))

    def num_pairs(self, scene: Scene) -> int:
        """An upper bound."""
        num = len(scene.images)
        return min(num * self.config.num_neighbors, num * (num - 1) // 2)

    def needs_features(self, scene: Scene) -> bool:
        """No: the model is enough."""
        return False

    def select(self, context: PairContext) -> IndexedPairs:
        """The pairs, sorted. A warning names the images that are not in the model, which get no pair.

        Raises:
            ConfigError: if no model is named, and the context has none.
            DataError: if the model cannot be read, or has none of the images.
        """
        scene = context.scene
        if len(scene.images) < 2:
            return IndexedPairs.from_rows(scene.names, np.zeros((0, 2), np.int64))
        if self.config.model or context.model is None:
            self.check(scene)
            model, where = read_model(Path(self.config.model)), self.config.model
        else:
            model, where = context.model, "the model"
        seen = _points_from_image(model, scene)
        if not seen:
            raise DataError(f"{where}: none of its {len(model.images)} images is an image of {scene.root}")
        without = [name for name in scene.names if name not in seen]
        if without:
            logger.warning(
                "%d images are not in %s, so they get no pair by it: %s", len(without), where, shortened(without)
            )
        names = tuple(sorted(seen))
        rows = _most_common(_common_points([seen[name] for name in names]), self.config)
        return IndexedPairs.from_rows(names, rows).among_names(scene.names)


def _points_from_image(model: pycolmap.Reconstruction, scene: Scene) -> dict[str, IndexArray]:
    """Ids of the points that each registered image of the scene sees."""
    names = ListedNames.from_names(scene.names, scene.root)
    found = {}
    for image in model.images.values():
        name = names.find(unicodedata.normalize("NFC", image.name))
        if name is not None and image.has_pose:
            found[name] = np.array([point.point3D_id for point in image.get_observation_points2D()], np.int64)
    return found


def _common_points(seen: Sequence[IndexArray]) -> csr_array:
    """Sparse [N, N] numbers of points that two images both see, 0 on the diagonal."""
    images = np.repeat(np.arange(len(seen)), [len(points) for points in seen])
    _, points = np.unique(np.concatenate([*seen, np.zeros(0, np.int64)]), return_inverse=True)
    sees = csr_array((np.ones(len(images), np.int32), (images, points)), shape=(len(seen), max(len(points), 1)))
    sees.data[:] = 1  # a point that an image sees twice counts once
    common = csr_array(sees @ sees.T)
    common.setdiag(0)
    return common


def _most_common(common: csr_array, config: CovisibilityConfig) -> Int32Array:
    """[P, 2] each image with those of the largest numbers; the first ones if numbers are equal."""
    rows = []
    for image in range(common.shape[0]):
        begin, end = common.indptr[image : image + 2]
        others, numbers = common.indices[begin:end], common.data[begin:end]
        enough = numbers >= config.min_common_points
        others, numbers = others[enough], numbers[enough]
        best = others[np.lexsort((others, -numbers))[: config.num_neighbors]]
        rows.append(np.stack((np.full(len(best), image), best), axis=1))
    return np.concatenate([*rows, np.zeros((0, 2), np.int64)]).astype(np.int32)
