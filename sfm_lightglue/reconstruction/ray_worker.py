"""What the workers of a Ray cluster compute: functions of plain values that keep nothing but the components."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.execution.blocks import blocks_kept
from sfm_lightglue.execution.threads import on_one_core
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.reconstruction.components import build_components
from sfm_lightglue.reconstruction.config import DatabaseConfig
from sfm_lightglue.stages.cached import both_layers, features_within_mask, pair_seed
from sfm_lightglue.stages.distributed import in_batches
from sfm_lightglue.stages.features import read_scene_image
from sfm_lightglue.store.store import make_key
from sfm_lightglue.two_view.verification import estimate_two_view_geometry
from sfm_lightglue.types import (
    Camera,
    DenseFeatures,
    Features,
    ImagePair,
    Matches,
    Rejected,
    SceneImage,
    TwoViewGeometry,
)

Layers = tuple[Features, DenseFeatures | None]
"""Features of an image, and its dense layer if there is one."""


@dataclass(frozen=True, slots=True)
class WorkerJob:
    """What a worker knows of a job.

    Args:
        config: of the job, as JSON of nested mappings.
        identity: digest of the components of the process that gives the tasks.
    """

    config: str
    identity: str

    @classmethod
    def of(cls, config: DatabaseConfig, extractor: Extractor, matcher: Matcher) -> WorkerJob:
        """The job of a configuration and the components that were built from it."""
        tables = ("extractor", "matcher", "two_view", "seed", "device")
        values = {name: value for name, value in config.as_mapping().items() if name in tables}
        return cls(json.dumps(values, sort_keys=True), _identity(extractor, matcher))


def extract_images(
    job: WorkerJob, images: Sequence[SceneImage], stored: Sequence[Features | None], max_keypoints_dense: int
) -> list[Layers | None]:
    """Features of images; None for those that this machine cannot read, or that are not the same here.

    Args:
        job: of the run.
        images: whose files are at the same paths on all machines.
        stored: the features of each image if they are known already.
        max_keypoints_dense: about the number of places of the dense layer of an image; 0 for none.
    """
    _, extractor, _ = _components(job)
    with one_blas_thread(), on_one_core(), blocks_kept():
        return [
            _layers(extractor, image, known, max_keypoints_dense) for image, known in zip(images, stored, strict=True)
        ]


def _layers(extractor: Extractor, image: SceneImage, known: Features | None, max_keypoints_dense: int) -> Layers | None:
    try:
        read = read_scene_image(image)
        if (read.content_digest, read.quarter_turns) != (image.content_digest, image.quarter_turns):
            return None
        if max_keypoints_dense > 0:
            return both_layers(extractor, read, max_keypoints_dense, known)
        return features_within_mask(extractor, read), None
    except DataError:
        return None


def match_and_verify(
    job: WorkerJob,
    pairs: Sequence[ImagePair],
    camera_from_name: Mapping[str, Camera],
    names: Sequence[str],
    *features: Features,
) -> list[tuple[Matches, TwoViewGeometry | Rejected]]:
    """Matches and geometry of pairs.

    Args:
        job: of the run.
        pairs: of images.
        camera_from_name: intrinsics.
        names: of the images.
        features: of these images.
    """
    config, _, matcher = _components(job)
    features_from_name = dict(zip(names, features, strict=True))
    results = []
    with one_blas_thread(), on_one_core():
        for batch in in_batches(pairs, matcher.batch_size):
            loaded = [(features_from_name[pair.name0], features_from_name[pair.name1]) for pair in batch]
            for pair, both, matches in zip(batch, loaded, matcher.match_batch(loaded), strict=True):
                cameras = camera_from_name[pair.name0], camera_from_name[pair.name1]
                seed = pair_seed(config.seed, pair)
                geometry = estimate_two_view_geometry(*both, matches, *cameras, config.two_view, seed)
                results.append((matches, geometry))
    return results


@lru_cache(maxsize=1)
def _components(job: WorkerJob) -> tuple[DatabaseConfig, Extractor, Matcher]:
    """Configuration and components, built once in each worker."""
    config = DatabaseConfig.from_mapping(json.loads(job.config))
    components = build_components(config)
    if _identity(components.extractor, components.matcher) != job.identity:
        raise ConfigError(
            "`executor.name` ray: a worker has another version of the package or other weights; install the same on all"
            " machines of the cluster"
        )
    return config, components.extractor, components.matcher


def _identity(extractor: Extractor, matcher: Matcher) -> str:
    return make_key(extractor.identity, matcher.identity)
