"""The scenes of the benchmark of look-alikes, and their rendering."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.synthetic.lookalikes.buildings import house, square, street, tower
from sfm_lightglue.synthetic.lookalikes.interiors import corridor, rooms, shelves, table
from sfm_lightglue.synthetic.lookalikes.layout import Kind, Request
from sfm_lightglue.synthetic.lookalikes.rows import cars, fence, floors, pillars
from sfm_lightglue.synthetic.render import SyntheticScene, check_size, exif_camera, image_names, render_world
from sfm_lightglue.synthetic.solids import solid_world, with_exposure

KINDS: dict[str, Kind] = {
    "house": Kind(7.0, 28, house),
    "street": Kind(7.0, 28, street),
    "square": Kind(9.0, 26, square),
    "tower": Kind(7.0, 28, tower),
    "shelves": Kind(2.2, 28, shelves),
    "corridor": Kind(2.5, 28, corridor),
    "table": Kind(0.8, 32, table),
    "rooms": Kind(3.0, 26, rooms),
    "pillars": Kind(3.5, 28, pillars),
    "cars": Kind(3.2, 28, cars),
    "fence": Kind(3.4, 28, fence),
    "floors": Kind(6.0, 28, floors),
}
"""The kinds of scene, by name."""


@dataclass(frozen=True, slots=True)
class LookalikeScene:
    """One scene with look-alikes.

    Args:
        name: of the scene.
        kind: one of `KINDS`.
        difference: whether small things tell the twins apart.
        dense: whether neighbouring images are near each other.
        ordered: whether the names are in the order of the walk; else the order is random.
        revisit: whether the camera comes back to what it has seen; a control, because those matches are true.
        seed: of everything.
    """

    name: str
    kind: str
    difference: bool
    dense: bool
    ordered: bool
    revisit: bool = False
    seed: int = 0


def render_lookalikes(
    scene: LookalikeScene, size: tuple[int, int] = (640, 480), progress: Progress = silent
) -> SyntheticScene:
    """Render a scene with look-alikes.

    Args:
        scene: what to render. Equal scenes give the same bytes on one machine with one version of numpy and OpenCV.
        size: (width, height) in pixels, at least 64 each.
        progress: called after every image, with stage "render".

    Raises:
        ValueError: if `size` is too small, or the kind is unknown.
    """
    if scene.kind not in KINDS:
        raise ValueError(f"render_lookalikes: unknown kind {scene.kind!r}; known are {', '.join(sorted(KINDS))}")
    check_size("render_lookalikes", 2, size)
    kind = KINDS[scene.kind]
    rng = np.random.default_rng([scene.seed, 1 << 27, zlib.crc32(scene.kind.encode())])
    camera = exif_camera(size, kind.focal_35mm_mm)
    texels_per_m = camera.params[0] / kind.nearest_view_m
    layout = kind.build(Request(texels_per_m, rng, scene.difference, scene.dense, scene.revisit))
    names = image_names(len(layout.poses))
    walk = dict(zip(names if scene.ordered else rng.permutation(names).tolist(), layout.poses, strict=True))
    poses = {name: walk[name] for name in names}
    rendered = render_world(lambda executor: solid_world(layout.solids, scene.seed, executor), camera, poses, progress)
    return with_exposure(rendered, scene.seed)
