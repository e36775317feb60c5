"""The process in which Open3D runs; `show.py` starts it with a folder that has the contents and the job.

`python -m sfm_lightglue.viewer.open3d_worker FOLDER`: `contents.npz` are the arrays of `Contents`, `job.json` is a
`Job`. Pictures are written as `picture-00000.png` and so on.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sfm_lightglue.viewer.contents import Contents
from sfm_lightglue.viewer.look import Look

CONTENTS_NAME, JOB_NAME = "contents.npz", "job.json"


@dataclass(frozen=True, slots=True)
class Job:
    """What the process does.

    Args:
        kind: pictures without a display, or a window.
        size: (width, height) in pixels.
        look: of the scene.
        num_pictures: of a turn around the scene; 1 for the first view only.
        title: of the window.
        actions: what is done in the window, for tests, instead of a user; it closes after them. "key:C", "click:X,Y",
            "drag:X,Y", "shift:X,Y", "wheel:N", "save:FILE".
        is_scripted: whether `actions` are done.
    """

    kind: Literal["pictures", "window"]
    size: tuple[int, int]
    look: Look
    num_pictures: int = 1
    title: str = ""
    actions: tuple[str, ...] = ()
    is_scripted: bool = False

    def as_json(self) -> str:
        """Text of the file."""
        values = asdict(self)
        values["look"]["hidden_models"] = sorted(self.look.hidden_models)
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job of a text."""
        values = json.loads(text)
        look = values.pop("look")
        look["hidden_models"] = frozenset(look["hidden_models"])
        values["size"], values["actions"] = tuple(values["size"]), tuple(values["actions"])
        return cls(look=Look(**look), **values)


def picture_name(number: int) -> str:
    """Name of the file of a picture."""
    return f"picture-{number:05d}.png"


def read_contents(path: Path) -> Contents:
    """The contents of a file."""
    with np.load(path, allow_pickle=False) as stored:
        return Contents(**dict(stored))


def render(contents: Contents, job: Job, folder: Path) -> None:
    """Write the pictures of a job."""
    from sfm_lightglue.viewer.offscreen import OffscreenScene, save_png
    from sfm_lightglue.viewer.scene_parts import turn_views

    scene = OffscreenScene(contents, job.look, job.size)
    views = turn_views(contents, job.size, job.num_pictures)
    for number, pixels in enumerate(scene.pictures(views)):
        save_png(pixels, str(folder / picture_name(number)))


def show_window(contents: Contents, job: Job) -> None:
    """Show the contents until the window is closed, or the actions are done."""
    if sys.platform == "linux" and not has_display():
        raise SystemExit("error: no display answers; `screenshot` renders an image without one")
    from sfm_lightglue.viewer.canvas import Canvas
    from sfm_lightglue.viewer.window import Window

    canvas = Canvas(job.title, job.size)
    window = Window(canvas, contents, job.look)
    if job.is_scripted:
        steps = scripted(window, job.actions)
        window.run(lambda: window.is_at_rest and next(steps, None) is None)
    else:
        window.run()
    canvas.close()


def scripted(window: Any, actions: tuple[str, ...]) -> Iterator[str]:
    """Do one action after the other in a window.

    Raises:
        ValueError: for an unknown action.
    """
    for action in actions:
        name, _, value = action.partition(":")
        if name == "key":
            window.press(value)
        elif name == "click":
            x, y = map(float, value.split(","))
            window.click(x, y)
        elif name in {"drag", "shift"}:
            x, y = map(float, value.split(","))
            window.drag(x, y, name == "shift")
        elif name == "wheel":
            window.turn_wheel(float(value))
        elif name == "save":
            window.save(Path(value))
        else:
            raise ValueError(f"unknown action {action!r}")
        yield action


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
    """Do the job of a folder; every failure gives an exit status other than 0."""
    folder = Path(arguments[0])
    job, contents = Job.from_json((folder / JOB_NAME).read_text()), read_contents(folder / CONTENTS_NAME)
    if job.kind == "pictures":
        render(contents, job, folder)
    else:
        show_window(contents, job)


if __name__ == "__main__":
    main(sys.argv[1:])
