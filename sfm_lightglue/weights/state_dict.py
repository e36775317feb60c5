"""Reading and writing files of weights as state dicts. Reading never runs code from the file."""

from __future__ import annotations

import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from sfm_lightglue.errors import StoreError, WeightsError
from sfm_lightglue.messages import shortened
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.weights.digest import fault_of

StateDict = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class WeightsFile:
    """The content of a file of weights, read once.

    Args:
        path: of the file, for messages.
        state: tensors by key.
        metadata: of a safetensors file; empty for other formats.
    """

    path: Path
    state: StateDict
    metadata: Mapping[str, str]


def read_weights(path: str | Path, sha256: str | None = None) -> WeightsFile:
    """Reads a safetensors file, or the output of `torch.save`.

    A state dict of `torch.save` may be nested under "model", "state_dict" or a similar key.

    Args:
        path: of the file; the suffix does not matter.
        sha256: expected hexadecimal digest; None skips the comparison.

    Raises:
        WeightsError: the file is missing, damaged, has another digest, or contains something other than tensors.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise WeightsError(f"{path}: no such file of weights; check the path, or download the file again")
    fault = fault_of(path, sha256)
    if fault is not None:
        raise WeightsError(f"{path} {fault}; remove the file and download it again")
    try:
        return _read(path)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: damaged, or contains more than tensors, and loading that could run code; ask the author for"
            " safetensors, or save only its state dict with torch.save"
        ) from error
    except WeightsError:
        raise
    except Exception as error:  # damaged bytes can raise anything: TypeError, IndexError, AssertionError
        raise WeightsError(f"{path}: damaged, or not a file of weights ({error}); download it again") from error


def _read(path: Path) -> WeightsFile:
    with path.open("rb") as file:
        head = file.read(9)
    # In safetensors, the JSON header begins after 8 bytes; torch writes a zip archive, formerly a bare pickle.
    if head[8:] == b"{" or not head.startswith((b"PK", b"\x80")):
        with safe_open(path, framework="pt") as tensors:
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
            return WeightsFile(path, state, tensors.metadata() or {})
    _refuse_bomb(path)
    with warnings.catch_warnings(action="ignore"):  # warnings about old pickle formats
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    return WeightsFile(path, _unwrap(loaded, path), {})


def _refuse_bomb(path: Path) -> None:
    """Refuse an archive that is unpacked to much more than its size; torch writes archives without compression."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        num_bytes = sum(member.file_size for member in archive.infolist())
    size = path.stat().st_size
    if num_bytes > 4 * size + 1_000_000:
        raise WeightsError(f"{path}: has {size} bytes and would be unpacked to {num_bytes}: not a file of weights")


def _unwrap(loaded: Any, path: Path) -> StateDict:
    for name in ("model", "state_dict", "model_state_dict", "extractor", "disk"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path}: contains no state dict")
    others = [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(f"{path}: these entries of its state dict are not tensors: {summarise(others)}")
    return {str(key): value for key, value in loaded.items()}


def save_tensors(state: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file atomically. Equal content gives equal bytes.

    Args:
        state: tensors by key.
        path: usually ends in .safetensors; its folder must exist.
        metadata: strings to store in the header.

    Raises:
        StoreError: the file cannot be written.
    """
    path = Path(path)
    dense = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    content = _with_sorted_metadata(safetensors.torch.save(dense, metadata=dict(metadata)))
    if not path.parent.is_dir():
        raise StoreError(f"{path}: cannot be written: there is no folder {path.parent}; make it, or give another path")
    with atomic_write(path) as file:
        file.write(content)


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same file with its metadata sorted, so that equal networks give equal digests."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + content[end:]


def summarise(keys: Iterable[str], limit: int = 40) -> str:
    """Sorted keys for a message: the first `limit`, and the number of the others."""
    return shortened(sorted(keys), limit)


def is_dense(value: object) -> bool:
    """Whether a value is a dense tensor of floating-point numbers, of any precision, with data."""
    if not isinstance(value, Tensor) or value.is_nested or value.is_quantized or value.is_meta:
        return False
    return value.layout == torch.strided and value.is_floating_point()
