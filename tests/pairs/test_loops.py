"""Places that a sequence comes back to, and whether its images look like their neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.pairs.loops import loop_pairs, share_like_neighbors
from sfm_lightglue.retrieval.similar_images import SimilarImages

NUM = 120
NAMES = [f"frame{i}.jpg" for i in range(NUM)]


def similar_along(places: Float64Array) -> SimilarImages:
    """Descriptors that fall off smoothly with the distance of the places of the images."""
    centres = np.linspace(places.min(), places.max(), 200)
    vectors = np.exp(-(((places[:, None] - centres) / 10.0) ** 2))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = sorted(range(NUM), key=NAMES.__getitem__)
    return SimilarImages(tuple(NAMES[i] for i in order), vectors[order].astype(np.float32))


def test_a_second_round_is_paired_with_the_first() -> None:
    """The images of the second half show the places of the first half again."""
    similar = similar_along(np.concatenate((np.arange(60.0), np.arange(60.0))))
    pairs = loop_pairs(similar, NAMES, window=5, num_loops=2)
    number = {name: i for i, name in enumerate(NAMES)}
    gaps = {(number[pair.name0], number[pair.name1]) for pair in pairs}
    assert {(min(gap), max(gap)) for gap in gaps} >= {(i, i + 60) for i in range(60)}
    assert all(abs(i - j) > 5 for i, j in gaps)
    assert len(pairs) <= 2 * NUM


def test_the_images_that_one_image_is_paired_with_are_more_than_a_window_apart() -> None:
    """Along a straight walk the nearest ones are 6 steps apart, then 12 and so on."""
    pairs = loop_pairs(similar_along(np.arange(float(NUM))), NAMES, window=5, num_loops=4)
    number = {name: i for i, name in enumerate(NAMES)}
    assert {abs(number[pair.name0] - number[pair.name1]) for pair in pairs} == {6, 12, 18, 24}


def test_images_of_a_walk_look_like_their_neighbours_and_others_do_not() -> None:
    walk = similar_along(np.arange(float(NUM)))
    assert share_like_neighbors(walk, NAMES) == 1.0
    shuffled = list(np.random.default_rng(0).permutation(NAMES))
    assert share_like_neighbors(walk, shuffled) < 0.3


@pytest.mark.parametrize("num", [0, 1, 2])
def test_few_images_have_no_loops(num: int) -> None:
    vectors = np.eye(max(num, 1), 4, dtype=np.float32)[:num]
    similar = SimilarImages(tuple(NAMES[:num]), vectors)
    assert len(loop_pairs(similar, NAMES[:num], 1, 3)) == 0
    assert share_like_neighbors(similar, NAMES[:num]) == (1.0 if num == 2 else 0.0)


def test_images_without_descriptors_stay_names_without_a_pair() -> None:
    walk = similar_along(np.concatenate((np.arange(60.0), np.arange(60.0))))
    pairs = loop_pairs(walk, [*NAMES, "undecodable.jpg"], 5, 1)
    assert "undecodable.jpg" in pairs.names and len(pairs) > 0
