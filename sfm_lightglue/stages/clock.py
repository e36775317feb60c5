"""The time that the stages of a run take."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from sfm_lightglue.execution.memory import peak_memory_mb


@dataclass(slots=True)
class Clock:
    """Seconds and memory by stage."""

    seconds: dict[str, float]
    start: float = field(default_factory=time.perf_counter)
    memory_mb: dict[str, float] = field(default_factory=dict)
    """Largest resident memory of the process up to the end of each stage, in MiB, where the system reports it."""

    @classmethod
    def for_stages(cls, stages: tuple[str, ...]) -> Clock:
        """A clock that starts now, with no time spent in any stage."""
        return cls(dict.fromkeys(stages, 0.0))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start
        self._note_memory(name)

    def share_out(self, wall_seconds: float, worked: Mapping[str, float]) -> None:
        """Divide the wall time of stages that run at the same time in proportion to their work.

        Args:
            wall_seconds: of all of them.
            worked: seconds of the workers by stage.
        """
        total = sum(worked.values())
        for stage, seconds in worked.items():
            self.seconds[stage] += wall_seconds * (seconds / total if total else 1 / len(worked))
            self._note_memory(stage)

    def _note_memory(self, name: str) -> None:
        peak = peak_memory_mb()
        if peak is not None:
            self.memory_mb[name] = peak

    def total(self) -> dict[str, float]:
        """Seconds by stage, and "total" since the clock was made."""
        return self.seconds | {"total": time.perf_counter() - self.start}
