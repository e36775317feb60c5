"""Muon, an optimizer of matrices: the momentum of each gradient is orthogonalised before the step.

Matrices of one shape are orthogonalised together, so that the number of kernels does not depend on the number of
layers. Steps are scaled to the size of those of AdamW, so that both use the same learning rate.

Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024; Liu et al., Muon is scalable for
LLM training, 2025 (scale of the steps).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_NUM_ITERATIONS = 5
_STEP_SIZE = 0.2
"""Root mean square of the step of a square matrix, relative to the learning rate."""


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay.

    Products are in bfloat16 on a GPU, and in float32 on a CPU, where bfloat16 may be emulated.

    Args:
        matrices: parameters with two dimensions.
        lr: learning rate.
        weight_decay: relative to the learning rate.
        momentum: decay of the mean of the gradients.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float = 0.0, momentum: float = 0.95
    ) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        for group in self.param_groups:
            if any(matrix.ndim != 2 for matrix in group["params"]):
                raise ValueError("Muon: expected matrices only")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change all matrices that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    by_shape[matrix.shape].append(matrix)
            for matrices in by_shape.values():
                self._change(matrices, group)
        return loss

    def _change(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """One step of matrices of the same shape."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        for matrix, gradient in zip(matrices, gradients, strict=True):
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(gradient)
        means: list[Tensor] = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        directions = torch.stack(torch._foreach_lerp(gradients, means, group["momentum"]))
        rows, columns = directions.shape[1:]
        steps = orthogonalised(directions) * (-group["lr"] * _STEP_SIZE * max(rows, columns) ** 0.5)
        torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(matrices, list(steps.to(matrices[0].dtype).unbind(0)))


def orthogonalised(matrices: Tensor) -> Tensor:
    """Matrices [B, M, N] with the same singular vectors and singular values of about 1, by Newton-Schulz iterations."""
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if is_tall else matrices
    x = x.bfloat16() if x.device.type != "cpu" else x.float()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    with torch.autocast(x.device.type, enabled=False):
        for _ in range(_NUM_ITERATIONS):
            gram = x @ x.transpose(1, 2)
            polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
            x = torch.baddbmm(x, polynomial, x, beta=a)
    return (x.transpose(1, 2) if is_tall else x).to(matrices.dtype)
