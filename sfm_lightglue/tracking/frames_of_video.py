"""The chosen frames of a video as a folder of photos, for `reconstruct`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import ConfigError, DataError, SfmError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.messages import shown_path
from sfm_lightglue.reconstruction.run_record import recorded_versions
from sfm_lightglue.store.atomic_file import atomic_write, store_errors
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.output_folder import work_folder
from sfm_lightglue.tracking.frame import Frame
from sfm_lightglue.tracking.frame_choice import FRAME_CHOICE_VERSION, FrameChoiceConfig, choose_frames
from sfm_lightglue.tracking.keyframe_images import jpeg_bytes
from sfm_lightglue.tracking.sources import TIMES_NAME, FrameSource, open_source

IMAGES_FOLDER = "images"

RECORD_NAME = "frames.json"
"""File beside the frames that says which video they are of."""

_MAX_RECORD_BYTES = 10**8


def folder_of_video(video: Path) -> Path:
    """The folder of the chosen frames: `NAME_frames` beside the video."""
    return video.with_name(f"{video.stem}_frames")


def frames_of_video(video: Path, config: FrameChoiceConfig | None = None, progress: Progress = silent) -> Path:
    """Write sharp frames of a video, which are far enough from each other, into `NAME_frames/images` beside it.

    `NAME_frames/times.txt` has the name and the time of each. Frames that were written before are used again, unless
    the video or the options have changed. Other files in `NAME_frames/images` stay.

    Args:
        video: the file.
        config: which frames are used.
        progress: called with the stage "frames" after each frame of the video.

    Returns:
        The folder, which `reconstruct` takes.

    Raises:
        DataError: if the file is no video, or fewer than two frames differ.
        ConfigError: if the folder has frames of another video, or images or times that are not of this function.
        StoreError: if the folder cannot be written.
    """
    config = config or FrameChoiceConfig()
    folder = folder_of_video(video)
    source = open_source(video)
    recorded = _record(folder)
    state = _state(video, config)
    _require_own(folder, recorded, video)
    if recorded is not None and recorded.get("of") == state and _has_all(folder, recorded):
        return folder
    with store_errors(folder):
        folder.mkdir(exist_ok=True)
    with work_folder(folder) as work:
        chosen = _write_frames(source, config, work / IMAGES_FOLDER, progress)
        source.warn_of_skipped()
        if len(chosen) > 1:
            earlier = {} if recorded is None else _frames(recorded)
            # If the process is killed meanwhile, the next run finds a record of the same video, and chooses again.
            _write_record(folder, {"video": video.name}, earlier | chosen)
            _replace_frames(folder, work / IMAGES_FOLDER, earlier, chosen)
            _write_record(folder, state, chosen)
    if len(chosen) < 2:
        with contextlib.suppress(OSError):  # it has an earlier reconstruction
            folder.rmdir()
        raise DataError(
            f"{shown_path(video)}: the camera hardly moves; a reconstruction needs photos from different positions"
        )
    return folder


def _write_frames(source: FrameSource, config: FrameChoiceConfig, images: Path, progress: Progress) -> dict[str, float]:
    """Write the chosen frames; returns their times by their names."""

    def counted() -> Iterator[Frame]:
        for number, frame in enumerate(source, 1):
            yield frame
            progress("frames", number, max(source.num_frames or 0, number))

    chosen: dict[str, float] = {}
    with store_errors(images):
        images.mkdir()
        for frame in choose_frames(counted(), config):
            (images / frame.name).write_bytes(jpeg_bytes(frame.image))
            chosen[frame.name] = frame.time_s
    return chosen


def _require_own(folder: Path, recorded: dict[str, Any] | None, video: Path) -> None:
    """Refuse a folder with frames of another video, such as walk.mp4 for walk.avi, or with files of the user."""
    if recorded is not None:
        name = recorded["of"].get("video")
        if name != video.name:
            raise ConfigError(
                f"{shown_path(folder)}: has frames of {shown_path(str(name))}, not of {shown_path(video.name)}; rename"
                " one of the videos"
            )
        return
    for name, what in ((IMAGES_FOLDER, "images that are not frames"), (TIMES_NAME, f"a {TIMES_NAME} that is not")):
        if (folder / name).exists():
            raise ConfigError(f"{shown_path(folder)}: has {what} of {shown_path(video)}; rename this folder")


def _write_record(folder: Path, of: dict[str, Any], frames: dict[str, float]) -> None:
    record = {"of": of, "versions": recorded_versions(), "frames": frames}
    with atomic_write(folder / RECORD_NAME) as file:
        file.write(json_bytes(record, indent=1) + b"\n")


def _replace_frames(folder: Path, images: Path, earlier: Iterable[str], chosen: dict[str, float]) -> None:
    """Put the frames and their times into their places, and remove the frames of an earlier run."""
    target = folder / IMAGES_FOLDER
    with store_errors(folder):
        target.mkdir(exist_ok=True)
        for name in set(earlier) - set(chosen):
            (target / name).unlink(missing_ok=True)
        for name in chosen:
            os.replace(images / name, target / name)
    with atomic_write(folder / TIMES_NAME) as file:
        file.write("".join(f"{name} {time_s!r}\n" for name, time_s in chosen.items()).encode())


def _state(video: Path, config: FrameChoiceConfig) -> dict[str, Any]:
    """What the choice depends on; the file is known by its size and the time of its last change."""
    status = video.stat()
    return {
        "video": video.name,
        "num_bytes": status.st_size,
        "changed_ns": status.st_mtime_ns,
        "options": dataclasses.asdict(config),
        "version": FRAME_CHOICE_VERSION,
    }


def _record(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(SfmError, ValueError, RecursionError):
        record = json.loads(read_input_file(folder / RECORD_NAME, _MAX_RECORD_BYTES))
        return record if isinstance(record, dict) and isinstance(record.get("of"), dict) else None
    return None


def _frames(recorded: dict[str, Any]) -> dict[str, float]:
    """The times of the frames of a record by their names."""
    frames = recorded.get("frames")
    is_right = isinstance(frames, dict) and all(Path(name).name == name for name in frames)
    return dict(frames) if isinstance(frames, dict) and is_right else {}


def _has_all(folder: Path, recorded: dict[str, Any]) -> bool:
    frames = _frames(recorded)
    return len(frames) > 1 and all((folder / IMAGES_FOLDER / name).is_file() for name in frames)
