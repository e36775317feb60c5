"""Trains a LightGlue on labelled pairs, in as many sittings as it takes.

The learning rate rises, stays, and falls linearly to 0 in the last steps (warm-up, stable, decay): a stable run
can be prolonged at any time without knowing its length beforehand, and its fall is where the loss drops last.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.devices import resolve_device
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
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
from sfm_lightglue.training.data.feed import FeedState, PairFeed, ShardSource
from sfm_lightglue.training.losses import PairBatch, training_losses
from sfm_lightglue.training.metrics import Meter
from sfm_lightglue.training.options import RunOptions, TrainingConfig, learning_rate
from sfm_lightglue.training.replicas import Replicas
from sfm_lightglue.training.validation import Validation, Validator

LOG_NAME = "log.jsonl"

Report = Callable[[Mapping[str, float]], None]
"""Receives every row of the log."""


def new_network(architecture: LightGlueArchitecture, seed: int) -> LightGlue:
    """Untrained weights.

    Positions enter as angles w . (x, y, scale, orientation), of which attention sees differences. (x, y) span
    [-1, 1] and get weights of variance 1, as in the paper. Scales are pixels, from 2 to 100: a tenth of that,
    or all but equal scales would turn by many rounds. Orientations are radians, where a whole round means
    nothing: whole numbers keep it so.

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
    """One run, new or resumed.

    Args:
        config: what is trained.
        options: how long.
        folder: of the run: checkpoints and log.
        initial: weights to start from where the run is new, of a deeper network its first layers; random ones
            where it is None.
        replicas: the processes that train together; each has a trainer of its own.

    Raises:
        ConfigError: where a run with another configuration is in the folder, the device is not here, or a
            batch cannot be divided among the processes.
        DataError: where its checkpoint is damaged.
    """

    def __init__(
        self,
        config: TrainingConfig,
        options: RunOptions,
        folder: Path,
        initial: LightGlue | None = None,
        replicas: Replicas | None = None,
    ) -> None:
        self.config, self.options, self.folder, self.replicas = config, options, folder, replicas or Replicas()
        self.replicas.require_equal_shares(config.batches.batch_size)
        self.device = resolve_device(options.device)
        self.step, self.best, self.seconds, self.feed_state = 0, -math.inf, 0.0, FeedState()
        network = new_network(config.architecture, config.seed)
        if initial is not None:
            network.load_state_dict(_state_of_first_layers(initial, config.architecture))
        self.network = network.to(self.device).train()
        self.mean_network = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimizers = _optimizers(self.network, config)
        self._resume()
        if options.compile:
            for layer in self.network.layers:
                layer.compile()

    def run(self, source: ShardSource, validation: Validation | None = None, report: Report | None = None) -> LightGlue:
        """Trains up to the last step.

        Args:
            source: of the shards.
            validation: more metrics; without it `best` goes by the F1 measure on the held-out pairs.
            report: receives the rows of the log.

        Returns:
            The network with the mean weights after the last step, on the CPU.

        Raises:
            DataError: where there are no shards and nobody makes any.
            StoreError: where a checkpoint cannot be written.
            FloatingPointError: where the loss is no number any more; the last checkpoint is from before.
        """
        if self.step >= self.options.num_steps:
            return self.result()
        validator = Validator(source, self.config.batches, self.options, validation)
        held_out = frozenset() if self.options.held_out_shard is None else frozenset({self.options.held_out_shard})
        config = self.config
        feed = PairFeed(source, config.batches, config.seed, config.feed, self.feed_state, held_out)
        meter = Meter(config.batches.batch_size)
        with closing(iter(feed)) as batches:
            for batch, following in batches:
                meter.add(*self._train_on(self.replicas.share(batch).to(self.device)))
                self.feed_state = following
                self._after_step(meter, validator, report or _ignore)
                if self.step >= self.options.num_steps:
                    break
        return self.result()

    def follow(self) -> None:
        """What all processes but the first do instead of `run`: trains on their shares up to the last step."""
        while self.step < self.options.num_steps:
            self._train_on(self.replicas.share(None).to(self.device))

    def result(self) -> LightGlue:
        """The network with the mean weights, on the CPU, in evaluation mode."""
        return copy.deepcopy(self.mean_network).cpu().requires_grad_(True)

    def best_result(self) -> tuple[LightGlue, int]:
        """The network that validated best so far and its step; the newest where none was validated."""
        best = load_checkpoint(self.folder / BEST)
        network = self.result()
        if best is None:
            return network, self.step
        network.load_state_dict(best["mean_network"])
        return network, int(best["step"])

    def _train_on(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """One step; returns [last layer's, mean of all layers', confidence's] loss and the gradient's norm."""
        rate = learning_rate(self.step, self.config, self.options)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.options.bfloat16):
            losses = training_losses(self.network, batch, self.config.confidence_share)
        self.network.zero_grad(set_to_none=True)
        (losses.assignment + losses.confidence).backward()  # type: ignore[no-untyped-call]
        reported = torch.stack([losses.by_layer[-1], losses.assignment.detach(), losses.confidence.detach()])
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        self.replicas.average([*gradients, reported])
        heads = list(self.network.confidences.parameters())
        others = [p for name, p in self.network.named_parameters() if not name.startswith("confidences.")]
        norm = nn.utils.clip_grad_norm_(others, self.config.gradient_clip)
        nn.utils.clip_grad_norm_(heads, self.config.gradient_clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        self._update_mean()
        return reported, norm

    def _update_mean(self) -> None:
        # A young mean follows faster: it has nothing worth remembering yet.
        decay = min(self.config.ema_decay, self.step / (self.step + 10))
        with torch.no_grad():
            means: list[Tensor] = list(self.mean_network.parameters())
            weights: list[Tensor] = list(self.network.parameters())
            torch._foreach_lerp_(means, weights, 1 - decay)

    def _after_step(self, meter: Meter, validator: Validator, report: Report) -> None:
        """Tells, validates and saves where it is time."""
        options, is_last = self.options, self.step >= self.options.num_steps
        is_saved = is_last or self.step % options.checkpoint_every == 0
        if self.step % options.log_every == 0 or is_saved:
            row = {"step": self.step, "rate": learning_rate(self.step - 1, self.config, options), **meter.take()}
            self.seconds += row.pop("seconds")
            self._tell({**row, "shards": len(self.feed_state.num_visits), "hours": self.seconds / 3600}, report)
        if is_last or self.step % options.validate_every == 0:
            metrics, score = validator(self.mean_network, self.device)
            self._tell({"step": self.step, **metrics}, report)
            if score > self.best:
                self.best = score
                self._save(BEST)
            meter.restart()
        if self.step == options.num_steps - options.num_decay_steps:
            self._save(STABLE)
        if is_saved:
            self._save(LAST)

    def _tell(self, row: Mapping[str, float], report: Report) -> None:
        append_line(self.folder / LOG_NAME, row)
        report(row)

    def _save(self, name: str) -> None:
        checkpoint = {
            "config": asdict(self.config),
            "num_steps": self.options.num_steps,
            "num_decay_steps": self.options.num_decay_steps,
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "mean_network": self.mean_network.state_dict(),
        }
        if name != BEST:  # which nothing goes on from
            checkpoint |= {
                "feed": self.feed_state.as_dict(),
                "network": self.network.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            }
        save_checkpoint(self.folder / name, checkpoint)

    def _resume(self) -> None:
        found = checkpoint_to_resume(self.folder, self.options.num_steps, self.options.num_decay_steps)
        if found is None:
            return
        require_same_config(found["config"], asdict(self.config), self.folder)
        self.network.load_state_dict(found["network"])
        self.mean_network.load_state_dict(found["mean_network"])
        for optimizer, state in zip(self.optimizers, found["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.step, self.best, self.seconds = found["step"], found["best"], found["seconds"]
        self.feed_state = FeedState(**found["feed"])


def _state_of_first_layers(network: LightGlue, architecture: LightGlueArchitecture) -> dict[str, Tensor]:
    """The weights of a network that shall have fewer layers, or as many."""
    found = network.architecture
    if replace(found, num_layers=architecture.num_layers) != architecture or found.num_layers < architecture.num_layers:
        raise ConfigError(f"train: the first weights are of another network: {found}")
    with torch.device("meta"):
        names = LightGlue(architecture).state_dict().keys()
    state: dict[str, Tensor] = network.state_dict()
    return {name: state[name] for name in names}


def forget_run(folder: Path) -> None:
    """Removes the checkpoints and the log of a run."""
    for name in (LAST, BEST, STABLE, LOG_NAME):
        (folder / name).unlink(missing_ok=True)


def use_threads(number: int) -> None:
    """Sets how many threads torch uses in this process: for commands, the library leaves it alone."""
    torch.set_num_threads(number)


def _optimizers(network: LightGlue, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW, whose second moments forget in 100 steps; or Muon for the matrices and AdamW for all else.

    Matrices alone decay. Muon's steps are scaled to the size of AdamW's, so that one learning rate serves both.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_matrix = parameter.ndim > 1 and len(parameter) > 1 and name != "position_projection.weight"
        (matrices if is_matrix else others).append(parameter)
    rate, decay, betas = config.learning_rate, config.weight_decay, (0.9, 0.99)
    if config.optimizer == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(f"train: muon needs torch 2.9 or newer, this is {torch.__version__}")
        return [
            torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, weight_decay=0.0, betas=betas, fused=True),
        ]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)]


def _ignore(row: Mapping[str, float]) -> None:
    pass
