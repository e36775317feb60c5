"""Show models in a window, or render them into an image file or a film without a display.

Open3D runs in a separate process: if a graphics driver is missing, Open3D aborts the process, which no `except` can
catch. It also prints to standard output.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import install_hint
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.viewer.assemble import overlaid, side_by_side
from sfm_lightglue.viewer.compare import Comparison, compare_models
from sfm_lightglue.viewer.contents import Contents
from sfm_lightglue.viewer.look import MAX_MODELS, Look
from sfm_lightglue.viewer.models import ViewedModel, read_viewed_model
from sfm_lightglue.viewer.open3d_worker import CONTENTS_NAME, JOB_NAME, Job, picture_name
from sfm_lightglue.viewer.turntable import CODECS, SUFFIXES, check_gif, write_turntable

logger = logging.getLogger(__name__)

MIN_SIDE_PX, MAX_SIDE_PX = 32, 8192

MIN_FRAMES, MAX_FRAMES = 2, 3600

LIMIT_S, LIMIT_OF_FRAME_S = 600.0, 60.0
"""Time limit for the pictures, and for each further one, which normally take seconds, in case a graphics driver
hangs."""

INSTALL_PACKAGES = "apt-get install libgl1 libegl1 libusb-1.0-0 libvulkan1 mesa-vulkan-drivers"

_OF_THE_SYSTEM = re.compile(
    r"\.so\b|\.dylib\b|shared object|DLL load failed|vulkan|driver|\bE?GLX?\b|opengl|no window", re.I
)
"""Causes of a failure that packages of the system remedy: a library that is missing, or the graphics driver."""

OTHER_WAY = "the command `report` shows the model in any browser without it"


@dataclass(frozen=True, slots=True)
class ViewConfig:
    """Options of the viewer.

    Raises:
        ConfigError: if a size, a number or a file name is not valid, or options exclude each other.
    """

    map_dirs: tuple[Path, ...]
    """Output folders, scene folders that have one, or COLMAP models; several are shown side by side."""

    compare: Path | None = None
    """A second model of the scene of the first one, which is laid over it; None compares nothing."""

    images: tuple[Path, ...] = ()
    """Folders of the images of the models, in their order; those of the models that have none here are looked for."""

    screenshot: Path | None = None
    """The PNG file to write; None writes none."""

    turntable: Path | None = None
    """The MP4 or GIF file with a turn around the scene; None writes none. Without both files a window opens."""

    size: tuple[int, int] = (1280, 960)
    """(width, height) of the picture or the window in pixels."""

    num_frames: int = 72
    """Pictures of a turn."""

    seconds: float = 6.0
    """Length of a turn."""

    look: Look = field(default_factory=Look)
    """What is drawn and how."""

    def __post_init__(self) -> None:
        if not all(MIN_SIDE_PX <= side <= MAX_SIDE_PX for side in self.size):
            raise ConfigError(
                f"size {self.size[0]}x{self.size[1]}: each side must be {MIN_SIDE_PX} to {MAX_SIDE_PX} pixels"
            )
        if self.screenshot is not None and self.screenshot.suffix.lower() != ".png":
            raise ConfigError(f"{self.screenshot}: the image is a PNG file; name it {self.screenshot.stem}.png")
        if self.turntable is not None and self.turntable.suffix.lower() not in SUFFIXES:
            raise ConfigError(f"{self.turntable}: a turn is an MP4 or a GIF file; name it {self.turntable.stem}.mp4")
        if not MIN_FRAMES <= self.num_frames <= MAX_FRAMES:
            raise ConfigError(f"frames {self.num_frames}: a turn has {MIN_FRAMES} to {MAX_FRAMES}")
        if not 0.1 <= self.seconds <= 600:
            raise ConfigError(f"seconds {self.seconds:g}: a turn takes 0.1 to 600")
        if self.turntable is not None and self.turntable.suffix.lower() == ".gif":
            check_gif(self.num_frames, self.seconds)
        if not 1 <= len(self.map_dirs) <= MAX_MODELS:
            raise ConfigError(f"{len(self.map_dirs)} models: give 1 to {MAX_MODELS}")
        if self.compare is not None and len(self.map_dirs) > 1:
            raise ConfigError("`compare` takes one model beside the second one")
        if len(self.images) > len(self.paths):
            raise ConfigError(f"{len(self.images)} folders of `images` for {len(self.paths)} models: give one for each")

    @property
    def paths(self) -> tuple[Path, ...]:
        """All models, in their order."""
        return self.map_dirs if self.compare is None else (*self.map_dirs, self.compare)


@dataclass(frozen=True, slots=True, eq=False)
class Viewed:
    """What was shown.

    Args:
        contents: of the window or the pictures.
        models: in their order.
        comparison: of two models; None without one.
    """

    contents: Contents
    models: tuple[ViewedModel, ...]
    comparison: Comparison | None


def view_models(config: ViewConfig) -> Viewed:
    """Show models; a window blocks until it is closed.

    Returns:
        What was shown.

    Raises:
        DataError: if there is no model, it is empty, or two models have too few images in common.
        ConfigError: if Open3D, a library that it needs, or a display is missing.
        StoreError: if a file cannot be written.
    """
    viewed = prepare(config)
    require_open3d()
    contents, look = viewed.contents, config.look
    if config.screenshot is None and config.turntable is None:
        require_display()
        show_window(contents, look, config.size, ", ".join(model.name for model in viewed.models))
    if config.screenshot is not None:
        save_screenshot(contents, look, config.screenshot, config.size)
    if config.turntable is not None:
        save_turntable(contents, look, config.turntable, config.size, config.num_frames, config.seconds)
    return viewed


def prepare(config: ViewConfig) -> Viewed:
    """Read the models, and arrange them."""
    folders = itertools.chain(config.images, itertools.repeat(None))
    models = tuple(read_viewed_model(path, images) for path, images in zip(config.paths, folders, strict=False))
    aspect = config.size[0] / config.size[1]
    if config.compare is not None and models[1].images is None:
        models = (models[0], replace(models[1], images=models[0].images))  # they are of the same images
    if config.compare is None:
        return Viewed(side_by_side(models, aspect), models, None)
    comparison = compare_models(models[0].table, models[1].table)
    return Viewed(overlaid(models[0], models[1], comparison, aspect), models, comparison)


def require_open3d() -> None:
    """Raise ConfigError if Open3D is not installed; whether it works is only known when it runs."""
    if importlib.util.find_spec("open3d") is None:
        raise ConfigError(
            f"the viewer needs Open3D: {install_hint('viewer')} (and on Debian or Ubuntu: {INSTALL_PACKAGES});"
            f" {OTHER_WAY}"
        )


def require_display() -> None:
    """Raise ConfigError on a Linux machine without a display."""
    if not is_display_named():
        raise ConfigError(
            "no display to open a window on (neither DISPLAY nor WAYLAND_DISPLAY is set);"
            f" `screenshot` renders an image without one, and {OTHER_WAY}"
        )


def is_display_named() -> bool:
    """Whether the environment names a display; only Linux machines need one."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def save_screenshot(contents: Contents, look: Look, path: Path, size: tuple[int, int]) -> None:
    """Render the first view into a PNG file, without a display.

    Args:
        contents: of the picture.
        look: of the picture.
        path: the file; its folder is created if it is missing.
        size: (width, height) in pixels.

    Raises:
        ConfigError: if Open3D cannot render on this machine.
        StoreError: if the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="sfm_lightglue_view_") as folder:
        _run_worker(contents, Path(folder), Job("pictures", size, look), LIMIT_S)
        content = (Path(folder) / picture_name(0)).read_bytes()
    with atomic_write(path) as file:
        file.write(content)


def save_turntable(
    contents: Contents, look: Look, path: Path, size: tuple[int, int], num_frames: int, seconds: float
) -> None:
    """Render a turn around the scene into an MP4 or a GIF file, without a display.

    Args:
        contents: of the film.
        look: of the film.
        path: the file; its folder is created if it is missing.
        size: (width, height) in pixels.
        num_frames: pictures of the turn.
        seconds: its length.

    Raises:
        ConfigError: if Open3D cannot render on this machine.
        StoreError: if the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="sfm_lightglue_view_") as folder:
        job = Job("pictures", size, look, num_frames)
        _run_worker(contents, Path(folder), job, LIMIT_S + LIMIT_OF_FRAME_S * num_frames)
        film = Path(folder) / f"film{path.suffix.lower()}"
        codec = write_turntable([Path(folder) / picture_name(number) for number in range(num_frames)], film, seconds)
        content = film.read_bytes()
    with atomic_write(path) as file:
        file.write(content)
    if codec == CODECS[-1]:
        logger.warning("%s has the codec MPEG-4 (%s), which browsers do not play: OpenCV has no VP9 here", path, codec)


def show_window(
    contents: Contents, look: Look, size: tuple[int, int], title: str, actions: tuple[str, ...] | None = None
) -> None:
    """Show contents in a window; returns when it is closed.

    Args:
        contents: of the window.
        look: at first.
        size: (width, height) of the window in pixels.
        title: of the window.
        actions: are done in place of a user, as `Job` lists them, and close the window; None leaves it to the user.

    Raises:
        ConfigError: if Open3D cannot open a window on this machine.
    """
    job = Job("window", size, look, title=title, actions=actions or (), is_scripted=actions is not None)
    with tempfile.TemporaryDirectory(prefix="sfm_lightglue_view_") as folder:
        _run_worker(contents, Path(folder), job, limit_s=None)


def _run_worker(contents: Contents, folder: Path, job: Job, limit_s: float | None) -> None:
    """Run `sfm_lightglue.viewer.open3d_worker` on the contents in a new process and wait for its end."""
    arrays: dict[str, Any] = contents.as_arrays()
    np.savez(folder / CONTENTS_NAME, **arrays)
    (folder / JOB_NAME).write_text(job.as_json())
    try:
        worker = subprocess.run(
            [sys.executable, "-m", "sfm_lightglue.viewer.open3d_worker", str(folder)],
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
    return window_settings(has_graphics_card()) | {**os.environ, "PYTHONPATH": search_path}


def has_graphics_card() -> bool:
    """Whether there is one that renders; only Linux tells, other systems always have one."""
    return sys.platform != "linux" or any(Path("/dev").glob("dri/renderD*")) or Path("/dev/nvidia0").exists()


def window_settings(has_card: bool) -> dict[str, str]:
    """Variables of the environment for a window.

    Open3D's window asks for four samples a pixel. Without them, Mesa's rendering on the CPU takes half the time.
    """
    return {} if has_card else {"DRI_NO_MSAA": "1"}


def explain_exit(exit_status: int, output: str) -> str:
    """One line with the cause of the failure and a remedy: packages only if a signal or the system is the cause."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    causes = [line for line in lines if "rror" in line or line.startswith("reason:")]
    cause = (causes or lines or [f"exit status {exit_status}"])[-1]
    if "`screenshot`" in cause:  # written by the worker
        return f"{cause.removeprefix('error: ')}, and {OTHER_WAY}"
    cause = cause[:200]
    if exit_status < 0 or _OF_THE_SYSTEM.search(cause):
        return f"Open3D does not work here ({cause}); on Debian or Ubuntu: {INSTALL_PACKAGES}; or {OTHER_WAY}"
    return f"the process of the viewer failed ({cause}); {OTHER_WAY}"
