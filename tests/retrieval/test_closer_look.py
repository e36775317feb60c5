"""A closer look tells pairs that show the same from pairs that do not, by the pairs of the scene itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.retrieval.closer_look import CloserLook
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import ImagePair
from tests.helpers.walk_features import walk_features

NAMES = [f"{i:02d}.jpg" for i in range(40)]
NEAR = [ImagePair(a, b) for a, b in pairwise(NAMES)]


def steps(pair: ImagePair) -> int:
    return int(pair.name1[:2]) - int(pair.name0[:2])


def test_pairs_that_share_points_are_likely_and_most_others_are_not() -> None:
    pairs = [ImagePair(a, b) for a, b in combinations(NAMES, 2)]
    likely = CloserLook(walk_features(NAMES)).likely(pairs, NEAR)
    shares = {
        step: np.mean([one for pair, one in zip(pairs, likely, strict=True) if steps(pair) == step])
        for step in range(1, 30)
    }
    assert all(shares[step] == 1 for step in (1, 2, 3, 4))  # 100, 80, 60 and 40 common points
    assert np.mean([shares[step] for step in range(6, 30)]) < 0.3


def test_no_pair_is_left_out_where_all_images_show_one_place() -> None:
    pairs = [ImagePair(a, b) for a, b in combinations(NAMES, 2)]
    assert CloserLook(walk_features(NAMES, step=0)).likely(pairs, NEAR).all()


def test_too_few_pairs_determine_no_limit() -> None:
    pairs = [ImagePair(a, b) for a, b in combinations(NAMES, 2)]
    assert CloserLook(walk_features(NAMES)).likely(pairs, NEAR[:10]).all()
    assert CloserLook(walk_features(NAMES[:3])).likely([ImagePair(NAMES[0], NAMES[2])], NEAR[:2]).all()
    assert CloserLook(walk_features(NAMES)).likely(pairs, []).all()
    assert len(CloserLook({}).likely([], [])) == 0


@pytest.mark.parametrize("of_near", [1, 7, 9])
def test_no_pair_is_left_out_if_pairs_that_see_the_same_hardly_match(
    of_near: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nearest neighbours do not tell the features: a third of the true pairs has no match at all."""
    look, of_far = CloserLook(walk_features(NAMES)), 0 if of_near < 8 else 5

    def num_matches(pairs: Sequence[ImagePair]) -> np.ndarray:
        near = (0 if int(pair.name0[:2]) % 3 == 0 else of_near for pair in pairs)
        return np.array([few if steps(pair) < 6 else of_far for pair, few in zip(pairs, near, strict=True)], np.int32)

    monkeypatch.setattr(look, "num_matches", num_matches)
    assert look.likely(NEAR, NEAR).all()


def test_numbers_are_those_of_any_executor_and_of_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = walk_features(NAMES)
    pairs = [ImagePair(a, b) for a, b in combinations(NAMES[:20], 2)]
    expected = CloserLook(features).num_matches(pairs)
    np.testing.assert_array_equal(CloserLook(features, executor=ThreadExecutor(2)).num_matches(pairs), expected)
    with Store(tmp_path) as store:
        np.testing.assert_array_equal(CloserLook(features, store).num_matches(pairs), expected)
    with Store(tmp_path) as store, monkeypatch.context() as patch:
        patch.setattr(CloserLook, "_of_pair", lambda self, pair: 1 / 0)
        np.testing.assert_array_equal(CloserLook(features, store).num_matches(pairs), expected)
        with pytest.raises(ZeroDivisionError):
            CloserLook(features, store).num_matches(pairs[1:])
