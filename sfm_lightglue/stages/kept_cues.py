"""The cues of all verified pairs of a scene, kept in the store: those of a hundred thousand pairs take minutes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import astuple, fields

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.lookalikes.cues import CUES_VERSION, PairCues
from sfm_lightglue.lookalikes.scene_cues import scene_cues
from sfm_lightglue.lookalikes.views import ImageView, PairView
from sfm_lightglue.mapping.mapped_models import MAPPED_KIND
from sfm_lightglue.stages.pair_cues import SceneViews
from sfm_lightglue.store.store import Store, make_key

_MIN_PAIRS = 1000
"""The cues of fewer pairs are computed again: this takes about as long as to read what they depend on."""


def kept_scene_cues(views: SceneViews, max_error_deg: float, store: Store) -> list[PairCues]:
    """The cues of each verified pair of a scene, from the store if it has those of the same pairs.

    Args:
        views: of the scene.
        max_error_deg: rotations of a triplet that differ by at most this angle close.
        store: keeps the cues of large scenes.
    """
    if len(views.pairs) < _MIN_PAIRS:
        return scene_cues(views.images, views.pairs, max_error_deg)
    names = [each.name for each in fields(PairCues)]
    key = make_key("cues", CUES_VERSION, names, max_error_deg, _digest(views))

    def decode(arrays: Mapping[str, AnyArray]) -> list[PairCues]:
        values = arrays["cues"]
        if values.shape != (len(views.pairs), len(names)):
            raise ValueError(f"cues of the shape {values.shape}")
        return [PairCues(*row) for row in values.tolist()]

    found = store.read_as(MAPPED_KIND, key, decode)
    if found is None:
        found = scene_cues(views.images, views.pairs, max_error_deg)
        store.save(MAPPED_KIND, key, {"cues": np.array([astuple(each) for each in found], np.float64)})
    return found


def _digest(views: SceneViews) -> str:
    """SHA-256 of all that the cues are computed from."""
    hasher = hashlib.sha256()
    both: tuple[ImageView | PairView, ...] = (*views.images, *views.pairs)
    for view in both:
        for each in fields(view):
            value = getattr(view, each.name)
            if isinstance(value, np.ndarray):
                of_one_size = value.astype(np.int64) if value.dtype.kind in "iu" else np.ascontiguousarray(value)
                hasher.update(f"{of_one_size.dtype.str}{value.shape}".encode())
                hasher.update(of_one_size.tobytes())
            else:
                hasher.update(repr(value.item() if isinstance(value, np.generic) else value).encode())
            hasher.update(b";")
    return hasher.hexdigest()
