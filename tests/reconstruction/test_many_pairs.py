"""Very many pairs: a question where somebody can answer, else a warning."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.exhaustive import ExhaustivePairs
from sfm_lightglue.pairs.sequential import SequentialPairs
from sfm_lightglue.reconstruction import many_pairs
from sfm_lightglue.reconstruction.add_to_database import add_to_database
from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig
from sfm_lightglue.reconstruction.many_pairs import MANY_PAIRS, confirm_pairs
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.types import Camera, Scene, SceneImage
from tests.helpers.reconstructions import one_thread

CAMERA = Camera("SIMPLE_PINHOLE", 64, 48, (70, 32, 24))


def scene_of(num_images: int) -> Scene:
    return Scene(Path(), tuple(SceneImage(f"{i:05d}.jpg", Path(), CAMERA, 0, "") for i in range(num_images)))


def test_the_question_states_number_and_time() -> None:
    asked: list[str] = []
    confirm_pairs(ExhaustivePairs(), scene_of(5000), lambda question: not asked.append(question), lambda: 0.05)
    (question,) = asked
    assert "12,497,500 pairs of 5,000 images" in question
    assert "at 0.05 s a pair, as measured on this machine, this takes 7 days" in question
    assert "sequential" in question


def test_a_no_ends_the_job_before_any_work() -> None:
    with pytest.raises(ConfigError, match="stopped before the work began"):
        confirm_pairs(ExhaustivePairs(), scene_of(5000), lambda question: False, lambda: 0.1)


def test_without_a_terminal_there_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        confirm_pairs(ExhaustivePairs(), scene_of(5000), None, lambda: 0.1)
    assert "12,497,500 pairs" in caplog.text


def test_few_pairs_are_no_question(caplog: pytest.LogCaptureFixture) -> None:
    def fail(question: str) -> bool:
        raise AssertionError(question)

    def measure() -> float:
        raise AssertionError("nothing is to be measured")

    confirm_pairs(ExhaustivePairs(), scene_of(400), fail, measure)
    assert MANY_PAIRS > 400 * 399 // 2
    confirm_pairs(SequentialPairs(), scene_of(5000), fail, measure)
    confirm_pairs(ExhaustivePairs(), scene_of(400), None, measure)
    assert caplog.text == ""


@pytest.mark.parametrize("makes_database", [False, True])
def test_the_time_is_measured_before_the_question(
    small_scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, makes_database: bool
) -> None:
    monkeypatch.setattr(many_pairs, "MANY_PAIRS", 15)
    asked: list[str] = []

    def refuse(question: str) -> bool:
        asked.append(question)
        return False

    options = {"num_threads": 1, "matcher": {"name": "nearest"}}
    with pytest.raises(ConfigError, match="stopped before the work began: 15 pairs"):
        if makes_database:
            config = DatabaseConfig.from_mapping(options)
            add_to_database(tmp_path / "a.db", small_scene_dir / "images", config, tmp_path / "out", confirm=refuse)
        else:
            reconstruct(small_scene_dir, tmp_path / "out", ReconstructConfig.from_mapping(options), confirm=refuse)
    (question,) = asked
    assert re.search(r"15 pairs of 6 images will be matched; at \S+ s a pair, as measured on this machine", question)
    assert not (tmp_path / "out" / "features").exists()


def test_progress_begins_with_the_first_file_that_is_read(small_scene_dir: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    class Stopped(Exception):
        pass

    def stop_at_first_feature(stage: str, num_done: int, num_total: int) -> None:
        seen.append((stage, num_done, num_total))
        if (stage, num_done) == ("extract", 1):
            raise Stopped

    with pytest.raises(Stopped):
        reconstruct(small_scene_dir, tmp_path / "out", one_thread(), stop_at_first_feature)
    assert seen == [*(("scan", i, 6) for i in range(7)), ("extract", 0, 6), ("extract", 1, 6)]
