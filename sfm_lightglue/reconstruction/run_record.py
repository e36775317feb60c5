"""The record of a run: a summary in numbers, one line of text, and `run.json` beside the results."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from sfm_lightglue.kernels.library import compiled
from sfm_lightglue.mapping.cached_models import MapStatistics, ModelStatistics
from sfm_lightglue.mapping.verdict import is_uncertain
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.image_status import skipped_verdicts
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.output_folder import read_record
from sfm_lightglue.store.store import CacheCounts
from sfm_lightglue.types import SkippedImage
from sfm_lightglue.version import __version__

_RECORDED_PACKAGES = (
    "numpy",
    "opencv-python-headless",
    "opencv-python",
    "pillow",
    "pycolmap",
    "scipy",
    "torch",
)


@dataclass(frozen=True, slots=True)
class Summary:
    """A reconstruction in numbers; accuracy is that of the largest published model.

    Args:
        num_images: number of images that could be read.
        num_skipped: number of images that were left out before extraction, because they cannot be used.
        skipped: names of these images, and the reasons.
        unregistered: names of readable images without a pose in a published model.
        num_registered: number of images with a pose in the largest model; 0 if no model is published.
        num_points: number of its 3D points.
        mean_track_length: mean number of images in which a point is observed.
        mean_reprojection_error_px: of all its observations.
        num_pairs: number of pairs of images that were matched.
        num_verified_pairs: number of them with a two-view geometry.
        pairs: which pairs were matched and why, in one line.
        components: numbers of images that verified pairs connect, the largest group first, without single images.
        seconds: by stage, and "total".
        peak_memory_mb: largest resident memory of the process so far, in MiB; None if the system does not report it.
        cache: "hits" and "misses" of the store, in total and by kind of entry.
        models: path below the output folder, counts, verdict, checks and notes of each model; the published ones first.
        images: status, reason, model, number of points and support of each image, by name; see `ImageVerdict`.
        num_pairs_kept_apart: number of verified pairs that took no part in mapping, because they may show places that
            look alike.
        peak_memory_mb_by_stage: largest resident memory of the process up to the end of each stage, in MiB.
    """

    num_images: int
    num_skipped: int
    skipped: tuple[dict[str, str], ...]
    unregistered: tuple[str, ...]
    num_registered: int
    num_points: int
    mean_track_length: float
    mean_reprojection_error_px: float
    num_pairs: int
    num_verified_pairs: int
    pairs: str
    components: tuple[int, ...]
    seconds: dict[str, float]
    peak_memory_mb: float | None
    cache: dict[str, Any]
    models: tuple[dict[str, Any], ...]
    images: dict[str, dict[str, Any]]
    num_pairs_kept_apart: int = 0
    peak_memory_mb_by_stage: dict[str, float] = field(default_factory=dict)

    @classmethod
    def from_statistics(
        cls,
        statistics: MapStatistics,
        skipped: Sequence[SkippedImage],
        seconds: Mapping[str, float],
        counts: Mapping[str, CacheCounts],
        memory_mb: float | None,
        memory_mb_by_stage: Mapping[str, float] | None = None,
    ) -> Summary:
        """The summary of a run, from the results of its stages."""
        best = statistics.published[0] if statistics.published else None
        images = statistics.images | skipped_verdicts(skipped)
        registered = {"registered", "other_model"}
        return cls(
            len(statistics.images),
            len(skipped),
            tuple(dataclasses.asdict(image) for image in skipped),
            tuple(name for name, image in sorted(statistics.images.items()) if image.status not in registered),
            best.num_registered if best else 0,
            best.num_points if best else 0,
            best.mean_track_length if best else 0.0,
            best.mean_reprojection_error_px if best else 0.0,
            statistics.pairs.num_pairs,
            statistics.pairs.num_verified,
            statistics.pairs.chosen,
            statistics.pairs.components,
            {stage: round(value, 3) for stage, value in seconds.items()},
            memory_mb,
            {
                "hits": sum(count.hits for count in counts.values()),
                "misses": sum(count.misses for count in counts.values()),
                "by_kind": {kind: dataclasses.asdict(count) for kind, count in sorted(counts.items())},
            },
            tuple(_model_record(model) for model in statistics.models),
            {name: dataclasses.asdict(image) | {"tried": [*image.tried]} for name, image in sorted(images.items())},
            len(statistics.pairs.apart),
            dict(memory_mb_by_stage or {}),
        )

    @property
    def num_published(self) -> int:
        """Number of models that were not rejected."""
        return sum(model["verdict"] != "rejected" for model in self.models)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return dataclasses.asdict(self)

    def __str__(self) -> str:
        stages = ", ".join(
            f"{stage} {value:.1f}" for stage, value in self.seconds.items() if stage != "total" and value >= 0.05
        )
        smaller = [str(model["num_registered"]) for model in self.models[1 : self.num_published]]
        others = (
            f" (and {' + '.join(smaller)} in {len(smaller)} other model{'s' * (len(smaller) > 1)})" if smaller else ""
        )
        return (
            f"{self.num_registered} of {self.num_images} images registered{others}{self._look_alikes()}"
            f"{self._folded()}{self._uncertain()}, {self.num_points} points,"
            f" track length {self.mean_track_length:.2f}, reprojection error {self.mean_reprojection_error_px:.2f} px,"
            f" {self.seconds['total']:.1f} s" + (f" ({stages})" if stages else "")
        )

    def _look_alikes(self) -> str:
        """Which models may show the same place."""
        pairs = [
            f"{idx} and {other}"
            for idx, model in enumerate(self.models)
            for other in model.get("maybe_same_as", ())
            if idx < other
        ]
        return f" (models {', '.join(pairs)} look alike, and may show the same place)" if pairs else ""

    def _folded(self) -> str:
        """Which models may have several places that look alike as one."""
        found = [str(idx) for idx, model in enumerate(self.models[: self.num_published]) if model.get("maybe_folded")]
        if not found:
            return ""
        models, they = ("models", "they") if len(found) > 1 else ("model", "it")
        return f" ({models} {', '.join(found)} may be folded: {they} may show several places that look alike as one)"

    def _uncertain(self) -> str:
        """Which small models may be wrong because their images hardly determine the camera positions."""
        found = [str(idx) for idx, model in enumerate(self.models[: self.num_published]) if model.get("uncertain")]
        models = "models" if len(found) > 1 else "model"
        return f" ({models} {', '.join(found)} may be wrong: few images, little parallax)" if found else ""


def _model_record(model: ModelStatistics) -> dict[str, Any]:
    """The numbers of a model; those of the images that are in its georegistration are in a file of its own."""
    record = dataclasses.asdict(model) | {
        "notes": list(model.notes),
        "maybe_same_as": list(model.maybe_same_as),
        "maybe_folded": list(model.maybe_folded),
        "uncertain": is_uncertain(model.checks),
    }
    if model.georegistration is not None:
        record["georegistration"] = {key: value for key, value in model.georegistration.items() if key != "images"}
    return record


def recorded_versions() -> dict[str, str]:
    """Versions of this library, of Python, and of the packages that results depend on, by name."""
    kernels = "numpy" if compiled() is None else "compiled"
    versions = {"sfm_lightglue": __version__, "kernels": kernels, "python": platform.python_version()}
    for package in _RECORDED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[package] = metadata.version(package)
    return versions


def run_record(
    config: ReconstructConfig,
    keys: Mapping[str, str],
    files: Mapping[str, str],
    summary: Summary,
    extension: Mapping[str, Any] | None = None,
    pairs: Mapping[str, Any] | None = None,
) -> bytes:
    """The content of `run.json`: the resolved configuration, versions, keys, digests of the results, and summary.

    Args:
        config: of the run.
        keys: of its entries in the store.
        files: sha256 of each file of the results, by its path in the output folder.
        summary: of the run.
        extension: what was extended; None for a run that is no extension.
        pairs: evidence that the verified pairs are true overlaps, see `pair_evidence`; None without.
    """
    record = {
        "config": config.as_mapping(),
        "versions": recorded_versions(),
        "keys": dict(keys),
        "files": dict(sorted(files.items())),
        "summary": summary.as_dict(),
    }
    if extension is not None:
        record["extension"] = dict(extension)
    if pairs is not None:
        record["pairs"] = dict(pairs)
    return json_bytes(record, indent=2) + b"\n"


def recorded_summary(output: Path) -> Summary | None:
    """The summary of the last run in a folder; None if there is none, or if another version has written it."""
    record = read_record(output)
    try:
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in record["summary"].items()
        }
        return Summary(**values)
    except (KeyError, TypeError, AttributeError):
        return None


@dataclass(frozen=True, slots=True)
class RecordedResults:
    """What the `run.json` of the last run that finished in a folder says of its results.

    Args:
        keys: of the entries in the store; empty if there is no record.
        files: sha256 of each file, by its path in the output folder; empty if the record has none.
    """

    keys: Mapping[str, str]
    files: Mapping[str, str]

    @classmethod
    def read(cls, output: Path) -> RecordedResults:
        """The record in a folder; an unreadable one is an empty one."""
        record = read_record(output)
        try:
            return cls(_texts(record["keys"]), _texts(record.get("files", {})))
        except (KeyError, TypeError, AttributeError):
            return cls({}, {})


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(value) for name, value in values.items()}
