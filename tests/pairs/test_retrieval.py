"""Pairs of similar images: each image keeps some, and pairs that look no more alike than others do are left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.features import Features
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.pairs.retrieval import RetrievalConfig, RetrievalPairs, likely_rows
from sfm_lightglue.registry.builtin import PAIR_SELECTORS
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.types import Camera, Scene, SceneImage
from tests.helpers.random_features import random_sift


def groups(num_groups: int, size: int, num_points: int = 100) -> dict[str, Features]:
    """Images of several places; those of one place share a third of their features with each other."""
    features = {}
    for group in range(num_groups):
        place = random_sift(1000 + group, num_points // 3)
        for i in range(size):
            own = random_sift(group * size + i, num_points - num_points // 3)
            assert own.scales is not None and place.scales is not None
            features[f"{group}-{i:02}.jpg"] = replace(
                own,
                keypoints=np.concatenate([place.keypoints, own.keypoints]),
                scores=np.concatenate([place.scores, own.scores * 0 + 1]),
                descriptors=np.concatenate([place.descriptors, own.descriptors]),
                scales=np.concatenate([place.scales, own.scales]),
                orientations=None,
            )
    return features


def context_of(features: dict[str, Features], *others: str, num_threads: int = 1) -> PairContext:
    camera = Camera("SIMPLE_PINHOLE", 320, 320, (300.0, 160.0, 160.0))
    names = sorted({*features, *others})
    images = tuple(SceneImage(name, Path(name), camera, 0, digest=name) for name in names)
    return PairContext(Scene(Path(), images), features, executor=ThreadExecutor(num_threads))


def test_images_of_one_place_become_pairs_and_others_are_cut():
    pairs = RetrievalPairs(RetrievalConfig(num_neighbors=10, min_neighbors=3)).select(context_of(groups(10, 5)))
    same = [pair for pair in pairs if pair.name0[0] == pair.name1[0]]
    assert len(same) >= 0.97 * 10 * 5 * 4 // 2
    assert len(pairs) < 1.6 * len(same)


def test_each_image_keeps_some_pairs_though_none_looks_alike():
    features = {f"{i:02}.jpg": random_sift(i, 50) for i in range(40)}
    pairs = RetrievalPairs(RetrievalConfig(num_neighbors=8, min_neighbors=3)).select(context_of(features))
    counts = np.bincount(pairs.rows.ravel(), minlength=40)
    assert counts.min() >= 3
    assert len(pairs) < RetrievalPairs(RetrievalConfig(8, 8)).num_pairs(context_of(features).scene)


def test_where_all_images_look_alike_each_keeps_all_its_neighbours():
    pairs = RetrievalPairs(RetrievalConfig(num_neighbors=6)).select(context_of(groups(1, 30)))
    assert np.bincount(pairs.rows.ravel(), minlength=30).min() >= 6


def test_the_pairs_do_not_depend_on_the_number_of_threads():
    features = groups(6, 4)
    one = RetrievalPairs().select(context_of(features))
    assert one == RetrievalPairs().select(context_of(features, num_threads=3))


def test_names_without_features_get_no_pairs():
    features = groups(2, 3) | {"a.jpg": random_sift(0, 0)}
    pairs = RetrievalPairs().select(context_of(features, "not-decoded.jpg"))
    assert isinstance(pairs, IndexedPairs)
    named = {name for pair in pairs for name in (pair.name0, pair.name1)}
    assert named == set(groups(2, 3))


def test_the_pairs_are_at_most_as_many_as_told_before():
    for num_images in (2, 3, 30):
        context = context_of({f"{i:02}.jpg": random_sift(i, 20) for i in range(num_images)})
        selector = RetrievalPairs()
        assert 0 < len(selector.select(context)) <= selector.num_pairs(context.scene)


def test_pairs_are_found_by_vectors_alone():
    angles = np.linspace(0, 3, 50)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    similar = SimilarImages(tuple(f"{i:02}" for i in range(50)), vectors)
    rows = likely_rows(similar, RetrievalConfig(num_neighbors=4))
    assert np.abs(np.diff(rows, axis=1)).max() <= 4


@pytest.mark.parametrize("option", ["num_neighbors", "min_neighbors"])
def test_numbers_must_be_positive(option):
    with pytest.raises(ConfigError, match=f"`pairs.{option}`"):
        PAIR_SELECTORS.choose("retrieval", {option: 0})
