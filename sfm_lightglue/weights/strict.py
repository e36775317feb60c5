"""Weights given to a network strictly: every key there, none beside, every number fit.

For networks that have one published layout, whose names are their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from sfm_lightglue.weights.state_dict import is_dense, read_state_dict, refuse_faults

Network = TypeVar("Network", bound=nn.Module)

_COUNTER = "num_batches_tracked"
"""An integer of batch normalisation that training alone needs; files of old torch lack it."""


def load_published(
    build: Callable[[], Network],
    path: str | Path,
    *,
    prefixes: Sequence[str] = ("",),
    passed_over: Sequence[str] = (),
    sha256: str | None = None,
) -> Network:
    """Reads a network that has the names of its authors' files.

    Args:
        build: makes the network.
        path: safetensors, or the output of `torch.save`.
        prefixes: what may begin every name of the file; that one counts with which most names are known.
        passed_over: beginnings of names, without the prefix, that belong to parts which we do not have.
        sha256: hexadecimal digest that the file must have.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: where the file is missing, damaged, other than promised, or of another network.
    """
    state, _ = read_state_dict(path, sha256)
    with torch.device("meta"):
        network = build()
    return fill_strictly(network, state, str(path), prefixes, passed_over)


def fill_strictly(
    network: Network,
    state: Mapping[str, Tensor],
    source: str = "state dict",
    prefixes: Sequence[str] = ("",),
    passed_over: Sequence[str] = (),
) -> Network:
    """Gives a network copies of weights in its own types, and sets it to evaluation mode.

    Args:
        network: also one on the meta device.
        state: exactly its keys, in its shapes.
        source: where the weights come from, for messages.
        prefixes: as in `load_published`.
        passed_over: as in `load_published`.

    Raises:
        WeightsError: listing the missing, the unexpected, the wrongly shaped and the unfit keys, by the names that
            `state` has for them.
    """
    own = network.state_dict()
    weights = {key: value for key, value in own.items() if not key.endswith(_COUNTER)}
    prefix = max(prefixes, key=lambda each: sum(each + key in state for key in weights))
    others = tuple(prefix + beginning for beginning in passed_over)
    found = {key: value for key, value in state.items() if not key.endswith(_COUNTER) and not key.startswith(others)}
    wanted = {prefix + key: value for key, value in weights.items()}
    known = {name: found[name] for name in wanted if name in found and is_dense(found[name])}
    complaints = {
        "missing keys": wanted.keys() - found.keys(),
        "unexpected keys": found.keys() - wanted.keys(),
        "no arrays of real numbers": wanted.keys() & found.keys() - known.keys(),
        "wrong shapes": [
            f"{name} {list(value.shape)} instead of {list(wanted[name].shape)}"
            for name, value in known.items()
            if value.shape != wanted[name].shape
        ],
        "NaN or infinite": [name for name, value in known.items() if not value.isfinite().all()],
        "negative variances": [
            name for name, value in known.items() if name.endswith("running_var") and bool((value < 0).any())
        ],
    }
    refuse_faults(complaints, network, source)
    copies = {
        key: known[prefix + key].detach().to(value.dtype, copy=True).contiguous()
        if key in weights
        else torch.zeros(value.shape, dtype=value.dtype)
        for key, value in own.items()
    }
    network.load_state_dict(copies, strict=True, assign=True)
    return network.eval()
