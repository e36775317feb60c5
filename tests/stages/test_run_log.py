"""The log and the state of a run."""

from __future__ import annotations

import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.stages.run_log import LOG_NAME, STATE_NAME, RunLog, run_log
from sfm_lightglue.store.atomic_file import ABANDONED_AFTER_S
from sfm_lightglue.store.store import Store


def state_in(folder: Path) -> dict[str, object]:
    state: dict[str, object] = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
    return state


def test_warnings_before_and_after_the_folder_exists_are_in_the_log(tmp_path: Path) -> None:
    logger = logging.getLogger("sfm_lightglue.test")
    with run_log("reconstruct") as log:
        logger.warning("left out %s", "fünf.jpg")
        log.open(tmp_path)
        logger.warning("a name that is not Unicode: \udcff")
        log.end("done", "4 of 4 images registered")
    logger.warning("after the run")
    text = (tmp_path / LOG_NAME).read_text(encoding="utf-8")
    assert "reconstruct begins: sfm_lightglue" in text
    assert "warning: left out fünf.jpg" in text
    assert r"\udcff" in text
    assert text.splitlines()[-1].endswith("4 of 4 images registered")
    assert f" {os.getpid()} " in text


def test_the_state_follows_the_stages_and_the_caller_sees_them_too(tmp_path: Path) -> None:
    seen = []
    with run_log("reconstruct", lambda *values: seen.append(values)) as log:
        log.open(tmp_path)
        log.progress("extract", 0, 12)
        state = state_in(tmp_path)
        assert (state["status"], state["stage"], state["done"], state["total"]) == ("running", "extract", 0, 12)
        assert state["process"] == os.getpid()
        assert state["started"] <= state["updated"]  # type: ignore[operator]
        log.progress("extract", 5, 12)
        log.progress("match", 0, 66)
        assert state_in(tmp_path)["stage"] == "match"
        log.end("done", "finished")
    assert state_in(tmp_path)["status"] == "done"
    assert seen == [("extract", 0, 12), ("extract", 5, 12), ("match", 0, 66)]
    assert "extract: begins, 12 to do" in (tmp_path / LOG_NAME).read_text()


def test_each_round_of_a_stage_begins_once(tmp_path: Path) -> None:
    """A process that waits for others reports no finished item again and again."""
    log = RunLog("reconstruct")
    log.open(tmp_path)
    for call in (("extract", 0, 12), ("extract", 0, 12), ("extract", 0, 12), ("extract", 12, 12)):
        log.progress(*call)
    for call in (("match", 0, 5), ("match", 0, 5), ("match", 5, 5), ("match", 0, 0), ("match", 0, 3), ("match", 0, 3)):
        log.progress(*call)
    lines = [line.split(maxsplit=2)[2] for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    told = ["extract: begins, 12 to do", "match: begins, 5 to do", "match: begins", "match: begins, 3 to do"]
    assert lines == told


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (DataError("photos: no such folder"), "failed", "error: photos: no such folder"),
        (KeyboardInterrupt(), "interrupted", "the same command continues"),
        (ZeroDivisionError("division"), "failed", "unexpected error: ZeroDivisionError: division"),
    ],
)
def test_every_end_is_told(error: BaseException, status: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)), run_log("reconstruct") as log:
        log.open(tmp_path)
        raise error
    assert state_in(tmp_path)["status"] == status
    assert told in str(state_in(tmp_path)["message"])
    assert told in (tmp_path / LOG_NAME).read_text()


def test_a_second_run_continues_the_log(tmp_path: Path) -> None:
    for _ in range(2):
        with run_log("reconstruct") as log:
            log.open(tmp_path)
            log.end("done", "finished")
    assert (tmp_path / LOG_NAME).read_text().count("reconstruct begins") == 2


def test_a_log_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).mkdir()
    (tmp_path / STATE_NAME).mkdir()
    log = RunLog("reconstruct")
    log.open(tmp_path)
    log.progress("extract", 0, 1)
    log.end("done", "finished")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_what_a_killed_run_leaves_of_its_state_is_removed_by_a_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("sfm_lightglue.stages.run_log.os.replace", killed)
        RunLog("reconstruct").open(tmp_path)
    (part,) = (path for path in tmp_path.iterdir() if path.name.startswith("."))
    old = time.time() - ABANDONED_AFTER_S - 1
    os.utime(part, (old, old))
    Store(tmp_path)
    assert not part.exists()


class Told:
    """A `WorkProgress` that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int, int]] = []

    def __call__(self, stage: str, num_done: int, num_total: int) -> None:
        raise AssertionError("`advance` is called instead")

    def advance(self, *call: Any) -> None:
        self.calls.append(call)


def test_found_items_are_told_by_what_the_store_lacked(tmp_path: Path) -> None:
    told, store = Told(), Store(tmp_path / "store")
    store.count("two_view", hit=False)  # before the stage
    log = RunLog("reconstruct", told)
    log.watch(store)
    log.progress("match", 0, 9)
    for num_done in range(1, 4):
        store.count("two_view", hit=True)
        log.progress("match", num_done, 9)
    for num_done in range(4, 6):
        store.count("matches", hit=True)
        store.count("two_view", hit=False)
        log.progress("match", num_done, 9)
    assert [found for *_, found in told.calls] == [0, 1, 2, 3, 3, 3]
    log.progress("match", 0, 2)  # a further round
    store.count("matches", hit=False)
    store.count("two_view", hit=False)
    log.progress("match", 1, 2)
    log.progress("map", 0, 4)
    log.progress("map", 2, 4)
    assert told.calls[-4:] == [("match", 0, 2, 0), ("match", 1, 2, 0), ("map", 0, 4, 0), ("map", 2, 4, 0)]


def test_without_a_store_all_items_are_work(tmp_path: Path) -> None:
    told = Told()
    log = RunLog("reconstruct", told)
    log.progress("match", 0, 9)
    log.progress("match", 1, 9)
    assert told.calls == [("match", 0, 9, 0), ("match", 1, 9, 0)]
