"""Visual SLAM on sequences with true poses: errors, frames that were tracked, rates, memory."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.live_frames import LiveFrames
from sfm_lightglue.evaluation.trajectory_errors import rmse, trajectory_errors
from sfm_lightglue.execution.memory import peak_memory_mb
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.transforms import direction_angles_deg
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.tracking.frame import Frame, FrameRecord, TrackingEvent
from sfm_lightglue.tracking.run import ahead
from sfm_lightglue.tracking.tracker import Tracker

if TYPE_CHECKING:
    import pycolmap

RPE_S = 1.0
"""Time between the two poses of a relative pose error."""


@dataclass(frozen=True, slots=True)
class SlamScores:
    """What one run over a sequence reached. Numbers that do not exist are NaN.

    Args:
        sequence: its name.
        num_frames: of the sequence.
        path_length: of the true way of the camera, in the unit of the world.
        is_metric: whether that unit is known to be the metre.
        seed: of the run; -1 for medians of several.
        initialized_frame: the frame at which the largest map began.
        parallax_frame: the first frame from which half of the points of the map are seen in a direction that differs
            by 2 degrees or more from that of its first frame.
        num_maps: number of maps.
        num_keyframes: of the largest map.
        num_posed: frames with a pose in the largest map.
        tracked: fraction of the frames since `initialized_frame` that have a pose in the largest map.
        ate: root mean square of the errors of the positions of those frames after a similarity alignment, in the unit
            of the world. One camera does not determine the scale, so that there is no error after a rigid alignment.
        rpe: root mean square of the errors of the relative translations over a second.
        rpe_deg: that of the relative rotations.
        loop_error: error of the relative position of the two frames that are farthest apart in time of those at
            nearly the same place, in the unit of the world; NaN if the camera does not come back.
        tracker_fps: frames a second of the tracker alone.
        total_fps: frames a second of everything: images, tracker, and the end with its adjustment.
        median_ms: median time of a frame in the tracker.
        p99_ms: 99 % of the frames take at most so long.
        max_ms: longest time of a frame after the map began.
        p99_with_waits_ms: as `p99_ms`, with the time for which frames waited until earlier keyframes were mapped; the
            other times and `tracker_fps` leave it out.
        peak_memory_mb: largest resident memory of the process so far, in MiB.
        num_dropped: frames of a live sequence that came while the tracker was busy; `num_frames` leaves them out.
        events: number of events by kind.
        error: why there is no map, else "".
    """

    sequence: str
    num_frames: int
    path_length: float
    is_metric: bool
    seed: int
    initialized_frame: float = math.nan
    parallax_frame: float = math.nan
    num_maps: float = 0.0
    num_keyframes: float = 0.0
    num_posed: float = 0.0
    tracked: float = 0.0
    ate: float = math.nan
    rpe: float = math.nan
    rpe_deg: float = math.nan
    loop_error: float = math.nan
    tracker_fps: float = math.nan
    total_fps: float = math.nan
    median_ms: float = math.nan
    p99_ms: float = math.nan
    max_ms: float = math.nan
    p99_with_waits_ms: float = math.nan
    peak_memory_mb: float = math.nan
    num_dropped: float = 0.0
    events: tuple[tuple[str, int], ...] = ()
    error: str = ""

    @property
    def relative_ate(self) -> float:
        """The ATE relative to the length of the way."""
        return self.ate / self.path_length if self.path_length > 0 else math.nan

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; None for numbers that do not exist."""
        values = {one.name: getattr(self, one.name) for one in fields(self)} | {"events": dict(self.events)}
        values["relative_ate"] = self.relative_ate
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()}


@dataclass(frozen=True, eq=False, slots=True)
class SlamRun:
    """One run over a sequence.

    Args:
        scores: what it reached.
        live: what was found for each frame when it came.
        records: final ones of all frames.
        events: in their order.
        keyframes: names of those of the largest map.
    """

    scores: SlamScores
    live: tuple[FrameRecord, ...]
    records: tuple[FrameRecord, ...]
    events: tuple[TrackingEvent, ...]
    keyframes: tuple[str, ...] = ()


def run_slam(
    sequence: ImageSequence,
    tracker: Tracker,
    seed: int = 0,
    num_threads: int = 2,
    progress: Progress = silent,
    is_live: bool = False,
) -> SlamRun:
    """Track a sequence and compare with the truth.

    Args:
        sequence: the frames; images that are rendered one by one slow everything down, see
            `synthetic.files.stored_sequence`.
        tracker: without any frame so far.
        seed: of the tracker, for the table.
        num_threads: more than 1 read images ahead in a thread.
        progress: called after every frame, with stage "track".
        is_live: frames come at their times, and those that come while the tracker is busy are dropped; the scores are
            those of the others.
    """
    of_camera = LiveFrames(sequence) if is_live else None
    frames = of_camera or ahead(_frames_of(sequence), num_threads)
    start = time.perf_counter()
    live = []
    error, model = "", None
    with tracker:
        for frame in frames:
            live.append(tracker.track(frame.image, frame.time_s, frame.name))
            progress("track", len(live), len(sequence))
        try:
            model = tracker.finish().reconstruction
        except DataError as failure:
            error = str(failure)
    seconds = time.perf_counter() - start
    memory = peak_memory_mb()
    num_dropped = len(sequence) - len(live)
    scores = replace(
        scores_of(sequence if of_camera is None else sequence.take(of_camera.taken), tracker.records, tracker.events),
        seed=seed,
        num_keyframes=0 if model is None else model.num_reg_images(),
        parallax_frame=math.nan if model is None else first_frame_with_parallax(tracker.records, model),
        total_fps=len(live) / seconds,
        peak_memory_mb=math.nan if memory is None else memory,
        num_dropped=num_dropped,
        error=error,
    )
    keyframes = () if model is None else tuple(sorted(image.name for image in model.images.values()))
    return SlamRun(scores, tuple(live), tracker.records, tracker.events, keyframes)


def _frames_of(sequence: ImageSequence) -> Iterator[Frame]:
    named = zip(sequence.names, sequence.times_s, sequence.images(), strict=True)
    return (Frame(idx, name, float(time_s), image) for idx, (name, time_s, image) in enumerate(named))


def scores_of(
    sequence: ImageSequence, records: Sequence[FrameRecord], events: Sequence[TrackingEvent] = ()
) -> SlamScores:
    """Errors, frames that were tracked, and times, of the final records of all frames of a sequence."""
    scores = SlamScores(sequence.name, len(sequence), sequence.path_length, sequence.is_metric, 0)
    scores = replace(scores, events=tuple(sorted(Counter(event.kind for event in events).items())))
    if not records:
        return scores
    times_ms = np.array([record.tracking_ms for record in records])
    scores = replace(
        scores,
        tracker_fps=1000 * len(records) / max(float(times_ms.sum()), 1e-9),
        median_ms=float(np.median(times_ms)),
        p99_ms=float(np.percentile(times_ms, 99)),
        p99_with_waits_ms=float(np.percentile(times_ms + [record.waiting_ms for record in records], 99)),
    )
    posed = Counter(record.map_id for record in records if record.cam_from_world is not None)
    if not posed:
        return scores
    largest, num_posed = posed.most_common(1)[0]
    first = _start_of(largest, records, events)
    since = [record for record in records if record.frame_idx >= first]
    scores = replace(
        scores,
        initialized_frame=first,
        num_maps=len(posed),
        num_posed=num_posed,
        tracked=sum(record.map_id == largest for record in since) / len(since),
        max_ms=max(record.tracking_ms for record in since[1:] or since),
    )
    return _with_errors(scores, sequence, [r.cam_from_world if r.map_id == largest else None for r in records])


def _start_of(map_id: int | None, records: Sequence[FrameRecord], events: Sequence[TrackingEvent]) -> int:
    """The frame at which a map began.

    Frames before it get their poses afterwards, so that the events tell; a map that began as the second one has the
    event "map_started".
    """
    first_posed = next(record.frame_idx for record in records if record.map_id == map_id)
    starts = [event.frame_idx for event in events if event.kind in {"initialized", "reinitialized", "map_started"}]
    known = [start for start in starts if start >= first_posed]
    return min(known, default=first_posed)


def _with_errors(scores: SlamScores, sequence: ImageSequence, poses: Sequence[Any]) -> SlamScores:
    reference = [pose.inverse() for pose in sequence.cam_from_world]
    estimate = [None if pose is None else pose.inverse() for pose in poses]
    step = max(1, min(round(RPE_S / sequence.interval_s), len(sequence) // 4))
    try:
        errors = trajectory_errors(reference, estimate, "sim3", step)
    except DataError:
        return scores
    scale = errors.reference_from_estimate.scale
    has_steps = len(errors.step_errors) > 0
    loop_error = math.nan
    ends = loop_ends([idx for idx, pose in enumerate(poses) if pose is not None], sequence)
    if ends is not None:
        early, late = (poses[end] for end in ends)
        true = sequence.cam_from_world[ends[0]] @ sequence.cam_from_world[ends[1]].inverse()
        relative = early @ late.inverse()
        loop_error = float(np.linalg.norm(scale * relative.t - true.t))
    return replace(
        scores,
        ate=rmse(errors.position_errors),
        rpe=rmse(errors.step_errors) if has_steps else math.nan,
        rpe_deg=rmse(errors.step_errors_deg) if has_steps else math.nan,
        loop_error=loop_error,
    )


def loop_ends(frames: Sequence[int], sequence: ImageSequence) -> tuple[int, int] | None:
    """Two frames at nearly the same place, between which the camera was far away; None if there are none.

    Args:
        frames: indices of those that may be taken, in their order.
        sequence: with true poses.

    Returns:
        The last frame at which the camera was back, and the early frame that is nearest to it.
    """
    centers = sequence.centers
    extent = float(np.linalg.norm(centers - centers.mean(0), axis=1).max())
    for late in reversed(frames):
        distances: Float64Array = np.linalg.norm(centers - centers[late], axis=1)
        early = [idx for idx in frames if idx < late and distances[idx] < 0.05 * extent]
        early = [idx for idx in early if distances[idx:late].max() > 0.8 * extent]
        if early:
            return min(early, key=lambda idx: distances[idx]), late
    return None


def first_frame_with_parallax(
    records: Sequence[FrameRecord], model: pycolmap.Reconstruction, parallax_deg: float = 2.0
) -> float:
    """Index of the frame from which the points of the first keyframe are seen from another direction; NaN if none is.

    Args:
        records: final ones of all frames.
        model: of the keyframes of the largest map.
        parallax_deg: median angle to the directions from the first frame with a pose.
    """
    keyframes = {image.name: image for image in model.images.values()}
    map_id = next((record.map_id for record in records if record.name in keyframes), None)
    posed = [record for record in records if record.cam_from_world is not None and record.map_id == map_id]
    if not posed:
        return math.nan
    first = next(keyframes[record.name] for record in posed if record.name in keyframes)
    ids = [point.point3D_id for point in first.points2D if point.has_point3D()]
    xyz = np.array([model.points3D[idx].xyz for idx in ids]).reshape(-1, 3)
    centers = [record.cam_from_world.center for record in posed if record.cam_from_world is not None]
    for record, center in zip(posed, centers, strict=True):
        if len(xyz) > 0 and np.median(direction_angles_deg(xyz - centers[0], xyz - center)) >= parallax_deg:
            return record.frame_idx
    return math.nan


def frames_until_found(records: Sequence[FrameRecord], first: int, map_id: int | None) -> int | None:
    """Number of frames from index `first` until one has a pose in the map, 0 if `first` has; None if none has."""
    found = (record.frame_idx for record in records if record.frame_idx >= first and record.cam_from_world is not None)
    in_map = {record.frame_idx for record in records if record.map_id == map_id}
    return next((idx - first for idx in found if idx in in_map), None)


def medians(runs: Sequence[SlamScores]) -> SlamScores:
    """The median of each number over runs with different seeds; a number that a run lacks is the worst.

    Events are those of the run with the median ATE, and all errors are listed.
    """
    if len(runs) == 1:
        return runs[0]
    ordered = sorted(runs, key=lambda one: (math.isnan(one.ate), one.ate))
    values: dict[str, Any] = {}
    for name in _NUMBERS:
        # NaN is the largest number, as it is the largest error.
        numbers = sorted((getattr(run, name) for run in runs), key=lambda one: (math.isnan(one), one))
        values[name] = numbers[len(numbers) // 2]
    errors = sorted({run.error for run in runs if run.error})
    return replace(ordered[len(ordered) // 2], **values, seed=-1, error="; ".join(errors))


_NUMBERS = tuple(one.name for one in fields(SlamScores) if one.type == "float" and one.name != "path_length")
