"""The keyframes of a tracked sequence by the offline methods: `reconstruct --pairs sequential`, and COLMAP."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.image_sequence import ImageSequence

METHODS = ("ours-sparse", "colmap")
"""Names of `benchmarks.reconstruction`: this library without densifying, and COLMAP's SIFT pipeline."""


@dataclass(frozen=True, slots=True)
class OfflineResult:
    """A method on the keyframes of one run.

    Args:
        sequence: its name.
        method: one of `METHODS`.
        num_keyframes: number of images.
        num_registered: of them in the largest model.
        ate: root mean square of the position errors after a similarity alignment; NaN without a model.
        slam_ate: that of the tracker on the same keyframes.
        seconds: of the method.
    """

    sequence: str
    method: str
    num_keyframes: int
    num_registered: int
    ate: float
    slam_ate: float
    seconds: float

    @property
    def ratio(self) -> float:
        """Error of the tracker relative to that of the method."""
        return self.slam_ate / self.ate if self.ate > 0 else math.nan


def centers_rmse(poses: Mapping[str, Rigid3], truth: Mapping[str, Rigid3]) -> float:
    """Root mean square of the errors of camera centres after a similarity alignment; NaN if there is none."""
    try:
        accuracy = align_poses(poses, truth)
    except ValueError:
        return math.nan
    return math.sqrt(float(np.mean(np.square(list(accuracy.center_errors.values())))))


def run_offline(
    sequence: ImageSequence,
    keyframes: Sequence[str],
    slam_ate: float,
    work: Path,
    num_threads: int,
    methods: Sequence[str] = METHODS,
) -> list[OfflineResult]:
    """Reconstruct the keyframes with the same intrinsics, each method in a process of its own.

    Args:
        sequence: whose images are files.
        keyframes: names of images.
        slam_ate: error of the tracker on them, for the ratio.
        work: an existing folder; a folder of links to the keyframes is made in it.
        num_threads: of each method.
        methods: some of `METHODS`.

    Raises:
        SfmError: if a process fails.
    """
    from benchmarks.reconstruction import measure
    from benchmarks.reconstruction_scenes import BenchmarkScene

    folder = linked_images(sequence, keyframes, work / sequence.name)
    poses = dict(zip(sequence.names, sequence.cam_from_world, strict=True))
    truth = SceneTruth(
        sequence.name,
        folder,
        {name: poses[name] for name in keyframes},
        dict.fromkeys(keyframes, sequence.camera),
        sequence.is_metric,
    )
    camera = sequence.camera.model, sequence.camera.params
    scene = BenchmarkScene(truth, "given", tuple(sorted(keyframes)), camera, "single")
    config = {"pairs": {"name": "sequential"}}
    runs = measure(scene, methods, 1, num_threads, config, colmap_pairs="exhaustive")
    return [
        OfflineResult(
            sequence.name,
            run.method,
            len(keyframes),
            run.result.num_registered,
            _rmse(run.errors.center_errors if run.errors else {}),
            slam_ate,
            run.result.seconds.get("total", math.nan),
        )
        for run in runs
    ]


def linked_images(sequence: ImageSequence, names: Sequence[str], folder: Path) -> Path:
    """A folder with links to some images of a sequence, and nothing else."""
    if sequence.folder is None:
        raise ValueError(f"{sequence.name}: the images are not in files")
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name in names:
        (folder / name).symlink_to((sequence.folder / name).resolve())
    return folder


def _rmse(errors: Mapping[str, float]) -> float:
    return math.sqrt(float(np.mean(np.square(list(errors.values()))))) if errors else math.nan
