"""Which pairs that were kept apart are asked how two models lie to each other, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.geometry.transforms import Rigid3, Sim3
from sfm_lightglue.mapping.joint_evidence import JointEvidence
from sfm_lightglue.mapping.joint_hypotheses import JointHypothesis
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.pair_agreement import StoredPair
from sfm_lightglue.mapping.verdict import ImageVerdict, ModelVerdict
from sfm_lightglue.reconstruction import hypothesis_pairs
from sfm_lightglue.reconstruction.hypothesis_pairs import HypothesisPairs
from sfm_lightglue.reconstruction.second_mapping import with_joining_note
from sfm_lightglue.stages.added_pairs import AddedPairs
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import ImagePair, Matches, Rejected, TwoViewGeometry
from tests.helpers.judged_models import record, weighed_pairs

FIRST, SECOND = tuple(f"a{k}" for k in range(8)), tuple(f"b{k}" for k in range(8))
NEIGHBOURS = [ImagePair(*names) for names in zip(FIRST, SECOND, strict=True)]
TWINS = [ImagePair(f"a{k}", f"b{(k + j) % 8}") for k in range(8) for j in (3, 4)]
MATCHES = Matches(np.array([[0, 1], [2, 0], [1, 2]], np.int32), np.ones(3, np.float32))
GEOMETRY = TwoViewGeometry("general", np.array([True, False, True]), Rigid3.identity(), np.eye(3))


def judged(names: Sequence[str]) -> JudgedModel:
    images = {name: ImageVerdict("registered") for name in names}
    return JudgedModel(pycolmap.Reconstruction(), ModelVerdict("accepted", {}, images, ()))


def weighed(apart: Sequence[ImagePair] = (*NEIGHBOURS, *TWINS)) -> WeighedPairs:
    return replace(weighed_pairs({("a0", "a1"): record()}), apart={pair: record() for pair in apart})


def hard(result: TwoViewGeometry | Rejected = GEOMETRY) -> Any:
    """Stands for `HardPairs`: every pair matches."""
    keypoints = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    features = SimpleNamespace(keypoints=keypoints, descriptors=np.eye(3, dtype=np.float32))
    names = (*FIRST, *SECOND)
    return SimpleNamespace(
        features=dict.fromkeys(names, features),
        camera_from_name=dict.fromkeys(names),
        matchers=SimpleNamespace(quick=SimpleNamespace(match=lambda *_: MATCHES)),
        verifier=SimpleNamespace(verify=lambda *_: result),
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[StoredPair]:
    """The pairs that are asked; those of neighbours are found to be right, those of twins wrong."""
    found: list[StoredPair] = []

    def hypotheses(
        target: pycolmap.Reconstruction, source: object, pairs: Sequence[StoredPair], side_of: Any, seed: int
    ) -> list[JointHypothesis]:
        assert side_of(target) is side_of(target), "computed once for a model"
        found.extend(pairs)
        names = {ImagePair.from_names(pair.name0, pair.name1) for pair in pairs}
        return [
            JointHypothesis(
                tuple(pair for pair in chosen if pair in names),
                8,
                Sim3.identity(),
                JointEvidence(num_expected, num_matched, (20, 20), (3, 3)),
            )
            for chosen, num_expected, num_matched in ((TWINS, 3000, 300), (NEIGHBOURS, 400, 200))
        ]

    monkeypatch.setattr(hypothesis_pairs, "joint_hypotheses", hypotheses)
    return found


def test_the_pairs_of_the_clear_position_take_part(asked: list[StoredPair]) -> None:
    found = HypothesisPairs(hard(), weighed(), frozenset(), 0).find([judged(FIRST), judged(SECOND)])
    assert list(found.pairs) == sorted(NEIGHBOURS)
    assert found.joining == {*NEIGHBOURS}
    assert found.pairs[NEIGHBOURS[0]] == (MATCHES, GEOMETRY)
    assert len(asked) == len(NEIGHBOURS) + len(TWINS)
    assert asked[0].rows0.tolist() == [0, 1] and asked[0].rows1.tolist() == [1, 2], "inliers only"
    assert asked[0].points1.tolist() == [[3, 4], [5, 6]]


def test_matches_that_were_changed_when_pairs_were_weighed_are_used(asked: list[StoredPair]) -> None:
    changed = (MATCHES, replace(GEOMETRY, inlier_mask=np.array([True, True, True])))
    pairs = replace(weighed(), changed={NEIGHBOURS[0]: changed, NEIGHBOURS[1]: (MATCHES, Rejected("no_model", 3))})
    found = HypothesisPairs(hard(), pairs, frozenset(), 0).find([judged(FIRST), judged(SECOND)])
    assert found.pairs[NEIGHBOURS[0]] == changed
    assert found.joining == {*NEIGHBOURS} - {NEIGHBOURS[1]}


@pytest.mark.parametrize("distrusted", [NEIGHBOURS[0], NEIGHBOURS[7]])
def test_a_position_that_a_pair_of_a_fold_tells_joins_nothing(asked: list[StoredPair], distrusted: ImagePair) -> None:
    pairs = HypothesisPairs(hard(), weighed(), frozenset({distrusted}), 0)
    assert pairs.find([judged(FIRST), judged(SECOND)]).joining == frozenset()
    pairs = HypothesisPairs(hard(), weighed(), frozenset(TWINS), 0)
    assert pairs.find([judged(FIRST), judged(SECOND)]).joining == {*NEIGHBOURS}


def test_pairs_that_took_part_before_keep_their_geometry(asked: list[StoredPair]) -> None:
    pairs = replace(weighed(), kept={NEIGHBOURS[2]: record()})
    found = HypothesisPairs(hard(), pairs, frozenset(), 0).find([judged(FIRST), judged(SECOND)])
    assert found.pairs.keys() == {*NEIGHBOURS} - {NEIGHBOURS[2]}
    assert found.joining == {*NEIGHBOURS}


def test_the_two_models_of_the_clearest_position_are_joined_alone(
    asked: list[StoredPair], monkeypatch: pytest.MonkeyPatch
) -> None:
    third = tuple(f"c{k}" for k in range(8))
    to_third = [ImagePair(*names) for names in zip(FIRST, third, strict=True)]
    ask = hypothesis_pairs.joint_hypotheses

    def hypotheses(*arguments: Any) -> list[JointHypothesis]:
        if {pair.name1[0] for pair in arguments[2]} == {"b"}:
            return ask(*arguments)
        twins, right = ask(*arguments)
        evidence = replace(right.evidence, num_matched=300)
        return [replace(twins, pairs=tuple(TWINS)), replace(right, pairs=tuple(to_third), evidence=evidence)]

    monkeypatch.setattr(hypothesis_pairs, "joint_hypotheses", hypotheses)
    matcher = hard()
    matcher.features.update(dict.fromkeys(third, matcher.features["a0"]))
    matcher.camera_from_name.update(dict.fromkeys(third))
    pairs = HypothesisPairs(matcher, weighed((*NEIGHBOURS, *TWINS, *to_third)), frozenset(), 0)
    found = pairs.find([judged(FIRST), judged(SECOND), judged(third)])
    assert found.joining == {*to_third}
    assert found.joining_note.startswith("models of 8 and 8 images were merged by 8 pairs that may show places that")
    assert (
        "300 of 400 expected points are found at this position, and 300 of 3000 at the next one" in found.joining_note
    )
    assert "`lookalikes.mode` strict keeps them apart" in found.joining_note


def test_models_tell_that_doubtful_pairs_joined_them() -> None:
    added = AddedPairs(joining=frozenset({NEIGHBOURS[0]}), joining_note="were merged by 8 pairs")
    merged, other = with_joining_note([judged(("a0", "b0", "b1")), judged(("a1", "b2"))], added)
    assert merged.verdict.notes == ("were merged by 8 pairs",)
    assert other.verdict.notes == (), "only if both ends of a pair are in one model"
    assert added.without_pairs().joining_note == ""


def test_a_scene_of_many_images_is_not_asked_about(asked: list[StoredPair], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypothesis_pairs, "_MAX_IMAGES", 15)
    assert HypothesisPairs(hard(), weighed(), frozenset(), 0).find([judged(FIRST), judged(SECOND)]).pairs == {}
    assert asked == []


@pytest.mark.parametrize(
    ("models", "apart"),
    [
        ([FIRST], NEIGHBOURS),
        ([FIRST, (*SECOND, "a0")], NEIGHBOURS),
        ([FIRST, SECOND], []),
        ([FIRST[:4], FIRST[4:]], NEIGHBOURS),
    ],
)
def test_other_models_are_not_asked_about(
    asked: list[StoredPair], models: list[tuple[str, ...]], apart: list[ImagePair]
) -> None:
    found = HypothesisPairs(hard(), weighed(apart), frozenset(), 0).find([judged(names) for names in models])
    assert found.pairs == {}
    assert asked == []


def test_pairs_that_do_not_verify_tell_nothing(asked: list[StoredPair]) -> None:
    rejected = hard(Rejected("no_model", 3))
    assert HypothesisPairs(rejected, weighed(), frozenset(), 0).find([judged(FIRST), judged(SECOND)]).pairs == {}
    assert asked == []


def test_of_many_pairs_an_even_choice_is_asked(asked: list[StoredPair], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hypothesis_pairs, "_MAX_PAIRS", 7)
    HypothesisPairs(hard(), weighed(), frozenset(), 0).find([judged(FIRST), judged(SECOND)])
    assert len(asked) == 7
    assert {asked[0].name0, asked[-1].name0} == {"a0", "a7"}
