"""All surfaces of several scenes as arrays, on the CPU in float64; and their textures and heights on the device.

S is the number of surfaces of all scenes, in the order of the scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.synthetic.photo_scenes.curved import Relief, Round
from sfm_lightglue.synthetic.photo_scenes.surfaces import Plane, Surface, Texture

MAX_SURFACES = 254
"""Largest number of surfaces of a scene."""

PLANE, SPHERE, CYLINDER, RELIEF = range(4)
"""Kinds of surfaces."""


@dataclass(frozen=True, eq=False)
class SurfaceTable:
    """Surfaces of several scenes. `of` makes it.

    Args:
        starts: [scenes + 1] index of the first surface of each scene.
        kinds: [S] `PLANE`, `SPHERE`, `CYLINDER` or `RELIEF`.
        R: [S, 3, 3] rotation of `world_from_local`.
        t: [S, 3] translation in metres.
        size_m: [S, 2] (width, height) of planes and reliefs; (radius, half the height) of round surfaces.
        offset_m: [S, 2] (u, v) of the texture at the local origin.
        two_sided: [S] whether the back is visible too.
        side: [S] -1 for round surfaces seen from inside, 1 for all others.
        highest_m: [S] the largest height of a relief, 0 for others.
        texture_size_m: [S, 2] (width, height) of the image on the surface.
        texels_per_m: [S] of the first level.
        texture_rows: [S] index in `textures`.
        mask_rows: [S] index in `masks`, -1 for surfaces without holes.
        heights_rows: [S] index in `heights`, -1 for surfaces that are no relief.
        textures: the different textures.
        masks: the different masks of holes, uint8 [H, W].
        heights: of the reliefs, float32 [H, W].
        device: of the textures.
    """

    starts: IndexArray
    kinds: IndexArray
    R: Float64Array
    t: Float64Array
    size_m: Float64Array
    offset_m: Float64Array
    two_sided: BoolArray
    side: Float64Array
    highest_m: Float64Array
    texture_size_m: Float64Array
    texels_per_m: Float64Array
    texture_rows: IndexArray
    mask_rows: IndexArray
    heights_rows: IndexArray
    textures: tuple[Texture, ...]
    masks: tuple[Tensor, ...]
    heights: tuple[Tensor, ...]
    device: torch.device

    @classmethod
    def of(cls, scenes: Sequence[Sequence[Surface]]) -> SurfaceTable:
        """The surfaces of scenes.

        Raises:
            ValueError: if a scene has more than `MAX_SURFACES` surfaces, or there is no surface.
        """
        surfaces = [surface for scene in scenes for surface in scene]
        if len(surfaces) == 0 or max(map(len, scenes)) > MAX_SURFACES:
            raise ValueError(f"surfaces: needs at least one surface, and at most {MAX_SURFACES} in a scene")
        textures = {id(surface.texture): surface.texture for surface in surfaces}
        rows = {key: row for row, key in enumerate(textures)}
        masks = {key: texture.alpha for key, texture in textures.items() if texture.alpha is not None}
        mask_rows = {key: row for row, key in enumerate(masks)}
        reliefs = [surface for surface in surfaces if isinstance(surface, Relief)]
        is_relief = np.array([isinstance(surface, Relief) for surface in surfaces])
        numbers = np.array([_numbers(surface) for surface in surfaces])
        keys = [id(surface.texture) for surface in surfaces]
        return cls(
            np.cumsum([0, *map(len, scenes)]),
            numbers[:, 0].astype(np.int64),
            np.array([surface.world_from_local.R for surface in surfaces], np.float64),
            np.array([surface.world_from_local.t for surface in surfaces], np.float64),
            numbers[:, 1:3],
            numbers[:, 3:5],
            numbers[:, 5] > 0,
            numbers[:, 6],
            numbers[:, 7],
            numbers[:, 8:10],
            numbers[:, 10],
            np.array([rows[key] for key in keys], np.int64),
            np.array([mask_rows.get(key, -1) for key in keys], np.int64),
            np.where(is_relief, np.cumsum(is_relief) - 1, -1),
            tuple(textures.values()),
            tuple(masks.values()),
            tuple(relief.heights_m for relief in reliefs),
            surfaces[0].texture.levels[0].device,
        )


def _numbers(surface: Surface) -> tuple[float, ...]:
    """Kind, size (2), offset (2), two-sided, side, highest, size of the texture (2), texels per metre."""
    texture = *surface.texture.size_m, surface.texture.texels_per_m
    match surface:
        case Plane():
            return PLANE, *surface.size_m, *surface.offset_m, surface.two_sided, 1.0, 0.0, *texture
        case Round():
            kind, half = (SPHERE, np.inf) if surface.height_m is None else (CYLINDER, surface.height_m / 2)
            return kind, surface.radius_m, half, 0.0, 0.0, False, -1.0 if surface.inside else 1.0, 0.0, *texture
        case Relief():
            return RELIEF, *surface.size_m, 0.0, 0.0, False, 1.0, surface.highest_m, *texture
    raise TypeError(f"surfaces: no renderer for {type(surface).__name__}")
