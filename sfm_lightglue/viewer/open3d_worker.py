"""The process in which Open3D runs; `show.py` starts it with the arrays of a scene.

`python -m sfm_lightglue.viewer.open3d_worker SCENE.npz image FILE.png WIDTH HEIGHT`, or
`... SCENE.npz window TITLE WIDTH HEIGHT MAX_FRAMES`.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.drawing.scene import BACKGROUND, point_size_px
from sfm_lightglue.geometry.transforms import Rigid3

REACH = 10.0
"""Largest distance from the target at which points and cameras are drawn, in radii of the scene."""

SUPERSAMPLING = 2
"""Images are rendered at this multiple of their size and averaged, which smooths lines and points."""

FOV_STEP_DEG = 5.0
"""One step of the field of view in Open3D's window."""


def render_image(arrays: dict[str, AnyArray], path: Path, width: int, height: int) -> None:
    """Write the scene as a PNG of width x height pixels."""
    import open3d as o3d

    rendering = o3d.visualization.rendering
    factor = SUPERSAMPLING if max(width, height) <= 4096 else 1
    renderer = rendering.OffscreenRenderer(factor * width, factor * height)
    renderer.scene.set_background([*srgb_from_linear(np.array(BACKGROUND)), 1.0])
    renderer.scene.view.set_post_processing(False)  # no tone mapping: keeps the colours of the images
    cloud, lines = open3d_geometries(arrays)
    scale = (width * height / (1280 * 960)) ** 0.5
    if cloud is not None:
        material = rendering.MaterialRecord()
        material.shader = "defaultUnlit"
        material.point_size = factor * max(scale * point_size_px(len(arrays["points"])), 2.0)
        renderer.scene.add_geometry("points", cloud, material)
    if lines is not None:
        material = rendering.MaterialRecord()
        material.shader = "unlitLine"
        material.line_width = factor * max(1.6 * scale, 1.0)
        renderer.scene.add_geometry("cameras", lines, material)
    near, far = clip_planes(arrays["eye"])
    eye, up = (arrays[name].astype(np.float32) for name in ("eye", "up"))
    renderer.setup_camera(float(arrays["vertical_fov_deg"]), np.zeros(3, np.float32), eye, up, near, far)
    pixels = np.asarray(renderer.render_to_image())[..., :3]
    blocks = pixels.reshape(height, factor, width, factor, 3).astype(np.float32)
    smooth = np.ascontiguousarray(blocks.mean(axis=(1, 3)).round().astype(np.uint8))
    if not o3d.io.write_image(str(path), o3d.geometry.Image(smooth)):
        raise SystemExit("error: the image could not be written")


def show_window(arrays: dict[str, AnyArray], title: str, width: int, height: int, max_frames: int) -> None:
    """Show the scene until the window is closed, or for `max_frames` frames if that is positive."""
    if sys.platform == "linux" and not has_display():
        raise SystemExit("error: no display answers; `screenshot` renders an image without one")
    import open3d as o3d

    window = o3d.visualization.Visualizer()
    if not window.create_window(title, width, height):
        raise SystemExit("error: no window could be opened; `screenshot` renders without one")
    options = window.get_render_option()
    options.background_color = np.array(BACKGROUND)
    options.point_size = point_size_px(len(arrays["points"]))
    for geometry in open3d_geometries(arrays):
        if geometry is not None:
            window.add_geometry(geometry)
    look_from(window.get_view_control(), arrays)
    num_frames = 0
    while window.poll_events() and (max_frames == 0 or num_frames < max_frames):
        window.update_renderer()
        num_frames += 1
    window.destroy_window()


def look_from(control: Any, arrays: dict[str, AnyArray]) -> None:
    """Set the window's camera to the scene's viewpoint; the mouse rotates the scene around its target.

    Open3D's default view includes outliers. Its zoom is half the visible height at the target, divided by the
    longest side of the bounding box.
    """
    everything = np.concatenate([arrays["points"], arrays["line_vertices"]])
    fov_deg, distance = float(arrays["vertical_fov_deg"]), float(np.linalg.norm(arrays["eye"]))
    control.change_field_of_view((fov_deg - control.get_field_of_view()) / FOV_STEP_DEG)
    near, far = clip_planes(arrays["eye"])
    control.set_constant_z_near(near)
    control.set_constant_z_far(4 * far)
    control.set_lookat(np.zeros(3))
    control.set_front(arrays["eye"] / distance)
    control.set_up(-Rigid3.look_at(arrays["eye"], np.zeros(3), arrays["up"]).R[1])
    longest_side = max(float(np.ptp(everything, axis=0).max()), 1e-6)
    control.set_zoom(distance * np.tan(np.radians(fov_deg) / 2) / longest_side)


def open3d_geometries(arrays: dict[str, AnyArray]) -> tuple[Any, Any]:
    """The point cloud and the line set; None if it is empty."""
    import open3d as o3d

    vectors = o3d.utility.Vector3dVector
    cloud = lines = None
    if len(arrays["points"]) > 0:
        cloud = o3d.geometry.PointCloud(vectors(arrays["points"]))
        cloud.colors = vectors(arrays["point_colors"])
    if len(arrays["segments"]) > 0:
        segments = o3d.utility.Vector2iVector(arrays["segments"])
        lines = o3d.geometry.LineSet(vectors(arrays["line_vertices"]), segments)
        lines.colors = vectors(arrays["line_colors"])
    return cloud, lines


def srgb_from_linear(values: AnyArray) -> AnyArray:
    """Encode values in 0 to 1; the renderer applies the inverse to its background, and only to that."""
    encoded: AnyArray = np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)
    return encoded


def clip_planes(eye: AnyArray) -> tuple[float, float]:
    """Near and far plane, in radii; they enclose everything within `REACH` of the target."""
    return 0.005, float(np.linalg.norm(eye)) + REACH


def has_display() -> bool:
    """Whether an X server or a Wayland socket answers; without one Open3D fails silently."""
    wayland = os.environ.get("WAYLAND_DISPLAY")
    if wayland and Path(os.environ.get("XDG_RUNTIME_DIR", "/"), wayland).exists():
        return True
    try:
        library = ctypes.CDLL("libX11.so.6")
    except OSError:
        return False
    library.XOpenDisplay.restype = ctypes.c_void_p
    return library.XOpenDisplay(None) is not None


def main(arguments: list[str]) -> None:
    """Run the action that the arguments name; every failure gives an exit status other than 0."""
    scene_file, action, target, width, height, *rest = arguments
    with np.load(scene_file, allow_pickle=False) as stored:
        arrays = dict(stored)
    if action == "image":
        render_image(arrays, Path(target), int(width), int(height))
    else:
        show_window(arrays, target, int(width), int(height), int(rest[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
