"""Pairs that are asked for between models: few, of images that probably show one place, and of no look-alikes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import ImageVerdict, ModelVerdict
from sfm_lightglue.pairs.transitive import TransitiveConfig
from sfm_lightglue.reconstruction.piece_merging import PiecePairs
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.stages.hard_pairs import AS_THEY_ARE, MORE_KEYPOINTS, Attempt, HardMatch
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.types import ImagePair, Matches, TwoViewGeometry

FIRST, SECOND = ("a0", "a1", "a2", "a3"), ("b0", "b1", "b2", "b3")
ADDED = (
    Matches.empty(),
    TwoViewGeometry("general", np.zeros(0, np.bool_), Rigid3.identity(), np.eye(3)),
)


class Recorder:
    """Stands for `HardPairs`: pairs of some names match by an attempt."""

    def __init__(self, matching: Mapping[ImagePair, Attempt]) -> None:
        self.asked: list[tuple[ImagePair, Attempt]] = []
        self._matching = matching

    def match(self, name: str, partner: str, attempt: Attempt) -> HardMatch:
        pair = ImagePair.from_names(name, partner)
        self.asked.append((pair, attempt))
        return HardMatch(None, ADDED if self._matching.get(pair) == attempt else None)


def similar() -> SimilarImages:
    """a3 looks like b0, a2 like b1, a1 like b2 and a0 like b3, the more the earlier in this list."""
    vectors = np.zeros((8, 8), np.float32)
    for k, share in enumerate((0.9, 0.8, 0.7, 0.6)):
        vectors[3 - k, k] = 1
        vectors[4 + k, k], vectors[4 + k, 4 + k] = share, np.sqrt(1 - share**2)
    return SimilarImages((*FIRST, *SECOND), vectors)


def judged(names: tuple[str, ...]) -> JudgedModel:
    images = {name: ImageVerdict("registered") for name in names}
    return JudgedModel(pycolmap.Reconstruction(), ModelVerdict("accepted", {}, images, ()))


def pieces(hard: Recorder, **options: object) -> PiecePairs:
    values: dict[str, object] = {
        "plan": PairPlan((), TransitiveConfig()),
        "verified": (),
        "apart": (),
        "position_m_from_name": {},
        "max_pairs": 8,
    }
    return PiecePairs(hard, similar(), **values | options)


def test_the_most_similar_images_are_asked_for_first_and_enough_is_enough() -> None:
    order = [ImagePair("a3", "b0"), ImagePair("a2", "b1"), ImagePair("a1", "b2"), ImagePair("a0", "b3")]
    hard = Recorder(dict.fromkeys(order, AS_THEY_ARE))
    found = pieces(hard).find([judged(FIRST), judged(SECOND)])
    assert [pair for pair, _ in hard.asked] == order
    assert sorted(found.pairs) == sorted(order)


def test_pairs_that_do_not_match_are_tried_with_more_keypoints_a_few_of_them() -> None:
    first = ImagePair("a3", "b0")
    hard = Recorder({first: MORE_KEYPOINTS})
    found = pieces(hard).find([judged(FIRST), judged(SECOND)])
    assert list(found.pairs) == [first]
    assert sum(attempt == MORE_KEYPOINTS for _, attempt in hard.asked) == 3
    assert 4 <= sum(attempt == AS_THEY_ARE for _, attempt in hard.asked) <= 8


def test_limits_exclusions_and_verified_pairs_are_respected() -> None:
    hard = Recorder({})
    excluded, verified = ImagePair("a3", "b0"), ImagePair("a2", "b1")
    asking = pieces(hard, plan=PairPlan((), TransitiveConfig(), (excluded,)), verified=(verified,), max_pairs=2)
    asked = asking.candidates(FIRST, SECOND)
    assert len(asked) == 2
    assert asked[0] == ImagePair("a1", "b2")
    assert not {excluded, verified} & set(asked)


def test_only_pairs_of_a_list_are_asked_for_if_the_user_gave_one() -> None:
    given = (ImagePair("a0", "a1"), ImagePair("a0", "b0"))
    assert set(pieces(Recorder({}), plan=PairPlan(given)).candidates(FIRST, SECOND)) <= set(given)


def test_near_positions_come_before_far_ones_of_equal_rank() -> None:
    positions = {name: np.array([100.0 * k, 0, 0]) for k, name in enumerate(FIRST)}
    positions |= {name: np.array([100.0 * k, 0, 0]) for k, name in enumerate(SECOND)}
    positions["b3"] = np.array([1.0, 0, 0])
    asked = pieces(Recorder({}), position_m_from_name=positions).candidates(FIRST, SECOND)
    assert asked.index(ImagePair("a0", "b3")) < asked.index(ImagePair("a3", "b0"))


def test_nothing_is_asked_for_between_models_that_look_alike() -> None:
    hard = Recorder({})
    apart = (ImagePair("a0", "b2"),)
    assert not pieces(hard, apart=apart).find([judged(FIRST), judged(SECOND)]).pairs
    assert hard.asked == []


@pytest.mark.parametrize("names", [FIRST, SECOND])
def test_images_of_one_model_are_not_asked_for(names: tuple[str, ...]) -> None:
    asked = pieces(Recorder({})).candidates(FIRST, SECOND)
    assert all(len({pair.name0, pair.name1} & set(names)) == 1 for pair in asked)
