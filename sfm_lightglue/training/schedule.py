"""Schedules of a run: how the learning rate follows the number of steps, or the time that has passed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sfm_lightglue.training.options import RunOptions, TrainingConfig, learning_rate
from sfm_lightglue.training.time_plan import TimePlan


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is."""

    step: int
    """Number of finished steps."""

    elapsed_s: float
    """Wall time of the run, all sessions together, each from the start of its process."""


class Schedule(Protocol):
    """What the training does at some progress."""

    def rate(self, progress: Progress) -> float:
        """Learning rate of the next step."""

    def num_keypoints(self, progress: Progress) -> int | None:
        """Number of keypoints per view of the next step; None for that of the configuration."""

    def is_over(self, progress: Progress) -> bool:
        """Whether no step follows."""

    def falls_from_here(self, progress: Progress) -> bool:
        """Whether the learning rate has begun to fall; the state before is kept, to prolong the run from there."""


@dataclass(frozen=True, slots=True)
class StepSchedule:
    """A run of a fixed number of steps: warm-up, constant rate, linear decay to 0."""

    config: TrainingConfig
    options: RunOptions

    def rate(self, progress: Progress) -> float:
        """Learning rate of the next step."""
        return learning_rate(progress.step, self.config, self.options)

    def num_keypoints(self, progress: Progress) -> int | None:
        """That of the configuration."""
        return None

    def is_over(self, progress: Progress) -> bool:
        """Whether all steps are done."""
        return progress.step >= self.options.num_steps

    def falls_from_here(self, progress: Progress) -> bool:
        """Whether the last steps begin."""
        return progress.step >= self.options.num_steps - self.options.num_decay_steps


@dataclass(frozen=True, slots=True)
class TimeSchedule:
    """A run that follows a plan of wall time."""

    config: TrainingConfig
    plan: TimePlan

    def rate(self, progress: Progress) -> float:
        """Learning rate of the next step."""
        return self.config.learning_rate * self.plan.rate_factor(progress.elapsed_s)

    def num_keypoints(self, progress: Progress) -> int | None:
        """That of the plan."""
        return self.plan.num_keypoints_at(progress.elapsed_s)

    def is_over(self, progress: Progress) -> bool:
        """Whether the rest of the time is for the confidence heads and the export."""
        return progress.elapsed_s >= self.plan.heads_at_s

    def falls_from_here(self, progress: Progress) -> bool:
        """Whether the decay has begun."""
        return progress.elapsed_s >= self.plan.decays_at_s


class Due(NamedTuple):
    """What is to be done after a step."""

    log: bool
    validation: bool
    checkpoint: bool


class Intervals:
    """When a run writes its log and its checkpoints, and validates: by steps, or by the seconds of its plan.

    A run with a plan is not validated meanwhile.

    Args:
        options: of the run.
        elapsed_s: when the intervals begin.
    """

    def __init__(self, options: RunOptions, elapsed_s: float) -> None:
        self._options = options
        self._logged_s = self._saved_s = elapsed_s

    def due(self, progress: Progress, is_over: bool) -> Due:
        """What is to be done after the last step."""
        options, plan, step = self._options, self._options.plan, progress.step
        if plan is None:
            is_saved = is_over or step % options.checkpoint_every == 0
            return Due(step % options.log_every == 0, is_over or step % options.validate_every == 0, is_saved)
        is_logged = progress.elapsed_s - self._logged_s >= plan.log_s
        is_saved = is_over or progress.elapsed_s - self._saved_s >= plan.checkpoint_s
        if is_logged or is_saved:
            self._logged_s = progress.elapsed_s
        if is_saved:
            self._saved_s = progress.elapsed_s
        return Due(is_logged, False, is_saved)
