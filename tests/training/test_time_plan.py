"""The plan of a run of some minutes: phases fill the time, and the learning rate is continuous and falls to 0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.training.time_plan import TimePlan

NAMES = ["waiting", "warm-up", "flat", "decay", "heads", "export"]
PLANS = [TimePlan(0.5).starting_at(6), TimePlan(9).starting_at(48.5), TimePlan(600).starting_at(0)]


@pytest.mark.parametrize("plan", PLANS)
def test_phases_fill_the_minutes(plan):
    names, starts, ends = zip(*plan.phases, strict=True)
    assert list(names) == NAMES
    assert starts[0] == 0 and ends[-1] == 60 * plan.max_minutes
    assert starts[1:] == ends[:-1] and np.all(np.diff(ends) >= 0)
    for name, start, end in plan.phases:
        if end > start:
            assert plan.phase(start) == plan.phase((start + end) / 2) == name
    assert plan.phase(ends[-1]) == "over"


@pytest.mark.parametrize("plan", PLANS)
def test_shares_are_those_of_the_time_that_is_left(plan):
    assert plan.training_s == pytest.approx(
        plan.ends_at_s - plan.starts_at_s - plan.heads_s - (plan.phases[-1][2] - plan.exports_at_s)
    )
    assert plan.warm_at_s - plan.starts_at_s == pytest.approx(0.02 * plan.training_s)
    assert plan.decays_at_s - plan.starts_at_s == pytest.approx(0.5 * plan.training_s)
    assert plan.heads_s == pytest.approx(min(30, 0.06 * plan.ends_at_s))
    assert plan.ends_at_s - plan.exports_at_s == pytest.approx(min(20, 0.06 * plan.ends_at_s))


@pytest.mark.parametrize("plan", PLANS)
def test_the_rate_is_continuous_and_falls_to_0(plan):
    times = np.linspace(0, plan.ends_at_s, 20_001)
    factors = np.array([plan.rate_factor(time) for time in times])
    steepest = 1 / (0.02 * plan.training_s)
    assert np.abs(np.diff(factors)).max() <= steepest * times[1] * (1 + 1e-9)
    assert factors.min() == 0 and factors.max() == 1
    assert np.all(factors[times <= plan.starts_at_s] == 0)
    flat = (times >= plan.warm_at_s) & (times <= plan.decays_at_s)
    assert flat.any() and np.all(factors[flat] == 1)
    decay = (times >= plan.decays_at_s) & (times <= plan.heads_at_s)
    assert np.all(np.diff(factors[decay]) < 0)
    assert np.all(factors[times >= plan.heads_at_s] == 0)
    middle = (plan.decays_at_s + plan.heads_at_s) / 2
    assert plan.rate_factor(middle) == pytest.approx(0.5)
    assert plan.rate_factor((plan.starts_at_s + plan.warm_at_s) / 2) == pytest.approx(0.5)


def test_without_warm_up_the_rate_begins_at_1():
    plan = TimePlan(1, warmup_share=0).starting_at(10)
    assert plan.rate_factor(9.99) == 0 and plan.rate_factor(10) == 1


def test_the_decay_has_more_keypoints():
    plan = TimePlan(9, num_keypoints=256, num_decay_keypoints=384).starting_at(30)
    found = [plan.num_keypoints_at(time) for time in (30, plan.decays_at_s - 1e-6, plan.decays_at_s, plan.ends_at_s)]
    assert found == [256, 256, 384, 384]


@pytest.mark.parametrize(("minutes", "seconds"), [(0.5, 3), (2, 12), (9, 54), (10, 60), (600, 60)])
def test_checkpoints_are_written_every_minute_or_more_often(minutes, seconds):
    assert TimePlan(minutes).checkpoint_s == pytest.approx(seconds)
    assert TimePlan(minutes).log_s == pytest.approx(seconds / 6)


def test_a_resumed_session_continues_at_the_same_rate_if_it_did_not_wait():
    plan = TimePlan(9).starting_at(40)
    for elapsed_s in (45, 200, 400):
        assert plan.starting_at(elapsed_s, plan.trained_s(elapsed_s)) == plan


@pytest.mark.parametrize("stopped_at_s", [50, 200, 400])
@pytest.mark.parametrize("waited_s", [5, 60])
def test_a_resumed_session_that_waited_decays_earlier_and_ends_at_the_same_time(stopped_at_s, waited_s):
    plan = TimePlan(9).starting_at(40)
    resumed_at_s = stopped_at_s + waited_s
    resumed = plan.starting_at(resumed_at_s, plan.trained_s(stopped_at_s))
    assert resumed.trained_s(resumed_at_s) == pytest.approx(plan.trained_s(stopped_at_s))
    assert resumed.training_s == pytest.approx(plan.training_s - waited_s)
    assert resumed.heads_at_s == plan.heads_at_s and resumed.ends_at_s == plan.ends_at_s
    if plan.phase(stopped_at_s) == "decay":
        assert resumed.rate_factor(resumed_at_s) < plan.rate_factor(stopped_at_s)


def test_a_finished_run_with_more_minutes_trains_longer_at_the_full_rate():
    """The seconds of the discarded decay count as used, but not as training."""
    short = TimePlan(9).starting_at(40)
    long = TimePlan(20)
    assert long.is_prolonged_from(short, short.heads_at_s)
    assert not long.is_prolonged_from(short, short.decays_at_s)
    assert not TimePlan(9).is_prolonged_from(short, short.heads_at_s)
    used_s, stable_s = short.ends_at_s, short.trained_s(short.decays_at_s)
    resumed = long.starting_at(used_s + 20, stable_s)
    assert resumed.rate_factor(used_s + 20) == 1
    assert resumed.decays_at_s > used_s + 20
    assert resumed.training_s == pytest.approx(long.heads_at_s - used_s - 20 + stable_s)
    assert resumed.decays_at_s - used_s - 20 == pytest.approx(0.5 * resumed.training_s - stable_s)


def test_a_resumed_session_without_time_trains_no_more():
    plan = TimePlan(1).starting_at(5)
    late = plan.starting_at(200, plan.trained_s(30))
    assert late.phase(200) == "over" and late.rate_factor(200) == 0
    stopped_in_heads = plan.starting_at(plan.heads_at_s + 1, plan.trained_s(plan.heads_at_s + 1))
    assert stopped_in_heads.phase(plan.heads_at_s + 1) == "heads"
    assert stopped_in_heads.rate_factor(plan.heads_at_s + 1) == 0


def test_no_time_for_a_first_step_is_an_error():
    plan = TimePlan(0.5)
    plan.require_time(0)
    for elapsed_s in (plan.heads_at_s, 40):
        with pytest.raises(ConfigError, match=r"max_minutes 0\.5: after \d+ s no step was made.*more minutes"):
            plan.starting_at(elapsed_s)
        with pytest.raises(ConfigError, match="more workers"):
            plan.require_time(elapsed_s)


@pytest.mark.parametrize(
    "values",
    [
        {"max_minutes": 0},
        {"max_minutes": -1},
        {"max_minutes": float("nan")},
        {"max_minutes": float("inf")},
        {"warmup_share": 0.6},
        {"flat_share": 1.0},
        {"warmup_share": -0.1},
        {"heads_share": 0.6, "export_share": 0.4},
        {"max_heads_s": -1},
        {"num_keypoints": 1},
    ],
)
def test_impossible_values_are_refused(values):
    with pytest.raises(ConfigError, match="train: "):
        replace(TimePlan(1), **values)
