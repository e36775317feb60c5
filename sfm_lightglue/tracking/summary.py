"""A tracked sequence in numbers."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm_lightglue.tracking.frame import FrameRecord, TrackingEvent
from sfm_lightglue.types import SkippedImage

if TYPE_CHECKING:
    import pycolmap

    from sfm_lightglue.tracking.precise_adjustment import LastAdjustment


@dataclass(frozen=True, slots=True)
class TrackingSummary:
    """A tracked sequence in numbers.

    Args:
        num_frames: number of frames that were tracked.
        num_posed: number of them with a pose in the largest map.
        num_skipped: number of frames that could not be read.
        skipped: their names, and the reasons.
        num_dropped: frames of a live source that came while the tracker was busy.
        is_interrupted: whether the user ended the sequence.
        states: number of frames by state.
        maps: path of the model below the output folder, counts and camera of each map, the largest first, and its
            `last_adjustment`: whether it `uses_patches` (`mapping.align_patches`), the `reason` if it does not, the
            `aligned_share` of its observations, and their `residual_ratio`, 1 or less where patches and poses fit.
        events: kind, number and name of the frame, and text of each event, in their order.
        rates: `tracker_fps` of the tracker alone, `total_fps` of everything, and the times of a frame in the tracker:
            `median_ms`, `p99_ms`, `max_ms`. These leave out the time for which frames waited until earlier keyframes
            were mapped; with it, 99 % of the frames take at most `p99_with_waits_ms`.
        seconds: by stage, and "total".
        peak_memory_mb: largest resident memory of the process, in MiB; None if the system does not report it.
    """

    num_frames: int
    num_posed: int
    num_skipped: int
    skipped: tuple[dict[str, str], ...]
    num_dropped: int
    is_interrupted: bool
    states: dict[str, int]
    maps: tuple[dict[str, Any], ...]
    events: tuple[dict[str, Any], ...]
    rates: dict[str, float]
    seconds: dict[str, float]
    peak_memory_mb: float | None

    @classmethod
    def from_run(
        cls,
        records: Sequence[FrameRecord],
        models: Mapping[int, pycolmap.Reconstruction],
        last_adjustments: Mapping[int, LastAdjustment],
        events: Sequence[TrackingEvent],
        skipped: Sequence[SkippedImage],
        num_dropped: int,
        is_interrupted: bool,
        seconds: Mapping[str, float],
        memory_mb: float | None,
    ) -> TrackingSummary:
        """The summary of a run.

        Args:
            records: of all frames.
            models: of the maps by their ids, the largest first.
            last_adjustments: of the maps by their ids.
            events: in their order.
            skipped: frames that could not be read.
            num_dropped: frames that came too fast.
            is_interrupted: whether the user ended the sequence.
            seconds: by stage, and "total".
            memory_mb: largest resident memory.
        """
        names = {record.frame_idx: record.name for record in records}
        posed = Counter(record.map_id for record in records if record.cam_from_world is not None)
        maps = tuple(
            {
                "path": f"sparse/{number}",
                "num_frames": posed[map_id],
                **_model_values(model),
                "last_adjustment": dataclasses.asdict(last_adjustments[map_id]),
            }
            for number, (map_id, model) in enumerate(models.items())
        )
        return cls(
            len(records),
            maps[0]["num_frames"] if maps else 0,
            len(skipped),
            tuple(dataclasses.asdict(frame) for frame in skipped),
            num_dropped,
            is_interrupted,
            dict(sorted(Counter(record.state for record in records).items())),
            maps,
            tuple(dataclasses.asdict(event) | {"name": names.get(event.frame_idx)} for event in events),
            _rates(records, seconds),
            {stage: round(value, 3) for stage, value in seconds.items()},
            memory_mb,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        if not self.maps:
            return f"no pose in {self.num_frames} frames, {self.seconds['total']:.1f} s"
        best, others = self.maps[0], len(self.maps) - 1
        smaller = f" (and {others} smaller map{'s' * (others > 1)})" if others else ""
        loops = sum(event["kind"] in {"loop_closed", "maps_merged"} for event in self.events)
        dropped = f", {self.num_dropped} dropped" if self.num_dropped else ""
        return (
            f"{self.num_posed} of {self.num_frames} frames with a pose{smaller}{dropped}, {best['num_keyframes']}"
            f" keyframes, {best['num_points']} points, {loops} loop{'s' * (loops != 1)} closed,"
            f" {self.rates['tracker_fps']:.1f} frames a second ({self.rates['total_fps']:.1f} with everything)"
        )


def _model_values(model: pycolmap.Reconstruction) -> dict[str, Any]:
    camera = model.cameras[min(model.cameras)]
    return {
        "num_keyframes": model.num_reg_images(),
        "num_points": model.num_points3D(),
        "mean_track_length": round(float(model.compute_mean_track_length()), 3),
        "mean_reprojection_error_px": round(float(model.compute_mean_reprojection_error()), 4),
        "camera": {
            "model": camera.model_name,
            "width": camera.width,
            "height": camera.height,
            "params": [float(value) for value in camera.params],
        },
    }


def _rates(records: Sequence[FrameRecord], seconds: Mapping[str, float]) -> dict[str, float]:
    times_ms = np.array([record.tracking_ms for record in records] or [0.0])
    with_waits_ms = times_ms + np.array([record.waiting_ms for record in records] or [0.0])
    in_tracker_s, total_s = max(times_ms.sum() / 1000, 1e-9), max(seconds["total"], 1e-9)
    rates = {
        "tracker_fps": len(records) / in_tracker_s,
        "total_fps": len(records) / total_s,
        "median_ms": np.median(times_ms),
        "p99_ms": np.percentile(times_ms, 99),
        "max_ms": times_ms.max(),
        "p99_with_waits_ms": np.percentile(with_waits_ms, 99),
    }
    return {name: round(float(value), 2) for name, value in rates.items()}
