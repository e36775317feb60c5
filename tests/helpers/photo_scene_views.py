"""Surfaces, cameras and renderings for tests of the training scenes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.curved import Relief, Round
from sfm_lightglue.synthetic.photo_scenes.placement import SKY_SHAPE
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.rasteriser import Rasteriser, Shot, Trace
from sfm_lightglue.synthetic.photo_scenes.surface_table import SurfaceTable
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light, Plane, Surface, Texture
from sfm_lightglue.synthetic.photo_scenes.textures import smooth_noise
from tests.helpers.textured_photos import pattern

DAYLIGHT = Light(np.array([0, -1.0, 0]), 0.3, 0.7)
GREY_SKY = np.full((*SKY_SHAPE, 3), 180, np.uint8)


def texture(seed: int, width_m: float, alpha: np.ndarray | None = None) -> Texture:
    mask = None if alpha is None else torch.from_numpy(alpha)
    return Texture.from_pixels(torch.from_numpy(pattern(seed)), width_m, mask)


def facing_plane(x: float, y: float, z: float, size: tuple[float, float], seed: int) -> Plane:
    """A rectangle with its corner at (x, y, z), in front of a camera at the origin that looks along z."""
    return Plane(Rigid3(np.eye(3), np.array([x, y, z])), texture(seed, size[0]), size)


def camera_at(x: float, y: float = 0.0, z: float = 0.0, focal_px: float = 300.0) -> PosedCamera:
    return PosedCamera(focal_px, (320, 240), Rigid3(np.eye(3), -np.array([x, y, z])))


def rendered(surfaces: Sequence[Surface], camera: PosedCamera, light: Light = DAYLIGHT) -> tuple[np.ndarray, Trace]:
    """Image [H, W, 3], and depths and surfaces of one view."""
    ((image, trace),) = Rasteriser(SurfaceTable.of([surfaces])).render([Shot(0, camera, light, GREY_SKY)])
    return image.numpy(), trace


def sampled_world_points(view_depth: np.ndarray, camera: PosedCamera, step: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """World points [N, 3] and their pixels [N, 2], computed without the code under test."""
    y, x = np.mgrid[3 : view_depth.shape[0] : step, 3 : view_depth.shape[1] : step]
    x, y = x.ravel(), y.ravel()
    z = view_depth[y, x].astype(np.float64)
    rays = np.linalg.inv(camera.K) @ np.stack([x + 0.5, y + 0.5, np.ones(len(x))])
    R, t = camera.cam_from_world.R, camera.cam_from_world.t
    return (R.T @ (rays * z - t[:, None])).T[z > 0], np.stack([x + 0.5, y + 0.5], 1)[z > 0]


def surfaces_under_test() -> dict[str, tuple[Surface, PosedCamera]]:
    """A surface of each kind, and a camera that sees it."""
    rng = np.random.default_rng(3)
    slanted = Rigid3.from_rotvec(np.array([0.6, 0.5, 0.1]), np.array([-2.2, -1.5, 4.5]))
    hills = (smooth_noise(rng, (96, 96), 5) + 1) * 0.3
    turned = Rigid3.from_rotvec(np.array([1.2, 0.2, 0.3]), np.array([0.2, 0.1, 4.0]))
    lying = Rigid3.from_rotvec(np.array([0.7, 0.0, 0.0]), np.array([-3.0, -2.0, 4.0]))
    holes = np.where(smooth_noise(rng, (360, 480), 6).numpy() > 0, 255, 0).astype(np.uint8)
    return {
        "plane": (Plane(slanted, texture(0, 2.0), (5.0, 4.0), (0.7, 0.3), two_sided=True), camera_at(0.1)),
        "holes": (Plane(slanted, texture(0, 2.0, holes), (5.0, 4.0)), camera_at(0.1)),
        "cylinder": (Round(turned, texture(1, 3.0), 1.0, 2.5), camera_at(0.1)),
        "inside": (Round(turned, texture(1, 3.0), 6.0, 30.0, inside=True), camera_at(0.1)),
        "sphere": (Round(turned, texture(2, 3.0), 1.2), camera_at(0.1)),
        "relief": (Relief(lying, texture(3, 3.0), (6.0, 6.0), hills), camera_at(0.0)),
    }


def scene_of_all_kinds() -> list[Surface]:
    """All kinds of surfaces at once, some behind others."""
    return [surface for surface, _ in surfaces_under_test().values()] + [facing_plane(-8, -6, 9, (16, 12), 4)]
