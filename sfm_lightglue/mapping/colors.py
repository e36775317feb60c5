"""Colours of points, from images as this library reads them: all formats, and no output to COLMAP's log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array, IndexArray, UInt8Array
from sfm_lightglue.colmap.image_points import observed_ids, observing_keypoints, pixels_of
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.images.image import Image

_MIN_SIZE_PX = 1600
"""Longer side in pixels to which larger images may be reduced: that of the images in which keypoints are found."""


def color_points(
    models: Sequence[pycolmap.Reconstruction],
    path_from_name: Mapping[str, Path],
    executor: Executor = SERIAL,
    progress: Progress = silent,
    image_ids: Collection[int] | None = None,
) -> list[set[int]]:
    """Give each point the mean colour of the pixels that show it.

    Args:
        models: changed in place.
        path_from_name: files of the images.
        executor: decodes the images.
        progress: called with "colour" after each image.
        image_ids: of the images whose pixels are used, registered ones of each model; None for all. Points that none of
            them shows get black.

    Returns:
        The ids of these points of each model: no image shows them whose file can be read.
    """
    chosen = [sorted(model.reg_image_ids() if image_ids is None else image_ids) for model in models]
    num_done, num_images = 0, sum(map(len, chosen))
    progress("colour", 0, num_images)
    left: list[set[int]] = []
    for model, ids in zip(models, chosen, strict=True):
        left.append(set())
        for _ in _color(model, ids, path_from_name, executor, left[-1]):
            num_done += 1
            progress("colour", num_done, num_images)
    return left


def _color(
    model: pycolmap.Reconstruction,
    image_ids: Sequence[int],
    path_from_name: Mapping[str, Path],
    executor: Executor,
    left: set[int],
) -> Iterator[None]:
    """Yields after each image; the points have their colours at the end, and `left` those that none has shown."""
    ids = np.array(sorted(model.point3D_ids()), np.int64)
    found: list[tuple[IndexArray, UInt8Array]] = [(np.zeros(0, np.int64), np.zeros((0, 3), np.uint8))]

    def observations(image: pycolmap.Image) -> tuple[str, IndexArray, Float64Array]:
        return image.name, np.searchsorted(ids, observed_ids(image)), pixels_of(image)[observing_keypoints(image)]

    def sample(seen: tuple[str, IndexArray, Float64Array]) -> tuple[IndexArray, UInt8Array] | None:
        name, rows, pixels = seen
        try:
            rgb, factor = Image.read(path_from_name[name], name).at_least(_MIN_SIZE_PX, colour=True)
        except DataError:  # readable when its features were extracted, so it was changed meanwhile
            return None
        columns, lines = np.clip(np.floor(pixels / factor).astype(int), 0, (rgb.shape[1] - 1, rgb.shape[0] - 1)).T
        return rows, rgb[lines, columns]

    images = (model.images[image_id] for image_id in image_ids)
    for sampled in executor.map(sample, map(observations, images)):
        if sampled is not None:
            found.append(sampled)
        yield
    rows, values = (np.concatenate(each) for each in zip(*found, strict=True))
    counts = np.bincount(rows, minlength=len(ids))
    sums = np.stack([np.bincount(rows, values[:, channel], len(ids)) for channel in range(3)], axis=1)
    points = model.points3D
    colors = np.round(sums / np.maximum(counts, 1)[:, None]).astype(np.uint8)
    for point_id, color in zip(ids.tolist(), colors, strict=True):
        points[point_id].color = color
    left.update(ids[counts == 0].tolist())
