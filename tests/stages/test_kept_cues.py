"""Cues of a scene are computed once, and again if anything that they depend on changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.scene_cues import scene_cues
from sfm_lightglue.lookalikes.views import ImageView, PairView
from sfm_lightglue.stages import kept_cues
from sfm_lightglue.stages.kept_cues import kept_scene_cues
from sfm_lightglue.stages.pair_cues import SceneViews
from sfm_lightglue.store.store import Store
from tests.helpers.lookalike_views import Walk


def views_of(walk: Walk) -> SceneViews:
    return SceneViews(walk.images, [walk.pair(0, 1), walk.pair(1, 2, keep=0.7), walk.pair(0, 2)])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of pairs whose cues are computed; those of all scenes are kept."""
    counted: list[int] = []

    def count(images: Sequence[ImageView], pairs: Sequence[PairView], limit_deg: float) -> list[PairCues]:
        counted.append(len(pairs))
        return scene_cues(images, pairs, limit_deg)

    monkeypatch.setattr(kept_cues, "_MIN_PAIRS", 1)
    monkeypatch.setattr(kept_cues, "scene_cues", count)
    return counted


def test_cues_are_computed_once_and_are_exactly_the_same(calls: list[int], tmp_path: Path) -> None:
    views = views_of(Walk([0, 150, 300]))
    first = kept_scene_cues(views, 5.0, Store(tmp_path))
    again = kept_scene_cues(views_of(Walk([0, 150, 300])), 5.0, Store(tmp_path))
    assert calls == [3]
    np.testing.assert_array_equal([astuple(each) for each in first], [astuple(each) for each in again])


def test_any_other_input_is_computed_anew(calls: list[int], tmp_path: Path) -> None:
    walk, store = Walk([0, 150, 300]), Store(tmp_path)
    views = views_of(walk)
    moved = [replace(walk.images[0], keypoints=walk.images[0].keypoints + np.float32(1)), *walk.images[1:]]
    known = [replace(walk.images[0], position_m=np.zeros(3)), *walk.images[1:]]
    kept_scene_cues(views, 5.0, store)
    kept_scene_cues(views, 4.0, store)
    kept_scene_cues(replace(views, images=moved), 5.0, store)
    kept_scene_cues(replace(views, images=known), 5.0, store)
    kept_scene_cues(replace(views, pairs=[*views.pairs[:2], walk.pair(0, 2, keep=0.5)]), 5.0, store)
    kept_scene_cues(replace(views, pairs=views.pairs[:2]), 5.0, store)
    bits = np.packbits(np.ones(len(walk.images[0].keypoints), np.bool_))
    kept_scene_cues(replace(views, pairs=[replace(views.pairs[0], asked0=bits), *views.pairs[1:]]), 5.0, store)
    assert calls == [3, 3, 3, 3, 3, 2, 3]
    kept_scene_cues(views, 5.0, store)
    assert len(calls) == 7


def test_size_of_integers_does_not_matter(calls: list[int], tmp_path: Path) -> None:
    views, store = views_of(Walk([0, 150, 300])), Store(tmp_path)
    kept_scene_cues(views, 5.0, store)
    small = [replace(pair, rows=pair.rows.astype(np.uint16), mean_score=np.float64(0.9)) for pair in views.pairs]
    kept_scene_cues(replace(views, pairs=small), 5.0, store)
    assert calls == [3]


def test_cues_of_few_pairs_are_not_kept(tmp_path: Path) -> None:
    kept_scene_cues(views_of(Walk([0, 150, 300])), 5.0, Store(tmp_path))
    assert not list(tmp_path.rglob("*.npz"))
