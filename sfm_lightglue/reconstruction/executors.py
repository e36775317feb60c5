"""Where the work of a job over a scene is done: the executor of a configuration."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sfm_lightglue.execution.executor import Executor, ThreadExecutor
from sfm_lightglue.reconstruction.components import Components
from sfm_lightglue.reconstruction.config import DatabaseConfig
from sfm_lightglue.reconstruction.job import Job
from sfm_lightglue.reconstruction.thorough_pairs import job_of_models
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.folder_executor import FolderExecutor
from sfm_lightglue.stages.into_database import match_scene
from sfm_lightglue.store.leases import FOLDER_NAME, Leases
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import ImagePair, Matches, Rejected, TwoViewGeometry


@contextlib.contextmanager
def open_executor(config: DatabaseConfig, components: Components, store: Store) -> Iterator[Executor]:
    """The executor of a job, for use in the block.

    Args:
        config: of the job.
        components: built from it.
        store: of the job.

    Raises:
        ConfigError: if Ray is missing, or the cluster cannot be reached.
        StoreError: if the folder of the store is not writable.
    """
    options = config.executor
    if options.name == "folder":
        with Leases(store.root / FOLDER_NAME, options.lease_s) as leases:
            yield FolderExecutor(config.num_threads, store, leases, options.images_per_batch, options.pairs_per_batch)
    elif options.name == "ray":
        from sfm_lightglue.reconstruction.ray_jobs import RayExecutor

        with RayExecutor(config, components) as executor:
            yield executor
    else:
        yield ThreadExecutor(config.num_threads)


@contextlib.contextmanager
def building_alone(job: Job) -> Iterator[None]:
    """Build the models of a job in the block.

    Of several processes that share the work of a folder, one builds the models. The others match the pairs with it,
    wait for its end, and then find its models in the store. If it is killed, one of them goes on.
    """
    executor = job.executor
    if not isinstance(executor, FolderExecutor):
        yield
        return
    if not job.store.has("models", job.keys.finished):
        _match_with_others(job)
    with executor.alone(job.keys.finished):
        yield


def _match_with_others(job: Job) -> None:
    """Match and verify all rounds of pairs, so that the process that builds the models finds them in the store.

    If the scene turns out to be in doubt, that process alone matches more thoroughly; after a restart, all do.
    """
    job = job_of_models(job)
    match_scene(
        job.plan,
        job.features,
        {image.name: image.camera for image in job.features.decoded_images},
        _NoDatabase(),
        CachedMatcher(job.components.matcher, job.store),
        CachedVerifier(job.config.two_view, job.config.seed, job.store),
        job.clock,
        job.executor,
        job.progress,
    )


class _NoDatabase:
    """Receives pairs that only the store keeps."""

    def add_pair(self, pair: ImagePair, matches: Matches, geometry: TwoViewGeometry | Rejected) -> None:
        """Do nothing."""
