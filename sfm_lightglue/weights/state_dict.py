"""Reading and writing files of weights as state dicts; no file runs code."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

from sfm_lightglue.errors import StoreError, WeightsError
from sfm_lightglue.messages import shortened
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.weights.lookup import file_sha256


def refuse_faults(faults: Mapping[str, Collection[str]], model: nn.Module, source: str) -> None:
    """Refuses weights that do not fit a network.

    Args:
        faults: names of the weights by what is wrong with them.
        model: the network.
        source: where the weights come from.

    Raises:
        WeightsError: where there is a fault, listing all.
    """
    if any(faults.values()):
        listed = "; ".join(f"{what}: {summarise(names)}" for what, names in faults.items() if names)
        raise WeightsError(f"{source}: not the weights of this {type(model).__name__}: {listed}")


def save_tensors(state: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str]) -> None:
    """Writes safetensors: all of the file or nothing, and equal content as equal bytes.

    Args:
        state: by key.
        path: ends in .safetensors by custom.
        metadata: what else to tell.

    Raises:
        StoreError: where the file cannot be written.
    """
    path = Path(path)
    dense = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    content = _with_sorted_metadata(safetensors.torch.save(dense, metadata=dict(metadata)))
    if not path.parent.is_dir():
        raise StoreError(f"{path}: cannot be written: there is no folder {path.parent}; make it, or give another path")
    with atomic_write(path) as file:
        file.write(content)


def read_state_dict(path: str | Path, sha256: str | None = None) -> tuple[StateDict, dict[str, str]]:
    """Reads tensors, and never runs code.

    Args:
        path: safetensors, or the output of `torch.save`; also below "model", "state_dict" or the like.
        sha256: hexadecimal digest that the file must have.

    Returns:
        Tensors by key, and the metadata of a safetensors file.

    Raises:
        WeightsError: where the file is missing, damaged, full of other things, or not as promised.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file of weights; check the path, or download it again")
    if sha256 is not None:
        verify_sha256(path, sha256)
    try:
        with path.open("rb") as file:
            head = file.read(9)
        # The header of safetensors begins after 8 bytes; torch writes a zip archive, once a bare pickle.
        if head[8:] == b"{" or not head.startswith((b"PK", b"\x80")):
            with safe_open(path, framework="pt") as tensors:
                state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
                return state, tensors.metadata() or {}
        with warnings.catch_warnings(action="ignore"):  # about the pickle's age; what matters is an error
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: damaged, or holds more than tensors, and loading that could run code; ask its "
            "author for safetensors, or save its state dict alone with torch.save"
        ) from error
    except Exception as error:  # damaged bytes raise anything: TypeError, IndexError, AssertionError
        raise WeightsError(f"{path}: damaged, or no file of weights ({error}); download it again") from error
    return _unwrap(loaded, path), {}


def verify_sha256(path: str | Path, sha256: str) -> None:
    """Compares a file with its hexadecimal digest.

    Raises:
        WeightsError: where they differ, or the file cannot be read.
    """
    found = file_sha256(path)
    if found != sha256.lower():
        raise WeightsError(f"{path}: sha256 is {found}, expected {sha256}; remove the file and download it again")


def _unwrap(loaded: Any, path: Path) -> StateDict:
    for name in ("model", "state_dict", "model_state_dict", "extractor", "disk"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path}: holds no state dict")
    others = [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(f"{path}: these entries of its state dict are no tensors: {summarise(others)}")
    return {str(key): value for key, value in loaded.items()}


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same file with its metadata in order, so that equal networks have equal digests."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + content[end:]


StateDict = dict[str, Tensor]


def summarise(keys: Iterable[str], limit: int = 40) -> str:
    """Keys for a message: sorted, the first many, and how many more."""
    return shortened(sorted(keys), limit)


def is_dense(value: object) -> bool:
    """Whether this is an array of real numbers, of any precision, that are there."""
    if not isinstance(value, Tensor) or value.is_nested or value.is_quantized or value.is_meta:
        return False
    return value.layout == torch.strided and value.is_floating_point()
