"""Files of network weights: read without running code, verified, renamed, loaded strictly.

Our own files are safetensors, written atomically, whose metadata hold the network's name and its architecture
as JSON. Other files are recognised by their content: safetensors, or the pickled tensors of `torch.save`.
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sfm_lightglue.errors import StoreError, WeightsError
from sfm_lightglue.models import layouts
from sfm_lightglue.models.files import file_sha256
from sfm_lightglue.models.layouts import StateDict, summarise
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.superpoint import SuperPoint, SuperPointArchitecture

FORMAT = "sfm_lightglue"
"""Value of "format" in the metadata of our own files."""

Network = TypeVar("Network", bound=nn.Module)
Architecture = TypeVar("Architecture", LightGlueArchitecture, SuperPointArchitecture)


def load_lightglue(path: str | Path, *, num_heads: int | None = None, sha256: str | None = None) -> LightGlue:
    """Reads a LightGlue from the original's, Hugging Face's or our layout.

    Args:
        path: a .pth, .safetensors or .bin file; the suffix does not matter.
        num_heads: heads that the network must have; they are read off the weights.
        sha256: hexadecimal digest that the file must have.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: where the file is missing, damaged, other than promised, or of another network.
    """
    state, metadata = read_state_dict(path, sha256)
    architecture = _stored_architecture(LightGlueArchitecture, "lightglue", metadata, path)
    model = lightglue_from_state_dict(state, str(path), architecture)
    if num_heads not in (None, model.architecture.num_heads):
        raise WeightsError(f"{path}: has {model.architecture.num_heads} heads, expected {num_heads}")
    return model


def load_superpoint(path: str | Path, *, sha256: str | None = None) -> SuperPoint:
    """Reads a SuperPoint from the original's or Hugging Face's layout, or out of Hugging Face's LightGlue.

    Args:
        path: a .pth, .safetensors or .bin file; the suffix does not matter.
        sha256: hexadecimal digest that the file must have.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: where the file is missing, damaged, other than promised, or of another network.
    """
    state, metadata = read_state_dict(path, sha256)
    architecture = _stored_architecture(SuperPointArchitecture, "superpoint", metadata, path)
    return superpoint_from_state_dict(state, str(path), architecture)


def lightglue_from_state_dict(
    state: Mapping[str, Tensor], source: str = "state dict", architecture: LightGlueArchitecture | None = None
) -> LightGlue:
    """A LightGlue with the weights of any known layout; `architecture` is read off them where it is None.

    Raises:
        WeightsError: on missing, unexpected or wrongly shaped keys; they are named.
    """
    own = layouts.lightglue_to_own(state, source)
    arch = architecture or layouts.lightglue_architecture(own, source)
    with torch.device("meta"):  # neither memory nor random numbers for weights that are replaced
        model = LightGlue(arch)
    return load_strictly(model, own, source)


def superpoint_from_state_dict(
    state: Mapping[str, Tensor],
    source: str = "state dict",
    architecture: SuperPointArchitecture | None = None,
) -> SuperPoint:
    """A SuperPoint with the weights of any known layout; `architecture` is read off them where it is None.

    Raises:
        WeightsError: on missing, unexpected or wrongly shaped keys; they are named.
    """
    own = layouts.superpoint_to_own(state, source)
    arch = architecture or layouts.superpoint_architecture(own, source)
    with torch.device("meta"):
        model = SuperPoint(arch)
    return load_strictly(model, own, source)


def load_strictly(model: Network, state: Mapping[str, Tensor], source: str) -> Network:
    """Gives a model copies of weights in float32, and sets it to evaluation mode.

    Args:
        model: any network, also one on the meta device.
        state: exactly its keys, in its shapes.
        source: where the weights come from, for messages.

    Raises:
        WeightsError: listing the missing, the unexpected and the wrongly shaped keys.
    """
    wanted = model.state_dict()
    complaints = []
    if missing := wanted.keys() - state.keys():
        complaints.append(f"missing keys: {summarise(missing)}")
    if unexpected := state.keys() - wanted.keys():
        complaints.append(f"unexpected keys: {summarise(unexpected)}")
    shapes = [
        f"{key} {list(state[key].shape)} instead of {list(wanted[key].shape)}"
        for key in wanted.keys() & state.keys()
        if state[key].shape != wanted[key].shape
    ]
    if shapes:
        complaints.append(f"wrong shapes: {summarise(shapes)}")
    if complaints:
        raise WeightsError(f"{source}: not the weights of this {type(model).__name__}: {'; '.join(complaints)}")
    copies = {key: value.to(torch.float32, copy=True).contiguous() for key, value in state.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    return model.eval()


def save_lightglue(model: LightGlue, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes our own layout: all of the file or nothing.

    Args:
        model: the network.
        path: ends in .safetensors by custom.
        metadata: more to tell, such as licence and training data.

    Raises:
        StoreError: where the file cannot be written.
    """
    _save(model, "lightglue", asdict(model.architecture), path, metadata)


def save_superpoint(model: SuperPoint, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """As `save_lightglue`."""
    _save(model, "superpoint", asdict(model.architecture), path, metadata)


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
        if head[8:] != b"{" and head.startswith((b"PK", b"\x80")):
            with warnings.catch_warnings(action="ignore"):  # about the pickle's age; what matters is an error
                return _unwrap(torch.load(path, map_location="cpu", weights_only=True), path), {}
        with safe_open(path, framework="pt") as tensors:
            state = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118
            return state, tensors.metadata() or {}
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: damaged, or holds more than tensors, and loading that could run code; ask its "
            "author for safetensors, or save its state dict alone with torch.save"
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise WeightsError(f"{path}: damaged, or no file of weights ({error}); download it again") from error


def verify_sha256(path: str | Path, sha256: str) -> None:
    """Compares a file with its hexadecimal digest.

    Raises:
        WeightsError: where they differ, or the file cannot be read.
    """
    found = file_sha256(path)
    if found != sha256.lower():
        raise WeightsError(f"{path}: sha256 is {found}, expected {sha256}; remove the file and download it again")


def _unwrap(loaded: Any, path: Path) -> StateDict:
    for name in ("model", "state_dict", "model_state_dict"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping):
            loaded = loaded[name]
    if not isinstance(loaded, Mapping) or not loaded:
        raise WeightsError(f"{path}: holds no state dict")
    others = [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(f"{path}: these entries of its state dict are no tensors: {summarise(others)}")
    return {str(key): value for key, value in loaded.items()}


def _stored_architecture(
    kind: type[Architecture], network: str, metadata: Mapping[str, str], path: str | Path
) -> Architecture | None:
    """The architecture in the metadata of our own files, None for other files."""
    if metadata.get("format") != FORMAT:
        return None
    if metadata.get("network") != network:
        raise WeightsError(f"{path}: holds a {metadata.get('network')}, expected a {network}")
    try:
        stored = json.loads(metadata["architecture"])
        unknown = stored.keys() - {field.name for field in fields(kind)}
        if unknown:
            raise ValueError(f"unknown fields {summarise(unknown)}")
        return kind(**stored)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: its architecture cannot be read ({error})") from error


def _with_sorted_metadata(content: bytes) -> bytes:
    """The same file with its metadata in order, so that equal networks have equal digests."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded + content[end:]


def _save(
    model: nn.Module,
    network: str,
    architecture: dict[str, Any],
    path: str | Path,
    metadata: Mapping[str, str] | None,
) -> None:
    path = Path(path)
    described = {
        **(metadata or {}),
        "format": FORMAT,
        "network": network,
        "architecture": json.dumps(architecture, sort_keys=True),
    }
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    content = _with_sorted_metadata(safetensors.torch.save(state, metadata=described))
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise StoreError(
            f"{path}: cannot be written ({error.strerror}); is the folder there and the disk not full?"
        ) from error
