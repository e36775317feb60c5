"""The vocabulary of a scene: for SIFT the one that comes with the package, for other features one learnt on it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.blas import one_blas_thread
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.features import Features
from sfm_lightglue.retrieval.learning import LEARNING_VERSION, learn_vocabulary
from sfm_lightglue.retrieval.vocabulary import Vocabulary, sift_vocabulary
from sfm_lightglue.store.store import Store, make_key

KIND = "global_descriptors"
"""Kind of the entries of the store: signatures of images, and vocabularies that were learnt on a scene."""

_NUM_IMAGES = 400
_NUM_DESCRIPTORS = 150
_SEED = 0


@runtime_checkable
class KnowsKeys(Protocol):
    """What a mapping of features may have too: the keys of features without reading them."""

    def key_of(self, name: str) -> str:
        """The key of the features of an image."""


def key_of(features: Mapping[str, Features], name: str) -> str:
    """Key of the features of an image, without reading them if the mapping knows the keys."""
    return features.key_of(name) if isinstance(features, KnowsKeys) else features[name].digest


def scene_vocabulary(
    features: Mapping[str, Features], store: Store | None = None, executor: Executor = SERIAL
) -> Vocabulary | None:
    """The vocabulary for the features of a scene; None if no image has a keypoint.

    A vocabulary that is learnt on the scene depends on the features of all images, not on their names.

    Args:
        features: by name of image.
        store: keeps a vocabulary that was learnt.
        executor: reads the features.
    """
    names = sorted(features)
    first = next((one for one in (_read(features, name) for name in names) if one is not None and len(one) > 0), None)
    if first is None:
        return None
    if is_root_sift(first.descriptors):
        return sift_vocabulary()
    keys = executor.map(lambda name: _key(features, name), names)
    by_key = {key: name for key, name in zip(keys, names, strict=True) if key}
    key = make_key("vocabulary", LEARNING_VERSION, hashlib.sha256("".join(sorted(by_key)).encode()).hexdigest())
    stored = None if store is None else store.load_as(KIND, key, Vocabulary.from_arrays)
    if stored is not None:
        return stored
    vocabulary = _learn(features, [by_key[key] for key in sorted(by_key)], executor)
    if store is not None:
        store.save(KIND, key, vocabulary.arrays())
    return vocabulary


def is_root_sift(descriptors: Float32Array) -> bool:
    """Whether descriptors [N, D] are those of SIFT: 128 dimensions, no negative value, length 1."""
    if descriptors.shape[1] != 128 or descriptors.min(initial=0) < 0:
        return False
    lengths = np.linalg.norm(descriptors, axis=1)
    return bool((np.abs(lengths[lengths > 0] - 1) < 1e-3).all())


def spread(num_all: int, num: int) -> IndexArray:
    """At most `num` of the indices 0 to `num_all` - 1, evenly spread."""
    return np.unique(np.linspace(0, num_all - 1, min(num, num_all)).round().astype(np.int64))


def _learn(features: Mapping[str, Features], names: Sequence[str], executor: Executor) -> Vocabulary:
    def sample(name: str) -> Float32Array | None:
        one = _read(features, name)
        return None if one is None else one.descriptors[spread(len(one), _NUM_DESCRIPTORS)]

    chosen = [names[i] for i in spread(len(names), _NUM_IMAGES)]
    samples = [one for one in executor.map(sample, chosen) if one is not None and len(one) > 0]
    if not samples:  # the chosen images have no keypoints, others have
        samples = [one for one in executor.map(sample, names) if one is not None and len(one) > 0]
    with one_blas_thread():
        return learn_vocabulary(np.concatenate(samples), _SEED)


def _read(features: Mapping[str, Features], name: str) -> Features | None:
    """None if the features are damaged and the image can no longer be read, which later stages report."""
    try:
        return features[name]
    except DataError:
        return None


def _key(features: Mapping[str, Features], name: str) -> str:
    try:
        return key_of(features, name)
    except DataError:
        return ""
