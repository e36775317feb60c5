"""The time that the stages of a run take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Clock:
    """Seconds by stage."""

    seconds: dict[str, float]
    start: float = field(default_factory=time.perf_counter)

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

    def total(self) -> dict[str, float]:
        """Seconds by stage, and "total" since the clock was made."""
        return self.seconds | {"total": time.perf_counter() - self.start}
