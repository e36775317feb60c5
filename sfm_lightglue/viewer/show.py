"""Show a model in a window, or render it into an image file without a display.

Open3D runs in a separate process: if a graphics driver is missing, Open3D aborts the process, which no `except` can
catch. It also prints to standard output.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.colmap.drawing import model_arrays
from sfm_lightglue.colmap.model import find_map, read_model
from sfm_lightglue.drawing.scene import ViewScene, build_scene, select_frusta
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import install_hint
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.viewer.open3d_worker import REACH

MIN_SIDE_PX, MAX_SIDE_PX = 32, 8192

RENDERING_LIMIT_S = 600.0
"""Time limit for an image, which normally takes seconds, in case a graphics driver hangs."""

INSTALL_PACKAGES = "apt-get install libgl1 libegl1 libusb-1.0-0 libvulkan1 mesa-vulkan-drivers"


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """Options of the viewer.

    Raises:
        ConfigError: if the size or the file name is not valid.
    """

    map_dir: Path
    """An output folder, a scene folder that has one, or a COLMAP model."""

    screenshot: Path | None = None
    """The PNG file to write; None opens a window."""

    size: tuple[int, int] = (1280, 960)
    """(width, height) of the image or the window in pixels."""

    def __post_init__(self) -> None:
        if not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in self.size):
            raise ConfigError(
                f"size {self.size[0]}x{self.size[1]}: each side must be {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels"
            )
        if self.screenshot is not None and self.screenshot.suffix.lower() != ".png":
            raise ConfigError(f"{self.screenshot}: the image is a PNG file; name it {self.screenshot.stem}.png")


def view_model(config: ViewConfig) -> ViewScene:
    """Show a model; a window blocks until it is closed.

    Returns:
        The points and cameras that were shown.

    Raises:
        DataError: if there is no model, or it is empty.
        ConfigError: if Open3D, a library that it needs, or a display is missing.
        StoreError: if the image cannot be written.
    """
    model_dir = find_map(config.map_dir).model
    require_open3d()
    if config.screenshot is None:
        require_display()
    width, height = config.size
    scene = build_scene(model_arrays(read_model(model_dir)), width / height)
    if config.screenshot is not None:
        save_screenshot(scene, config.screenshot, config.size)
    else:
        show_window(scene, config.size, title=str(config.map_dir))
    return scene


def require_open3d() -> None:
    """Raise ConfigError if Open3D is not installed; whether it works is only known when it runs."""
    if importlib.util.find_spec("open3d") is None:
        raise ConfigError(
            f"the viewer needs Open3D: {install_hint('viewer')} (and on Debian or Ubuntu: {INSTALL_PACKAGES})"
        )


def require_display() -> None:
    """Raise ConfigError on a Linux machine without a display."""
    if not is_display_named():
        raise ConfigError(
            "no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set);"
            " `screenshot` renders an image without one"
        )


def is_display_named() -> bool:
    """Whether the environment names a display; only Linux machines need one."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def save_screenshot(scene: ViewScene, path: Path, size: tuple[int, int]) -> None:
    """Render the scene from its viewpoint into a PNG file, without a display.

    Args:
        scene: points and cameras.
        path: the file; its folder is created if it is missing.
        size: (width, height) in pixels.

    Raises:
        ConfigError: if Open3D cannot render on this machine.
        StoreError: if the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="sfm_lightglue_view_") as folder:
        rendered = Path(folder) / "image.png"
        _run_worker(scene, Path(folder), ["image", str(rendered), *map(str, size)], RENDERING_LIMIT_S)
        content = rendered.read_bytes()
    with atomic_write(path) as file:
        file.write(content)


def show_window(scene: ViewScene, size: tuple[int, int], title: str, max_frames: int | None = None) -> None:
    """Show the scene in a window; returns when it is closed.

    Args:
        scene: points and cameras.
        size: (width, height) of the window in pixels.
        title: of the window.
        max_frames: closes the window after this many frames; None leaves that to the user.

    Raises:
        ConfigError: if Open3D cannot open a window on this machine.
    """
    with tempfile.TemporaryDirectory(prefix="sfm_lightglue_view_") as folder:
        arguments = ["window", title, *map(str, size), str(max_frames or 0)]
        _run_worker(scene, Path(folder), arguments, limit_s=None)


def _run_worker(scene: ViewScene, folder: Path, arguments: list[str], limit_s: float | None) -> None:
    """Run `sfm_lightglue.viewer.open3d_worker` on the scene in a new process and wait for its end."""
    scene_file = folder / "scene.npz"
    np.savez(scene_file, allow_pickle=False, **drawing_arrays(scene))
    try:
        worker = subprocess.run(
            [sys.executable, "-m", "sfm_lightglue.viewer.open3d_worker", str(scene_file), *arguments],
            env=worker_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"Open3D did not finish within {limit_s:.0f} s; a graphics driver may hang") from error
    if worker.returncode != 0:
        raise ConfigError(explain_exit(worker.returncode, worker.stdout))


def worker_environment() -> dict[str, str]:
    """The environment of a process that runs a module of this package."""
    package_root = str(Path(__file__).resolve().parents[2])
    search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": search_path}


def drawing_arrays(scene: ViewScene) -> dict[str, AnyArray]:
    """The scene in the frame of the renderer: the target is the origin and the radius is 1.

    Graphics cards compute in float32, which is not precise enough for map coordinates in millions of metres. Points
    and cameras beyond `REACH` are left out: they would be too small to see, and they would move the far plane away.
    """
    view = scene.viewpoint

    def local(positions: Float64Array) -> Float64Array:
        positions_in_view: Float64Array = (positions - view.target) / scene.radius
        return positions_in_view

    point_mask = np.linalg.norm(local(scene.points), axis=1) <= REACH
    camera_mask = np.linalg.norm(local(scene.centers), axis=1) <= REACH
    frusta = select_frusta(scene.frusta, camera_mask)
    return {
        "points": local(scene.points[point_mask]),
        "point_colors": scene.point_colors[point_mask],
        "line_vertices": local(frusta.vertices),
        "segments": frusta.segments,
        "line_colors": frusta.colors,
        "eye": local(view.eye),
        "up": view.up,
        "vertical_fov_deg": np.array(view.vertical_fov_deg),
    }


def explain_exit(exit_status: int, output: str) -> str:
    """One line with the cause of the failure and a remedy."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line for line in lines if "rror" in line or line.startswith("reason:")]
    cause = (causes or lines or [f"exit status {exit_status}"])[-1]
    if "`screenshot`" in cause:  # written by the worker
        return cause.removeprefix("error: ")
    return f"Open3D does not work here ({cause[:200]}); on Debian or Ubuntu: {INSTALL_PACKAGES}"
