"""Reconstruct a scene with known cameras, and compare: with all poses, or as a trajectory over time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError, DataError, ReconstructionError, WeightsError
from sfm_lightglue.evaluation.combinations import Candidates, Combination, LeftOut, require_any
from sfm_lightglue.evaluation.pose_errors import AUC_THRESHOLDS_DEG, Evaluation, evaluate_model, evaluate_poses
from sfm_lightglue.evaluation.trajectory_errors import Alignment, TrajectoryErrors, trajectory_errors
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.geometry.alignment import AlignedPoses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.reconstruction.run_record import Summary
from sfm_lightglue.registry.builtin import PAIR_SELECTORS
from sfm_lightglue.scene.camera_assignment import CameraConfig

Intrinsics = Literal["given", "exif"]
"""Known cameras that are not refined, or what the photos tell, refined."""


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """How scenes are reconstructed.

    Args:
        intrinsics: what is told of the cameras; "given" needs one camera for all photos, else "exif" is taken.
        pairs: name of the pair selector.
        num_threads: as in `ReconstructConfig`.
        seed: of everything random.
        trajectory: how a trajectory is aligned; None where the photos are in no order.
        step: frames between the poses of a relative error.
    """

    intrinsics: Intrinsics = "given"
    pairs: str = "exhaustive"
    num_threads: int = 0
    seed: int = 0
    trajectory: Alignment | None = None
    step: int = 1


@dataclass(frozen=True, slots=True)
class SceneResult:
    """One combination on one scene.

    Args:
        scene: its name.
        combination: what reconstructed it.
        intrinsics: "given" or "exif": what was told of the cameras.
        evaluation: against the truth.
        extent: of the true camera centres, in the unit of the world.
        is_metric: whether that is the metre.
        summary: of the run; None where there is no model.
        trajectory: errors over time, where they were asked for and there are enough poses.
        error: why there is no model, or no trajectory; else "".
    """

    scene: str
    combination: Combination
    intrinsics: Intrinsics
    evaluation: Evaluation
    extent: float
    is_metric: bool
    summary: Summary | None
    trajectory: TrajectoryErrors | None = None
    error: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        accuracy, summary = self.evaluation.accuracy, self.summary
        errors: dict[str, Any] = {"not_aligned": "" if isinstance(accuracy, AlignedPoses) else accuracy.reason}
        if isinstance(accuracy, AlignedPoses):
            errors |= {
                "center_error_mean": accuracy.mean_center_error,
                "center_error_median": accuracy.median_center_error,
                "center_error_max": accuracy.max_center_error,
                "rotation_error_median_deg": accuracy.median_rotation_error_deg,
                "rotation_error_max_deg": accuracy.max_rotation_error_deg,
            }
        aucs = zip(AUC_THRESHOLDS_DEG, self.evaluation.auc(), strict=True)
        return {
            "scene": self.scene,
            "extractor": self.combination.extractor,
            "matcher": self.combination.matcher,
            "estimator": self.combination.estimator,
            "intrinsics": self.intrinsics,
            "num_images": self.evaluation.num_images,
            "num_registered": self.evaluation.num_registered,
            "extent": self.extent,
            "is_metric": self.is_metric,
            **errors,
            "auc_from_threshold_deg": {f"{threshold:g}": auc for threshold, auc in aucs},
            "num_points": summary.num_points if summary else 0,
            "mean_reprojection_error_px": summary.mean_reprojection_error_px if summary else None,
            "seconds": summary.seconds if summary else {},
            "trajectory": self.trajectory.as_dict() if self.trajectory else None,
            "error": self.error,
        }


def evaluate_scenes(
    truths: Sequence[SceneTruth], candidates: Candidates, options: SceneOptions, progress: Progress = silent
) -> tuple[tuple[SceneResult, ...], tuple[LeftOut, ...]]:
    """Every combination on every scene; what has no weights is named and left out.

    Raises:
        DataError: where a scene has no truth of at least two images, or photos are missing.
        SfmError: where nothing is left, with all the reasons.
    """
    results, left_out = [], {one.what: one for one in candidates.left_out}
    for truth in truths:
        if len(truth.names) < 2:
            raise DataError(f"{truth.image_root}: no ground truth of at least two images here")
        for combination in _combinations(candidates):
            what = f"{combination.extractor} + {combination.matcher}"
            if what in left_out:
                continue
            try:
                results.append(evaluate_scene(truth, combination, candidates, options, progress))
            except (WeightsError, ConfigError) as error:
                left_out[what] = LeftOut(what, error)
    require_any(len(results), list(left_out.values()))
    return tuple(results), tuple(left_out.values())


def evaluate_scene(
    truth: SceneTruth,
    combination: Combination,
    candidates: Candidates,
    options: SceneOptions,
    progress: Progress = silent,
) -> SceneResult:
    """Reconstruct the photos with truth in a folder of their own, from scratch, and compare.

    Raises:
        DataError: where a photo is missing.
        WeightsError: where weights are missing or do not fit.
        ConfigError: where options do not fit together.
    """
    cameras, intrinsics = _cameras(truth, options.intrinsics)
    config = ReconstructConfig(
        extractor=candidates.extractors[combination.extractor],
        matcher=candidates.matchers[combination.matcher],
        pairs=PAIR_SELECTORS.choose(options.pairs),
        cameras=cameras,
        two_view=candidates.estimators[combination.estimator],
        seed=options.seed,
        num_threads=options.num_threads,
        device=candidates.device,
    )
    with tempfile.TemporaryDirectory(prefix="sfm_evaluation_") as folder:
        photos, output = Path(folder) / "photos", Path(folder) / "output"
        _lay_out(truth, photos)
        try:
            summary = reconstruct(photos, output, config, progress).summary
        except ReconstructionError as error:
            evaluation = evaluate_poses({}, truth)
            return SceneResult(
                truth.name, combination, intrinsics, evaluation, truth.extent, truth.is_metric, None, error=str(error)
            )
        model = read_model(output / "sparse" / "0")
        trajectory, error_text = _trajectory(poses_of_model(model), truth, options)
        return SceneResult(
            truth.name,
            combination,
            intrinsics,
            evaluate_model(model, truth),
            truth.extent,
            truth.is_metric,
            summary,
            trajectory,
            error_text,
        )


def _combinations(candidates: Candidates) -> list[Combination]:
    return [
        Combination(extractor, matcher, estimator)
        for extractor in candidates.extractors
        for matcher in candidates.matchers
        for estimator in candidates.estimators
    ]


def _cameras(truth: SceneTruth, intrinsics: Intrinsics) -> tuple[CameraConfig, Intrinsics]:
    """The one known camera of all photos; photos of several cameras tell theirs themselves."""
    known = {(camera.model, camera.size, camera.params) for camera in truth.camera_from_name.values()}
    if intrinsics == "exif" or len(known) != 1:
        return CameraConfig(), "exif"
    ((model, _, params),) = known
    return CameraConfig(mode="single", model=model, params=params), "given"


def _lay_out(truth: SceneTruth, folder: Path) -> None:
    """A folder of exactly the photos with truth: beside them may lie others, such as those of a second camera."""
    for name in truth.names:
        source, target = (truth.image_root / name).resolve(), folder / name
        if not source.is_file():
            raise DataError(f"{truth.image_root / name}: the photo is missing")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink(source, target)
        except OSError:  # a system without links
            shutil.copyfile(source, target)


def _trajectory(
    poses: Mapping[str, Rigid3], truth: SceneTruth, options: SceneOptions
) -> tuple[TrajectoryErrors | None, str]:
    """Errors over the names in order, which is that of time; or why there are none."""
    if options.trajectory is None:
        return None, ""
    reference = [truth.cam_from_world_from_name[name].inverse() for name in truth.names]
    estimate = [poses[name].inverse() if name in poses else None for name in truth.names]
    try:
        return trajectory_errors(reference, estimate, options.trajectory, options.step), ""
    except DataError as error:
        return None, str(error)
