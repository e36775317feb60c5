"""Where the frames of a sequence come from: a folder, a video file, a camera, or a Python iterator."""

from __future__ import annotations

import logging
import math
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.images.formats import PHOTO_SUFFIXES
from sfm_lightglue.images.image import Image
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.messages import shortened, shown_path
from sfm_lightglue.scene.camera_assignment import CameraConfig, camera_of_image
from sfm_lightglue.scene.cameras import make_camera
from sfm_lightglue.scene.natural_order import natural_order
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.types import Camera, SkippedImage

logger = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
"""Frames a second of a folder without times."""

TIMES_NAME = "times.txt"
"""File with the times of the frames of a folder, in it or beside it."""

MAX_FPS = 1e5

_MAX_TIMES_BYTES = 10**9


class FrameSource(ABC):
    """Frames of one size in the order of time. It can be iterated several times unless it is live.

    Args:
        name: in messages.
    """

    is_live = False
    """Whether frames are lost that are not taken in time, and the sequence has no known end."""

    can_repeat = True
    """Whether iterating again gives the same frames."""

    images: Path | None = None
    """Folder of the files of the frames; None if the frames are no files."""

    num_frames: int | None = None
    """Number of frames as far as it is known."""

    num_dropped = 0
    """Frames of a live source that nobody took in time."""

    is_to_end: Callable[[], bool] = staticmethod(lambda: False)
    """Asked while a live source waits for its next frame; True ends it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.skipped: list[SkippedImage] = []
        """Frames that were left out so far, and the reasons."""

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]:
        """The frames.

        Raises:
            DataError: if there is no frame that can be read.
        """

    def camera(self, size: tuple[int, int], config: CameraConfig) -> Camera | None:
        """Intrinsics of the frames: given, else from metadata, else None.

        Args:
            size: (width, height) of the frames in pixels.
            config: camera model, and its parameters if they are known.

        Raises:
            ConfigError: if the given parameters do not fit the camera model or the frames.
        """
        return make_camera(config.model, size, config.params) if config.params else None

    def close(self) -> None:  # noqa: B027  (most sources hold nothing open)
        """Release what is open; no frame can be read afterwards."""

    def skip(self, name: str, reason: str) -> None:
        """Note a frame that is left out."""
        self.skipped.append(SkippedImage(name, reason))

    def has_size(self, frame: Frame, size: tuple[int, int]) -> bool:
        """Whether a frame has the size (width, height) of the first one; else it is noted as left out."""
        if frame.size != size:
            found = f"{frame.size[0]} x {frame.size[1]} pixels"
            self.skip(frame.name, f"{found}, the first frame has {size[0]} x {size[1]}")
        return frame.size == size

    def warn_of_skipped(self) -> None:
        """Log a warning with the frames that were left out, by reason."""
        names_from_reason: dict[str, list[str]] = {}
        for frame in self.skipped:
            names_from_reason.setdefault(frame.reason, []).append(frame.name)
        for reason, names in names_from_reason.items():
            logger.warning("left out %s: %s", shortened(names), reason)


class FolderSource(FrameSource):
    """The images of a folder in natural order ("frame9" before "frame10").

    Args:
        folder: of the frames; if it has a sub-folder `images`, the frames are those in it.
        fps: frames a second; None takes the times of `times.txt` in or beside the folder, else 30.

    Raises:
        DataError: if there is no frame, or `times.txt` does not fit the frames.
    """

    def __init__(self, folder: Path, fps: float | None = None) -> None:
        super().__init__(shown_path(folder))
        self.images: Path = folder / "images" if (folder / "images").is_dir() else folder
        self._paths = _frame_paths(self.images)
        self.num_frames = len(self._paths)
        self._times_s = _times_of_folder(self.images, [path.name for path in self._paths], fps)

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        size, idx = None, 0
        for path, time_s in zip(self._paths, self._times_s, strict=True):
            try:
                pixels = Image.read(path).rgb()
            except DataError as error:
                self.skip(path.name, str(error).removeprefix(f"{path}: "))
                continue
            frame = Frame(idx, path.name, time_s, pixels)
            size = size or frame.size
            if self.has_size(frame, size):
                yield frame
                idx += 1
        if idx == 0:
            raise DataError(f"{self.name}: no frame can be read ({self.skipped[0].name}: {self.skipped[0].reason})")

    def camera(self, size: tuple[int, int], config: CameraConfig) -> Camera | None:
        """Intrinsics of the frames: given, else from the EXIF data of the first one that has some, else None."""
        if config.params:
            return super().camera(size, config)
        for path in self._paths[:3]:
            try:
                image = Image.read(path)
                camera = camera_of_image(image, config)
            except DataError:
                continue
            if camera.source == "exif" and image.size == size:
                return camera
        return None


class IteratorSource(FrameSource):
    """Frames that a program makes.

    Args:
        frames: pairs (image, time in seconds): uint8 [H, W, 3] RGB or [H, W], and increasing times. An image may be
            overwritten when the next one is asked for.
    """

    can_repeat = False

    def __init__(self, frames: Iterable[tuple[UInt8Array, float]]) -> None:
        super().__init__("frames")
        self._frames = frames

    def __iter__(self) -> Iterator[Frame]:
        last_s, size = -math.inf, None
        idx = 0
        for number, (image, time_s) in enumerate(self._frames):
            frame = Frame.checked(idx, frame_name(number), time_s, image, last_s)
            last_s = frame.time_s
            size = size or frame.size
            if self.has_size(frame, size):
                yield frame
                idx += 1
        if size is None:
            raise DataError("the iterator has no frame")


def frame_name(idx: int) -> str:
    """The name of a frame that is no file, also that of the file of its image if one is written."""
    return f"frame_{idx:06d}.jpg"


def open_source(source: Path | str | Iterable[tuple[UInt8Array, float]], fps: float | None = None) -> FrameSource:
    """Open a sequence.

    Args:
        source: a folder of frames, a video file, the address of a camera ("0", "rtsp://..."), or an iterator of
            pairs (image, time in seconds).
        fps: frames a second in place of the times of the source; of a camera, the rate that is asked of it.

    Raises:
        ConfigError: if `fps` cannot be used.
        DataError: if there is nothing of that name, no frame in it, or no decoder for it.
    """
    from sfm_lightglue.tracking.video import CameraSource, VideoSource  # OpenCV's video code loads when it is needed

    if fps is not None and not 0 < fps <= MAX_FPS:
        raise ConfigError(f"`fps` must be positive, and at most {MAX_FPS:g}, got {fps:g}")
    if not isinstance(source, (str, Path)):
        if fps is not None:
            raise ConfigError("`fps`: an iterator gives the times of its frames; leave it out")
        return IteratorSource(source)
    if is_camera_address(source):
        return CameraSource.open(str(source), fps)
    path = Path(source)
    try:
        if path.is_dir():
            return FolderSource(path, fps)
        if not path.exists():
            raise DataError(f"{shown_path(path)}: no such file or folder")
    except OSError as error:
        raise DataError(f"{shown_path(path)}: cannot be read ({error.strerror or error})") from error
    return VideoSource(path, fps)


def is_camera_address(source: Path | str) -> bool:
    """Whether a source is a camera: a number (unless a file has that name), an address with "://", or a device."""
    text = str(source)
    if isinstance(source, str) and "://" in text:
        return True
    try:
        if Path(text).exists():
            return stat.S_ISCHR(Path(text).stat().st_mode)
    except (OSError, ValueError):
        return False
    return text.isascii() and text.isdecimal()


def _frame_paths(folder: Path) -> list[Path]:
    try:
        entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
        paths = [path for path in entries if path.suffix.lower() in PHOTO_SUFFIXES and path.is_file()]
        folders = sorted(path.name for path in entries if path.is_dir())
    except OSError as error:
        raise DataError(f"{shown_path(folder)}: the folder cannot be read ({error.strerror or error})") from error
    if not paths:
        hint = f"; frames in a sub-folder ({shortened(folders, 3)}) are named by its path" if folders else ""
        raise DataError(f"{shown_path(folder)}: no frame found; JPEG, PNG and other image files are read{hint}")
    return sorted(paths, key=lambda path: natural_order(path.name))


def _times_of_folder(folder: Path, names: list[str], fps: float | None) -> list[float]:
    """The times of frames: index / fps, or those of `times.txt`."""
    path = next((path for path in (folder / TIMES_NAME, folder.parent / TIMES_NAME) if path.is_file()), None)
    if fps is not None or path is None:
        return [idx / (fps or DEFAULT_FPS) for idx in range(len(names))]
    times_s = read_times(path, names)
    for name, before, after in zip(names[1:], times_s[:-1], times_s[1:], strict=True):
        if not after > before:
            raise DataError(f"{shown_path(path)}: the time of {name}, {after} s, is not later than the one before")
    return times_s


def read_times(path: Path, names: list[str]) -> list[float]:
    """The times of frames in seconds from a file: a time a line in the order of the frames, or a name and a time.

    Args:
        path: text file; empty lines and those that begin with # are left out.
        names: of the frames, in their order.

    Raises:
        DataError: if a line is no time, or the times do not fit the frames.
    """
    shown, time_from_name, times_s = shown_path(path), dict[str, float](), list[float]()
    known = set(names)
    for number, line in enumerate(
        read_input_file(path, _MAX_TIMES_BYTES).decode("utf-8-sig", "replace").splitlines(), 1
    ):
        words = line.strip().rsplit(maxsplit=1)  # a name may have spaces
        if not words or words[0].startswith("#"):
            continue
        try:
            time_s = float(words[-1])
        except ValueError:
            time_s = math.nan
        has_spaces = len(words) == 2 and len(words[0].split()) > 1
        if (has_spaces and words[0] not in known) or not math.isfinite(time_s):
            raise DataError(f"{shown}:{number}: expected a time in seconds, or a name and a time")
        times_s.append(time_s)
        if len(words) == 2:
            time_from_name[words[0]] = time_s
    if time_from_name:
        missing = [name for name in names if name not in time_from_name]
        if missing:
            raise DataError(f"{shown}: no time of {shortened(missing, 3)}; `fps` sets times without this file")
        return [time_from_name[name] for name in names]
    if len(times_s) != len(names):
        raise DataError(
            f"{shown}: {len(times_s)} times, but there are {len(names)} frames; `fps` sets times without this file"
        )
    return times_s
