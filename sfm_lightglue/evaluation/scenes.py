"""Reconstruct scenes with known cameras, and compute errors of the poses or of the trajectory."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ConfigError, DataError, ReconstructionError, WeightsError
from sfm_lightglue.evaluation.combinations import Candidates, Combination, LeftOut, require_any
from sfm_lightglue.evaluation.pose_errors import AUC_THRESHOLDS_DEG, Evaluation, evaluate_poses
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
from sfm_lightglue.weights.lookup import WeightsCacheError

Intrinsics = Literal["given", "exif"]
"""True intrinsics that are not refined, or intrinsics from EXIF data that are refined."""


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """Options of the reconstruction and of the errors.

    Args:
        intrinsics: "given" needs a single camera for all images; otherwise "exif" is used.
        pairs: name of the pair selector.
        num_threads: as in `ReconstructConfig`.
        seed: of all random numbers.
        trajectory: alignment of the trajectory; None if the images are not a sequence.
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
    """Errors of one combination on one scene.

    Args:
        scene: its name.
        combination: of the components.
        intrinsics: that were used.
        evaluation: errors of the poses.
        extent: of the true camera centres, in the unit of the world.
        is_metric: whether that unit is the metre.
        summary: of the run; None if there is no model.
        trajectory: errors of the trajectory, if they were requested and there are enough poses.
        error: reason why there is no model or no trajectory; else "".
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
    """Evaluate every combination on every scene; components without weights are left out and reported.

    Raises:
        DataError: if a scene has ground truth of fewer than two images, or images are missing.
        SfmError: if nothing was evaluated, with all reasons.
    """
    results, left_out = [], {one.what: one for one in candidates.left_out}
    for truth in truths:
        if len(truth.names) < 2:
            raise DataError(f"{truth.image_root}: an evaluation needs ground truth of at least two images")
        for combination in _combinations(candidates):
            what = f"{combination.extractor} + {combination.matcher}"
            if what in left_out:
                continue
            try:
                results.append(evaluate_scene(truth, combination, candidates, options, progress))
            except (WeightsError, WeightsCacheError, ConfigError) as error:
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
    """Reconstruct the images with ground truth in a temporary folder, and compute the errors.

    Raises:
        DataError: if an image is missing.
        WeightsError: if weights are missing or do not fit.
        ConfigError: if options do not fit together.
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
        images, output = Path(folder) / "images", Path(folder) / "output"
        _link_images(truth, images)
        try:
            result = reconstruct(images, output, config, progress)
        except ReconstructionError as error:
            evaluation = evaluate_poses({}, truth)
            return SceneResult(
                truth.name, combination, intrinsics, evaluation, truth.extent, truth.is_metric, None, error=str(error)
            )
        poses = poses_of_model(result.model)
        trajectory, error_text = _trajectory(poses, truth, options)
        return SceneResult(
            truth.name,
            combination,
            intrinsics,
            evaluate_poses(poses, truth),
            truth.extent,
            truth.is_metric,
            result.summary,
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
    """The true camera if all images have the same one, else cameras from EXIF data."""
    known = {(camera.model, camera.size, camera.params) for camera in truth.camera_from_name.values()}
    if intrinsics == "exif" or len(known) != 1:
        return CameraConfig(), "exif"
    ((model, _, params),) = known
    return CameraConfig(mode="single", model=model, params=params), "given"


def _link_images(truth: SceneTruth, folder: Path) -> None:
    """Make a folder with only the images that have ground truth; the scene may have others, as of a second camera."""
    for name in truth.names:
        source, target = (truth.image_root / name).resolve(), folder / name
        if not source.is_file():
            raise DataError(f"{truth.image_root / name}: the image is missing")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.symlink(source, target)
        except OSError:  # the file system has no links
            shutil.copyfile(source, target)


def _trajectory(
    poses: Mapping[str, Rigid3], truth: SceneTruth, options: SceneOptions
) -> tuple[TrajectoryErrors | None, str]:
    """Errors of the trajectory, whose order is that of the names; or the reason why there are none."""
    if options.trajectory is None:
        return None, ""
    reference = [truth.cam_from_world_from_name[name].inverse() for name in truth.names]
    estimate = [poses[name].inverse() if name in poses else None for name in truth.names]
    try:
        return trajectory_errors(reference, estimate, options.trajectory, options.step), ""
    except DataError as error:
        return None, str(error)
