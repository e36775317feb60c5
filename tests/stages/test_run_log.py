"""The log and the state of a run."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.stages.run_log import LOG_NAME, STATE_NAME, RunLog, run_log


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
