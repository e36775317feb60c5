"""One step of the training of a network: losses, gradients, optimizers, and the moving average of the weights."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.models.lightglue_attention import use_explicit_attention_in_training
from sfm_lightglue.training.fastest import faster_in_bfloat16, faster_with_explicit_attention
from sfm_lightglue.training.losses import AssignmentLoss, PairBatch, assignment_loss, training_losses
from sfm_lightglue.training.optimizers import make_optimizers
from sfm_lightglue.training.options import RunOptions, TrainingConfig
from sfm_lightglue.training.replicas import Replicas

logger = logging.getLogger(__name__)

_MOST_COMPILED_VARIANTS = 64
_STEPS_AHEAD = 4


class TrainingStep:
    """The network in training, with its optimizers and the moving average of its weights.

    Args:
        network: whose weights are trained, on the device of the training.
        config: what is trained.
        options: how it is computed.
        replicas: the processes that train together.
    """

    def __init__(self, network: LightGlue, config: TrainingConfig, options: RunOptions, replicas: Replicas) -> None:
        self._config, self._options, self._replicas = config, options, replicas
        self.device = next(network.parameters()).device
        self.network = network.train()
        self.mean_network = copy.deepcopy(network).eval().requires_grad_(False)
        self.optimizers = make_optimizers(network, config)
        self.num_steps = 0
        self.bfloat16 = faster_in_bfloat16(self.device) if options.bfloat16 is None else options.bfloat16
        self._layer_loss: AssignmentLoss = assignment_loss
        self._heads = list(network.confidences.parameters())
        named = network.named_parameters()
        self._others = [parameter for name, parameter in named if not name.startswith("confidences.")]

    def prepare(self, batches: Sequence[PairBatch]) -> None:
        """Choose the kind of attention, and compile for the shapes of some batches; the weights stay as they are.

        Args:
            batches: on the device, one of each shape.
        """
        if self.device.type != "cpu":
            # One choice for all shapes, before the first is compiled: a later change would compile all again.
            self._choose_attention(max(batches, key=lambda batch: batch.inputs.mask0.shape[1]))
        if self._options.compile:
            self._compile()
            for batch in batches:
                self._compile_for(batch)

    def __call__(self, batch: PairBatch, rate: float) -> tuple[Tensor, Tensor]:
        """Train on a batch.

        Args:
            batch: the share of this process, on the device.
            rate: learning rate.

        Returns:
            Losses [3] (last layer, mean of all layers, confidence), and the norm of the gradient.
        """
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        reported = self._gradients(batch)
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        self._replicas.average([*gradients, reported])
        norm = nn.utils.clip_grad_norm_(self._others, self._config.gradient_clip)
        nn.utils.clip_grad_norm_(self._heads, self._config.gradient_clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self.num_steps += 1
        self._update_mean()
        return reported, norm

    def keep_up(self) -> None:
        """Every few steps, wait until a GPU has done what was asked of it, so that the time measured is its own."""
        if self.device.type == "cuda" and self.num_steps % _STEPS_AHEAD == 0:
            torch.cuda.current_stream(self.device).synchronize()

    @property
    def state(self) -> dict[str, Any]:
        """Weights, their averages and the states of the optimizers, for a checkpoint."""
        return {
            "step": self.num_steps,
            "network": self.network.state_dict(),
            "mean_network": self.mean_network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.mean_network.load_state_dict(state["mean_network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.num_steps = state["step"]

    def _gradients(self, batch: PairBatch) -> Tensor:
        """Gradients of the mean loss of a batch, part by part; returns the losses [3]."""
        self.network.zero_grad(set_to_none=True)
        parts = batch.split(self._options.num_parts)
        reported = []
        for part in parts:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
                found = training_losses(self.network, part, self._config.confidence_share, self._layer_loss)
            ((found.assignment + found.confidence) / len(parts)).backward()  # type: ignore[no-untyped-call]
            reported.append(torch.stack([found.by_layer[-1], found.assignment.detach(), found.confidence.detach()]))
        return torch.stack(reported).mean(0)

    def _update_mean(self) -> None:
        # In the first steps the average follows faster, so that it forgets the random initial weights.
        decay = min(self._config.ema_decay, self.num_steps / (self.num_steps + 10))
        with torch.no_grad():
            means: list[Tensor] = list(self.mean_network.parameters())
            weights: list[Tensor] = list(self.network.parameters())
            torch._foreach_lerp_(means, weights, 1 - decay)

    def _choose_attention(self, batch: PairBatch) -> None:
        size, num_keys = batch.inputs.mask0.shape
        dtype = torch.bfloat16 if self.bfloat16 else torch.float32
        architecture = self.network.architecture
        head_dim = architecture.descriptor_dim // architecture.num_heads
        part = max(1, size // self._options.num_parts)
        shape = (part, architecture.num_heads, num_keys, head_dim)
        if faster_with_explicit_attention(self.device, dtype, shape, architecture.num_layers):
            use_explicit_attention_in_training(self.device.type, num_keys)

    def _compile_for(self, batch: PairBatch) -> None:
        """Compile for the shapes of a batch. Without a compiler on this machine, the run goes on uncompiled."""
        try:
            self._gradients(batch)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a compiler raises
            logger.warning("compiling failed, the run goes on without it: %s", str(error).splitlines()[0])
            for layer in self.network.layers:
                layer._compiled_call_impl = None
            self._layer_loss = assignment_loss
            self._gradients(batch)
        self.network.zero_grad(set_to_none=True)

    def _compile(self) -> None:
        """Compile the layers, and on a GPU the loss of an assignment, for fixed shapes."""
        for name in ("recompile_limit", "cache_size_limit"):  # the first name since torch 2.6
            if hasattr(torch._dynamo.config, name):
                setattr(torch._dynamo.config, name, _MOST_COMPILED_VARIANTS)
                break
        for layer in self.network.layers:
            layer.compile(dynamic=False)
        if self.device.type != "cpu":
            self._layer_loss = torch.compile(assignment_loss, dynamic=False)
