"""Views of a layout: cameras that see much or little in common, pictures, exact depths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.photometry import photographed, random_light
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import LAYOUTS, Layout
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light, Surface
from sfm_lightglue.synthetic.photo_scenes.textures import Photos, draw_photos, smooth_noise
from sfm_lightglue.synthetic.photo_scenes.visibility import shared_view

_PREVIEW = 1 / 8
_NUM_TRIES = 10


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """What the views of a scene are like."""

    num_views: int = 5
    """Of one scene; n of them make up to n (n - 1) / 2 pairs."""

    image_size: tuple[int, int] = (640, 480)
    """(width, height) in pixels of pictures in landscape format; some stand upright, some are cut."""

    portrait_share: float = 0.2
    """Share of scenes that are photographed in portrait format."""

    layout_shares: tuple[float, ...] = (0.22, 0.36, 0.12, 0.08, 0.08, 0.14)
    """How often each of `layouts.LAYOUTS` is taken: street, room, table, layers, hills, wall."""

    num_photos: int = 6
    """Photographs that the surfaces of one scene are cut from."""

    max_zoom: float = 4.0
    """Greatest ratio of two focal lengths (in pixels) in one scene."""

    roll_share: float = 0.15
    """Share of scenes in which cameras roll by any angle; in as many others they roll by up to 40 degrees."""

    hardness: float = 1.0
    """Of light, blur, noise and JPEG: 0 is a clean rendering, 1 is hard."""

    min_overlap: float = 0.12
    """A camera that has less in common with the first one is tried again, a few times."""

    easy_share: float = 0.35
    """Share of scenes in which overlap may be as large as it happens to be; in the others it is limited, too."""

    def __post_init__(self) -> None:
        if self.num_views < 1 or self.num_photos < 1 or min(self.image_size) < 64:
            raise ConfigError("views: num_views and num_photos must be at least 1, image_size at least 64 x 64 pixels")
        if len(self.layout_shares) != len(LAYOUTS) or min(self.layout_shares) < 0 or sum(self.layout_shares) <= 0:
            raise ConfigError(f"views: layout_shares must be {len(LAYOUTS)} numbers that are not negative")
        if not (self.max_zoom >= 1 and 0 <= self.hardness <= 1):
            raise ConfigError("views: max_zoom must be at least 1, hardness between 0 and 1")


@dataclass(frozen=True, eq=False)
class RenderedView:
    """One photograph of a scene.

    Args:
        image: uint8 [H, W, 3] RGB.
        depth: float32 [H, W], z in the camera's frame in metres along the ray through the pixel's centre
            (x + 0.5, y + 0.5), 0 where nothing is met.
        camera: with which it was taken.
    """

    image: UInt8Array
    depth: Float32Array
    camera: PosedCamera


def render_views(photo_paths: Sequence[Path], seed: int, config: ViewConfig | None = None) -> tuple[RenderedView, ...]:
    """Build a scene of photographs and photograph it.

    Args:
        photo_paths: textures; `config.num_photos` of them are drawn.
        seed: the same seed and paths give the same bytes on one machine.
        config: what the views are like.

    Raises:
        ValueError: where there is no photograph.
        DataError: where a photograph cannot be read.
    """
    if len(photo_paths) == 0:
        raise ValueError("render_views: needs at least one photograph")
    config = config or ViewConfig()
    rng = np.random.default_rng([seed, 1])
    drawn = draw_photos(photo_paths, config.num_photos, rng)
    shares = np.asarray(config.layout_shares) / sum(config.layout_shares)
    build = LAYOUTS[int(rng.choice(len(LAYOUTS), p=shares))]
    layout = build(Photos(drawn, rng), rng)
    steady_light = random_light(rng) if rng.random() < 0.4 else None
    hardness = config.hardness * rng.uniform(0.3, 1.0)
    views = []
    for camera in choose_cameras(layout, rng, config):
        picture, depth = render(layout.surfaces, camera, steady_light or random_light(rng), rng)
        views.append(RenderedView(photographed(picture, rng, hardness), depth, camera))
    return tuple(views)


def render(
    surfaces: Sequence[Surface], camera: PosedCamera, light: Light, rng: np.random.Generator
) -> tuple[UInt8Array, Float32Array]:
    """Picture [H, W, 3] and depth [H, W] (0 where nothing is met) of surfaces in a light.

    Args:
        surfaces: at most 254.
        camera: where the picture is taken.
        light: on all surfaces.
        rng: of the sky.
    """
    depth, surface_idx = trace(surfaces, camera)
    picture = _sky(camera, rng)
    for idx, surface in enumerate(surfaces):
        mask = (surface_idx == idx).view(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if width == 0:
            continue
        part = (slice(y, y + height), slice(x, x + width))
        depths = np.where(mask[part] > 0, depth[part], np.float32(np.inf))
        colours = surface.paint(camera, (x, y, x + width, y + height), depths, light)
        cv2.copyTo(colours, mask[part], picture[part])
    depth[np.isinf(depth)] = 0
    return picture, depth


def trace(surfaces: Sequence[Surface], camera: PosedCamera) -> tuple[Float32Array, UInt8Array]:
    """Depth [H, W] of the nearest surface, infinite where there is none, and its index [H, W], else 255."""
    width, height = camera.size
    nearest = np.full((height, width), np.inf, np.float32)
    surface_idx = np.full((height, width), 255, np.uint8)
    for idx, surface in enumerate(surfaces):
        box = surface.box(camera)
        if box is None:
            continue
        part = (slice(box[1], box[3]), slice(box[0], box[2]))
        depths = surface.depths(camera, box)
        closer = depths < nearest[part]
        np.copyto(nearest[part], depths, where=closer)
        np.copyto(surface_idx[part], np.uint8(idx), where=closer)
    return nearest, surface_idx


def choose_cameras(layout: Layout, rng: np.random.Generator, config: ViewConfig) -> list[PosedCamera]:
    """Cameras of one scene: the first as the layout likes it, the others around it.

    How far they go apart, zoom and roll is drawn once for the scene: there are easy scenes and hard ones.
    """
    size = _picture_size(rng, config)
    habits = _Habits(
        size,
        spread_rad=layout.spread_rad * float(rng.uniform(0.1, 1.2)),
        zoom=float(config.max_zoom ** rng.uniform(0, 0.5)),
        distance_ratio=float(rng.uniform(1.0, 1.8)),
        roll_rad=_largest_roll(rng, config),
        focal_px=float(max(size) * rng.uniform(0.65, 1.3)),
        wander=float(rng.uniform(0.4, 1.6)),
    )
    max_overlap = 1.0 if rng.random() < config.easy_share else float(rng.uniform(0.3, 0.8))
    cameras: list[PosedCamera] = []
    first_preview: Float32Array | None = None
    for _ in range(config.num_views):
        best, best_overlap, best_preview = None, -1.0, None
        for _ in range(_NUM_TRIES):
            camera = _random_camera(layout, habits, rng, is_first=not cameras)
            preview_camera = camera.scaled(_PREVIEW)
            preview, _ = trace(layout.surfaces, preview_camera)
            preview[np.isinf(preview)] = 0
            if first_preview is None:
                overlap = float((preview > 0.3 * layout.distance_m).mean())
                enough = overlap > 0.7
            else:
                overlap = shared_view(first_preview, cameras[0].scaled(_PREVIEW), preview, preview_camera, step=2)
                enough = config.min_overlap <= overlap <= max_overlap
            if enough or overlap > best_overlap:
                best, best_overlap, best_preview = camera, overlap, preview
            if enough:
                break
        assert best is not None
        first_preview = best_preview if first_preview is None else first_preview
        cameras.append(best)
    return [cameras[idx] for idx in rng.permutation(len(cameras))]


@dataclass(frozen=True, slots=True)
class _Habits:
    """How the cameras of one scene differ; `zoom` and `distance_ratio` are the largest factors to either side."""

    size: tuple[int, int]
    spread_rad: float
    zoom: float
    distance_ratio: float
    roll_rad: float
    focal_px: float
    wander: float


def _random_camera(layout: Layout, habits: _Habits, rng: np.random.Generator, is_first: bool) -> PosedCamera:
    spread = 0.0 if is_first else habits.spread_rad
    azimuth = layout.azimuth_rad + rng.uniform(-1, 1) * spread
    elevation = layout.elevation_rad + rng.uniform(-0.4, 0.4) * spread
    distance = layout.distance_m * (1.0 if is_first else habits.distance_ratio ** rng.uniform(-1, 1))
    zoom = 1.0 if is_first else habits.zoom ** rng.uniform(-1, 1)
    direction = np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    wander = rng.normal(size=3) * layout.wander_m * (0.1 if is_first else habits.wander) * np.array([1, 1, 0.5])
    target = layout.target + wander
    center = np.clip(target + direction * distance, layout.low, layout.high)
    pose = Rigid3.look_at(center, target, np.array([0, 0, 1.0]))
    roll = Rigid3.from_rotvec(np.array([0, 0, rng.uniform(-1, 1) * habits.roll_rad]), np.zeros(3))
    return PosedCamera(habits.focal_px * zoom, habits.size, roll @ pose)


def _largest_roll(rng: np.random.Generator, config: ViewConfig) -> float:
    """Some scenes are photographed upright, most nearly so."""
    draw = rng.random()
    if draw < config.roll_share:
        return float(np.pi)
    if draw < 2 * config.roll_share:
        return float(np.radians(40))
    return float(np.radians(rng.choice([0.5, 5, 12])))


def _picture_size(rng: np.random.Generator, config: ViewConfig) -> tuple[int, int]:
    width, height = config.image_size
    height = int(height * rng.choice([1.0, 1.0, 0.89, 0.75]))
    return (height, width) if rng.random() < config.portrait_share else (width, height)


def _sky(camera: PosedCamera, rng: np.random.Generator) -> UInt8Array:
    """A bright gradient with some clouds; nothing that could be matched lies at infinity."""
    width, height = camera.size
    colour = np.array([rng.uniform(120, 230), rng.uniform(150, 235), rng.uniform(180, 250)])
    clouds = smooth_noise(rng, (12, 16), 3)[..., None] * rng.uniform(0, 25)
    small = np.clip(colour + clouds + np.linspace(15, -15, 12)[:, None, None], 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
