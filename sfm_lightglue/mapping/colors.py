"""Colours of points, from images as this library reads them: all formats, and no output to COLMAP's log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.images.image import Image

_MIN_SIZE_PX = 4000
"""Longer side in pixels to which very large images may be reduced before their pixels are read."""


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
    row_from_id = {point_id: row for row, point_id in enumerate(sorted(model.point3D_ids()))}
    sums = np.zeros((len(row_from_id), 3))
    counts = np.zeros(len(row_from_id))

    def observations(image: pycolmap.Image) -> tuple[str, list[int], np.ndarray]:
        points = image.get_observation_points2D()
        pixels = np.array([point.xy for point in points]).reshape(-1, 2)
        return image.name, [row_from_id[point.point3D_id] for point in points], pixels

    def sample(seen: tuple[str, list[int], np.ndarray]) -> tuple[list[int], np.ndarray] | None:
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
            np.add.at(sums, sampled[0], sampled[1])
            np.add.at(counts, sampled[0], 1)
        yield
    colors = np.round(sums / np.maximum(counts, 1)[:, None]).astype(np.uint8)
    for point_id, row in row_from_id.items():
        model.points3D[point_id].color = colors[row]
    left.update(point_id for point_id, row in row_from_id.items() if counts[row] == 0)
