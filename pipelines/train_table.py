"""The table that `train` prints while it trains."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from statistics import mean

from pipelines.output import say, say_json


class TrainingTable:
    """Prints the rows of the log: those of the training as a table, those of the validation as names and values.

    Args:
        quiet: print nothing.
        as_json: print each row as one line of JSON.
    """

    _COLUMNS = ("step", "loss", "last", "confidence", "norm", "rate", "pairs_per_s", "waiting", "shards", "hours")

    def __init__(self, quiet: bool, as_json: bool = False) -> None:
        self._quiet, self._as_json, self._num_rows = quiet, as_json, 0
        self._speeds: list[tuple[float, float]] = []

    def __call__(self, row: Mapping[str, float]) -> None:
        """Print a row."""
        if "loss" in row:
            self._speeds.append((row["pairs_per_s"], row["waiting"]))
        if self._as_json:
            say_json(dict(row), flush=True)
        if self._quiet or self._as_json:
            return
        if "loss" not in row:
            say(f"{int(row['step']):>11}  validation: {named(row, without=('step',))}", flush=True)
            return
        if self._num_rows % 30 == 0:
            say("".join(f"{name:>12}" for name in self._COLUMNS))
        self._num_rows += 1
        say("".join(f"{self._text(name, row[name]):>12}" for name in self._COLUMNS), flush=True)

    @property
    def throughput(self) -> dict[str, float]:
        """Means of the rows of this session: pairs per second, and fraction of the time spent waiting for scenes."""
        if not self._speeds:
            return {}
        pairs_per_s, waiting = zip(*self._speeds, strict=True)
        return {"pairs_per_s": mean(pairs_per_s), "waiting": mean(waiting)}

    @staticmethod
    def _text(name: str, value: float) -> str:
        if name in {"step", "shards"}:
            return str(int(value))
        if name == "waiting":
            return f"{100 * value:.0f} %"
        return f"{value:.2e}" if name == "rate" else f"{value:.4g}"


def tell(arguments: argparse.Namespace, text: str) -> None:
    """Print a line for people, unless nothing or JSON is wanted."""
    if not arguments.quiet and not arguments.json:
        say(text, flush=True)


def named(values: Mapping[str, float], without: tuple[str, ...] = ()) -> str:
    """Names and values in one line."""
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items() if name not in without)
