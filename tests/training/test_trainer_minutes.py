"""Runs with a plan of time: they end in time, keep checkpoints, continue and are prolonged."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.training.checkpoints import LAST, STABLE, load_checkpoint
from sfm_lightglue.training.confidence import ConfidenceConfig
from sfm_lightglue.training.time_plan import TimePlan
from sfm_lightglue.training.trainer import LOG_NAME, Trainer
from tests.helpers.training_scenes import SHORT, TINY


@pytest.fixture
def clock(monkeypatch) -> Iterator[None]:
    """Time passes only when somebody looks at the clock: 20 milliseconds each time."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: 0.02 * next(ticks))
    yield


@pytest.mark.usefixtures("clock")
def test_a_plan_of_time_ends_in_time_and_keeps_checkpoints(tmp_path, shards):
    """Warm-up, constant rate and decay follow the clock; heads and validation follow."""
    plan = TimePlan(0.1, num_keypoints=30, num_decay_keypoints=48)
    rows: list[dict[str, float]] = []
    trainer = Trainer(TINY, replace(SHORT, plan=plan), tmp_path, started=time.perf_counter())
    trainer.run(shards, report=lambda row: rows.append(dict(row)))
    assert plan.heads_at_s - 0.5 <= trainer.elapsed_s < plan.ends_at_s
    trained, validated = [row for row in rows if "loss" in row], [row for row in rows if "loss" not in row]
    assert trainer.step > 10 and trained[-1]["step"] == trainer.step
    rates = [row["rate"] for row in trained]
    assert rates[-1] < 0.2 * TINY.learning_rate < max(rates) <= TINY.learning_rate
    assert all(0 <= row["waiting"] < 1 and row["pairs_per_s"] > 0 for row in trained)
    assert [row["step"] for row in validated] == [0]
    stable, last = (load_checkpoint(tmp_path / name) for name in (STABLE, LAST))
    assert 0 < stable["step"] < last["step"] == trainer.step
    assert plan.ends_at_s / 2 < last["seconds"] and last["plan"]["max_minutes"] == 0.1
    network, step = trainer.best_result()
    losses = trainer.train_heads(network, shards, ConfidenceConfig(1000))
    assert 0 < len(losses) < 1000 and trainer.elapsed_s < plan.exports_at_s + 1
    metrics = trainer.validate(network, shards)
    logged = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert step == trainer.step and logged[-1] == {"step": step, **metrics} and "held_out_loss" in metrics


@pytest.mark.usefixtures("clock")
def test_a_killed_run_with_a_plan_continues_with_the_minutes_that_are_left(tmp_path, shards):
    plan = TimePlan(0.1)

    class Killed(Exception):
        pass

    def kill(row):
        if row["step"] > 0 and row["hours"] * 3600 > 2:
            raise Killed

    options = replace(SHORT, plan=replace(plan, num_keypoints=48, num_decay_keypoints=48))
    with pytest.raises(Killed):
        Trainer(TINY, options, tmp_path).run(shards, report=kill)
    killed = load_checkpoint(tmp_path / LAST)
    assert killed["seconds"] < 3
    resumed = Trainer(TINY, options, tmp_path)
    assert resumed.step == killed["step"] > 0 and resumed.elapsed_s >= killed["seconds"]
    resumed.run(shards)
    assert plan.heads_at_s - 0.5 <= resumed.elapsed_s < plan.ends_at_s
    assert resumed.step > killed["step"] and Trainer(TINY, options, tmp_path).is_over


@pytest.mark.usefixtures("clock")
def test_a_finished_plan_is_prolonged_from_before_its_decay(tmp_path, shards):
    options = replace(SHORT, plan=TimePlan(0.03, num_keypoints=48, num_decay_keypoints=48))
    Trainer(TINY, options, tmp_path).run(shards)
    stable = load_checkpoint(tmp_path / STABLE)
    longer = replace(options, plan=replace(options.plan, max_minutes=1.0))
    prolonged = Trainer(TINY, longer, tmp_path)
    assert prolonged.step == stable["step"] and not prolonged.is_over
    last = load_checkpoint(tmp_path / LAST)
    assert prolonged.elapsed_s > last["seconds"] > stable["seconds"]  # the discarded decay was used too


@pytest.mark.usefixtures("clock")
def test_a_session_that_waits_into_the_decay_keeps_the_state_before_it(tmp_path, shards):
    class Killed(Exception):
        pass

    def kill(row):
        if row["step"] > 0 and row["hours"] * 3600 > 2:
            raise Killed

    options = replace(SHORT, plan=TimePlan(0.1, num_keypoints=48, num_decay_keypoints=48))
    with pytest.raises(Killed):
        Trainer(TINY, options, tmp_path).run(shards, report=kill)
    killed = load_checkpoint(tmp_path / LAST)
    assert not (tmp_path / STABLE).exists()
    Trainer(TINY, options, tmp_path, started=time.perf_counter() - 2.5).run(shards)
    assert load_checkpoint(tmp_path / STABLE)["step"] == killed["step"]


@pytest.mark.usefixtures("clock")
def test_a_plan_without_time_for_a_step_is_refused(tmp_path, shards):
    options = replace(SHORT, plan=TimePlan(0.01, num_keypoints=48, num_decay_keypoints=48))
    with pytest.raises(ConfigError, match=r"max_minutes 0\.01: after \d+ s no step was made"):
        Trainer(TINY, options, tmp_path, started=time.perf_counter() - 1).run(shards)
