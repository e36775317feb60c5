"""Finished trials of the robustness benchmark, one JSON object a line, and the table of all of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sfm_lightglue.evaluation.tables import markdown_table


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished trial, or a finished batch of inputs.

    Args:
        id: names it in all starts of the benchmark with one seed.
        kind: line of the table.
        num_trials: number of trials; of inputs in a batch.
        num_refused: trials that ended with an error of the library, as they may.
        seconds: of the slowest.
        violations: what was wrong, each with what repeats it; empty if nothing was.
    """

    id: str
    kind: str
    num_trials: int
    num_refused: int
    seconds: float
    violations: tuple[str, ...] = ()


class TrialLog:
    """A file of finished trials; a second start reads it and leaves out what is in it.

    Args:
        path: of the file; may not exist.
        again: forget the trials with violations, so that they are tried again.
    """

    def __init__(self, path: Path, again: bool = False) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.finished: dict[str, Finished] = {}
        if not path.is_file():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                values = json.loads(line)
            except ValueError:  # torn: the benchmark was killed
                continue
            one = Finished(**values | {"violations": tuple(values["violations"])})
            self.finished[one.id] = one
        if again:
            self.finished = {key: one for key, one in self.finished.items() if not one.violations}

    def add(self, one: Finished) -> None:
        """Append a finished trial."""
        with self._lock:
            self.finished[one.id] = one
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(one), ensure_ascii=True) + "\n")

    @property
    def violations(self) -> list[str]:
        """All violations, with the trials."""
        return [f"{one.id}: {text}" for one in self.finished.values() for text in one.violations]


def format_table(finished: Sequence[Finished]) -> str:
    """The trials by kind."""
    rows = []
    for kind in sorted({one.kind for one in finished}):
        of_kind = [one for one in finished if one.kind == kind]
        num = sum(one.num_trials for one in of_kind)
        refused = sum(one.num_refused for one in of_kind)
        slowest = max(one.seconds for one in of_kind)
        rows.append([kind, str(num), str(refused), f"{slowest:.1f}", str(sum(len(one.violations) for one in of_kind))])
    return markdown_table(["kind", "trials", "ended with an error", "slowest, s", "violations"], rows, num_text=1)
