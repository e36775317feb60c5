"""What is measured of one reconstruction, and its form in JSON."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.reconstruction_job import JobResult
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.pose_errors import Evaluation
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.alignment import AlignedPoses

METHODS: dict[str, dict[str, dict[str, str]]] = {
    "ours": {},
    "ours-sparse": {"density": {"level": "sparse"}},
    "ours-mapped": {"density": {"level": "sparse"}, "refine": {"mode": "off"}},
    "ours-dense": {"refine": {"mode": "off"}},
    "colmap": {},
}
"""The methods: COLMAP's SIFT pipeline, and this library with these options."""

DEFAULT_METHODS = ("ours-sparse", "ours", "colmap")

AUC_THRESHOLDS_DEG = (1.0, 5.0, 10.0, 20.0)

_PACKAGES = ("sfm-lightglue", "pycolmap", "opencv-python-headless", "opencv-python", "numpy", "torch")


@dataclass(frozen=True, slots=True)
class PoseErrors:
    """Errors of the poses of the largest model, against the truth.

    Args:
        extent: largest distance between two true camera centres, in the unit of the world.
        is_metric: whether that unit is the metre.
        center_errors: by name, after a similarity alignment, in that unit; empty if the model cannot be aligned.
        rotation_errors_deg: by name.
        auc: of the errors of relative poses, for each of `AUC_THRESHOLDS_DEG`.
        not_aligned: reason why there are no errors of centres, else "".
    """

    extent: float
    is_metric: bool
    center_errors: Mapping[str, float]
    rotation_errors_deg: Mapping[str, float]
    auc: tuple[float, ...]
    not_aligned: str = ""

    @classmethod
    def from_evaluation(cls, evaluation: Evaluation, truth: SceneTruth) -> PoseErrors | None:
        """The errors of an evaluation; None for a scene without truth."""
        if not truth.names:
            return None
        accuracy, auc = evaluation.accuracy, evaluation.auc(AUC_THRESHOLDS_DEG)
        if not isinstance(accuracy, AlignedPoses):
            return cls(truth.extent, truth.is_metric, {}, {}, auc, accuracy.reason)
        errors = dict(accuracy.center_errors), dict(accuracy.rotation_errors_deg)
        return cls(truth.extent, truth.is_metric, *errors, auc)


@dataclass(frozen=True, slots=True)
class Measurement:
    """Measurements and errors of one reconstruction.

    Args:
        scene: its name.
        intrinsics: "given", "exif" or "found".
        method: one of `METHODS`.
        repeat: index of the repeated run.
        num_images: of the scene.
        result: measurements of the process.
        process_seconds: from the start to the end of the process, with imports.
        errors: against the truth; None for a scene without.
    """

    scene: str
    intrinsics: str
    method: str
    repeat: int
    num_images: int
    result: JobResult
    process_seconds: float
    errors: PoseErrors | None

    @property
    def group(self) -> tuple[str, str, str]:
        """Key of the runs that are repetitions of each other."""
        return self.scene, self.intrinsics, self.method

    @property
    def mean_center_error(self) -> float:
        """In the unit of the world; NaN without truth or alignment."""
        errors = list(self.errors.center_errors.values()) if self.errors else []
        return sum(errors) / len(errors) if errors else math.nan

    @property
    def center_error_mm(self) -> float:
        """The mean in millimetres; NaN if the unit of the world is not the metre."""
        return 1e3 * self.mean_center_error if self.errors and self.errors.is_metric else math.nan

    @property
    def relative_center_error(self) -> float:
        """The mean, relative to the extent."""
        return self.mean_center_error / self.errors.extent if self.errors and self.errors.extent > 0 else math.nan

    @property
    def max_center_error(self) -> float:
        """In the unit of the world; NaN without truth or alignment."""
        return max(self.errors.center_errors.values(), default=math.nan) if self.errors else math.nan

    @property
    def rotation_error_deg(self) -> float:
        """Median over the images; NaN without truth or alignment."""
        errors = sorted(self.errors.rotation_errors_deg.values()) if self.errors else []
        middle = len(errors) // 2
        return (errors[middle] + errors[-1 - middle]) / 2 if errors else math.nan

    def auc(self, threshold_deg: float) -> float:
        """Area under the curve of the errors of relative poses; NaN without truth."""
        return self.errors.auc[AUC_THRESHOLDS_DEG.index(threshold_deg)] if self.errors else math.nan


def as_json(measurements: Sequence[Measurement], num_threads: int, config: Mapping[str, Any]) -> dict[str, Any]:
    """All measurements with versions and machine as plain values for JSON."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "versions": versions,
        "machine": {"platform": platform.platform(), "num_cores": os.cpu_count(), "num_threads": num_threads},
        "config": dict(config),
        "runs": [asdict(replace(run, result=replace(run.result, model=""))) for run in measurements],
    }


def read_measurements(path: Path) -> list[Measurement]:
    """The measurements of a file that `as_json` describes.

    Raises:
        DataError: if the file cannot be read, or is not such a file.
    """
    try:
        return [_measurement(values) for values in json.loads(path.read_text(encoding="utf-8"))["runs"]]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a report of this benchmark ({error})") from error


def _measurement(values: Mapping[str, Any]) -> Measurement:
    errors = values["errors"]
    if errors is not None:
        errors = PoseErrors(**(errors | {"auc": tuple(errors["auc"])}))
    return Measurement(**(dict(values) | {"result": JobResult(**values["result"]), "errors": errors}))
