"""The benchmark of the training: sums of the stopwatch, table, plan for a machine with a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.training import Speed, build_parser, machine_plan, plan_text, run_job, speed_table
from benchmarks.training_job import Stopwatch
from benchmarks.training_losses import Outcome, losses_table
from sfm_lightglue.errors import DataError
from tests.helpers.checkout import ROOT

SPEED = Speed(total=20, views=40, pairs=100, render=8, describe=8, label=2, trained_pairs_per_s=30)


def test_the_stopwatch_counts_nested_functions_of_a_stage_once():
    times = iter(range(100))
    watch = Stopwatch(lambda: next(times))
    inner = watch.timed("render", lambda: 3)
    outer = watch.timed("render", lambda: inner() + inner())
    label = watch.timed("label", lambda: inner())
    assert outer() == 6 and label() == 3
    assert watch.seconds == {"render": 2, "label": 3}
    with pytest.raises(ZeroDivisionError):
        watch.timed("label", lambda: 1 / 0)()
    assert watch.seconds["label"] == 4


def test_the_plan_is_that_of_all_cores_but_one():
    plan = machine_plan(SPEED, num_cores=16, trained_pairs_per_s=5000, minutes=9)
    assert plan.views_per_s == 15 * 40 / 8
    assert plan.pairs_per_s == plan.views_per_s * 100 / 40
    assert plan.needed_cores == plan.views_per_s * 10 / 40
    assert plan.different_pairs == 540 * plan.pairs_per_s and plan.trained_pairs == 540 * 5000
    assert plan.uses == pytest.approx(5000 / plan.pairs_per_s)
    text = plan_text(plan, 16, 9)
    assert "15 processes of SIFT describe 75 views per s" in text and "27 uses of each pair" in text


def test_the_table_has_ratios_to_the_baseline():
    table = speed_table({"ours": SPEED, "old": replace(SPEED, render=16, total=40)})
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]] for line in table.splitlines()}
    assert rows["views rendered per s"] == ["5.00", "2.50", "2.00"]
    assert rows["pairs made per s"] == ["5.00", "2.50", "2.00"]
    assert rows["pairs trained per s"] == ["30.00", "30.00", "1.00"]
    assert "ratio" not in speed_table({"ours": SPEED})


def test_losses_are_means_over_the_seeds():
    def outcome(trained: str, seed: int, loss: float) -> Outcome:
        names = ("held_out_loss", "held_out_last", "recall", "precision")
        return Outcome(trained, "old", seed, dict.fromkeys(names, loss))

    table = losses_table([outcome("old", 0, 1.0), outcome("new", 0, 2.0), outcome("old", 1, 2.0)])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert rows == [
        ["old", "new", "1", *["2.000"] * 4, ""],
        ["old", "old", "2", *["1.500"] * 4, "0.707"],
    ]


def test_a_job_that_fails_is_told():
    with pytest.raises(DataError, match="ZeroDivisionError"):
        run_job(ROOT, ["-c", "1 / 0"])
    assert run_job(ROOT, ["-c", "print(1); print(2)"]) == "2"


def test_the_defaults_are_those_of_the_help():
    arguments = build_parser().parse_args([])
    assert (arguments.cores, arguments.minutes, arguments.baseline, arguments.losses) == (16, 9.0, None, False)
