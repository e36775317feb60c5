"""A scene in doubt is matched more thoroughly, and mapped as if it had been matched so from the start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import sfm_lightglue.reconstruction.job as job_module
import sfm_lightglue.reconstruction.thorough_pairs as thorough_module
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import Check, ImageVerdict, ModelVerdict
from sfm_lightglue.matchers.lightglue import LightGlueMatcher
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.folds import FOLD_CHECK
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.reconstruction.thorough_pairs import asks_for_more, is_in_doubt, tell_doubt, was_thorough
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import ImagePair, Matches
from tests.helpers.folded_models import street_model
from tests.helpers.reconstructions import tree

QUICK = {"first_keypoints": 120}
THOROUGH = {**QUICK, "enough_matches": 80.0, "min_best_score": 0.5}


def config_of(**matcher: object) -> ReconstructConfig:
    density = {"density": {"level": "sparse"}, "refine": {"mode": "off"}}
    extractor = {"max_keypoints": 500}
    return ReconstructConfig.from_mapping({"num_threads": 1, "matcher": matcher, "extractor": extractor, **density})


@pytest.fixture
def num_computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of pairs of each call of the matcher."""
    counts = []
    plain = LightGlueMatcher.match_batch

    def counted(self: LightGlueMatcher, pairs: Sequence[tuple[Any, Any]]) -> list[Matches]:
        counts.append(len(pairs))
        return plain(self, pairs)

    monkeypatch.setattr(LightGlueMatcher, "match_batch", counted)
    return counts


@pytest.fixture(scope="module")
def matched_so_at_once(small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("thorough") / "out"
    reconstruct(small_scene_dir, output, config_of(**THOROUGH))
    return output


def test_a_scene_in_doubt_becomes_what_it_is_with_thorough_matches(
    small_scene_dir: Path,
    matched_so_at_once: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_computed: list[int],
) -> None:
    output = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(thorough_module, "is_in_doubt", lambda weighed, judged: False)
        reconstruct(small_scene_dir, tmp_path / "quick", config_of(**QUICK))
    num_quick = sum(num_computed)
    num_computed.clear()
    asked = []
    with monkeypatch.context() as patch:
        patch.setattr(thorough_module, "is_in_doubt", lambda weighed, judged: asked.append(1) or True)
        reconstruct(small_scene_dir, output, config_of(**QUICK))
    assert asked == [1], "only the first attempt is asked"
    assert num_quick == 15
    assert num_quick < sum(num_computed) < 2 * num_quick, "what stays the same is not computed again"
    assert tree(output / "sparse") == tree(matched_so_at_once / "sparse") != tree(tmp_path / "quick" / "sparse")
    num_computed.clear()
    with monkeypatch.context() as patch:  # a second run does not begin with the first attempt, nor map anything
        patch.setattr(job_module, "map_and_judge", None)
        patch.setattr(thorough_module, "is_in_doubt", None)
        (output / "database.db").unlink()
        again = reconstruct(small_scene_dir, output, config_of(**QUICK))
    assert num_computed == []
    assert tree(output / "sparse") == tree(matched_so_at_once / "sparse")
    assert (output / "database.db").read_bytes() == (matched_so_at_once / "database.db").read_bytes()
    assert "matched thoroughly" in again.summary.pairs


def test_a_killed_second_attempt_goes_on(
    small_scene_dir: Path,
    matched_so_at_once: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    num_computed: list[int],
) -> None:
    plain, calls = job_module.map_and_judge, []

    def killed(*arguments: object) -> list[JudgedModel]:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(thorough_module, "is_in_doubt", lambda weighed, judged: True)
    with monkeypatch.context() as patch:
        patch.setattr(job_module, "map_and_judge", killed)
        with pytest.raises(KeyboardInterrupt):
            reconstruct(small_scene_dir, tmp_path / "out", config_of(**QUICK))
    monkeypatch.setattr(thorough_module, "is_in_doubt", None)  # the second attempt goes on
    num_computed.clear()
    reconstruct(small_scene_dir, tmp_path / "out", config_of(**QUICK))
    assert num_computed == []
    assert tree(tmp_path / "out" / "sparse") == tree(matched_so_at_once / "sparse")


@dataclass(frozen=True)
class Features:
    """The part of `SceneFeatures` that is asked."""

    num_keypoints_from_name: dict[str, int]

    def __iter__(self) -> Iterator[str]:
        return iter(self.num_keypoints_from_name)

    def __len__(self) -> int:
        return len(self.num_keypoints_from_name)


@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("reason", ["", "few keypoints", "known poses", "no doubt"])
def test_a_second_attempt_needs_a_reason_and_can_be_afforded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, reason: str, is_large: bool
) -> None:
    monkeypatch.setattr(thorough_module, "is_in_doubt", lambda weighed, judged: reason != "no doubt")
    monkeypatch.setattr(thorough_module, "_MOST_IMAGES", 5 if is_large else 6)
    features = Features({f"{number}.jpg": 640 + (reason != "few keypoints") for number in range(6)})
    scene = SimpleNamespace(known_poses={"0.jpg": None} if reason == "known poses" else {})
    with Store(tmp_path / "out") as store:
        first, second = (
            SimpleNamespace(
                config=ReconstructConfig(),
                store=store,
                features=features,
                scene=scene,
                keys=SimpleNamespace(mapped=key),
            )
            for key in ("first", "second")
        )
        asks = asks_for_more(first, second, None, [])  # type: ignore[arg-type]
        assert asks == was_thorough(first) == (reason == "" and not is_large)  # type: ignore[arg-type]
        assert not was_thorough(second)  # type: ignore[arg-type]
        tell_doubt(first, None, [])  # type: ignore[arg-type]
    assert ("too large to be matched anew" in caplog.text) == (reason == "" and is_large)


@dataclass(frozen=True)
class Weighed:
    """The part of `WeighedPairs` that is asked."""

    apart: dict[ImagePair, object] = field(default_factory=dict)


def model_of(*names: str, outcome: str = "accepted", **values: object) -> JudgedModel:
    images = {name: ImageVerdict("registered", None, None, 100, 1.0) for name in names}
    checks = {"min_agreement": Check.at_least(1.0, 0.8)}
    return JudgedModel(street_model(False), ModelVerdict(outcome, checks, images, **values))  # type: ignore[arg-type]


APART = Weighed({ImagePair("a.jpg", "c.jpg"): None})


def in_doubt(weighed: Weighed, *judged: JudgedModel) -> bool:
    return is_in_doubt(weighed, judged)  # type: ignore[arg-type]


def test_a_whole_scene_is_not_in_doubt() -> None:
    whole = model_of("a.jpg", "b.jpg", "c.jpg")
    assert not in_doubt(Weighed(), whole)
    assert not in_doubt(APART, whole)
    assert not in_doubt(Weighed(), model_of("a.jpg"), model_of("c.jpg")), "no pair may join them"


def test_pieces_that_pairs_may_join_are_in_doubt() -> None:
    assert in_doubt(APART, model_of("a.jpg", "b.jpg"), model_of("c.jpg", "d.jpg"))
    assert in_doubt(APART, model_of("a.jpg", "b.jpg")), "an image is left over"
    assert in_doubt(APART)
    rejected = model_of("a.jpg", "b.jpg", "c.jpg", outcome="rejected")
    assert in_doubt(APART, rejected)
    told = model_of("a.jpg", "b.jpg", left_out=(("b.jpg", "e.jpg"),))
    assert in_doubt(Weighed(), told)
    assert not in_doubt(Weighed(), replace(told, verdict=replace(told.verdict, left_out=(("a.jpg", "b.jpg"),))))


def test_a_model_that_may_be_folded_is_in_doubt() -> None:
    assert in_doubt(Weighed(), model_of("a.jpg", "b.jpg", maybe_folded=("a.jpg",)))
    folded = model_of("a.jpg", "b.jpg", outcome="rejected")
    checks = {FOLD_CHECK: Check.at_most(1.0, 0.1)}
    folded = replace(folded, verdict=replace(folded.verdict, checks=checks))
    whole = model_of("c.jpg", "d.jpg")
    assert in_doubt(Weighed(), whole, folded)
    assert not in_doubt(Weighed(), whole, model_of("a.jpg", outcome="rejected"))


def test_a_scene_without_a_published_model_is_in_doubt() -> None:
    assert in_doubt(Weighed())
    assert in_doubt(Weighed(), model_of("a.jpg", "b.jpg", outcome="rejected"))
