"""Tables and goals of the benchmark of look-alikes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.goals import Goal, at_least, at_most
from benchmarks.lookalikes_verdict import VERDICTS
from sfm_lightglue.evaluation.tables import markdown_table

if TYPE_CHECKING:
    from benchmarks.lookalikes import LookalikeRun

MAX_TIME_SHARE = 0.1
"""Goal for the processor time of the look-alike parts, relative to the runs without them."""


def format_tables(runs: Sequence[LookalikeRun]) -> str:
    """A table of all scenes, one of the shares of verdicts, and one of the scenes without look-alikes."""
    methods = tuple(dict.fromkeys(run.method for run in runs))
    hard, plain = [run for run in runs if not run.is_plain], [run for run in runs if run.is_plain]
    tables = []
    if hard:
        tables += [_scene_table(hard, methods), _share_table(hard, methods)]
    if plain:
        tables.append(_scene_table(plain, methods, with_error=True))
    return "\n\n".join(tables)


def _scene_table(runs: Sequence[LookalikeRun], methods: Sequence[str], with_error: bool = False) -> str:
    rows = []
    for scene, seed in dict.fromkeys((run.scene, run.seed) for run in runs):
        own = {run.method: run for run in runs if (run.scene, run.seed) == (scene, seed)}
        name = f"{scene} {seed}" if seed else scene
        first = next(iter(own.values()))
        cells = [_cell(own[method], with_error) if method in own else "" for method in methods]
        rows.append([name, str(first.num_images), *cells])
    return markdown_table(["scene", "images", *methods], rows, 1)


def _cell(run: LookalikeRun, with_error: bool) -> str:
    sizes = " + ".join(str(model.num_registered) for model in run.models) or "0"
    if with_error:
        error = "" if math.isnan(run.mean_error) else f", {100 * run.mean_error:.2f} %"
        return f"{sizes}{error}"
    return f"{run.verdict}{', told' if run.is_told and run.verdict == 'split' else ''} ({sizes})"


def _share_table(runs: Sequence[LookalikeRun], methods: Sequence[str]) -> str:
    rows = []
    for method in methods:
        own = [run for run in runs if run.method == method]
        counts = [sum(run.verdict == verdict for run in own) for verdict in VERDICTS]
        told = sum(run.verdict == "split" and run.is_told for run in own)
        rows.append([method, str(len(own)), *(str(count) for count in counts), str(told)])
    return markdown_table(["method", "scenes", *VERDICTS, "split and told"], rows, 1)


def goals_of(runs: Sequence[LookalikeRun]) -> list[Goal]:
    """What "ours" must reach, from the runs that were made."""
    ours = {(run.scene, run.seed): run for run in runs if run.method == "ours"}
    colmap = {(run.scene, run.seed): run for run in runs if run.method == "colmap"}
    off = {(run.scene, run.seed): run for run in runs if run.method == "off"}
    hard = [run for run in ours.values() if not run.is_plain]
    goals = []
    if hard:
        both = [key for key, run in colmap.items() if run.verdict == "folded" and key in ours]
        goals.append(at_most("folded, where COLMAP folds", sum(ours[key].verdict == "folded" for key in both), 0))
        goals.append(at_most("folded, of all scenes", sum(run.verdict == "folded" for run in hard), 0))
        right = sum(run.verdict == "right" for run in hard) / len(hard)
        goals.append(at_least("share of scenes right", right, 0.9))
        rest = [run for run in hard if run.verdict != "right"]
        told = sum(run.verdict == "split" and run.is_told for run in rest)
        goals.append(at_least("split and told, of the scenes that are not right", told, len(rest)))
    for key, run in ours.items():
        if key in off and run.is_plain:
            goals += _against_off(run, off[key])
    return goals + _time_goals([(run, off[key]) for key, run in ours.items() if key in off])


def _against_off(run: LookalikeRun, off: LookalikeRun) -> list[Goal]:
    """A scene without look-alikes: the same images, and the same error within 5 %."""
    counts = [max((model.num_registered for model in one.models), default=0) for one in (run, off)]
    goals = [at_least(f"{run.scene}: images registered", counts[0], counts[1])]
    if not math.isnan(off.mean_error):
        goals.append(at_most(f"{run.scene}: error, % of extent", 100 * run.mean_error, 105 * off.mean_error))
    return goals


def _time_goals(pairs: Sequence[tuple[LookalikeRun, LookalikeRun]]) -> list[Goal]:
    """The processor time that runs need more than those without look-alike parts."""
    measured = [(run, off) for run, off in pairs if run.cpu_seconds > 0 and off.cpu_seconds > 0]
    if not measured:
        return []
    ours, off = (sum(one.cpu_seconds for one in column) for column in zip(*measured, strict=True))
    return [at_most(f"additional processor time, {len(measured)} scenes", ours / off - 1, MAX_TIME_SHARE)]
