"""Training of a LightGlue on labelled pairs, in one or several sessions.

The learning rate rises, stays constant, and falls linearly to 0 at the end (warm-up, stable, decay), by the number of
steps or by a plan of wall time. A run can be prolonged at any time from the checkpoint before the decay, so its length
need not be known beforehand.
"""

from __future__ import annotations

import copy
import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.devices import resolve_device
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.training.checkpoints import (
    BEST,
    LAST,
    STABLE,
    append_line,
    checkpoint_to_resume,
    load_checkpoint,
    require_same_config,
    save_checkpoint,
)
from sfm_lightglue.training.confidence import ConfidenceConfig, train_confidence
from sfm_lightglue.training.data.batches import BatchConfig
from sfm_lightglue.training.data.pair_pool import PairPool, ShardSource
from sfm_lightglue.training.metrics import Meter
from sfm_lightglue.training.options import RunOptions, TrainingConfig
from sfm_lightglue.training.replicas import Replicas
from sfm_lightglue.training.schedule import Intervals, Progress, Schedule, StepSchedule, TimeSchedule
from sfm_lightglue.training.time_plan import TimePlan
from sfm_lightglue.training.training_step import TrainingStep
from sfm_lightglue.training.validation import Validation, Validator

LOG_NAME = "log.jsonl"

_MOST_PAIRS_FOR_HEADS = 32

Report = Callable[[Mapping[str, float]], None]
"""Called with every row of the log."""


def new_network(architecture: LightGlueArchitecture, seed: int) -> LightGlue:
    """A network with random weights.

    Positions are encoded as angles w . (x, y, scale, orientation); attention depends on their differences. (x, y)
    are in [-1, 1], and their weights have variance 1, as in the paper. Scales are 2 to 100 pixels: their weights are
    divided by 10, else small differences of scale would be many full turns. Orientations are radians: their weights
    are integers, so that a full turn changes nothing.

    Args:
        architecture: of the network.
        seed: of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LightGlue(architecture)
        if architecture.use_scale_orientation:
            with torch.no_grad():
                weight = network.position_projection.weight  # [d / 2, 4]
                weight[:, 2] *= 0.1
                weight[:, 3].round_()
    return network


class Trainer:
    """One training run, new or resumed.

    Args:
        config: what is trained.
        options: for how long.
        folder: of the run, for checkpoints and log.
        initial: network whose weights a new run starts from; of a deeper network, the first layers are used. None
            starts from random weights.
        replicas: the processes that train together; each has its own trainer.
        started: value of `time.perf_counter` at the start of this process, from which a plan of time counts; None is
            now.

    Raises:
        ConfigError: if the folder holds a run with another configuration, the device does not exist, or a
            batch cannot be divided among the processes.
        DataError: if the checkpoint of the run is damaged.
    """

    def __init__(
        self,
        config: TrainingConfig,
        options: RunOptions,
        folder: Path,
        initial: LightGlue | None = None,
        replicas: Replicas | None = None,
        started: float | None = None,
    ) -> None:
        self._started = time.perf_counter() if started is None else started
        self.config, self.options, self.folder, self.replicas = config, options, folder, replicas or Replicas()
        self.replicas.require_equal_shares(config.batches.batch_size, options.num_parts)
        self.device = resolve_device(options.device)
        self.best = -math.inf
        self._seconds_before, self._trained_s = 0.0, 0.0
        self._was_falling = False
        self._plan: TimePlan | None = None
        self._pool_state: dict[str, Any] | None = None
        network = new_network(config.architecture, config.seed)
        if initial is not None:
            network.load_state_dict(_state_of_first_layers(initial, config.architecture))
        self._step = TrainingStep(network.to(self.device), config, options, self.replicas)
        self._resume()

    @property
    def step(self) -> int:
        """Number of finished steps."""
        return self._step.num_steps

    @property
    def network(self) -> LightGlue:
        """The network in training."""
        return self._step.network

    @property
    def elapsed_s(self) -> float:
        """Wall time of the run, all sessions together, each from the start of its process."""
        return self._seconds_before + time.perf_counter() - self._started

    def run(self, source: ShardSource, validation: Validation | None = None, report: Report | None = None) -> LightGlue:
        """Train up to the end of the schedule.

        A run with a plan of time is validated before its first step only; `validate` does it at the end.

        Args:
            source: of the shards.
            validation: more metrics; without it, the F1 score on the held-out pairs selects the best checkpoint.
            report: called with every row of the log.

        Returns:
            The network with the averaged weights after the last step, on the CPU.

        Raises:
            ConfigError: if the time of a plan is over before the first step.
            DataError: if there are no shards and no worker is making any, or a worker failed.
            StoreError: if a checkpoint, the log or a shard cannot be written.
            FloatingPointError: if the loss or the gradient is not finite; the last checkpoint was written before.
        """
        self._check_time()
        if self.is_over:
            return self.result()
        validator = Validator(source, self.config, self.options, self.device, validation, self._check_time)
        with self._pool(source, self.config.batches, self.config.seed, self._pool_state) as pool:
            schedule = self._begin(pool, validator, report or _ignore)
            self._train(pool, schedule, validator, report or _ignore)
        self.replicas.stop()
        return self.result()

    @property
    def is_over(self) -> bool:
        """Whether no step is left."""
        plan = self.options.plan
        return self.step >= self.options.num_steps if plan is None else self.elapsed_s >= plan.heads_at_s

    def train_heads(self, network: LightGlue, source: ShardSource, confidence: ConfidenceConfig) -> list[float]:
        """Train the confidence heads alone, in the time that the plan has for them, or for a number of steps.

        If less than half of their time is left, they get half of it.

        Args:
            network: of `best_result`; it is on the CPU afterwards.
            source: of the shards.
            confidence: options of this stage.

        Returns:
            The loss of each step.
        """
        plan, losses, begin_s = self.options.plan, list[float](), 0.0
        num_keypoints = None if plan is None else plan.num_decay_keypoints
        size = min(self.config.batches.batch_size, _MOST_PAIRS_FOR_HEADS)

        def share_of_time(step: int) -> float:
            nonlocal begin_s
            assert plan is not None
            if step == 0:
                begin_s = self.elapsed_s  # the first batch is there
                return 0.0
            # A late last step must not leave the heads untrained: thresholds rely on them.
            return (self.elapsed_s - begin_s) / max(plan.exports_at_s - begin_s, plan.heads_s / 2, 1e-9)

        with self._pool(source, replace(self.config.batches, batch_size=size), self.config.seed + 1, None) as pool:
            train_confidence(
                network.to(self.device),
                (pool.batch(step, num_keypoints) for step in itertools.count()),
                confidence,
                self._step.bfloat16,
                lambda _, loss: losses.append(loss),
                None if plan is None else share_of_time,
            )
        network.cpu()
        return losses

    def _pool(self, source: ShardSource, batches: BatchConfig, seed: int, state: Mapping[str, Any] | None) -> PairPool:
        """The pairs of a source except the held-out ones."""
        options = self.options
        return PairPool(
            source,
            batches,
            self.config.features.has_scale_orientation,
            seed,
            options.pool,
            self.device,
            state,
            options.held_out_shards,
            self._check_time,
        )

    def _check_time(self) -> None:
        """Check that a run with a plan can still make its first step, also while it waits for its first shards."""
        if self.options.plan is not None and self.step == 0:
            self.options.plan.require_time(self.elapsed_s)

    def follow(self) -> None:
        """Train on the shares of this process up to the last step; all processes except process 0 call this."""
        is_prepared = False
        while (received := self.replicas.receive()) is not None:
            batch, rate = received[0].to(self.device), received[1]
            if not is_prepared:
                self._step.prepare([batch])
                is_prepared = True
            self._step(batch, rate)

    def result(self) -> LightGlue:
        """The network with the averaged weights, on the CPU, in evaluation mode."""
        return copy.deepcopy(self._step.mean_network).cpu().requires_grad_(True)

    def best_result(self) -> tuple[LightGlue, int]:
        """The network with the best validation score and its step; the newest one of a run with a plan of time."""
        best = None if self.options.plan is not None else load_checkpoint(self.folder / BEST)
        network = self.result()
        if best is None:
            return network, self.step
        network.load_state_dict(best["mean_network"])
        return network, int(best["step"])

    def _begin(self, pool: PairPool, validator: Validator, report: Report) -> Schedule:
        """Wait for pairs, prepare the step for all shapes, and plan the time from here on."""
        config, options, plan = self.config, self.options, self.options.plan
        sizes = (config.batches.num_keypoints,) if plan is None else (plan.num_keypoints, plan.num_decay_keypoints)
        batches = [pool.batch(self.step, size, is_used=False) for size in dict.fromkeys(sizes)]
        if options.compile or self.device.type != "cpu":
            self._step.prepare([batch.split(self.replicas.world_size)[0] for batch in batches])
        if plan is None:
            return StepSchedule(config, options)
        if self.step == 0:
            self._validate(validator, pool, report)
        pool.take_waiting_s()  # that before the first step is none of the training
        self._plan = plan.starting_at(self.elapsed_s, self._trained_s)
        return TimeSchedule(config, self._plan)

    def _train(self, pool: PairPool, schedule: Schedule, validator: Validator, report: Report) -> None:
        """All steps, with log, validation and checkpoints at their intervals."""
        meter, intervals = Meter(self.config.batches.batch_size), Intervals(self.options, self.elapsed_s)
        progress = Progress(self.step, self.elapsed_s)
        is_falling, is_over = schedule.falls_from_here(progress), schedule.is_over(progress)
        if is_falling and not self._was_falling and self.step > 0:
            self._save(STABLE, pool)  # this session waited until the rate had to fall
        while not is_over:
            begun_s = self.elapsed_s
            batch, rate = pool.batch(self.step, schedule.num_keypoints(progress)), schedule.rate(progress)
            meter.add(*self._step(self.replicas.share(batch, rate), rate))
            if self.options.plan is not None:
                self._step.keep_up()
            progress = Progress(self.step, self.elapsed_s)
            # A step that would end later than its middle is not made.
            is_over = schedule.is_over(Progress(self.step, progress.elapsed_s + (progress.elapsed_s - begun_s) / 2))
            due = intervals.due(progress, is_over)
            if due.log or due.checkpoint:
                row = {"step": self.step, "rate": rate, **meter.take(pool.take_waiting_s())}
                self._log({**row, "shards": pool.num_shards, "hours": progress.elapsed_s / 3600}, report)
            if due.validation:
                self._validate(validator, pool, report)
                meter.restart()
            if schedule.falls_from_here(progress) and not is_falling:
                is_falling = True
                self._save(STABLE, pool)
            if due.checkpoint:
                self._save(LAST, pool)

    def validate(
        self, network: LightGlue, source: ShardSource, validation: Validation | None = None
    ) -> dict[str, float]:
        """Metrics of a network on the held-out pairs, and those of the caller, which are also logged.

        Args:
            network: such as `best_result`; it is on the CPU afterwards.
            source: of the shards.
            validation: more metrics.
        """
        validator = Validator(source, self.config, self.options, self.device, validation)
        metrics, _ = validator(network.to(self.device), self.device)
        network.cpu()
        append_line(self.folder / LOG_NAME, {"step": self.step, **metrics})
        return metrics

    def _validate(self, validator: Validator, pool: PairPool, report: Report) -> None:
        metrics, score = validator(self._step.mean_network, self.device)
        self._log({"step": self.step, **metrics}, report)
        if score > self.best and self.step > 0:
            self.best = score
            self._save(BEST, pool)

    def _log(self, row: Mapping[str, float], report: Report) -> None:
        append_line(self.folder / LOG_NAME, row)
        report(row)

    def _save(self, name: str, pool: PairPool) -> None:
        checkpoint: dict[str, Any] = {
            "config": asdict(self.config),
            "num_steps": self.options.num_steps,
            "num_decay_steps": self.options.num_decay_steps,
            "plan": None if self._plan is None else asdict(self._plan),
            "best": self.best,
            "seconds": self.elapsed_s,
        }
        state = self._step.state
        if name == BEST:  # no run is resumed from the best checkpoint
            state = {key: state[key] for key in ("step", "mean_network")}
        else:
            checkpoint["pool"] = pool.state
        save_checkpoint(self.folder / name, checkpoint | state)

    def _resume(self) -> None:
        found = checkpoint_to_resume(self.folder, self.options)
        if found is None:
            return
        require_same_config(found["config"], asdict(self.config), self.folder)
        self._step.load(found)
        self.best, self._seconds_before, self._pool_state = found["best"], found["seconds"], found["pool"]
        if found["plan"] is not None:
            before = TimePlan(**found["plan"])
            self._trained_s = before.trained_s(found["seconds"])
            self._was_falling = found["seconds"] >= before.decays_at_s
            self._seconds_before = found["seconds_of_run"]


def _state_of_first_layers(network: LightGlue, architecture: LightGlueArchitecture) -> dict[str, Tensor]:
    """The weights of the first layers of a network.

    Raises:
        ConfigError: if the network has fewer layers than the architecture, or differs in more than that.
    """
    found = network.architecture
    if replace(found, num_layers=architecture.num_layers) != architecture or found.num_layers < architecture.num_layers:
        raise ConfigError(f"train: the initial weights belong to another network: {found}, expected {architecture}")
    with torch.device("meta"):
        names = LightGlue(architecture).state_dict().keys()
    state: dict[str, Tensor] = network.state_dict()
    return {name: state[name] for name in names}


def remove_run(folder: Path) -> None:
    """Remove the checkpoints and the log of a run.

    Raises:
        StoreError: if one cannot be removed.
    """
    for name in (LAST, BEST, STABLE, LOG_NAME):
        with store_errors(folder / name):
            (folder / name).unlink(missing_ok=True)


def use_threads(num_threads: int) -> None:
    """Set the number of threads of torch in this process. Only commands call this."""
    torch.set_num_threads(num_threads)


def _ignore(row: Mapping[str, float]) -> None:
    pass
