"""A street whose two houses have equal upper floors: pairs of different houses are kept apart, true pairs are kept."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.lookalikes.config import LookalikesConfig
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.probability import calibrated_probabilities
from sfm_lightglue.lookalikes.selection import Selection
from sfm_lightglue.mapping.cached_models import MapStatistics, PairStatistics, look_alike_models
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.verdict import ImageVerdict
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.reconstruction.pair_record import pair_evidence, pairs_apart, tell_unverified
from sfm_lightglue.reconstruction.run_record import Summary
from sfm_lightglue.report.images_table import RecordedPair, recorded_pairs
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.into_database import InlierRecord, PairCounts, VerifiedPairRecord, record_of
from sfm_lightglue.stages.matching import match_pairs
from sfm_lightglue.stages.pair_cues import SceneViews, scene_views
from sfm_lightglue.stages.pair_doubt import PairDoubt, PairOverlap
from sfm_lightglue.stages.weighed_pairs import PairSources, WeighedPairs, weigh_scene
from sfm_lightglue.store.store import Store
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.types import Features, ImagePair, Matches, TwoViewGeometry
from tests.helpers.exact_scenes import GIVEN, SIZE, ExactScene
from tests.helpers.judged_models import judged_model
from tests.helpers.lookalike_views import Walk

NUM_IMAGES, STEP, DISTANCE = 10, 1.4, 12.0
"""Images along the street, metres between them, and metres between the houses."""


def name_of(image: int) -> str:
    return f"{image:02d}.jpg"


def street() -> tuple[ExactScene, np.ndarray]:
    """The scene, and for each point the number of the point that it looks like."""
    rng = np.random.default_rng(0)
    house = np.column_stack([rng.uniform(-5, 5, 260), rng.uniform(-4, 0, 260), rng.uniform(9, 11, 260)])
    rest = np.column_stack([rng.uniform(-6, 20, 1000), rng.uniform(0, 4, 1000), rng.uniform(9, 11, 1000)])
    points = np.concatenate([house, house + np.array([DISTANCE, 0, 0]), rest])
    looks = np.concatenate([np.arange(260), np.arange(260), 260 + np.arange(1000)])
    poses = {
        name_of(image): Rigid3(np.eye(3), np.array([-STEP * image, 0.03 * image, 0])) for image in range(NUM_IMAGES)
    }
    return ExactScene(poses, points), looks


def weighed(
    folder: Path, mode: str, trusted: tuple[ImagePair, ...] = (), left_out: tuple[ImagePair, ...] = ()
) -> WeighedPairs:
    scene, looks = street()
    rng = np.random.default_rng(1)
    descriptors = rng.normal(size=(looks.max() + 1, 32)).astype(np.float32)
    features = {}
    for name, (rows, pixels) in scene.observed.items():
        noise = rng.normal(scale=0.1, size=(len(rows), 32)).astype(np.float32)
        ones = np.ones(len(rows), np.float32)
        features[name] = Features(pixels.astype(np.float32), ones, descriptors[looks[rows]] + noise, SIZE)
    store = Store(folder)
    matcher, verifier = CachedMatcher(NearestMatcher(), store), CachedVerifier(TwoViewConfig(), 0, store)
    cameras = dict.fromkeys(features, GIVEN)
    counts = PairCounts(len(scene.pairs), keeps_inliers=mode != "off")
    for result in match_pairs(scene.pairs, features, cameras, matcher, verifier):
        counts.add(result)
    sources = PairSources(features, cameras, matcher, verifier)
    config = LookalikesConfig(mode)
    return weigh_scene(counts, sources, ChecksConfig(), lookalikes=config, trusted=trusted, left_out=left_out)


def gaps(pairs: object) -> set[int]:
    return {int(pair.name1[:2]) - int(pair.name0[:2]) for pair in pairs}


def test_pairs_of_different_houses_are_kept_apart(tmp_path: Path) -> None:
    before, after = weighed(tmp_path, "off"), weighed(tmp_path, "auto")
    assert {8, 9} <= gaps(before.kept), "the houses are not mistaken for each other"
    assert (before.apart, before.overlaps) == ({}, {})
    assert max(gaps(after.kept)) <= 6
    assert {ImagePair(name_of(i), name_of(i + 1)) for i in range(NUM_IMAGES - 1)} <= after.kept.keys()
    assert {8, 9} <= gaps(after.apart)
    assert after.kept.keys() | after.apart.keys() | after.contradicted.keys() == after.overlaps.keys()
    assert all(record.inliers is None for record in after.kept.values())
    true = [after.overlaps[pair].probability for pair in after.kept if gaps([pair]) == {1}]
    false = [after.overlaps[pair].probability for pair in after.apart]
    assert min(true) > 0.5 > max(false)


@pytest.mark.parametrize("mode", ["auto", "strict", "off"])
def test_a_trusted_pair_takes_part(tmp_path: Path, mode: str) -> None:
    pair = ImagePair(name_of(0), name_of(9))
    assert pair in weighed(tmp_path, mode, (pair,)).kept
    unverified = ImagePair("x.jpg", "y.jpg")
    assert unverified not in weighed(tmp_path, mode, (unverified,)).kept


def test_trusted_pairs_without_a_geometry_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    unverified, verified = ImagePair("x.jpg", "y.jpg"), ImagePair(name_of(0), name_of(1))
    tell_unverified((verified,), weighed(tmp_path, "auto", (verified,)))
    assert caplog.text == ""
    tell_unverified((verified, unverified), weighed(tmp_path, "auto", (verified, unverified)))
    assert "1 of the 2 pairs" in caplog.text
    assert "x.jpg - y.jpg" in caplog.text


def test_left_out_pairs_take_no_part_among_twins_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are evidence there, but that others make them probable again does not bring them back."""
    monkeypatch.setattr("sfm_lightglue.lookalikes.probability.has_twins", lambda cues, logits: True)
    monkeypatch.setattr("sfm_lightglue.lookalikes.twins._WRONG_LOGIT", 9.0)
    left_out = ImagePair(name_of(2), name_of(3))
    before, after = weighed(tmp_path, "auto"), weighed(tmp_path, "auto", left_out=(left_out,))
    assert left_out in before.kept
    assert after.has_twins
    assert after.kept.keys().isdisjoint({left_out})
    assert left_out in after.apart
    assert after.overlaps[left_out].probability > 0.5


def test_a_scene_that_has_twins_only_without_the_left_out_pairs_is_weighed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_pairs = len(weighed(tmp_path, "auto").overlaps)
    monkeypatch.setattr("sfm_lightglue.lookalikes.probability.has_twins", lambda cues, logits: len(cues) < num_pairs)
    left_out = ImagePair(name_of(2), name_of(3))
    found = weighed(tmp_path, "auto", left_out=(left_out,))
    assert found.has_twins
    assert left_out in found.apart
    assert left_out in found.overlaps, "it is evidence"


def test_pairs_among_twins_that_are_hardly_probable_do_not_outvote_a_sure_one(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [ImagePair(name_of(i), name_of(i + 1)) for i in range(4)]
    selection = Selection(np.array([True, True, True, False]), *np.zeros((2, 4), np.bool_), True, (0,) * 5)
    monkeypatch.setattr(PairDoubt, "_selected", lambda self, candidates: selection)
    overlaps = {pair: PairOverlap(p, PairCues()) for pair, p in zip(pairs, [0.99, 0.85, 0.6, 0.6], strict=True)}
    config = LookalikesConfig()
    among_twins, without = (PairDoubt(config, pairs, frozenset(), None, overlaps, each) for each in (True, False))
    weights = among_twins.weights(np.full(4, 100.0))
    assert weights[0] > 3 * weights[1] > 30 * weights[2] > weights[3] > 0
    np.testing.assert_allclose(without.weights(np.full(4, 100.0)), [100, 100, 100, 60])


@pytest.mark.parametrize("has_twins", [False, True])
def test_hardly_probable_pairs_that_contradict_others_are_told_as_look_alikes_among_twins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_twins: bool
) -> None:
    """So models of different sides of a building name each other."""
    monkeypatch.setattr("sfm_lightglue.lookalikes.probability.has_twins", lambda cues, logits: has_twins)
    overlaps = weighed(tmp_path, "auto").overlaps
    doubtful, *_, sure = sorted(overlaps, key=lambda pair: overlaps[pair].probability)
    assert overlaps[doubtful].probability < 0.5 < overlaps[sure].probability
    monkeypatch.setattr("sfm_lightglue.stages.weighed_pairs._second_look", lambda *_: ({}, {doubtful, sure}))
    found = weighed(tmp_path, "auto")
    assert sure in found.contradicted
    assert (doubtful in found.contradicted) is not has_twins
    assert (doubtful in found.apart) is has_twins


def walk_doubt(rival: float, joining: tuple[ImagePair, ...] = ()) -> tuple[PairDoubt, ImagePair, ImagePair]:
    """The doubt about two parts, the pair that joins them if nothing contradicts it, and a rival of it."""
    walk, inside = Walk([60 * number for number in range(6)]), [(0, 1), (1, 2), (3, 4), (4, 5)]
    listed = sorted([*inside, *product(range(3), range(3, 6))])
    views = [walk.pair(*ends, shift=0 if ends in {*inside, (2, 3)} else 5) for ends in listed]
    pairs = [ImagePair(name_of(first), name_of(second)) for first, second in listed]
    values = {**dict.fromkeys(inside, 0.95), (2, 3): 0.4, (1, 4): rival}
    overlaps = {pair: PairOverlap(values.get(ends, 0.02), PairCues()) for pair, ends in zip(pairs, listed, strict=True)}
    scene = SceneViews(walk.images, views)
    doubt = PairDoubt(LookalikesConfig(), pairs, frozenset(), scene, overlaps, True, joining=frozenset(joining))
    return doubt, pairs[listed.index((2, 3))], pairs[listed.index((1, 4))]


def test_pairs_that_take_no_part_contradict_others_all_the_same() -> None:
    for value, is_joined in ((0.02, True), (0.3, False)):
        doubt, best, rival = walk_doubt(value)
        candidates = [pair for pair in doubt.pairs if pair != rival]
        assert (best not in doubt.kept_apart(candidates)) is is_joined
        assert rival not in doubt.kept_apart(candidates), "it was not asked about"


def test_a_pair_that_joined_look_alikes_joins_none_again() -> None:
    doubt, best, _ = walk_doubt(0.02)
    assert best not in doubt.kept_apart(doubt.pairs)
    assert best in walk_doubt(0.02, (best,))[0].kept_apart(doubt.pairs)


def test_left_out_pairs_take_no_part_unless_the_user_trusts_them(tmp_path: Path) -> None:
    first, second = (ImagePair(name_of(i), name_of(i + 1)) for i in (2, 5))
    found = weighed(tmp_path, "auto", trusted=(first,), left_out=(first, second))
    assert first in found.kept
    assert second in found.apart
    assert second not in found.overlaps
    evidence = pair_evidence(found)
    rows = [evidence["images"].index(name) for name in (second.name0, second.name1)]
    assert [*rows, None, "apart"] in evidence["pairs"]
    assert all(evidence["pairs"][idx][2] is not None for idx, *_ in evidence["doubtful"])
    assert recorded_pairs({"pairs": evidence})[second.name0, second.name1] == RecordedPair(None, "apart")


def test_strict_uses_no_doubtful_pair(tmp_path: Path) -> None:
    strict = weighed(tmp_path, "strict")
    assert all(strict.overlaps[pair].probability >= 0.5 for pair in strict.kept)


def test_the_record_has_all_pairs(tmp_path: Path) -> None:
    result = weighed(tmp_path, "auto")
    evidence = pair_evidence(result)
    assert len(evidence["pairs"]) == len(result.overlaps)
    apart = [
        (evidence["images"][first], evidence["images"][second])
        for first, second, _, status in evidence["pairs"]
        if status == "apart"
    ]
    assert tuple(apart) == pairs_apart(result)
    for idx, *cues in evidence["doubtful"]:
        assert evidence["pairs"][idx][2] < 0.9
        assert len(cues) == len(evidence["cues"])
    probabilities = [probability for *_, probability, _ in evidence["pairs"]]
    assert len(evidence["doubtful"]) == sum(probability < 0.9 for probability in probabilities)
    cues = [result.overlaps[pair].cues for pair in sorted(result.overlaps)]
    np.testing.assert_allclose(evidence["calibrated"], calibrated_probabilities(cues), atol=1e-4)


def test_calibrated_probabilities_are_recorded_without_twins_only_and_for_known_pairs(tmp_path: Path) -> None:
    left_out = ImagePair(name_of(5), name_of(6))
    found = weighed(tmp_path, "auto", left_out=(left_out,))
    evidence = pair_evidence(found)
    known = [probability is not None for *_, probability, _ in evidence["pairs"]]
    assert [value is not None for value in evidence["calibrated"]] == known
    assert not all(known)
    assert "calibrated" not in pair_evidence(replace(found, has_twins=True))


def test_models_that_look_alike_name_each_other() -> None:
    def model(*names: str):
        return judged_model({name: ImageVerdict("registered", None, 0, 50, 0.9) for name in names})

    published = [model("a", "b", "c"), model("d", "e"), model("f", "a")]
    assert look_alike_models(published, [("a", "d"), ("b", "c")]) == [(1,), (0, 2), (1,)]
    assert look_alike_models(published, [("a", "f"), ("a", "missing")]) == [(), (), ()]
    statistics = MapStatistics((), {}, PairStatistics(apart=(("a", "d"), ("b", "e"))))
    assert Summary.from_statistics(statistics, [], {"total": 1.0}, {}, None).num_pairs_kept_apart == 2


def test_images_stand_in_the_natural_order_of_all_names() -> None:
    names = ["a/2.jpg", "a/9.jpg", "a/10.jpg", "b/1.jpg"]
    points, ones = np.ones((8, 2), np.float32), np.ones(8, np.float32)
    features = {name: Features(points, ones, np.ones((8, 4), np.float32), SIZE) for name in sorted(names)}
    inliers = InlierRecord(np.column_stack([np.arange(8), np.arange(8)]), 8, None)
    record = VerifiedPairRecord("general", Rigid3(np.eye(3), np.zeros(3)), 1.0, 8, 0.0, inliers)
    views = scene_views(
        {ImagePair("a/10.jpg", "a/2.jpg"): record, ImagePair("a/10.jpg", "b/1.jpg"): record}, features, {}, {}
    )
    assert [(image.number, image.folder) for image in views.images] == [(0, "a"), (2, "a"), (3, "b")]
    assert [(pair.image0, pair.image1) for pair in views.pairs] == [(1, 0), (1, 2)]


def test_the_view_of_a_pair_knows_which_keypoints_were_asked() -> None:
    points, ones = np.ones((20, 2), np.float32), np.ones(20, np.float32)
    features = {name: Features(points, ones, np.ones((20, 4), np.float32), SIZE) for name in ("a", "b")}
    rows = np.stack([np.arange(8), np.arange(8)], axis=1).astype(np.int32)
    asked = np.arange(20) % 3 != 2
    identity = Rigid3(np.eye(3), np.zeros(3))
    geometry = TwoViewGeometry("general", np.arange(8) < 5, identity, np.zeros((3, 3)))
    matches = Matches(rows, np.ones(8, np.float32), asked1=asked)
    record = record_of((features["a"], features["b"]), matches, geometry, keeps_inliers=True)
    assert record.inliers is not None and record.inliers.asked1 is not None and record.inliers.asked1.nbytes == 3
    (view,) = scene_views({ImagePair("a", "b"): record}, features, {}, {}).pairs
    assert view.is_asked(0, 20).all()
    assert np.array_equal(view.is_asked(1, 20), asked)
