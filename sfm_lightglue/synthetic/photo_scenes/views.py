"""Views of a scene layout: cameras with large or small overlap, images, exact depths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.augmentation import augmented, random_light
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import SCENE_LAYOUTS, SceneLayout
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light, Surface
from sfm_lightglue.synthetic.photo_scenes.textures import Photos, draw_photos, smooth_noise
from sfm_lightglue.synthetic.photo_scenes.visibility import shared_view

_PREVIEW = 1 / 8
_NUM_TRIES = 10


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """How the views of a scene are made."""

    num_views: int = 5
    """Number of views of a scene; n views make up to n (n - 1) / 2 pairs."""

    image_size: tuple[int, int] = (640, 480)
    """(width, height) in pixels of images in landscape format; some are in portrait format or less high."""

    portrait_share: float = 0.2
    """Fraction of scenes in portrait format."""

    layout_shares: tuple[float, ...] = (0.22, 0.36, 0.12, 0.08, 0.08, 0.14)
    """Relative frequency of each of `SCENE_LAYOUTS`: street, room, table, layers, hills, wall."""

    num_photos: int = 6
    """Number of photographs for the textures of a scene."""

    max_zoom: float = 4.0
    """Largest ratio of two focal lengths (in pixels) in a scene."""

    roll_share: float = 0.15
    """Fraction of scenes whose cameras roll by any angle; in an equal fraction they roll by up to 40 degrees."""

    hardness: float = 1.0
    """Strength of the augmentation by light, blur, noise and JPEG, from 0 (almost none) to 1."""

    min_overlap: float = 0.12
    """Smallest overlap with the first camera; cameras with less are drawn again, a few times."""

    easy_share: float = 0.35
    """Fraction of scenes without upper limit of the overlap."""

    def __post_init__(self) -> None:
        if self.num_views < 1 or self.num_photos < 1 or min(self.image_size) < 64:
            raise ConfigError("views: num_views and num_photos must be at least 1, image_size at least 64 x 64 pixels")
        if len(self.layout_shares) != len(SCENE_LAYOUTS) or min(self.layout_shares) < 0 or sum(self.layout_shares) <= 0:
            raise ConfigError(
                f"views: layout_shares must be {len(SCENE_LAYOUTS)} numbers that are not negative, with a positive sum"
            )
        if not (self.max_zoom >= 1 and 0 <= self.hardness <= 1):
            raise ConfigError("views: max_zoom must be at least 1, hardness between 0 and 1")


@dataclass(frozen=True, eq=False)
class RenderedView:
    """One rendered image of a scene.

    Args:
        image: uint8 [H, W, 3] RGB.
        depth: float32 [H, W], z in the camera frame in metres along the ray through the pixel centre
            (x + 0.5, y + 0.5), 0 where no surface is visible.
        camera: of the image.
    """

    image: UInt8Array
    depth: Float32Array
    camera: PosedCamera


def render_views(photo_paths: Sequence[Path], seed: int, config: ViewConfig | None = None) -> tuple[RenderedView, ...]:
    """Build a scene textured with photographs, and render its views.

    Args:
        photo_paths: photographs, of which `config.num_photos` are drawn.
        seed: the same seed and paths give the same bytes on one machine.
        config: how the views are made.

    Raises:
        ValueError: if there is no photograph.
        DataError: if a photograph cannot be read.
    """
    if len(photo_paths) == 0:
        raise ValueError("render_views: needs at least one photograph")
    config = config or ViewConfig()
    rng = np.random.default_rng([seed, 1])
    drawn = draw_photos(photo_paths, config.num_photos, rng)
    shares = np.asarray(config.layout_shares) / sum(config.layout_shares)
    build = SCENE_LAYOUTS[int(rng.choice(len(SCENE_LAYOUTS), p=shares))]
    layout = build(Photos(drawn, rng), rng)
    steady_light = random_light(rng) if rng.random() < 0.4 else None
    hardness = config.hardness * rng.uniform(0.3, 1.0)
    views = []
    for camera in choose_cameras(layout, rng, config):
        image, depth = render(layout.surfaces, camera, steady_light or random_light(rng), rng)
        views.append(RenderedView(augmented(image, rng, hardness), depth, camera))
    return tuple(views)


def render(
    surfaces: Sequence[Surface], camera: PosedCamera, light: Light, rng: np.random.Generator
) -> tuple[UInt8Array, Float32Array]:
    """Image [H, W, 3] and depth [H, W] (0 where no surface is visible) of surfaces.

    Args:
        surfaces: at most 254.
        camera: of the image.
        light: on all surfaces.
        rng: source of random numbers for the sky.
    """
    depth, surface_idx = trace(surfaces, camera)
    image = _sky(camera, rng)
    for idx, surface in enumerate(surfaces):
        mask = (surface_idx == idx).view(np.uint8)
        x, y, width, height = cv2.boundingRect(mask)
        if width == 0:
            continue
        part = (slice(y, y + height), slice(x, x + width))
        depths = np.where(mask[part] > 0, depth[part], np.float32(np.inf))
        colours = surface.paint(camera, (x, y, x + width, y + height), depths, light)
        cv2.copyTo(colours, mask[part], image[part])
    depth[np.isinf(depth)] = 0
    return image, depth


def trace(surfaces: Sequence[Surface], camera: PosedCamera) -> tuple[Float32Array, UInt8Array]:
    """Depth [H, W] and index [H, W] of the nearest surface; infinite and 255 where there is none."""
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


def choose_cameras(layout: SceneLayout, rng: np.random.Generator, config: ViewConfig) -> list[PosedCamera]:
    """Cameras of one scene: the first at the mean of the layout, the others around it.

    The ranges of distance, zoom and roll are drawn once per scene, so that there are easy and hard scenes.
    """
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
    cameras: list[PosedCamera] = []
    first_preview: Float32Array | None = None
    for _ in range(config.num_views):
        best, best_overlap, best_preview = None, -1.0, None
        for _ in range(_NUM_TRIES):
            camera = _random_camera(layout, ranges, rng, is_first=not cameras)
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
class _CameraRanges:
    """Ranges of the cameras of one scene; factors are between 1 / `zoom` and `zoom`, likewise `distance_ratio`."""

    size: tuple[int, int]
    spread_rad: float
    zoom: float
    distance_ratio: float
    roll_rad: float
    focal_px: float
    wander: float


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


def _sky(camera: PosedCamera, rng: np.random.Generator) -> UInt8Array:
    """A bright gradient with smooth clouds, so that no keypoint is at infinity."""
    width, height = camera.size
    colour = np.array([rng.uniform(120, 230), rng.uniform(150, 235), rng.uniform(180, 250)])
    clouds = smooth_noise(rng, (12, 16), 3)[..., None] * rng.uniform(0, 25)
    small = np.clip(colour + clouds + np.linspace(15, -15, 12)[:, None, None], 0, 255).astype(np.uint8)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
