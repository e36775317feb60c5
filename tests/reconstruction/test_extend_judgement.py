"""An extended model is judged with what the run of the model before knew about its pairs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import ImageVerdict, ModelVerdict
from sfm_lightglue.reconstruction.extend import extend
from sfm_lightglue.reconstruction.extend_judgement import ExtensionJudge, as_registered
from sfm_lightglue.reconstruction.map_and_judge import against_of
from sfm_lightglue.reconstruction.pair_record import (
    own_probabilities_of_evidence,
    pair_evidence,
    probabilities_of_evidence,
)
from sfm_lightglue.stages.pair_doubt import PairOverlap
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import make_model, ring_scene, write_database
from tests.helpers.folded_models import all_pairs, street_model
from tests.helpers.judged_models import judged_model, record, weighed_pairs
from tests.helpers.reconstructions import one_thread
from tests.helpers.sparse_maps import EXTRACTOR

CONFIG = one_thread(extractor=EXTRACTOR, density={"level": "sparse"}, refine={"mode": "off"})


@pytest.mark.parametrize(("option", "least_gap"), [("probability", 3), ("against", 6)])
@pytest.mark.parametrize(("probability", "is_rejected"), [(1.0, True), (0.05, False)])
def test_pairs_that_the_run_before_hardly_believed_do_not_refuse_a_model(
    tmp_path: Path, option: str, least_gap: int, probability: float, is_rejected: bool
) -> None:
    scene = ring_scene()
    wrong_pose = Rigid3.from_rotvec([0, np.pi / 2, 0], [1, 0, 0])
    wrong = {pair: wrong_pose for pair in scene.pairs if int(pair.name1[:2]) - int(pair.name0[:2]) >= least_gap}
    database = write_database(tmp_path / "database.db", scene, wrong=wrong)
    probabilities = dict.fromkeys(wrong, probability)
    judge = ExtensionJudge(database, ChecksConfig(), frozenset({1}), frozenset(), **{option: probabilities})
    model = make_model(scene)
    assert (judge.problem(model, judge.judge(model)) is not None) == is_rejected


def test_the_record_gives_known_probabilities_of_pairs_that_are_not_trusted() -> None:
    evidence = {
        "has_twins": True,
        "images": ["a.jpg", "b.jpg", "c.jpg"],
        "pairs": [[0, 1, 0.25, "used"], [0, 2, None, "apart"], [1, 2, 0.0, "apart"]],
    }
    assert probabilities_of_evidence(evidence) == {ImagePair("a.jpg", "b.jpg"): 0.25, ImagePair("b.jpg", "c.jpg"): 0.0}
    trusted = [ImagePair("b.jpg", "c.jpg")]
    assert probabilities_of_evidence(evidence, trusted) == {ImagePair("a.jpg", "b.jpg"): 0.25}
    assert probabilities_of_evidence(None) == {}
    assert probabilities_of_evidence({**evidence, "has_twins": False}) == {}, "as when the model before was judged"
    earlier = {key: value for key, value in evidence.items() if key != "has_twins"}
    assert probabilities_of_evidence(earlier) == {}, "a record of an earlier version does not tell it"
    own = {**evidence, "has_twins": False, "own": [0.5, None, 0.1]}
    assert own_probabilities_of_evidence(own) == {ImagePair("a.jpg", "b.jpg"): 0.5, ImagePair("b.jpg", "c.jpg"): 0.1}
    assert own_probabilities_of_evidence(own, trusted) == {ImagePair("a.jpg", "b.jpg"): 0.5}
    assert own_probabilities_of_evidence(evidence) == own_probabilities_of_evidence(None) == {}


def test_the_record_gives_the_probabilities_that_weighed_the_pairs_of_the_model_before() -> None:
    used, apart = ImagePair("a.jpg", "b.jpg"), ImagePair("b.jpg", "c.jpg")
    weighed = weighed_pairs({(used.name0, used.name1): record()})
    weighed = replace(weighed, overlaps={used: PairOverlap(0.9, PairCues())}, apart={apart: record()})
    found = own_probabilities_of_evidence(json.loads(json.dumps(pair_evidence(weighed))))
    assert found == pytest.approx(against_of(weighed, ()), abs=1e-4)
    assert found.keys() == {used}
    assert own_probabilities_of_evidence(pair_evidence(replace(weighed, has_twins=True))) == {}


def test_what_was_not_sure_of_a_model_is_not_sure_of_its_extension() -> None:
    images = {name: ImageVerdict("registered") for name in ("a.jpg", "b.jpg")}
    found = as_registered(judged_model(images, model=make_model(ring_scene(3))), ("note",), ("a.jpg",))
    assert (found.verdict.notes, found.verdict.maybe_folded) == (("note",), ("a.jpg",))


@pytest.mark.parametrize("has_twins", [True, False])
def test_an_extension_uses_the_probabilities_of_a_scene_with_twins_and_keeps_all(
    own_scene: Path, small_scene_dir: Path, monkeypatch: pytest.MonkeyPatch, has_twins: bool
) -> None:
    record = own_scene / "reconstruction" / "run.json"
    before = json.loads(record.read_text())["pairs"]
    seen: list[dict[ImagePair, float]] = []
    problem = ExtensionJudge.problem

    def watched(judge: ExtensionJudge, *models: object) -> str | None:
        seen.append(dict(judge.probability))
        return problem(judge, *models)  # type: ignore[arg-type]

    def as_if(evidence: Mapping[str, Any], trusted: Collection[ImagePair]) -> dict[ImagePair, float]:
        return probabilities_of_evidence({**evidence, "has_twins": has_twins}, trusted)

    monkeypatch.setattr("sfm_lightglue.reconstruction.extend_run.probabilities_of_evidence", as_if)
    monkeypatch.setattr(ExtensionJudge, "problem", watched)
    shutil.copy(small_scene_dir / "images" / "view_04.jpg", own_scene / "images")
    extend(own_scene, config=CONFIG)
    assert len(before["pairs"]) > 0
    assert before["has_twins"] is False
    twins = {**before, "has_twins": has_twins}
    assert len(probabilities_of_evidence(twins)) == (len(before["pairs"]) if has_twins else 0)
    assert seen == [probabilities_of_evidence(twins)]
    assert json.loads(record.read_text())["pairs"] == before, "for the next extension"


@pytest.mark.parametrize(("was_folded", "is_told"), [(False, True), (True, False)])
def test_an_extension_that_may_fold_a_model_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_folded: bool, is_told: bool
) -> None:
    names = all_pairs([f"{house}-{number}.jpg" for house in range(2) for number in range(6)])
    monkeypatch.setattr("sfm_lightglue.reconstruction.extend_judgement.matched_pairs", lambda database: set(names))
    judge = ExtensionJudge(tmp_path / "database.db", ChecksConfig(), frozenset(), frozenset())
    after = JudgedModel(street_model(True), ModelVerdict("accepted", {}, {}))
    found = judge.with_signs(street_model(was_folded), after)
    assert len(found.verdict.maybe_folded) == (12 if is_told else 0)
    assert len(as_registered(found, (), ("a.jpg",)).verdict.maybe_folded) == (13 if is_told else 1)
    right = judge.with_signs(street_model(False), replace(after, model=street_model(False)))
    assert right.verdict.maybe_folded == ()
    assert right.verdict.notes == ()
    twins = replace(judge, probability={ImagePair("a.jpg", "b.jpg"): 0.5}).with_signs(street_model(was_folded), after)
    (note,) = as_registered(twins, (), ()).verdict.notes
    assert "look alike" in note
    assert as_registered(twins, ("before", note)).verdict.notes == ("before", note), "told once"
    with monkeypatch.context() as patch:
        patch.setattr(ExtensionJudge, "_signs", lambda self, model: () if model is right.model else ("a.jpg",))
        assert replace(judge, looks_for_folds=False).with_signs(right.model, after) == after
        signs = iter([("a.jpg", "b.jpg"), ("a.jpg",)])
        patch.setattr(ExtensionJudge, "_signs", lambda self, model: next(signs))
        assert judge.with_signs(right.model, after).verdict.maybe_folded == ("b.jpg",), "those that are new"
        signs = iter([()])
        assert judge.with_signs(right.model, after).verdict.maybe_folded == (), "the model before is not looked at"
