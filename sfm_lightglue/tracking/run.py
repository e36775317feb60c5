"""The job of visual SLAM: a sequence of frames -> trajectory and map in an output folder."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pycolmap

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.errors import DataError, ReconstructionError
from sfm_lightglue.execution.memory import peak_memory_mb
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.messages import shown_path
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.run_log import RunLog, run_log
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.store.output_folder import work_folder
from sfm_lightglue.store.store import Store
from sfm_lightglue.tracking.config import TrackerConfig
from sfm_lightglue.tracking.frame import Frame, FrameRecord, TrackingEvent
from sfm_lightglue.tracking.frame_store import StoredFeatures, StoredMatches, file_in_folder
from sfm_lightglue.tracking.keyframe_images import KeyframeImages, as_jpeg
from sfm_lightglue.tracking.output import IMAGES_FOLDER, TrackingResults, choose_folder, has_map, publish
from sfm_lightglue.tracking.sources import FrameSource, open_source
from sfm_lightglue.tracking.summary import TrackingSummary
from sfm_lightglue.tracking.tracker import Tracker
from sfm_lightglue.tracking.warm_up import warm_up
from sfm_lightglue.types import Camera

logger = logging.getLogger(__name__)

STAGES = ("track", "finish", "write")

FrameCallback = Callable[[Tracker, Frame, FrameRecord], object]
"""Called with the tracker, a frame and what was found for it, after each frame."""

_NUM_AHEAD = 4
"""Frames that are decoded while the tracker is busy."""


@dataclass(frozen=True, eq=False, slots=True)
class TrackedSource:
    """A tracked sequence.

    Args:
        output: folder of the results; the model of the largest map is in its folder `sparse/0`.
        summary: counts, events, rates and times.
    """

    output: Path
    summary: TrackingSummary


def track(
    source: Path | str | Iterable[tuple[UInt8Array, float]],
    output: Path | str | None = None,
    config: TrackerConfig | None = None,
    *,
    fps: float | None = None,
    camera_params: tuple[float, ...] = (),
    progress: Progress = silent,
    on_frame: FrameCallback | None = None,
    is_to_end: Callable[[], bool] = lambda: False,
) -> TrackedSource:
    """Track a sequence, and write trajectories and the models of its keyframes into an output folder.

    Args:
        source: a folder of frames, a video file, the address of a camera ("0", "rtsp://..."), or an iterator of
            pairs (image, time in seconds).
        output: folder of the results; None is `tracking` in a folder of frames, or `NAME_tracking` beside a video.
        config: options of the tracker.
        fps: frames a second in place of the times of the source.
        camera_params: known intrinsics of `config.camera_model`; () if they are not known.
        progress: called as the sequence advances.
        on_frame: called after each frame.
        is_to_end: asked before each frame; True ends the sequence there, and what was tracked is written. That is the
            usual end of a camera, and an interruption of another source.

    Raises:
        DataError: if there is no frame, or the source fails; what was tracked before is written.
        ConfigError: if an option cannot be used, or the output folder has other results.
        WeightsError: if the weights of a network are missing.
        ReconstructionError: if nothing could be tracked; the lines of the frames are written, unless the folder has
            results of an earlier run with a map.
        StoreError: if the output folder cannot be written.
    """
    config = config or TrackerConfig()
    folder = choose_folder(source, None if output is None else Path(output))
    with contextlib.closing(open_source(source, fps)) as frames, run_log("track", progress) as log:
        cameras = CameraConfig(model=config.camera_model, params=camera_params)
        run = _Run(frames, cameras, config, folder, log, on_frame, is_to_end)
        recorded = {"path": frames.name, "fps": fps, "camera_params": list(camera_params)}
        summary = run.results(recorded)
        kept = "" if summary.maps or not has_map(folder) else f"the earlier results in {shown_path(folder)} are kept"
        if not summary.maps and not summary.is_interrupted:
            raise ReconstructionError(
                "; ".join(filter(None, (_why_no_map(frames.name, summary), kept))), summary.as_dict()
            )
        if kept:
            logger.warning("no map was started; %s", kept)
        log.end("interrupted" if summary.is_interrupted else "done", str(summary))
    return TrackedSource(folder, summary)


class _Parts(NamedTuple):
    """Of the tracker."""

    camera: Camera | None
    extractor: Extractor
    matcher: Matcher


@dataclass(frozen=True, eq=False, slots=True)
class _Run:
    source: FrameSource
    cameras: CameraConfig
    config: TrackerConfig
    folder: Path
    log: RunLog
    on_frame: FrameCallback | None
    is_to_end: Callable[[], bool]

    def results(self, recorded: dict[str, Any]) -> TrackingSummary:
        """Track the sequence and publish what was found, also if the source fails after some frames.

        A run without a map does not replace the results of one that had a map.
        """
        clock = Clock.for_stages(STAGES)
        self.source.is_to_end = self.is_to_end
        extractor = EXTRACTORS.build(self.config.extractor, self.config.device)
        matcher = MATCHERS.build(self.config.matcher, self.config.device)
        if self.source.is_live:
            warm_up(extractor, matcher)  # before its frames come
        frames = iter(ahead(self.source, 1 if self.source.is_live else self.config.threads))
        first = next(frames)
        parts = _Parts(self.source.camera(first.size, self.cameras), extractor, matcher)
        with store_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.log.open(self.folder)
        with Store(self.folder) as store, self._tracker(parts, store) as tracker, work_folder(self.folder) as work:
            images = KeyframeImages(work / IMAGES_FOLDER, self.source)
            with clock.stage("track"):
                records, is_interrupted, error = self._track(tracker, first, frames, images)
            skipped = tuple(self.source.skipped)  # images of keyframes may be read from the source again
            self.source.warn_of_skipped()
            with clock.stage("finish"):
                models, records = _finished(tracker, records)
            if error is not None and not models:
                raise error
            with clock.stage("write"):
                names = {image.name for model in models.values() for image in model.images.values()}
                written = images.finish(names)
            events = [*tracker.events, *_dropped(self.source, records)]
            dropped = self.source.num_dropped
            adjustments, seconds = tracker.last_adjustments, clock.total()
            summary = TrackingSummary.from_run(
                records, models, adjustments, events, skipped, dropped, is_interrupted, seconds, peak_memory_mb()
            )
            results = TrackingResults(
                records, models, summary, self.config.as_mapping(), recorded, self.source.images, written
            )
            if models or not has_map(self.folder):
                publish(results, self.folder, work)
        if error is not None:
            logger.warning(
                "the frames before an error were tracked (%s); results: %s", summary, shown_path(self.folder)
            )
            raise error
        return summary

    def _tracker(self, parts: _Parts, store: Store) -> Tracker:
        """A tracker that keeps features and matches of keyframes in the store."""
        file_of = as_jpeg if self.source.images is None else file_in_folder(self.source.images)
        extractor = StoredFeatures(parts.extractor, store, file_of)
        matcher = StoredMatches(parts.matcher, store)
        config = patient(self.config, self.source.is_live)
        return Tracker(parts.camera, config, extractor=extractor, matcher=matcher)

    def _track(
        self, tracker: Tracker, first: Frame, others: Iterator[Frame], images: KeyframeImages
    ) -> tuple[list[FrameRecord], bool, Exception | None]:
        """What was found for each frame, whether the user ended the sequence, and the error of the source if any."""
        records: list[FrameRecord] = []
        frame: Frame | None = first
        while frame is not None:
            if self.is_to_end():
                return records, not self.source.is_live, None
            record = tracker.track(frame.image, frame.time_s, frame.name)
            records.append(record)
            images.add(frame, tracker.slam_map, tracker.start_name)
            if self.on_frame is not None:
                self.on_frame(tracker, frame, record)
            self.log.progress("track", len(records), self.source.num_frames or 0)
            try:
                frame = next(others, None)
            except Exception as error:
                return records, False, error
        return records, False, None


def patient(config: TrackerConfig, is_live: bool) -> TrackerConfig:
    """The options with the longest wait that fits a source: a camera goes on while the tracker waits."""
    if not is_live:
        return config
    keyframes = config.keyframes
    limit_s = min(keyframes.max_lag_s, keyframes.max_camera_lag_s)
    return replace(config, keyframes=replace(keyframes, max_lag_s=limit_s))


def _finished(
    tracker: Tracker, records: list[FrameRecord]
) -> tuple[dict[int, pycolmap.Reconstruction], list[FrameRecord]]:
    """The models by the ids of their maps, the largest first, and the final records; no model if there is no map."""
    has_map = bool(records) and bool(tracker.slam_map.keyframes)
    try:
        tracker.finish()
    except DataError:
        if has_map:
            raise
        return {}, list(tracker.records) or records
    by_size = sorted(tracker.reconstructions.items(), key=lambda item: (-item[1].num_reg_images(), item[0]))
    return dict(by_size), list(tracker.records)


def _dropped(source: FrameSource, records: list[FrameRecord]) -> list[TrackingEvent]:
    if source.num_dropped == 0:
        return []
    last = records[-1].frame_idx if records else 0
    return [TrackingEvent("frames_dropped", last, f"{source.num_dropped} frames came while the tracker was busy")]


def _why_no_map(name: str, summary: TrackingSummary) -> str:
    return (
        f"{name}: no map could be started from {summary.num_frames} frames: the camera has to move sideways before a"
        " scene with texture; give known intrinsics by `cameras.params`, more or sharper frames, or a lower"
        " `initialization.min_parallax_deg`"
    )


def ahead(frames: Iterable[Frame], num_threads: int) -> Iterator[Frame]:
    """Frames that another thread decodes ahead, a few at most; with one thread, they are decoded when asked for."""
    if num_threads == 1:
        yield from frames
        return
    waiting: queue.Queue[Frame | BaseException | None] = queue.Queue(_NUM_AHEAD)
    is_over = threading.Event()

    def put(item: Frame | BaseException | None) -> None:
        while not is_over.is_set():
            with contextlib.suppress(queue.Full):
                waiting.put(item, timeout=0.2)
                return

    def read() -> None:
        try:
            for frame in frames:
                put(frame)
                if is_over.is_set():
                    return
            put(None)
        except BaseException as error:  # raised again where the frames are used
            put(error)

    threading.Thread(target=read, daemon=True, name="frames").start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        is_over.set()
