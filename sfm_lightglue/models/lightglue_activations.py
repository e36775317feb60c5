"""Activations without weights, by their names in configurations of Hugging Face."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

Activation = Callable[[Tensor], Tensor]

_gelu_by_tanh = partial(F.gelu, approximate="tanh")


def _clipped_gelu(x: Tensor) -> Tensor:
    """GELU within [-10, 10]; Wu et al., Integer quantization for deep learning inference, 2020."""
    return F.gelu(x).clamp(-10.0, 10.0)


def _quick_gelu(x: Tensor) -> Tensor:
    """Hendrycks and Gimpel, Gaussian error linear units, 2016: the approximation by a sigmoid."""
    return x * torch.sigmoid(1.702 * x)


def _squared_relu(x: Tensor) -> Tensor:
    """So et al., Primer, 2021."""
    return F.relu(x).square()


def _laplace(x: Tensor) -> Tensor:
    """Ma et al., Mega, 2022, equation 16: distribution function of the Laplace kernel, fitted to squared ReLU."""
    mean, deviation = math.sqrt(0.5), math.sqrt(0.25 / math.pi)
    return 0.5 * (1.0 + torch.erf((x - mean) / (deviation * math.sqrt(2.0))))


def _sqrt_softplus(x: Tensor) -> Tensor:
    return F.softplus(x).sqrt()


def _linear(x: Tensor) -> Tensor:
    return x


ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "gelu": F.gelu,
        "gelu_10": _clipped_gelu,
        "gelu_accurate": _gelu_by_tanh,
        "gelu_fast": _gelu_by_tanh,
        "gelu_new": _gelu_by_tanh,
        "gelu_python": F.gelu,
        "gelu_python_tanh": _gelu_by_tanh,
        "gelu_pytorch_tanh": _gelu_by_tanh,
        "hardswish": F.hardswish,
        "laplace": _laplace,
        "leaky_relu": F.leaky_relu,
        "linear": _linear,
        "mish": F.mish,
        "quick_gelu": _quick_gelu,
        "relu": F.relu,
        "relu2": _squared_relu,
        "relu6": F.relu6,
        "sigmoid": torch.sigmoid,
        "silu": F.silu,
        "sqrtsoftplus": _sqrt_softplus,
        "swish": F.silu,
        "tanh": torch.tanh,
    }
)
"""Several names stand for one function for historical reasons; their originals differ only in rounding."""
