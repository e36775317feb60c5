"""The executor that has images and pairs computed by a Ray cluster, and saves the results in the store."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.execution.ray_executor import RayTasks
from sfm_lightglue.reconstruction.components import Components
from sfm_lightglue.reconstruction.config import DatabaseConfig
from sfm_lightglue.reconstruction.ray_worker import WorkerJob, extract_images, match_and_verify
from sfm_lightglue.stages.distributed import FeatureWork, PairWork, SharedWork
from sfm_lightglue.types import ImagePair, SceneImage

ItemT = TypeVar("ItemT")

Keys = tuple[str, ...]


class RayExecutor(ThreadExecutor):
    """An executor with the workers of a Ray cluster. Use it in a `with` statement.

    The workers read the photos themselves, at the paths that they have here. Everything else goes through the object
    store of the cluster; this process alone writes the store. What the workers cannot read or do, it does itself.

    Args:
        config: of the job.
        components: built from it.

    Raises:
        ConfigError: if Ray is missing, or the cluster cannot be reached.
    """

    def __init__(self, config: DatabaseConfig, components: Components) -> None:
        super().__init__(config.num_threads)
        self._options = config.executor
        self._job = WorkerJob.of(config, components.extractor, components.matcher)
        self._matcher_identity = components.matcher.identity
        self._tasks = RayTasks(config.executor, config.num_threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tasks.__exit__(kind, error, trace)

    def fill(self, work: SharedWork[ItemT], progress: Progress = silent) -> None:
        """Have the cluster compute what the store lacks; pairs for another matcher are left to this process."""
        if isinstance(work, FeatureWork):
            self._extract(work, progress)
        elif isinstance(work, PairWork) and work.matcher.identity == self._matcher_identity:
            self._match(work, progress)

    def _extract(self, work: FeatureWork, progress: Progress) -> None:
        num_done = 0
        progress(work.stage, 0, len(work))
        for (images, keys), results in self._tasks.run(extract_images, self._extract_calls(work)):
            for image_keys, layers in zip(keys, results, strict=True):
                if layers is None:
                    continue
                features, dense = layers
                if not work.extractor.has(image_keys[0]):
                    work.extractor.save(features, image_keys[0])
                if dense is not None:
                    work.extractor.save_dense(dense, image_keys[1])
            num_done += len(images)
            progress(work.stage, num_done, len(work))

    def _extract_calls(
        self, work: FeatureWork
    ) -> Iterator[tuple[tuple[list[SceneImage], list[Keys]], tuple[Any, ...]]]:
        for batch in work.batches(self._options.images_per_batch):
            keyed = [(image, work.keys(image)) for image in batch]
            missing = [(image, keys) for image, keys in keyed if not work.has(keys)]
            if missing:
                images, all_keys = [image for image, _ in missing], [keys for _, keys in missing]
                stored = [work.extractor.read(keys[0]) if work.extractor.has(keys[0]) else None for keys in all_keys]
                yield (images, all_keys), (self._job, images, stored, work.max_keypoints_dense)

    def _match(self, work: PairWork, progress: Progress) -> None:
        num_done = 0
        progress(work.stage, 0, len(work))
        for keys, results in self._tasks.run(match_and_verify, self._match_calls(work)):
            for (matches_key, geometry_key), (matches, geometry) in zip(keys, results, strict=True):
                work.matcher.save(matches, matches_key)
                work.verifier.save(geometry, geometry_key)
            num_done += len(keys)
            progress(work.stage, num_done, len(work))

    def _match_calls(self, work: PairWork) -> Iterator[tuple[list[Keys], tuple[Any, ...]]]:
        """Batches of pairs without matches. Pairs that lack the geometry only are left to this process."""
        for batch in work.batches(self._options.pairs_per_batch):
            missing = {pair: keys for pair in batch if not work.matcher.has((keys := work.keys(pair))[0])}
            if missing:
                yield list(missing.values()), self._match_arguments(work, list(missing))

    def _match_arguments(self, work: PairWork, pairs: list[ImagePair]) -> tuple[Any, ...]:
        names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
        features = [
            self._tasks.share(work.digest_of(name), lambda name=name: work.features[name])  # type: ignore[misc]
            for name in names
        ]
        return self._job, pairs, {name: work.camera_from_name[name] for name in names}, names, *features
