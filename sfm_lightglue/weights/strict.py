"""Strict loading of state dicts: every key must be present, none unexpected, every value usable.

`compare_keys` is the shared check. `fill_strictly` serves networks with one published layout whose names are
their own; `models/checkpoints.py` serves networks with several layouts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.weights.state_dict import StateDict, is_dense, read_weights, summarise

Network = TypeVar("Network", bound=nn.Module)

Shape = tuple[int, ...]

MISSING, WRONG_SHAPES = "missing keys", "wrong shapes"
"""Kinds of faults whose names a caller of `compare_keys` may describe further."""

_COUNTER = "num_batches_tracked"
"""An integer of batch normalisation that only training uses; files of old torch versions lack it."""


def load_published(
    build: Callable[[], Network],
    path: str | Path,
    *,
    prefixes: Sequence[str] = ("",),
    ignored: Sequence[str] = (),
    sha256: str | None = None,
) -> Network:
    """Reads a network whose names are those of its authors' files.

    Args:
        build: makes the network.
        path: of a safetensors file, or of the output of `torch.save`.
        prefixes: possible beginnings of all names in the file; the one under which most names are known is used.
        ignored: beginnings of names, without the prefix, of parts that the network does not have.
        sha256: expected hexadecimal digest; None skips the comparison.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, has another digest, or belongs to another network.
    """
    file = read_weights(path, sha256)
    with torch.device("meta"):
        network = build()
    return fill_strictly(network, file.state, str(path), prefixes, ignored)


def fill_strictly(
    network: Network,
    state: Mapping[str, Tensor],
    source: str = "state dict",
    prefixes: Sequence[str] = ("",),
    ignored: Sequence[str] = (),
) -> Network:
    """Gives a network float32 copies of weights, and sets it to evaluation mode.

    Args:
        network: may be on the meta device.
        state: exactly its keys, in its shapes.
        source: origin of the weights, for messages.
        prefixes: as in `load_published`.
        ignored: as in `load_published`.

    Raises:
        WeightsError: with the missing, unexpected, wrongly shaped and unusable keys, as `state` names them.
    """
    own = network.state_dict()
    shapes = {key: tuple(value.shape) for key, value in own.items() if not key.endswith(_COUNTER)}
    prefix = max(prefixes, key=lambda each: sum(each + key in state for key in shapes))
    others = tuple(prefix + beginning for beginning in ignored)
    given = {key: value for key, value in state.items() if not key.endswith(_COUNTER) and not key.startswith(others)}
    expected = {prefix + key: shape for key, shape in shapes.items()}
    known, faults = compare_keys(given, expected)
    faults[WRONG_SHAPES] = [
        f"{name} {list(known[name].shape)} instead of {list(expected[name])}" for name in faults[WRONG_SHAPES]
    ]
    refuse_faults(faults, network, source)
    tensors = {
        key: known[prefix + key] if key in shapes else torch.zeros(value.shape, dtype=value.dtype)
        for key, value in own.items()
    }
    network.load_state_dict(tensors, strict=True, assign=True)
    return network.eval()


def compare_keys(
    state: Mapping[str, Tensor], expected: Mapping[str, Shape], optional: Set[str] = frozenset()
) -> tuple[StateDict, dict[str, Collection[str]]]:
    """Compares a state dict with the names and shapes that a network expects.

    Args:
        state: tensors by name; may be faulty.
        expected: shape of each expected tensor by name.
        optional: names that may be present too.

    Returns:
        Contiguous float32 copies of the expected tensors that are present, wrongly shaped ones included; and
        faulty names by kind of fault.
    """
    dense = {name: value for name, value in state.items() if is_dense(value)}
    known = {name: dense[name].detach().to(torch.float32, copy=True).contiguous() for name in expected if name in dense}
    return known, {
        MISSING: expected.keys() - state.keys(),
        "unexpected keys": state.keys() - expected.keys() - optional,
        WRONG_SHAPES: [name for name, value in known.items() if tuple(value.shape) != expected[name]],
        "not dense arrays of real numbers": (expected.keys() | optional) & state.keys() - dense.keys(),
        "NaN or infinite": [name for name, value in known.items() if not value.isfinite().all()],
        "negative variances": [
            name for name, value in known.items() if name.endswith("running_var") and bool((value < 0).any())
        ],
    }


def refuse_faults(faults: Mapping[str, Collection[str]], model: nn.Module, source: str) -> None:
    """Raises an error if weights do not fit a network.

    Args:
        faults: descriptions of keys by kind of fault.
        model: the network.
        source: origin of the weights, for the message.

    Raises:
        WeightsError: with all faults, if there are any.
    """
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {summarise(names)}" for kind, names in faults.items() if names)
        raise WeightsError(f"{source}: not the weights of this {type(model).__name__}: {listed}")
