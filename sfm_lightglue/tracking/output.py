"""The output folder of a tracked sequence: which folder it is, and how its files are replaced together."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfm_lightglue.colmap.model import TRACKING_FOLDER
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.model_files import PLY_NAME, pack_models
from sfm_lightglue.messages import shown_path
from sfm_lightglue.reconstruction.run_record import RecordedResults, recorded_versions
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.output_folder import RESULTS_MARKER, read_record
from sfm_lightglue.store.publication import (
    Publication,
    complete_publication,
    is_publication_pending,
    numbered_folders,
    publish_together,
    sole_publisher,
)
from sfm_lightglue.tracking.frame import FrameRecord
from sfm_lightglue.tracking.sources import is_camera_address
from sfm_lightglue.tracking.summary import TrackingSummary
from sfm_lightglue.tracking.trajectory_files import frame_values, frames_jsonl, kitti_text, tum_text

if TYPE_CHECKING:
    import pycolmap

JOB = "track"

FRAMES_NAME = "frames.jsonl"

KEYFRAMES_NAME = "keyframes.txt"

IMAGES_FOLDER = "images"
"""Images of the keyframes of a video, a camera or an iterator."""

_TUM, _KITTI = "trajectory_tum", "trajectory_kitti"

_TRAJECTORY = re.compile(rf"({_TUM}|{_KITTI})(_\d+)?\.txt")

_OURS = ("sparse", PLY_NAME, FRAMES_NAME, KEYFRAMES_NAME, IMAGES_FOLDER, RESULTS_MARKER)
"""Names that are written here beside the trajectories, and that a folder of something else may have too."""


@dataclass(frozen=True, eq=False, slots=True)
class TrackingResults:
    """What a run publishes.

    Args:
        records: of all frames.
        models: of the maps by their ids, the largest first.
        summary: of the run.
        config: of the run, as plain values.
        source: for the record: `path`, `fps`, `camera_params`.
        frame_folder: folder of the frames' files; None if they are no files.
        image_files: names of the images of keyframes in the work folder.
    """

    records: Sequence[FrameRecord]
    models: Mapping[int, pycolmap.Reconstruction]
    summary: TrackingSummary
    config: Mapping[str, Any]
    source: Mapping[str, Any]
    frame_folder: Path | None
    image_files: Sequence[str]


def choose_folder(source: object, output: Path | None, completes: bool = True) -> Path:
    """The stated folder; else `tracking` in a folder of frames, or `NAME_tracking` beside a video NAME.mp4.

    Args:
        source: of the frames.
        output: the stated folder.
        completes: complete the publication of a run that was killed; False changes nothing, and takes such a folder
            without a further check.

    Raises:
        ConfigError: if none is stated for a camera or an iterator, or the folder has the results of another job, or it
            is not stated and has those of another video.
        StoreError: if a run was killed while it published there, and the folder is not writable now.
    """
    folder = output if output is not None else _default_folder(source)
    shown = shown_path(folder)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"`output` {shown}: is a file; choose another folder")
    if folder.is_dir():
        if completes:
            complete_publication(folder)
        elif is_publication_pending(folder):
            return folder
        record = read_record(folder)
        if isinstance(record, dict) and record.get("job") == JOB:
            if output is None and Path(str(source)).is_file():
                _require_same_video(folder, record, Path(str(source)))
        else:
            names = sorted(path.name for path in folder.iterdir() if _TRAJECTORY.fullmatch(path.name))
            foreign = [name for name in (*_OURS, *names) if (folder / name).exists()]
            if foreign:
                raise ConfigError(
                    f"`output` {shown}: has files that are not of a tracked sequence ({foreign[0]}); choose another"
                    " folder"
                )
    return folder


def _require_same_video(folder: Path, record: Mapping[str, Any], video: Path) -> None:
    """Refuse the default folder of walk.avi if it has the results of walk.mp4."""
    source, shown = record.get("source"), shown_path(video.name)
    name = Path(str(source.get("path", shown) if isinstance(source, dict) else shown)).name
    if name[-100:] != shown[-100:]:  # the record leaves out the middle of a very long path
        raise ConfigError(
            f"`output` {shown_path(folder)}: has the results of {name}; name another folder for those of {shown}"
        )


def has_map(folder: Path) -> bool:
    """Whether a folder has the results of a tracked sequence with at least one map."""
    record = read_record(folder)
    summary = record.get("summary") if isinstance(record, dict) and record.get("job") == JOB else None
    return isinstance(summary, dict) and bool(summary.get("maps"))


def _default_folder(source: object) -> Path:
    if not isinstance(source, (str, Path)) or is_camera_address(source):
        raise ConfigError("`output`: name a folder for the results of a camera")
    path = Path(source)
    return path.with_name(f"{path.stem}_{TRACKING_FOLDER}") if path.is_file() else path / TRACKING_FOLDER


def publish(results: TrackingResults, output: Path, work: Path) -> None:
    """Replace models, trajectories, images and record in the output folder by those of a run, as one.

    Args:
        results: of the run.
        output: folder of the results.
        work: an existing folder for intermediate files in it, which has the images of keyframes in `images`.

    Raises:
        StoreError: if the output folder cannot be written.
    """
    with sole_publisher(output):
        publication = Publication(work / "results")
        earlier = RecordedResults.read(output).files
        names = {f"sparse/{number}": model for number, model in enumerate(results.models.values())}
        for name, content in pack_models(names, work).items():
            publication.write(name, content.tobytes())
        for name, text in _texts(results).items():
            publication.write(name, text)
        for name in results.image_files:
            publication.take(f"{IMAGES_FOLDER}/{name}", work / IMAGES_FOLDER / name)
        parts = sorted({_part_of(name) for name in publication.digests})
        former = {_part_of(name) for name in earlier} - {RESULTS_MARKER}
        former |= {path.relative_to(output).as_posix() for path in numbered_folders([output / "sparse"])}
        publication.removed += sorted(former - set(parts))
        publication.write(RESULTS_MARKER, _record(results, output, publication.digests))
        publish_together(publication, output, [*parts, RESULTS_MARKER])
        with store_errors(output):
            for name in set(earlier) - set(publication.digests):
                if name.startswith(f"{IMAGES_FOLDER}/"):  # a part keeps files that it does not know
                    (output / name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty, or not there
                (output / IMAGES_FOLDER).rmdir()


def _part_of(name: str) -> str:
    return name.rpartition("/")[0] or name


def _texts(results: TrackingResults) -> dict[str, bytes]:
    """The trajectories and the lines of the frames by the names of their files."""
    number_from_map = {map_id: number for number, map_id in enumerate(results.models)}
    texts = {FRAMES_NAME: frames_jsonl(frame_values(record, number_from_map) for record in results.records)}
    posed = [record for record in results.records if record.cam_from_world is not None]
    for map_id, number in number_from_map.items() or ((None, 0),):
        suffix = f"_{number}" if number else ""
        poses = [(record.time_s, record.cam_from_world) for record in posed if record.map_id == map_id]
        of_map = [(time_s, pose) for time_s, pose in poses if pose is not None]
        texts[f"{_TUM}{suffix}.txt"] = tum_text(of_map).encode()
        texts[f"{_KITTI}{suffix}.txt"] = kitti_text(pose for _, pose in of_map).encode()
    texts[KEYFRAMES_NAME] = tum_text(_keyframe_poses(results)).encode()
    return texts


def _keyframe_poses(results: TrackingResults) -> list[tuple[float, Rigid3]]:
    """Times and poses of the keyframes of the largest map."""
    if not results.models:
        return []
    time_from_name = {record.name: record.time_s for record in results.records}
    model = next(iter(results.models.values()))
    images = [model.images[image_id] for image_id in model.reg_image_ids()]
    poses = {image.name: Rigid3.from_matrix(image.cam_from_world().matrix()) for image in images}
    return sorted(((time_from_name[name], pose) for name, pose in poses.items()), key=lambda item: item[0])


def _record(results: TrackingResults, output: Path, digests: Mapping[str, str]) -> bytes:
    images = None if results.frame_folder is None else _relative(results.frame_folder, output)
    record = {
        "job": JOB,
        "config": dict(results.config),
        "versions": recorded_versions(),
        "source": dict(results.source),
        "images": IMAGES_FOLDER if results.image_files else images,
        "keys": {},
        "files": dict(sorted(digests.items())),
        "summary": results.summary.as_dict(),
    }
    return json_bytes(record, indent=2) + b"\n"


def _relative(path: Path, folder: Path) -> str:
    """A path as seen from a folder if possible: both can be moved together."""
    with contextlib.suppress(ValueError):  # another drive
        return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    return path.resolve().as_posix()
