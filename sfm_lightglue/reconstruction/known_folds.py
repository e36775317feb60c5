"""What a run knows of places that look alike in its models, kept in the store for a run that goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.mapping.mapped_models import MAPPED_KIND
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.types import ImagePair


def save_folds(store: Store, key: str, left_out: frozenset[ImagePair], has_fold: bool) -> None:
    """Keep what `left_out_pairs` and `has_known_fold` give."""
    _save(store, _key(key), left_out, has_fold=np.array(has_fold))


def left_out_pairs(store: Store, key: str) -> frozenset[ImagePair]:
    """The pairs that were left out when models were mapped, because they joined places that look alike.

    Args:
        store: of the run.
        key: of the models that are mapped.
    """
    return _read(store, _key(key))


def has_known_fold(store: Store, key: str) -> bool:
    """Whether a model of the scene was folded, so that its pairs are weighed as in a scene with twins.

    Args:
        store: of the run.
        key: of the models that are mapped.
    """
    return bool(store.read_as(MAPPED_KIND, _key(key), lambda arrays: bool(arrays["has_fold"])))


def improbable_pairs(store: Store, key: str) -> frozenset[ImagePair]:
    """The pairs that were left out because they are improbable by their own cues.

    Args:
        store: of the run.
        key: of the models that are mapped.
    """
    return _read(store, _improbable_key(key))


def save_improbable(store: Store, key: str, pairs: frozenset[ImagePair]) -> None:
    """Keep these pairs; see `improbable_pairs`."""
    _save(store, _improbable_key(key), pairs)


def taken_back_pairs(store: Store, key: str) -> frozenset[ImagePair]:
    """The pairs that had been left out after a fold, and take part again: models are judged by them all the same.

    Args:
        store: of the run.
        key: of the models that are mapped.
    """
    return _read(store, _taken_back_key(key))


def save_taken_back(store: Store, key: str, pairs: frozenset[ImagePair]) -> None:
    """Keep these pairs; see `taken_back_pairs`."""
    _save(store, _taken_back_key(key), pairs)


def _taken_back_key(key: str) -> str:
    return make_key("taken back", key)


def _improbable_key(key: str) -> str:
    return make_key("left out as improbable", key)


def _key(key: str) -> str:
    return make_key("left out", key)


def _save(store: Store, key: str, pairs: frozenset[ImagePair], **more: AnyArray) -> None:
    names = json.dumps([(pair.name0, pair.name1) for pair in sorted(pairs)])
    store.save(MAPPED_KIND, key, {"left_out": np.array(names), **more})


def _read(store: Store, key: str) -> frozenset[ImagePair]:
    """The pairs of an entry, none without an entry."""
    return store.read_as(MAPPED_KIND, key, _decoded) or frozenset()


def _decoded(arrays: Mapping[str, AnyArray]) -> frozenset[ImagePair]:
    names = json.loads(str(arrays["left_out"]))
    return frozenset(ImagePair(str(name0), str(name1)) for name0, name1 in names)
