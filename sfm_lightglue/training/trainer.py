"""Training of a LightGlue on labelled pairs, in one or several sessions.

The learning rate rises, stays constant, and falls linearly to 0 in the last steps (warm-up, stable, decay). A run
can be prolonged at any time from the checkpoint before the decay, so its length need not be known beforehand.
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
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.training.checkpoints import (
    BEST,
    LAST,
    LOADER_KEY,
    STABLE,
    append_line,
    checkpoint_to_resume,
    config_for_checkpoint,
    load_checkpoint,
    require_same_config,
    save_checkpoint,
)
from sfm_lightglue.training.data.data_loader import LoaderState, PairLoader, ShardSource
from sfm_lightglue.training.losses import PairBatch, training_losses
from sfm_lightglue.training.metrics import Meter
from sfm_lightglue.training.options import RunOptions, TrainingConfig, learning_rate
from sfm_lightglue.training.replicas import Replicas
from sfm_lightglue.training.validation import Validation, Validator

LOG_NAME = "log.jsonl"

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
    ) -> None:
        self.config, self.options, self.folder, self.replicas = config, options, folder, replicas or Replicas()
        self.replicas.require_equal_shares(config.batches.batch_size)
        self.device = resolve_device(options.device)
        self.step, self.best, self.seconds, self.loader_state = 0, -math.inf, 0.0, LoaderState()
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
        """Train up to the last step.

        Args:
            source: of the shards.
            validation: more metrics; without it, the F1 score on the held-out pairs selects the best checkpoint.
            report: called with every row of the log.

        Returns:
            The network with the averaged weights after the last step, on the CPU.

        Raises:
            DataError: if there are no shards and no worker is making any, or a worker failed.
            StoreError: if a checkpoint, the log or a shard cannot be written.
            FloatingPointError: if the loss or the gradient is not finite; the last checkpoint was written before.
        """
        if self.step >= self.options.num_steps:
            return self.result()
        validator = Validator(source, self.config.batches, self.options, validation)
        held_out = frozenset() if self.options.held_out_shard is None else frozenset({self.options.held_out_shard})
        config = self.config
        loader = PairLoader(source, config.batches, config.seed, config.loader, self.loader_state, held_out)
        meter = Meter(config.batches.batch_size)
        with closing(iter(loader)) as batches:
            for batch, following in batches:
                meter.add(*self._train_on(self.replicas.share(batch).to(self.device)))
                self.loader_state = following
                self._after_step(meter, validator, report or _ignore)
                if self.step >= self.options.num_steps:
                    break
        return self.result()

    def follow(self) -> None:
        """Train on the shares of this process up to the last step; all processes except process 0 call this."""
        while self.step < self.options.num_steps:
            self._train_on(self.replicas.share(None).to(self.device))

    def result(self) -> LightGlue:
        """The network with the averaged weights, on the CPU, in evaluation mode."""
        return copy.deepcopy(self.mean_network).cpu().requires_grad_(True)

    def best_result(self) -> tuple[LightGlue, int]:
        """The network with the best validation score and its step; the newest network if none was validated."""
        best = load_checkpoint(self.folder / BEST)
        network = self.result()
        if best is None:
            return network, self.step
        network.load_state_dict(best["mean_network"])
        return network, int(best["step"])

    def _train_on(self, batch: PairBatch) -> tuple[Tensor, Tensor]:
        """One step; returns losses [3] (last layer, mean of all layers, confidence) and the norm of the gradient."""
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
        # In the first steps the average follows faster, so that it forgets the random initial weights.
        decay = min(self.config.ema_decay, self.step / (self.step + 10))
        with torch.no_grad():
            means: list[Tensor] = list(self.mean_network.parameters())
            weights: list[Tensor] = list(self.network.parameters())
            torch._foreach_lerp_(means, weights, 1 - decay)

    def _after_step(self, meter: Meter, validator: Validator, report: Report) -> None:
        """Log, validate and save, each at its interval."""
        options, is_last = self.options, self.step >= self.options.num_steps
        is_saved = is_last or self.step % options.checkpoint_every == 0
        if self.step % options.log_every == 0 or is_saved:
            row = {"step": self.step, "rate": learning_rate(self.step - 1, self.config, options), **meter.take()}
            self.seconds += row.pop("seconds")
            self._log({**row, "shards": len(self.loader_state.num_visits), "hours": self.seconds / 3600}, report)
        if is_last or self.step % options.validate_every == 0:
            metrics, score = validator(self.mean_network, self.device)
            self._log({"step": self.step, **metrics}, report)
            if score > self.best:
                self.best = score
                self._save(BEST)
            meter.restart()
        if self.step == options.num_steps - options.num_decay_steps:
            self._save(STABLE)
        if is_saved:
            self._save(LAST)

    def _log(self, row: Mapping[str, float], report: Report) -> None:
        append_line(self.folder / LOG_NAME, row)
        report(row)

    def _save(self, name: str) -> None:
        checkpoint = {
            "config": config_for_checkpoint(asdict(self.config)),
            "num_steps": self.options.num_steps,
            "num_decay_steps": self.options.num_decay_steps,
            "step": self.step,
            "best": self.best,
            "seconds": self.seconds,
            "mean_network": self.mean_network.state_dict(),
        }
        if name != BEST:  # no run is resumed from the best checkpoint
            checkpoint |= {
                LOADER_KEY: self.loader_state.as_dict(),
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
        self.loader_state = LoaderState(**found[LOADER_KEY])


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


def _optimizers(network: LightGlue, config: TrainingConfig) -> list[torch.optim.Optimizer]:
    """AdamW for all weights, or Muon for the matrices and AdamW for the others.

    The second moments of AdamW average over about 100 steps. Only matrices have weight decay. Steps of Muon are
    scaled to the size of those of AdamW, so that both use the same learning rate.
    """
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        is_matrix = parameter.ndim > 1 and len(parameter) > 1 and name != "position_projection.weight"
        (matrices if is_matrix else others).append(parameter)
    rate, decay, betas = config.learning_rate, config.weight_decay, (0.9, 0.99)
    if config.optimizer == "muon":
        if not hasattr(torch.optim, "Muon"):
            raise ConfigError(f"train: optimizer muon needs torch 2.9 or newer, found {torch.__version__}")
        return [
            torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=rate, weight_decay=0.0, betas=betas, fused=True),
        ]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=rate, betas=betas, fused=True)]


def _ignore(row: Mapping[str, float]) -> None:
    pass
