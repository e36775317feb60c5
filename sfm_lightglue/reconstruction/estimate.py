"""What a reconstruction will cost, from a short measurement on this machine; nothing is written."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.execution.memory import peak_memory_mb
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.execution.threads import as_one_of
from sfm_lightglue.images.image import Image
from sfm_lightglue.messages import duration
from sfm_lightglue.pairs.base import CountsPairs
from sfm_lightglue.reconstruction.components import Components, build_components
from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig
from sfm_lightglue.reconstruction.read_scene import read_scene
from sfm_lightglue.store.encoding import (
    arrays_from_dense,
    arrays_from_features,
    arrays_from_geometry,
    arrays_from_matches,
)
from sfm_lightglue.store.entry_bytes import encode_entry
from sfm_lightglue.two_view.verification import estimate_two_view_geometry
from sfm_lightglue.types import DenseFeatures, Features, Scene, SceneImage

_NUM_MEASURED = 4
"""Images that are extracted; each is matched with the next one."""

_NUM_IN_MEMORY = 128
"""Images whose features a run keeps in memory."""

_DATABASE_BYTES_PER_KEYPOINT = 8
_DATABASE_BYTES_PER_MATCH = 16
"""Matches are in the database twice: as they were found, and as they were verified."""


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """The work of a reconstruction up to mapping. Mapping itself depends on the scene and is not included.

    Args:
        num_images: number of images that can be read.
        num_pairs: number of pairs that will be matched first, or an upper bound; None if it is known only after the
            features are extracted.
        pairs: name of the selection of pairs.
        seconds: by stage, with all workers; "match" and "verify" are None if the number of pairs is not known.
        seconds_per_pair: of matching and verification together, with all workers.
        memory_mb: largest memory, in MiB.
        disk_mb: of the output folder with the database, without models, in MiB; None if the number of pairs is not
            known.
    """

    num_images: int
    num_pairs: int | None
    pairs: str
    seconds: dict[str, float | None]
    seconds_per_pair: float
    memory_mb: float
    disk_mb: float | None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        extract = f"{self.num_images} images; extraction takes about {duration(self.seconds['extract'] or 0)}"
        memory = f"memory {self.memory_mb:.0f} MB"
        if self.num_pairs is None or self.disk_mb is None:
            per_thousand = duration(1000 * self.seconds_per_pair)
            return (
                f"{extract}; pairs ({self.pairs}) are chosen after it, and 1,000 pairs take about {per_thousand};"
                f" {memory}"
            )
        matching = (self.seconds["match"] or 0) + (self.seconds["verify"] or 0)
        return (
            f"{extract}; up to {self.num_pairs:,} pairs ({self.pairs}), matching and verification take about"
            f" {duration(matching)}; {memory}, disk {self.disk_mb:.0f} MB; mapping comes on top"
        )


def estimate_cost(
    scene_dir: Path | str,
    output: Path | str | None = None,
    config: DatabaseConfig | None = None,
    progress: Progress = silent,
    as_it_is: bool = False,
) -> CostEstimate:
    """Measure a few images and pairs of a scene, and estimate what its reconstruction will take.

    The images are extracted and matched in memory; nothing is written.

    Args:
        scene_dir: as in `reconstruct`.
        output: as in `reconstruct`.
        config: as in `reconstruct`, or as in `add_to_database`, which has no dense features.
        progress: called while the folder is read.
        as_it_is: `scene_dir` is the folder of the images itself, as in `add_to_database`.

    Raises:
        DataError: if there is no folder, or fewer than two images can be read.
        ConfigError: if the configuration does not fit the images.
        WeightsError: if the weights of a network are missing.
    """
    config = config or ReconstructConfig()
    output = Path(output) if output is not None else Path(scene_dir) / "reconstruction"
    num_workers = ThreadExecutor(config.num_threads).num_workers
    scene = read_scene(Path(scene_dir), output, config, num_workers, progress, as_it_is)
    components = build_components(config)
    components.pairs.check(scene)
    num_pairs = components.pairs.num_pairs(scene) if isinstance(components.pairs, CountsPairs) else None
    limit = config.max_keypoints_dense if isinstance(config, ReconstructConfig) else 0
    with as_one_of(num_workers):
        measured = _measure(scene, components, config, limit)
    num_images = len(scene.images)
    image_bytes = _mean([_bytes(arrays_from_features(one)) for one in measured.features])
    dense_bytes = _mean([_bytes(arrays_from_dense(one)) for one in measured.dense])
    per_pair = (measured.match_s + measured.verify_s) / num_workers
    seconds: dict[str, float | None] = {"extract": round(num_images * measured.extract_s / num_workers, 1)}
    seconds |= {
        stage: None if num_pairs is None else round(num_pairs * value / num_workers, 1)
        for stage, value in (("match", measured.match_s), ("verify", measured.verify_s))
    }
    in_memory = min(num_images, _NUM_IN_MEMORY) * (image_bytes + dense_bytes)
    keypoints = _mean([len(one) for one in measured.dense or measured.features])
    disk = None
    if num_pairs is not None:
        disk = num_images * (image_bytes + dense_bytes + keypoints * _DATABASE_BYTES_PER_KEYPOINT)
        disk += num_pairs * (measured.pair_bytes + measured.num_matches * _DATABASE_BYTES_PER_MATCH)
    return CostEstimate(
        num_images,
        num_pairs,
        config.pairs.name,
        seconds,
        per_pair,
        round((peak_memory_mb() or 0) + in_memory / 2**20, 1),
        None if disk is None else round(disk / 2**20, 1),
    )


def measured_seconds_per_pair(scene: Scene, components: Components, config: DatabaseConfig) -> float:
    """How long matching and verification of a pair take on this machine with all workers, by a few pairs.

    Args:
        scene: the images.
        components: built from the configuration.
        config: of the job.

    Raises:
        DataError: if fewer than two images can be decoded.
        WeightsError: if the weights of a network are missing.
    """
    num_workers = ThreadExecutor(config.num_threads).num_workers
    with as_one_of(num_workers):
        measured = _measure(scene, components, config, 0)
    return (measured.match_s + measured.verify_s) / num_workers


@dataclass(frozen=True, eq=False, slots=True)
class _Measured:
    """Medians of a few images and pairs; seconds on one worker."""

    features: Sequence[Features]
    dense: Sequence[DenseFeatures]
    extract_s: float
    match_s: float
    verify_s: float
    num_matches: float
    pair_bytes: float


def _measure(scene: Scene, components: Components, config: DatabaseConfig, max_keypoints_dense: int) -> _Measured:
    images, layers, extract_s = _extracted(scene, components, max_keypoints_dense)
    if len(layers) < 2:
        raise DataError(f"{scene.root}: an estimate needs two images that can be decoded")
    features = [one for one, _ in layers]
    components.matcher.match(features[0], features[1])  # loads the network
    match_s: list[float] = []
    verify_s: list[float] = []
    num_matches: list[int] = []
    pair_bytes: list[int] = []
    for row in range(len(features) - 1):
        both = features[row], features[row + 1]
        start = time.perf_counter()
        matches = components.matcher.match(*both)
        middle = time.perf_counter()
        cameras = images[row].camera, images[row + 1].camera
        geometry = estimate_two_view_geometry(*both, matches, *cameras, config.two_view, config.seed)
        match_s.append(middle - start)
        verify_s.append(time.perf_counter() - middle)
        num_matches.append(len(matches))
        pair_bytes.append(len(encode_entry(arrays_from_matches(matches))))
        pair_bytes[-1] += len(encode_entry(arrays_from_geometry(geometry)))
    return _Measured(
        features,
        [dense for _, dense in layers if dense is not None],
        statistics.median(extract_s),
        statistics.median(match_s),
        statistics.median(verify_s),
        statistics.median(num_matches),
        statistics.median(pair_bytes),
    )


def _extracted(
    scene: Scene, components: Components, limit: int
) -> tuple[list[SceneImage], list[tuple[Features, DenseFeatures | None]], list[float]]:
    """Images from the middle of the scene with both layers of their features, and the seconds of each."""
    extract_dense = getattr(components.extractor, "extract_dense", None) if limit > 0 else None
    images: list[SceneImage] = []
    layers: list[tuple[Features, DenseFeatures | None]] = []
    seconds: list[float] = []
    middle = max(0, len(scene.images) // 2 - _NUM_MEASURED // 2)
    for image in (*scene.images[middle:], *scene.images[:middle]):
        if len(images) == _NUM_MEASURED:
            break
        start = time.perf_counter()
        try:
            read = Image.read(image.path, image.name)
            both = (components.extractor.extract(read), None) if extract_dense is None else extract_dense(read, limit)
        except DataError:  # `reconstruct` names it and leaves it out
            continue
        seconds.append(time.perf_counter() - start)
        images.append(image)
        layers.append(both)
    return images, layers, seconds[1:] or seconds  # the first one loads a network or warms up


def _bytes(arrays: dict[str, Any]) -> int:
    return sum(array.nbytes for array in arrays.values())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
