"""The renderer in numpy and OpenCV that the renderer in torch is compared with.

`reference_of` in `render_reference_curved` converts surfaces; `trace` and `render` are the two entry points.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.posed_camera import MIN_DEPTH_M, Box, PosedCamera
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light


@dataclass(frozen=True, eq=False)
class Texture:
    """Colours of a surface, with an image pyramid against aliasing.

    Args:
        levels: uint8 [H, W, 3] RGB, each about half as wide and high as the previous one.
        texels_per_m: of the first level.
        alpha: uint8 [H, W] of the first level, holes are below 128; None is solid.
    """

    levels: tuple[np.ndarray, ...]
    texels_per_m: float
    alpha: np.ndarray | None = None

    def texels_from_m(self, level: int) -> tuple[float, float]:
        """Factors (x, y) from metres to texels of a level."""
        (height, width), (height0, width0) = self.levels[level].shape[:2], self.levels[0].shape[:2]
        return self.texels_per_m * width / width0, self.texels_per_m * height / height0

    def level_bounds(self) -> list[float]:
        """Footprints, in texels of the first level, from which the next level is used."""
        return [2 ** (level + 0.5) for level in range(len(self.levels) - 1)]


@dataclass(frozen=True, eq=False)
class Surface(ABC):
    """A textured surface; (u, v) are metres on it, u to the right and v down when seen from outside."""

    world_from_local: Rigid3
    texture: Texture

    @abstractmethod
    def corners(self) -> np.ndarray:
        """Local points [N, 3] whose convex hull contains the surface."""

    @abstractmethod
    def depths(self, camera: PosedCamera, box: Box) -> np.ndarray:
        """Depths in metres [h, w] at the pixels of a box, infinite where the ray misses the surface."""

    @abstractmethod
    def paint(self, camera: PosedCamera, box: Box, depths: np.ndarray, light: Light) -> np.ndarray:
        """Shaded colours [h, w, 3] at the pixels of a box; arbitrary where `depths` are not those of the surface."""

    def cam_from_local(self, camera: PosedCamera) -> Rigid3:
        """The pose of the local frame in the camera frame."""
        return _composed(camera.cam_from_world, self.world_from_local)

    def box(self, camera: PosedCamera) -> Box | None:
        """The part of the image that contains the surface; None if it is not visible."""
        points = self.cam_from_local(camera) @ self.corners()
        if (points[:, 2] <= MIN_DEPTH_M).all():
            return None
        if (points[:, 2] <= MIN_DEPTH_M).any():
            return camera.whole
        return box_of(points[:, :2] / points[:, 2:] * camera.focal_px + np.asarray(camera.size) / 2, camera)


@lru_cache(maxsize=256)
def _composed(cam_from_world: Rigid3, world_from_local: Rigid3) -> Rigid3:
    """The product, cached because each is used several times; poses are compared by identity."""
    return cam_from_world @ world_from_local


def box_of(pixels: np.ndarray, camera: PosedCamera) -> Box | None:
    """The smallest box in the image around points [N, 2]; None if it is empty."""
    low = np.clip(np.floor(pixels.min(0)), 0, camera.size).astype(int)
    high = np.clip(np.ceil(pixels.max(0)), 0, camera.size).astype(int)
    if (high <= low).any():
        return None
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


@dataclass(frozen=True, eq=False)
class Plane(Surface):
    """A rectangle from the local origin to (size_m, 0): x is u, y is v, z points away from the viewer.

    Args:
        size_m: (width, height).
        offset_m: (u, v) of the texture at the local origin; textures repeat beyond their border.
        two_sided: whether the back is visible too.
    """

    size_m: tuple[float, float]
    offset_m: tuple[float, float] = (0.0, 0.0)
    two_sided: bool = False

    def corners(self) -> np.ndarray:
        """The four corners [4, 3] in order around the rectangle."""
        width, height = self.size_m
        return np.array([[0, 0, 0], [width, 0, 0], [width, height, 0], [0, height, 0]], np.float64)

    def box(self, camera: PosedCamera) -> Box | None:
        """As in the base class; also None if only the back is seen."""
        outline = self._outline(camera)
        return None if outline is None else box_of(outline, camera)

    def depths(self, camera: PosedCamera, box: Box) -> np.ndarray:
        """Depths from the inverse depth, which is affine in the pixels."""
        outline = self._outline(camera)
        x0, y0, x1, y1 = box
        depths = np.full((y1 - y0, x1 - x0), np.inf, np.float32)
        if outline is None:
            return depths
        mask = np.zeros(depths.shape, np.uint8)
        fixed = np.round((np.clip(outline, -1e4, 1e4) - 0.5 - (x0, y0)) * 16).astype(np.int32)
        cv2.fillConvexPoly(mask, fixed, 255, shift=4)
        if self.texture.alpha is not None:
            alpha = self._warp(self.texture.alpha, self.texture.texels_from_m(0), camera, box, cv2.INTER_NEAREST)
            mask &= alpha
        plane = self.cam_from_local(camera)
        normal = plane.R[:, 2] / (plane.R[:, 2] @ plane.t)
        inverse = pixel_form(camera, box, normal)
        np.divide(1, inverse, out=depths, where=(mask > 127) & (inverse > 0))
        return depths

    def paint(self, camera: PosedCamera, box: Box, depths: np.ndarray, light: Light) -> np.ndarray:
        """Colours by a homography; if the depth varies, from several levels of the texture."""
        plane = self.cam_from_local(camera)
        distance = abs(float(plane.R[:, 2] @ plane.t))
        bounds = self.texture.level_bounds()
        finite = depths[np.isfinite(depths)]
        nearest, farthest = (float(finite.min()), float(finite.max())) if len(finite) else (1.0, 1.0)
        # A pixel covers z / f by z / (f cos) with cos = distance / z; the geometric mean selects the level.
        factor = self.texture.texels_per_m / camera.focal_px / np.sqrt(distance)
        first, last = (int(np.searchsorted(bounds, factor * depth**1.5)) for depth in (nearest, farthest))
        normal = self.world_from_local.R[:, 2]
        facing = -float(normal @ light.direction) * (1 if plane.R[:, 2] @ plane.t > 0 else -1)
        gain = light.ambient + light.sun * max(0.0, facing)
        colours = self._coloured(first, camera, box)
        for level in range(first + 1, last + 1):
            mask = (depths >= (bounds[level - 1] / factor) ** (2 / 3)) & np.isfinite(depths)
            x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
            if width:
                inner = box[0] + x, box[1] + y, box[0] + x + width, box[1] + y + height
                part = (slice(y, y + height), slice(x, x + width))
                cv2.copyTo(self._coloured(level, camera, inner), mask[part].astype(np.uint8), colours[part])
        return np.asarray(cv2.convertScaleAbs(colours, alpha=gain), np.uint8)

    def _coloured(self, level: int, camera: PosedCamera, box: Box) -> np.ndarray:
        texels = self.texture.texels_from_m(level)
        return self._warp(self.texture.levels[level], texels, camera, box, cv2.INTER_LINEAR)

    def _warp(
        self, source: np.ndarray, texels_from_m: tuple[float, float], camera: PosedCamera, box: Box, how: int
    ) -> np.ndarray:
        plane = self.cam_from_local(camera)
        pixel_from_m = camera.K @ np.stack([plane.R[:, 0], plane.R[:, 1], plane.t], axis=1)
        offset_x, offset_y = self.offset_m
        scale_x, scale_y = texels_from_m
        # The offsets of 0.5 convert to OpenCV's pixels, where the centre of the first pixel is at 0.
        texel_from_m = np.array(
            [[scale_x, 0, offset_x * scale_x - 0.5], [0, scale_y, offset_y * scale_y - 0.5], [0, 0, 1]]
        )
        pixel_from_box = np.array([[1, 0, box[0] + 0.5], [0, 1, box[1] + 0.5], [0, 0, 1]])
        texel_from_box = texel_from_m @ np.linalg.inv(pixel_from_m) @ pixel_from_box
        size = box[2] - box[0], box[3] - box[1]
        warped = cv2.warpPerspective(
            source, texel_from_box, size, flags=how | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP
        )
        return np.asarray(warped, np.uint8)

    def _outline(self, camera: PosedCamera) -> np.ndarray | None:
        """Outline in pixels [N, 2] of the visible part, not clipped exactly to the image; None if there is none."""
        plane = self.cam_from_local(camera)
        facing = float(plane.R[:, 2] @ plane.t)
        if abs(facing) < 1e-3 or (facing < 0 and not self.two_sided):
            return None
        corners = _clipped(plane @ self.corners(), camera)
        if len(corners) < 3:
            return None
        return corners[:, :2] / corners[:, 2:] * camera.focal_px + np.asarray(camera.size) / 2


def _clipped(polygon: np.ndarray, camera: PosedCamera) -> np.ndarray:
    """The part [M, 3] of a convex polygon [N, 3] in the camera frame that is in a slightly enlarged view frustum."""
    width, height = (side / 2 / camera.focal_px * 1.1 for side in camera.size)
    planes = np.array(
        [[0, 0, 1, -MIN_DEPTH_M], [1, 0, width, 0], [-1, 0, width, 0], [0, 1, height, 0], [0, -1, height, 0]]
    )
    sides = polygon @ planes[:, :3].T + planes[:, 3]  # [N, 5]
    if (sides < 0).all(axis=0).any():
        return np.zeros((0, 3))
    for plane in planes[(sides < 0).any(axis=0)]:
        side = polygon @ plane[:3] + plane[3]
        following, there = np.concatenate([polygon[1:], polygon[:1]]), np.concatenate([side[1:], side[:1]])
        kept = []
        for k in range(len(polygon)):
            if side[k] >= 0:
                kept.append(polygon[k])
            if (side[k] >= 0) != (there[k] >= 0):
                kept.append(polygon[k] + (following[k] - polygon[k]) * (side[k] / (side[k] - there[k])))
        polygon = np.array(kept).reshape(-1, 3)
    return polygon


def pixel_form(camera: PosedCamera, box: Box, vector: np.ndarray) -> np.ndarray:
    """Dot products [h, w] of a vector [3] with the rays (x, y, 1) through the pixels of a box."""
    x0, y0, x1, y1 = box
    width, height = camera.size
    x = (np.arange(x0, x1) + 0.5 - width / 2) / camera.focal_px * vector[0] + vector[2]
    y = (np.arange(y0, y1) + 0.5 - height / 2) / camera.focal_px * vector[1]
    products: np.ndarray = x.astype(np.float32)[None, :] + y.astype(np.float32)[:, None]
    return products


def sampled(texture: Texture, u: np.ndarray, v: np.ndarray, footprints: np.ndarray) -> np.ndarray:
    """Colours [h, w, 3] of a texture at (u, v), each from the level that fits its footprint.

    Args:
        texture: repeated beyond its border.
        u: [h, w] metres.
        v: [h, w] metres.
        footprints: [h, w] side of a pixel on the surface, in texels of the first level.
    """
    levels = np.searchsorted(np.array(texture.level_bounds(), np.float32), footprints).astype(np.uint8)
    colours = np.zeros((*u.shape, 3), np.uint8)
    for level in np.unique(levels).tolist():
        mask: np.ndarray = levels == level
        x, y, width, height = cv2.boundingRect(mask.astype(np.uint8))
        part = (slice(y, y + height), slice(x, x + width))
        scale_x, scale_y = texture.texels_from_m(level)
        map_x, map_y = u[part] * np.float32(scale_x) - 0.5, v[part] * np.float32(scale_y) - 0.5
        looked_up = cv2.remap(texture.levels[level], map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        cv2.copyTo(looked_up, mask[part].astype(np.uint8), colours[part])
    return colours


def lit(colours: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """Product of colours [h, w, 3] and gains [h, w], clipped to 255."""
    product = cv2.multiply(colours, cv2.merge([gains] * 3), dtype=cv2.CV_8U)
    return np.asarray(product, np.uint8)


def render(
    surfaces: Sequence[Surface], camera: PosedCamera, light: Light, sky: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Image [H, W, 3] and depth [H, W] (0 where no surface is visible) of surfaces; `sky` is enlarged behind them."""
    depth, surface_idx = trace(surfaces, camera)
    image = cv2.resize(sky, camera.size, interpolation=cv2.INTER_LINEAR)
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


def trace(surfaces: Sequence[Surface], camera: PosedCamera) -> tuple[np.ndarray, np.ndarray]:
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
