"""Cameras of scenes, drawn until they have enough overlap with the first camera of their scene."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.rasteriser import Rasteriser
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import SceneLayout
from sfm_lightglue.synthetic.photo_scenes.surface_table import SurfaceTable
from sfm_lightglue.synthetic.photo_scenes.view_config import ViewConfig
from sfm_lightglue.synthetic.photo_scenes.visibility import DepthViews, overlaps

_PREVIEW = 1 / 8
_PREVIEW_TILE_PX = 16
_PREVIEW_STEP = 2
_FIRST_ROUNDS, _OTHER_ROUNDS = (1, 9), (2, 3, 5)
"""Numbers of cameras of a view that are tried at once; 10 in all."""

_MIN_DISTANCE_SHARE, _MIN_FAR_SHARE = 0.3, 0.7
"""In the first view, this fraction of the pixels must be farther away than this fraction of the layout's distance."""


@dataclass(frozen=True, slots=True)
class _CameraRanges:
    """Ranges of the cameras of one scene; factors are between 1 / `zoom` and `zoom`, likewise `distance_ratio`."""

    size: tuple[int, int]
    spread_rad: float
    zoom: float
    distance_ratio: float
    roll_rad: float
    focal_px: float
    wander: float


@dataclass(slots=True, eq=False)
class _Search:
    """The best of the cameras of a view that were drawn so far."""

    scene: int
    layout: SceneLayout
    ranges: _CameraRanges
    rng: np.random.Generator
    is_first: bool
    min_overlap: float
    max_overlap: float
    best: PosedCamera | None = None
    preview: Tensor = field(default_factory=lambda: torch.zeros(0))
    overlap: float = -1.0
    is_found: bool = False

    def draw(self) -> PosedCamera:
        return _random_camera(self.layout, self.ranges, self.rng, self.is_first)

    def consider(self, camera: PosedCamera, preview: Tensor, overlap: float) -> None:
        """Keep the camera if it is the first with enough overlap, or better than all before."""
        if self.is_found:
            return
        self.is_found = self.min_overlap <= overlap <= self.max_overlap
        if self.is_found or overlap > self.overlap:
            self.best, self.preview, self.overlap = camera, preview, overlap


@dataclass(frozen=True, slots=True, eq=False)
class _Try:
    search: _Search
    camera: PosedCamera
    preview: Tensor


def choose_cameras(
    layouts: Sequence[SceneLayout],
    table: SurfaceTable,
    rngs: Sequence[np.random.Generator],
    nums_views: Sequence[int],
    config: ViewConfig,
) -> list[list[PosedCamera]]:
    """Cameras of scenes: the first of each at the mean of its layout, the others around it; in random order.

    The ranges of distance, zoom and roll are drawn once per scene, so that there are easy and hard scenes. The previews
    of all views of all scenes are traced together.

    Args:
        layouts: of the scenes.
        table: their surfaces.
        rngs: source of random numbers of each scene.
        nums_views: number of cameras of each scene.
        config: ranges and limits of the overlap.
    """
    rasteriser = Rasteriser(table, _PREVIEW_TILE_PX)
    searches = [
        _scene_searches(scene, layout, rng, num_views, config)
        for scene, (layout, rng, num_views) in enumerate(zip(layouts, rngs, nums_views, strict=True))
    ]
    firsts = [views[0] for views in searches]
    _run(firsts, _FIRST_ROUNDS, rasteriser, _far_shares)
    others = [search for views in searches for search in views[1:]]
    _run(others, _OTHER_ROUNDS, rasteriser, lambda tries: _overlaps_with(firsts, tries))
    chosen = []
    for views, rng in zip(searches, rngs, strict=True):
        cameras = [search.best for search in views]
        chosen.append([camera for idx in rng.permutation(len(cameras)) if (camera := cameras[idx]) is not None])
    return chosen


def _scene_searches(
    scene: int, layout: SceneLayout, rng: np.random.Generator, num_views: int, config: ViewConfig
) -> list[_Search]:
    size = _image_size(rng, config)
    ranges = _CameraRanges(
        size,
        spread_rad=layout.spread_rad * float(rng.uniform(0.1, 1.2)),
        zoom=float(config.max_zoom ** rng.uniform(0, 0.5)),
        distance_ratio=float(rng.uniform(1.0, 1.8)),
        roll_rad=_largest_roll(rng, config),
        focal_px=float(max(size) * rng.uniform(0.65, 1.3)),
        wander=float(rng.uniform(0.4, 1.6)),
    )
    max_overlap = 1.0 if rng.random() < config.easy_share else float(rng.uniform(0.3, 0.8))
    limits = [(np.nextafter(_MIN_FAR_SHARE, 1), 1.0), *[(config.min_overlap, max_overlap)] * (num_views - 1)]
    return [
        _Search(scene, layout, ranges, view_rng, idx == 0, *limits[idx])
        for idx, view_rng in enumerate(rng.spawn(num_views))
    ]


def _run(
    searches: Sequence[_Search],
    rounds: Sequence[int],
    rasteriser: Rasteriser,
    overlaps_of: Callable[[Sequence[_Try]], Tensor],
) -> None:
    """Draw cameras for all searches together, in rounds, until each has found one or all rounds are over."""
    for num_cameras in rounds:
        unfinished = [search for search in searches if not search.is_found]
        if len(unfinished) == 0:
            return
        drawn = [(search, search.draw()) for search in unfinished for _ in range(num_cameras)]
        cameras = [camera.scaled(_PREVIEW) for _, camera in drawn]
        traces = rasteriser.trace([search.scene for search, _ in drawn], cameras)
        tries = [_Try(search, camera, trace.depth) for (search, camera), trace in zip(drawn, traces, strict=True)]
        for attempt, overlap in zip(tries, overlaps_of(tries).tolist(), strict=True):
            attempt.search.consider(attempt.camera, attempt.preview, overlap)


def _far_shares(tries: Sequence[_Try]) -> Tensor:
    """Fractions of the pixels that are far enough away."""
    limits = [_MIN_DISTANCE_SHARE * attempt.search.layout.distance_m for attempt in tries]
    shares = [(attempt.preview > limit).double().mean() for attempt, limit in zip(tries, limits, strict=True)]
    return torch.stack(shares)


def _overlaps_with(firsts: Sequence[_Search], tries: Sequence[_Try]) -> Tensor:
    """Overlaps with the first view of the same scene."""
    previews = [first.preview for first in firsts] + [attempt.preview for attempt in tries]
    cameras = [first.best for first in firsts] + [attempt.camera for attempt in tries]
    views = DepthViews.of(previews, [camera.scaled(_PREVIEW) for camera in cameras if camera is not None])
    pairs = [[attempt.search.scene, len(firsts) + idx] for idx, attempt in enumerate(tries)]
    return overlaps(views, torch.tensor(pairs, device=previews[0].device), _PREVIEW_STEP)


def _random_camera(layout: SceneLayout, ranges: _CameraRanges, rng: np.random.Generator, is_first: bool) -> PosedCamera:
    spread = 0.0 if is_first else ranges.spread_rad
    azimuth = layout.azimuth_rad + rng.uniform(-1, 1) * spread
    elevation = layout.elevation_rad + rng.uniform(-0.4, 0.4) * spread
    distance = layout.distance_m * (1.0 if is_first else ranges.distance_ratio ** rng.uniform(-1, 1))
    zoom = 1.0 if is_first else ranges.zoom ** rng.uniform(-1, 1)
    direction = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    wander = rng.normal(size=3) * layout.wander_m * (0.1 if is_first else ranges.wander) * np.array([1, 1, 0.5])
    target = layout.target + wander
    center = np.clip(target + direction * distance, layout.low, layout.high)
    pose = Rigid3.look_at(center, target, np.array([0, 0, 1.0]))
    roll = Rigid3.from_rotvec(np.array([0, 0, rng.uniform(-1, 1) * ranges.roll_rad]), np.zeros(3))
    return PosedCamera(ranges.focal_px * zoom, ranges.size, roll @ pose)


def _largest_roll(rng: np.random.Generator, config: ViewConfig) -> float:
    """Largest roll of the cameras of a scene; small in most scenes."""
    draw = rng.random()
    if draw < config.roll_share:
        return float(np.pi)
    if draw < 2 * config.roll_share:
        return float(np.radians(40))
    return float(np.radians(rng.choice([0.5, 5, 12])))


def _image_size(rng: np.random.Generator, config: ViewConfig) -> tuple[int, int]:
    width, height = config.image_size
    height = int(height * rng.choice([1.0, 1.0, 0.89, 0.75]))
    return (height, width) if rng.random() < config.portrait_share else (width, height)
