"""Which selections of pairs are continued in further rounds, and what models depend on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.exhaustive import ExhaustivePairs
from sfm_lightglue.pairs.pair_sets import IndexedPairs, pairs_digest
from sfm_lightglue.pairs.sequential import SequentialConfig, SequentialPairs
from sfm_lightglue.pairs.transitive import TransitiveConfig
from sfm_lightglue.stages.pair_plan import PairPlan, plan_pairs
from sfm_lightglue.types import Camera, ImagePair, Scene, SceneImage

CAMERA = Camera("SIMPLE_PINHOLE", 64, 48, (70, 32, 24))
SCENE = Scene(Path(), tuple(SceneImage(f"{i}.jpg", Path(), CAMERA, 0, "") for i in range(5)))
ROUNDS = TransitiveConfig(rounds=3)


class Excluding(SequentialPairs):
    """A selector with pairs that are not wanted, and an explanation."""

    explanation = "two steps"

    def excluded(self, scene: Scene) -> Sequence[ImagePair]:
        return IndexedPairs.from_pairs(scene.names, [ImagePair("0.jpg", "4.jpg")])


@pytest.mark.parametrize(
    ("name", "rounds"),
    [("sequential", 3), ("sequential+file", 3), ("auto", 3), ("file", 0), ("my_own", 0), ("my_own+file", 0)],
)
def test_selections_that_guess_have_further_rounds(name: str, rounds: int) -> None:
    selector = SequentialPairs(SequentialConfig(1, quadratic=False))
    plan = plan_pairs(selector, name, PairContext(SCENE), ROUNDS)
    assert plan.transitive.rounds == rounds


def test_all_pairs_have_none() -> None:
    plan = plan_pairs(ExhaustivePairs(), "auto", PairContext(SCENE), ROUNDS)
    assert plan.transitive.rounds == 0
    assert plan.identity == (pairs_digest(plan.pairs),)


def test_excluded_pairs_and_explanation_come_from_the_selector() -> None:
    plan = plan_pairs(Excluding(SequentialConfig(1, quadratic=False)), "sequential", PairContext(SCENE), ROUNDS)
    assert list(plan.excluded) == [ImagePair("0.jpg", "4.jpg")]
    assert plan.chosen == "two steps"
    assert plan_pairs(SequentialPairs(), "sequential", PairContext(SCENE), ROUNDS).chosen == "sequential"


def test_pairs_that_all_are_asked_or_excluded_leave_none_to_suggest() -> None:
    plan = plan_pairs(Excluding(SequentialConfig(3, quadratic=False)), "sequential", PairContext(SCENE), ROUNDS)
    assert len(plan.pairs) == 9
    assert plan.transitive.rounds == 0


def test_a_plan_allows_what_may_be_matched() -> None:
    first, second = ImagePair("0.jpg", "1.jpg"), ImagePair("0.jpg", "2.jpg")
    pairs, excluded = (IndexedPairs.from_pairs(SCENE.names, [one]) for one in (first, second))
    assert PairPlan(pairs).is_exact
    assert [PairPlan(pairs).allows(one) for one in (first, second)] == [True, False]
    guessing = PairPlan(pairs, ROUNDS, excluded)
    assert [guessing.allows(one) for one in (first, second, ImagePair("3.jpg", "4.jpg"))] == [True, False, True]
    assert PairPlan(ExhaustivePairs().select(PairContext(SCENE))).allows(second)


def test_models_depend_on_rounds_and_excluded_pairs() -> None:
    pairs = IndexedPairs.from_pairs((), [ImagePair("0.jpg", "1.jpg")])
    excluded = IndexedPairs.from_pairs((), [ImagePair("0.jpg", "2.jpg")])
    plans = [
        PairPlan(pairs),
        PairPlan(pairs, ROUNDS),
        PairPlan(pairs, TransitiveConfig(rounds=1)),
        PairPlan(pairs, ROUNDS, excluded),
    ]
    assert len({plan.identity for plan in plans}) == len(plans)
    assert PairPlan(pairs, chosen="why").identity == PairPlan(pairs).identity
