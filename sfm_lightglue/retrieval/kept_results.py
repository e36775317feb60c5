"""Which images are similar, kept in the store: computed once for the same features, also by several processes."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sfm_lightglue.arrays import AnyArray, Float32Array, IndexArray, Int32Array, require_array
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.retrieval.largest_keypoints import LargestKeypoints
from sfm_lightglue.retrieval.scene_vocabulary import KIND
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.store.store import Store, make_key

SIMILARITY_VERSION = 1
"""Number to raise when a change of the code finds other similar images with the same signatures."""


@runtime_checkable
class WorksAlone(Protocol):
    """What an executor may have too: work that one process does while the others wait for its result."""

    def alone(self, name: str, work: str) -> contextlib.AbstractContextManager[None]:
        """Let one process after the other run the block; the store then has what the last one has written.

        Args:
            name: a key of what the block makes.
            work: what the block does, for a message: "compares the images".
        """


@dataclass(frozen=True, eq=False)
class KeptResults:
    """Results that depend on the features of a scene, in the store.

    Args:
        key: of the features of all images, and of everything else that the results depend on.
        build: describes the images; called only if a result is missing. Its result is complete if no image was left
            out because it could not be read. Else nothing is kept.
        store: keeps the results.
        executor: that of the images.
    """

    key: str
    build: Callable[[], tuple[SimilarImages, bool]]
    store: Store
    executor: Executor
    _made: list[tuple[SimilarImages, bool]] = field(default_factory=list)

    def built(self) -> SimilarImages:
        """The described images, made at the first call."""
        if not self._made:
            self._made.append(self.build())
        return self._made[0][0]

    def arrays(
        self,
        what: tuple[object, ...],
        compute: Callable[[SimilarImages], dict[str, AnyArray]],
        check: Callable[[Mapping[str, AnyArray]], None],
    ) -> Mapping[str, AnyArray]:
        """Arrays of the store; computed and saved if it has none.

        Args:
            what: the result, beside `key`.
            compute: makes the arrays from the described images.
            check: raises an exception for arrays that are none of these.
        """
        key = make_key("similar images", SIMILARITY_VERSION, self.key, *what)

        def decode(arrays: dict[str, AnyArray]) -> dict[str, AnyArray]:
            check(arrays)
            return arrays

        found = self.store.read_as(KIND, key, decode)
        if found is not None:
            return found
        executor = self.executor
        alone = executor.alone(key, "compares the images") if isinstance(executor, WorksAlone) else None
        with alone or contextlib.nullcontext():
            found = self.store.read_as(KIND, key, decode) if alone is not None else None
            if found is None:
                found = compute(self.built())
                if self._made[0][1]:
                    self.store.save(KIND, key, found)
                    if alone is not None:
                        self.store.flush()
        return found


class KeptSimilarImages(SimilarImages):
    """Similar images whose vectors are computed only if the store lacks a result.

    Args:
        names: of the images, sorted.
        kept: their results.
        with_largest: whether the images with the largest products are ordered by their largest keypoints.
    """

    def __init__(self, names: tuple[str, ...], kept: KeptResults, with_largest: bool = True) -> None:
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "executor", kept.executor)
        object.__setattr__(self, "_kept", kept)
        object.__setattr__(self, "_with_largest", with_largest)

    @classmethod
    def of_scene(cls, all_names: list[str], kept: KeptResults) -> KeptSimilarImages:
        """Those of the images of a scene that have keypoints.

        Args:
            all_names: of the images, sorted.
            kept: results of this scene.
        """

        def compute(built: SimilarImages) -> dict[str, AnyArray]:
            row_from_name = {name: row for row, name in enumerate(all_names)}
            return {"rows": np.array([row_from_name[name] for name in built.names], np.int32)}

        def check(arrays: Mapping[str, AnyArray]) -> None:
            require_array("rows", arrays["rows"], np.int32, (None,))
            _require_below(arrays["rows"], 0, len(all_names))

        rows = kept.arrays(("names",), compute, check)["rows"].tolist()
        return cls(tuple(all_names[row] for row in rows), kept)

    @property
    def vectors(self) -> Float32Array:
        """[N, D], see `SimilarImages`."""
        return self._built.vectors

    @property
    def largest(self) -> LargestKeypoints | None:
        """See `SimilarImages`."""
        return self._built.largest

    def by_vectors(self) -> KeptSimilarImages:
        """The same images by the products of their vectors alone."""
        return KeptSimilarImages(self.names, self._kept, with_largest=False)

    def between(self, rows0: npt.ArrayLike, rows1: npt.ArrayLike, k: int) -> tuple[Int32Array, Float32Array]:
        """See `SimilarImages`."""
        queries, choices = np.asarray(rows0, np.int64), np.sort(np.asarray(rows1, np.int64))
        shape = len(queries), min(k, len(choices))

        def compute(_: SimilarImages) -> dict[str, AnyArray]:
            found, similarity = self._built.between(queries, choices, k)
            return {"found": found, "similarity": similarity}

        def check(arrays: Mapping[str, AnyArray]) -> None:
            require_array("found", arrays["found"], np.int32, shape)
            require_array("similarity", arrays["similarity"], np.float32, shape)
            _require_below(arrays["found"], -1, len(self))

        if 0 in shape:
            return np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        arrays = self._kept.arrays(
            ("between", self._with_largest, _digest(queries), _digest(choices), k), compute, check
        )
        return arrays["found"], arrays["similarity"]

    def similarity(self, rows: IndexArray) -> Float32Array:
        """See `SimilarImages`."""

        def compute(_: SimilarImages) -> dict[str, AnyArray]:
            return {"similarity": self._built.similarity(rows)}

        def check(arrays: Mapping[str, AnyArray]) -> None:
            require_array("similarity", arrays["similarity"], np.float32, (len(rows),))

        if len(rows) == 0:
            return np.zeros(0, np.float32)
        what = "similarity", self._with_largest, _digest(np.asarray(rows, np.int64))
        return self._kept.arrays(what, compute, check)["similarity"]

    @cached_property
    def _built(self) -> SimilarImages:
        built = self._kept.built()
        return built if self._with_largest else built.by_vectors()

    _kept: KeptResults
    _with_largest: bool


def _digest(rows: IndexArray) -> str:
    return hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()


def _require_below(values: AnyArray, lowest: int, limit: int) -> None:
    if values.size > 0 and not (values.min() >= lowest and values.max() < limit):
        raise ValueError("indices of images that are not there")
