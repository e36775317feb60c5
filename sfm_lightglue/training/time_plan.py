"""How a run divides its minutes: warm-up, constant learning rate, decay, confidence heads and export.

Times are wall seconds of the run, all sessions together. Each session counts from the start of its process, so that
loading, compiling and waiting for the first training scenes count. There is no clock here: everything is a function
of the elapsed seconds that the caller measures.

    waiting | warm-up | flat | decay | heads | export | over
    0       starts_at_s      decays_at_s   exports_at_s
                  warm_at_s        heads_at_s       ends_at_s
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from sfm_lightglue.errors import ConfigError

Phase = Literal["waiting", "warm-up", "flat", "decay", "heads", "export", "over"]


@dataclass(frozen=True, slots=True)
class TimePlan:
    """Phases of a run of `max_minutes`. `starting_at` fixes them when the first step of a session is possible."""

    max_minutes: float
    """Wall time of the whole run, all sessions together."""

    starts_at_s: float = 0.0
    """When the training begins; before it, scenes are made, or the network is compiled. A session that continues a run
    moves it forward by the seconds that it waited itself."""

    warmup_share: float = 0.02
    """Fraction of the training in which the learning rate rises."""

    flat_share: float = 0.5
    """Fraction of the training before the learning rate falls, with the warm-up."""

    heads_share: float = 0.06
    """Fraction of all minutes in which the confidence heads are trained alone, at most `max_heads_s`."""

    max_heads_s: float = 30.0
    """Largest number of seconds for the confidence heads."""

    export_share: float = 0.06
    """Fraction of all minutes for the last validation and the export, at most `max_export_s`."""

    max_export_s: float = 20.0
    """Largest number of seconds for the last validation and the export."""

    num_keypoints: int = 512
    """Keypoints per view before the learning rate falls."""

    num_decay_keypoints: int = 768
    """Keypoints per view while the learning rate falls, and for the confidence heads."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_minutes) and self.max_minutes > 0):
            raise ConfigError(f"train: max_minutes must be positive, got {self.max_minutes}")
        if not (0 <= self.warmup_share <= self.flat_share < 1):
            raise ConfigError("train: expected 0 <= warmup_share <= flat_share < 1")
        if min(self.heads_share, self.export_share, self.max_heads_s, self.max_export_s) < 0:
            raise ConfigError("train: the times of the confidence heads and of the export must not be negative")
        if self.heads_share + self.export_share >= 1:
            raise ConfigError("train: the confidence heads and the export must leave time for the training")
        if min(self.num_keypoints, self.num_decay_keypoints) < 2:
            raise ConfigError("train: num_keypoints must be at least 2")

    def starting_at(self, first_step_at_s: float, trained_s: float = 0.0) -> TimePlan:
        """The plan for a session whose first step is possible at a time.

        Args:
            first_step_at_s: elapsed seconds of the run, with all earlier sessions.
            trained_s: seconds of training of earlier sessions that this session continues (`trained_s` of the
                checkpoint). The learning rate goes on from there. If this session waited, less time is left, so that
                the rate falls earlier; it never rises.

        Raises:
            ConfigError: if no step can be made in the time that is left, and none was made before.
        """
        if trained_s <= 0:
            self.require_time(first_step_at_s)
        return replace(self, starts_at_s=first_step_at_s - trained_s)

    def require_time(self, elapsed_s: float) -> None:
        """Check that a first step is still possible, also while waiting for the first training scenes.

        Raises:
            ConfigError: if the time for training is over.
        """
        if elapsed_s >= self.heads_at_s:
            raise ConfigError(
                f"max_minutes {self.max_minutes:g}: after {elapsed_s:.0f} s no step was made, and only"
                f" {max(0.0, self.ends_at_s - elapsed_s):.0f} s are left; give more minutes or more workers, or use a"
                " cache with training scenes"
            )

    @property
    def ends_at_s(self) -> float:
        """When the run ends."""
        return 60 * self.max_minutes

    @property
    def exports_at_s(self) -> float:
        """When the confidence heads are finished."""
        return self.ends_at_s - min(self.max_export_s, self.export_share * self.ends_at_s)

    @property
    def heads_s(self) -> float:
        """Seconds in which the confidence heads are trained alone."""
        return min(self.max_heads_s, self.heads_share * self.ends_at_s)

    @property
    def heads_at_s(self) -> float:
        """When the learning rate has fallen to 0."""
        return self.exports_at_s - self.heads_s

    @property
    def training_s(self) -> float:
        """Seconds of training, from the warm-up to the end of the decay; 0 if the time is over."""
        return max(0.0, self.heads_at_s - self.starts_at_s)

    @property
    def warm_at_s(self) -> float:
        """When the warm-up ends."""
        return self.starts_at_s + self.warmup_share * self.training_s

    @property
    def decays_at_s(self) -> float:
        """When the learning rate begins to fall; the state at this time is kept to prolong the run."""
        return self.starts_at_s + self.flat_share * self.training_s

    @property
    def checkpoint_s(self) -> float:
        """Seconds between two checkpoints: a minute, or a tenth of a shorter run."""
        return min(60.0, self.ends_at_s / 10)

    @property
    def log_s(self) -> float:
        """Seconds between two rows of the log."""
        return self.checkpoint_s / 6

    @property
    def phases(self) -> tuple[tuple[Phase, float, float], ...]:
        """Name, first and last second of each phase, in order; a phase without time has equal seconds."""
        ends: tuple[tuple[Phase, float], ...] = (
            ("waiting", self.starts_at_s),
            ("warm-up", self.warm_at_s),
            ("flat", self.decays_at_s),
            ("decay", self.heads_at_s),
            ("heads", self.exports_at_s),
            ("export", self.ends_at_s),
        )
        starts = (0.0, *(end for _, end in ends[:-1]))
        return tuple((name, start, max(start, end)) for start, (name, end) in zip(starts, ends, strict=True))

    def phase(self, elapsed_s: float) -> Phase:
        """The phase at a time."""
        return next((name for name, _, end in self.phases if elapsed_s < end), "over")

    def trained_s(self, elapsed_s: float) -> float:
        """Seconds of training until a time, for the checkpoint."""
        return min(max(0.0, elapsed_s - self.starts_at_s), self.training_s)

    def rate_factor(self, elapsed_s: float) -> float:
        """Learning rate at a time, as a fraction of the constant one: rises from 0, stays 1, and falls to 0."""
        rising = _fraction(elapsed_s - self.starts_at_s, self.warm_at_s - self.starts_at_s)
        falling = _fraction(self.heads_at_s - elapsed_s, self.heads_at_s - self.decays_at_s)
        return min(rising, falling)

    def num_keypoints_at(self, elapsed_s: float) -> int:
        """Keypoints per view at a time."""
        return self.num_keypoints if elapsed_s < self.decays_at_s else self.num_decay_keypoints

    def is_prolonged_from(self, before: TimePlan, elapsed_s: float) -> bool:
        """Whether a run must continue from the state before its learning rate fell.

        Args:
            before: the plan of the last checkpoint.
            elapsed_s: of the last checkpoint.
        """
        has_changed = replace(before, starts_at_s=0.0) != replace(self, starts_at_s=0.0)
        return has_changed and elapsed_s > before.decays_at_s


def _fraction(part: float, whole: float) -> float:
    """`part` / `whole`, limited to [0, 1]; without any whole, 0 or 1 by the sign of `part`."""
    if whole <= 0:
        return float(part >= 0)
    return min(1.0, max(0.0, part / whole))
