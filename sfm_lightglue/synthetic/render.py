"""Rendered images of the synthetic scene, with exact depths and poses.

One ray through each pixel centre gives depth, surface and colour; the colour is averaged over the footprint of the
pixel. Pixels at a border between two surfaces are averaged over 16 rays. Textures include the lighting.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array, Int32Array, UInt8Array
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.rays import Rays, dot, rotate
from sfm_lightglue.synthetic.world import World, build_world, sky
from sfm_lightglue.types import Camera

DIAGONAL_35MM_MM = math.hypot(36, 24)
"""Diagonal of a 35 mm film frame, which defines 35 mm equivalent focal lengths."""

FOCAL_35MM_MM = 30
"""35 mm equivalent focal length, a horizontal field of view of 60 degrees at 4:3; EXIF has integer millimetres."""

_TARGET_M = np.array([0.0, 0.2, 0.6])
_CAMERA_RADIUS_M = 6.0
_NEAREST_VIEW_M = 4.0
"""Distance at which texels are as large as pixels; textures of nearer surfaces are magnified."""

_EDGE_GRID = 4
NUM_PROBES = 3
_NUM_UNDISTORTION_STEPS = 8


@dataclass(frozen=True, eq=False)
class SyntheticScene:
    """Rendered images with ground truth; all mappings are in the order of the names.

    Args:
        images: uint8 [H, W, 3] RGB from name; a name is a file name such as "view_00.jpg".
        depths: float32 [H, W] from name: z of the surface in the camera frame in metres along the ray
            through the pixel centre (x + 0.5, y + 0.5), 0 for sky.
        camera: the "SIMPLE_PINHOLE" camera of all images, in COLMAP's pixel convention.
        cam_from_world_from_name: poses, in metres; the z axis of the world points up.
        extent_m: largest distance between two cameras.
    """

    images: dict[str, UInt8Array]
    depths: dict[str, Float32Array]
    camera: Camera
    cam_from_world_from_name: dict[str, Rigid3]
    extent_m: float

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, sorted."""
        return tuple(self.images)

    @property
    def K(self) -> Float64Array:
        """Calibration matrix [3, 3] in COLMAP's pixel convention."""
        focal, cx, cy = self.camera.params
        return np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])


@dataclass(frozen=True, eq=False)
class SyntheticPhotos:
    """Rendered images of one world by several cameras; all mappings are in the order of the names.

    Args:
        images: uint8 [H, W, 3] RGB from name.
        depths: float32 [H, W] from name, as of `SyntheticScene`.
        camera_from_name: "SIMPLE_PINHOLE" or "SIMPLE_RADIAL" cameras, in COLMAP's pixel convention.
        cam_from_world_from_name: poses, in metres; the z axis of the world points up.
    """

    images: dict[str, UInt8Array]
    depths: dict[str, Float32Array]
    camera_from_name: dict[str, Camera]
    cam_from_world_from_name: dict[str, Rigid3]


def render_scene(
    num_images: int = 16,
    size: tuple[int, int] = (800, 600),
    seed: int = 0,
    progress: Progress = silent,
) -> SyntheticScene:
    """Render the synthetic scene from an arc of cameras around it.

    Args:
        num_images: at least 2; neighbouring cameras are at most about 11 degrees apart.
        size: (width, height) in pixels, at least 64 each. Six images of 320 x 240 take about a second.
        seed: of textures and camera positions. The same seed gives the same bytes on one machine with one
            version of numpy and OpenCV, for any number of threads.
        progress: called after every image, with stage "render".

    Raises:
        ValueError: if `num_images` or `size` is too small.
    """
    check_size("render_scene", num_images, size)
    camera = exif_camera(size, FOCAL_35MM_MM)
    texels_per_m = camera.params[0] / _NEAREST_VIEW_M
    return render_world(
        lambda executor: build_world(texels_per_m, seed, executor), camera, _camera_poses(num_images, seed), progress
    )


def check_size(function: str, num_images: int, size: tuple[int, int]) -> None:
    """Check the arguments of a function that renders a scene.

    Raises:
        ValueError: if `num_images` or `size` is too small.
    """
    if num_images < 2 or min(size) < 64:
        width, height = size
        raise ValueError(
            f"{function}: needs at least 2 images of 64 x 64 pixels, got {num_images} of {width} x {height}"
        )


def exif_camera(size: tuple[int, int], focal_35mm_mm: int) -> Camera:
    """The "SIMPLE_PINHOLE" camera of images of `size` (width, height) with a 35 mm equivalent focal length."""
    width, height = size
    focal_px = focal_35mm_mm / DIAGONAL_35MM_MM * math.hypot(width, height)
    return Camera("SIMPLE_PINHOLE", width, height, (focal_px, width / 2, height / 2), source="exif")


def image_names(num_images: int) -> tuple[str, ...]:
    """Names of the images of a scene, sorted: "view_00.jpg" and so on."""
    digits = max(2, len(str(num_images - 1)))
    return tuple(f"view_{idx:0{digits}d}.jpg" for idx in range(num_images))


def render_world(
    build: Callable[[Executor], World], camera: Camera, poses: Mapping[str, Rigid3], progress: Progress = silent
) -> SyntheticScene:
    """Render a world from several poses with one camera.

    Args:
        build: makes the world; it may run its work in the executor that it gets.
        camera: "SIMPLE_PINHOLE", of all images.
        poses: cam_from_world by name of the image, at least two.
        progress: called after every image, with stage "render".
    """
    photos = render_photos(build, dict.fromkeys(poses, camera), poses, progress)
    centers = [pose.center for pose in poses.values()]
    extent_m = max(float(np.linalg.norm(a - b)) for a, b in combinations(centers, 2))
    return SyntheticScene(photos.images, photos.depths, camera, dict(poses), extent_m)


def render_photos(
    build: Callable[[Executor], World],
    cameras: Mapping[str, Camera],
    poses: Mapping[str, Rigid3],
    progress: Progress = silent,
) -> SyntheticPhotos:
    """Render a world from several poses, each with its own camera.

    Args:
        build: as of `render_world`.
        cameras: "SIMPLE_PINHOLE" or "SIMPLE_RADIAL", by name of the image.
        poses: cam_from_world of the same names.
        progress: called after every image, with stage "render".
    """
    images, depths = {}, {}
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as executor:
        world = build(executor)
        views = executor.map(lambda name: _render(world, cameras[name], poses[name]), poses)
        for num_done, (name, (image, depth)) in enumerate(zip(poses, views, strict=True), start=1):
            images[name], depths[name] = image, depth
            progress("render", num_done, len(poses))
    return SyntheticPhotos(images, depths, dict(cameras), dict(poses))


def corresponding_points(
    scene: SyntheticScene, name0: str, name1: str, step: int = 8
) -> tuple[Float64Array, Float64Array]:
    """Exact correspondences of two images from depth, without points that are occluded in the second.

    Args:
        scene: the scene.
        name0: first image; its points are the centres of every `step`-th pixel.
        name1: second image.
        step: distance between points in pixels.

    Returns:
        Pixels [M, 2] in the first and in the second image, exact to about 1e-3 pixels.
    """
    depth0 = scene.depths[name0]
    x, y = np.meshgrid(*(np.arange(step // 2, length, step) for length in depth0.shape[::-1]))
    x, y = x.ravel(), y.ravel()
    solid = depth0[y, x] > 0
    x, y = x[solid], y[solid]
    pixels0: Float64Array = np.stack([x, y], 1).astype(np.float64) + 0.5
    focal, cx, cy = scene.camera.params
    z = depth0[y, x].astype(np.float64)[:, None]
    points = np.concatenate([(pixels0 - (cx, cy)) / focal * z, z], 1)
    cam1_from_cam0 = scene.cam_from_world_from_name[name1] @ scene.cam_from_world_from_name[name0].inverse()
    points = cam1_from_cam0 @ points
    front = points[:, 2] > 0.1
    pixels0, points = pixels0[front], points[front]
    pixels1: Float64Array = points[:, :2] / points[:, 2:] * focal + (cx, cy)
    visible = _is_visible(scene.depths[name1], pixels1, points[:, 2])
    return pixels0[visible], pixels1[visible]


def _is_visible(depth: Float32Array, pixels: Float64Array, z: Float64Array) -> BoolArray:
    """Whether the depths z [M] equal those of the surface at the pixels, within half a percent.

    The inverse depth is interpolated, because it is linear on a plane.
    """
    height, width = depth.shape
    corner = np.floor(pixels - 0.5).astype(int)
    x, y = corner.T
    inside: BoolArray = (x >= 0) & (y >= 0) & (x < width - 1) & (y < height - 1)
    x, y = np.where(inside, corner.T, 0)
    wx, wy = (pixels - 0.5 - corner).T
    corners = np.stack([depth[y, x], depth[y, x + 1], depth[y + 1, x], depth[y + 1, x + 1]]).astype(float)
    weights = np.stack([(1 - wx) * (1 - wy), wx * (1 - wy), (1 - wx) * wy, wx * wy])
    solid = inside & (corners > 0).all(0)
    inverse = (weights / np.where(corners > 0, corners, 1)).sum(0)
    visible: BoolArray = solid & (np.abs(inverse * z - 1) < 0.005)
    return visible


def _camera_poses(num_images: int, seed: int) -> dict[str, Rigid3]:
    """Poses on an arc, with varying height, distance, direction and roll."""
    rng = np.random.default_rng([seed, 1 << 20])
    arc_deg = min(9.0 * (num_images - 1), 135.0)
    poses = {}
    for idx, name in enumerate(image_names(num_images)):
        angle = np.radians(-90 + arc_deg * (idx / (num_images - 1) - 0.5) + rng.uniform(-1, 1))
        radius = _CAMERA_RADIUS_M + 0.5 * np.sin(1.7 * idx) + rng.uniform(-0.2, 0.2)
        elevation = 2.7 + 0.9 * np.sin(2.1 * idx + 0.5) + rng.uniform(-0.15, 0.15)
        center = np.array([radius * np.cos(angle), radius * np.sin(angle), elevation])
        up = np.array([*rng.normal(0, 0.025, 2), 1.0])
        target = _TARGET_M + rng.normal(0, 0.15, 3)
        poses[name] = Rigid3.look_at(center, target, up)
    return poses


def _render(world: World, camera: Camera, cam_from_world: Rigid3) -> tuple[UInt8Array, Float32Array]:
    """Image [H, W, 3] uint8 and depth [H, W] float32 of one camera."""
    width, height = camera.size
    x, y = (axis.ravel() for axis in np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5))
    focal_px = camera.params[0]
    colors, depth, label = trace(world, pixel_rays(camera, cam_from_world, x, y), 1 / focal_px, NUM_PROBES)
    border = np.flatnonzero(borders(label.reshape(height, width)))
    if len(border) > 0:
        colors[border] = averaged(world, camera, cam_from_world, x[border], y[border])
    image = np.clip(np.round(colors), 0, 255).astype(np.uint8).reshape(height, width, 3)
    return image, np.where(np.isfinite(depth), depth, np.float32(0)).reshape(height, width)


def averaged(world: World, camera: Camera, cam_from_world: Rigid3, x: AnyArray, y: AnyArray) -> Float32Array:
    """Colours [N, 3] of pixels with their centres at x, y [N], each averaged over a grid of rays."""
    offsets = (np.arange(_EDGE_GRID) + 0.5) / _EDGE_GRID - 0.5
    dx, dy = (axis.ravel() for axis in np.meshgrid(offsets, offsets))
    num_pixels = len(x)
    x, y = (x[:, None] + dx).ravel(), (y[:, None] + dy).ravel()
    pixel_width = 1 / (camera.params[0] * _EDGE_GRID)
    fine, _, _ = trace(world, pixel_rays(camera, cam_from_world, x, y), pixel_width, 1)
    return np.asarray(fine.reshape(num_pixels, _EDGE_GRID**2, 3).mean(1))


def pixel_rays(camera: Camera, cam_from_world: Rigid3, x: AnyArray, y: AnyArray) -> Rays:
    """World rays through pixels [N]; the parameter along a ray is the depth."""
    x, y = _undistorted(camera, x, y)
    directions = np.stack([x, y, np.ones_like(x)]).astype(np.float32)
    origin = cam_from_world.center.astype(np.float32)[:, None]
    return Rays(origin, rotate(cam_from_world.R.T, directions))


def _undistorted(camera: Camera, x: AnyArray, y: AnyArray) -> tuple[Float64Array, Float64Array]:
    """Pixels [N] on the plane z = 1 of the camera: r_distorted = r + k r³ is solved for r by Newton's method."""
    focal, cx, cy, *radial = camera.params
    x, y = (x - cx) / focal, (y - cy) / focal
    if not radial:
        return x, y
    distorted = np.maximum(np.hypot(x, y), 1e-12)
    r = distorted
    for _ in range(_NUM_UNDISTORTION_STEPS):
        r = r - (r + radial[0] * r**3 - distorted) / (1 + 3 * radial[0] * r**2)
    return x * r / distorted, y * r / distorted


def trace(
    world: World, rays: Rays, pixel_width: float, num_probes: int
) -> tuple[Float32Array, Float32Array, Int32Array]:
    """Trace rays to the first surface.

    Args:
        world: shapes and textures.
        rays: N rays from a camera, whose parameter is the depth.
        pixel_width: in units of the focal length.
        num_probes: number of texture lookups along the longer axis of the footprint.

    Returns:
        Colours [N, 3], depths [N] (infinite for sky) and labels of patches [N] (-1 for sky).
    """
    depth, shape_idx = world.cast(rays)
    colors = np.empty((len(rays), 3), np.float32)
    label = np.full(len(rays), -1, np.int32)
    in_sky = np.flatnonzero(shape_idx < 0).astype(np.int32)
    colors[in_sky] = sky(rays.take(in_sky).directions)
    for idx in np.unique(shape_idx[shape_idx >= 0]).tolist():
        shape = world.shapes[idx]
        on_shape = np.flatnonzero(shape_idx == idx).astype(np.int32)
        local = shape.to_local(rays.take(on_shape))
        patches = shape.patch_of(local.at(depth[on_shape]))
        for patch in np.unique(patches).tolist():
            chosen = np.flatnonzero(patches == patch).astype(np.int32)
            on_patch = on_shape[chosen]
            colors[on_patch] = _shade(world, (idx, patch), local.take(chosen), depth[on_patch], pixel_width, num_probes)
            label[on_patch] = 8 * idx + patch
    return colors, depth, label


def _shade(
    world: World,
    patch: tuple[int, int],
    local_rays: Rays,
    depth: Float32Array,
    pixel_width: float,
    num_probes: int,
) -> Float32Array:
    """Colours [N, 3] of the points at `depth` [N] on one patch (index of the shape, of its patch).

    The footprint of a pixel is an ellipse, longer than wide by the inverse cosine of the angle of incidence. The
    texture lookups are in a row along its longer axis.
    """
    shape_idx, patch_idx = patch
    shape, texture = world.shapes[shape_idx], world.textures[shape_idx][patch_idx]
    points = local_rays.at(depth)
    normals = shape.normals(patch_idx, points)
    lengths: Float32Array = np.sqrt(local_rays.squared_lengths)
    toward = np.divide(local_rays.directions, lengths, dtype=np.float32)
    cosines = -dot(toward, normals)
    width_m = depth * np.float32(pixel_width)
    length_m = width_m / np.maximum(np.abs(cosines), np.float32(0.05))
    footprint_m = np.maximum(width_m, length_m / np.float32(num_probes))
    downhill = toward + normals * cosines
    downhill = downhill / np.maximum(np.sqrt(dot(downhill, downhill)), np.float32(1e-6))
    offsets = ((np.arange(num_probes) + 0.5) / num_probes - 0.5).astype(np.float32)
    probes = [shape.uv(patch_idx, points + downhill * (offset * length_m)) for offset in offsets]
    return texture.sample(probes, footprint_m)


def borders(label: Int32Array) -> BoolArray:
    """Pixels [H, W] with a neighbour, left, right, above or below, of another label."""
    border = np.zeros(label.shape, np.bool_)
    across, down = label[:, 1:] != label[:, :-1], label[1:] != label[:-1]
    border[:, 1:] |= across
    border[:, :-1] |= across
    border[1:] |= down
    border[:-1] |= down
    return border
