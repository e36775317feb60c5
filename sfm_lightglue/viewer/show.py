"""Show a model: in a window, or as a picture that needs no display.

Open3D runs in a process of its own: where a graphics driver is missing it aborts the whole process, and no
`except` can catch that; it also talks to standard output.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.colmap.drawing import model_arrays
from sfm_lightglue.colmap.model import find_model_dir, read_model
from sfm_lightglue.drawing.scene import ViewScene, build_scene, select_frusta
from sfm_lightglue.errors import ConfigError, StoreError
from sfm_lightglue.messages import install_hint
from sfm_lightglue.viewer.open3d_worker import REACH

MIN_SIDE_PX, MAX_SIDE_PX = 32, 8192

RENDERING_LIMIT_S = 600.0
"""A picture takes seconds; a graphics driver that hangs must not hang us."""

INSTALL_PACKAGES = "apt-get install libgl1 libegl1 libusb-1.0-0 libvulkan1 mesa-vulkan-drivers"


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """What to show, and where.

    Raises:
        ConfigError: on a size or a file name that cannot work.
    """

    model_dir: Path
    """A COLMAP model, or a folder of ours that holds one."""

    screenshot: Path | None = None
    """The PNG file to write; None opens a window."""

    size: tuple[int, int] = (1280, 960)
    """(width, height) of the picture or the window in pixels."""

    def __post_init__(self) -> None:
        if not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in self.size):
            raise ConfigError(
                f"size {self.size[0]}x{self.size[1]}: each side must be {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels"
            )
        if self.screenshot is not None and self.screenshot.suffix.lower() != ".png":
            raise ConfigError(f"{self.screenshot}: the picture is a PNG file; name it {self.screenshot.stem}.png")


def view_model(config: ViewConfig) -> ViewScene:
    """Show a model; a window blocks until it is closed.

    Returns:
        What was shown.

    Raises:
        DataError: where there is no model, or nothing in it.
        ConfigError: where Open3D, a library that it needs, or a display is missing.
        StoreError: where the picture cannot be written.
    """
    model_dir = find_model_dir(config.model_dir)
    require_open3d()
    if config.screenshot is None:
        require_display()
    width, height = config.size
    scene = build_scene(model_arrays(read_model(model_dir)), width / height)
    if config.screenshot is not None:
        save_screenshot(scene, config.screenshot, config.size)
    else:
        show_window(scene, config.size, title=str(config.model_dir))
    return scene


def require_open3d() -> None:
    """Raise ConfigError where the package is not installed; whether it works is seen when it is used."""
    if importlib.util.find_spec("open3d") is None:
        raise ConfigError(
            f"the viewer needs Open3D: {install_hint('viewer')} (and on Debian or Ubuntu: {INSTALL_PACKAGES})"
        )


def require_display() -> None:
    """Raise ConfigError on a Linux machine without a screen."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise ConfigError(
            "no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set);"
            " --screenshot FILE.png renders a picture without one"
        )


def save_screenshot(scene: ViewScene, path: Path, size: tuple[int, int]) -> None:
    """Render the scene from its viewpoint into a PNG file, without a display.

    Args:
        scene: what to draw.
        path: the file; its folder is made where it is missing.
        size: (width, height) in pixels.

    Raises:
        ConfigError: where Open3D cannot render here.
        StoreError: where the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="sfm_lightglue_view_") as folder:
        picture = Path(folder) / "picture.png"
        _run_worker(scene, Path(folder), ["picture", str(picture), *map(str, size)], RENDERING_LIMIT_S)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture, path)
        except OSError as error:
            raise StoreError(f"{path}: cannot write the picture ({error.strerror})") from error


def show_window(scene: ViewScene, size: tuple[int, int], title: str, max_frames: int | None = None) -> None:
    """Open a window on the scene; returns when it is closed.

    Args:
        scene: what to draw.
        size: (width, height) of the window in pixels.
        title: of the window.
        max_frames: closes the window after so many frames.

    Raises:
        ConfigError: where Open3D cannot open a window here.
    """
    with tempfile.TemporaryDirectory(prefix="sfm_lightglue_view_") as folder:
        arguments = ["window", title, *map(str, size), str(max_frames or 0)]
        _run_worker(scene, Path(folder), arguments, limit_s=None)


def _run_worker(scene: ViewScene, folder: Path, arguments: list[str], limit_s: float | None) -> None:
    """Hand the scene to `sfm_lightglue.viewer.open3d_worker` in a fresh interpreter and wait for it."""
    scene_file = folder / "scene.npz"
    np.savez(scene_file, allow_pickle=False, **drawing_arrays(scene))
    package_root = str(Path(__file__).resolve().parents[2])
    search_path = os.pathsep.join(filter(None, [package_root, os.environ.get("PYTHONPATH")]))
    try:
        worker = subprocess.run(
            [sys.executable, "-m", "sfm_lightglue.viewer.open3d_worker", str(scene_file), *arguments],
            env={**os.environ, "PYTHONPATH": search_path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"Open3D did not finish within {limit_s:.0f} s; a graphics driver may hang") from error
    if worker.returncode != 0:
        raise ConfigError(_explain(worker.returncode, worker.stdout))


def drawing_arrays(scene: ViewScene) -> dict[str, AnyArray]:
    """The scene in the frame of the renderer: the target is the origin and the radius is 1.

    Graphics cards compute in float32, which has no room for map coordinates in millions of metres. What is
    out of reach is a speck at best, and would only push the far plane away: it is left out.
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


def _explain(exit_status: int, output: str) -> str:
    """One line on why the worker failed, and what helps."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    telling = [line for line in lines if "rror" in line or line.startswith("reason:")]
    cause = (telling or lines or [f"exit status {exit_status}"])[-1]
    if "--screenshot" in cause:  # the worker's own words
        return cause.removeprefix("error: ")
    return f"Open3D does not work here ({cause[:200]}); on Debian or Ubuntu: {INSTALL_PACKAGES}"
