"""Files of network weights: read without running code, verified, renamed, loaded strictly.

Our own files are safetensors, written atomically, whose metadata hold the network's name and its architecture
as JSON, those of a LightGlue also the thresholds that suit it (`recommended.py`). Other files are recognised by
their content: safetensors, or the pickled tensors of `torch.save`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.models import key_layouts
from sfm_lightglue.models.key_layouts import Layout
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.superpoint import SuperPoint, SuperPointArchitecture
from sfm_lightglue.weights.recommended_thresholds import FORMAT, THRESHOLDS, check_thresholds
from sfm_lightglue.weights.state_dict import is_dense, read_state_dict, refuse_faults, save_tensors, summarise

Network = TypeVar("Network", LightGlue, SuperPoint)
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
        WeightsError: on missing, unexpected, wrongly shaped or unfit keys; they are named as `state` does.
    """
    state = {str(key): value for key, value in state.items()}
    layout = key_layouts.lightglue_layout(state)
    arch = architecture or key_layouts.lightglue_architecture(state, layout, source)
    if architecture is not None and arch.num_layers > len(state):
        raise WeightsError(f"{source}: {len(state)} keys cannot be those of {arch.num_layers} layers")
    model = _without_weights(LightGlue, arch, source)
    return load_strictly(model, state, source, layout, inferred=architecture is None)


def superpoint_from_state_dict(
    state: Mapping[str, Tensor],
    source: str = "state dict",
    architecture: SuperPointArchitecture | None = None,
) -> SuperPoint:
    """A SuperPoint with the weights of any known layout; `architecture` is read off them where it is None.

    Raises:
        WeightsError: on missing, unexpected, wrongly shaped or unfit keys; they are named as `state` does.
    """
    state = {str(key): value for key, value in state.items()}
    layout = key_layouts.superpoint_layout(state)
    arch = architecture or key_layouts.superpoint_architecture(state, layout)
    model = _without_weights(SuperPoint, arch, source)
    return load_strictly(model, state, source, layout, inferred=architecture is None)


def load_strictly(
    model: Network, state: Mapping[str, Tensor], source: str, layout: Layout | None = None, inferred: bool = False
) -> Network:
    """Gives a model copies of weights in float32, and sets it to evaluation mode.

    Args:
        model: a network, also one on the meta device.
        state: exactly its keys, in its shapes, as the layout has them.
        source: where the weights come from, for messages.
        layout: of the state dict; None for ours.
        inferred: whether the sizes of the model were read off the same weights.

    Raises:
        WeightsError: listing the missing, the unexpected, the wrongly shaped and the unfit keys.
    """
    layout = layout or Layout()
    state = {key: value for key, value in state.items() if not re.match(layout.others, key)}
    own_shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    shapes = key_layouts.shapes_in_file(own_shapes, layout, model.architecture)
    owns = {name: key for key, parts in shapes.items() for name in parts}
    wanted = {name: shape for parts in shapes.values() for name, shape in parts.items()}
    optional = layout.optional() & state.keys()
    dense = {name: value for name, value in state.items() if is_dense(value)}
    known = {name: dense[name].detach().to(torch.float32, copy=True) for name in wanted if name in dense}

    def beside(name: str) -> str:
        """A key, with the other key of its module where one of them must be wrong, and either may be."""
        stem, _, kind = name.rpartition(".")
        other = f"{stem}.{'bias' if kind == 'weight' else 'weight'}"
        if not key_layouts.TOLD_BY_ITSELF.fullmatch(owns[name]) or other not in known:
            return name
        return f"{name} (beside {other} {list(known[other].shape)})"

    def misfit(name: str) -> str:
        found = f"{name} {list(known[name].shape)}"
        if inferred and owns[name] in key_layouts.TELLING:
            return f"{found} fits no {type(model).__name__}"
        return f"{found} instead of {list(wanted[name])}{beside(name).removeprefix(name)}"

    complaints = {
        "missing keys": [beside(name) for name in wanted.keys() - state.keys()],
        "unexpected keys": state.keys() - wanted.keys() - optional,
        "wrong shapes": [misfit(name) for name, value in known.items() if tuple(value.shape) != wanted[name]],
        "no arrays of real numbers": (wanted.keys() | optional) & state.keys() - dense.keys(),
        "NaN or infinite": [name for name, value in known.items() if not value.isfinite().all()],
        "other than 0.8 + 0.1 exp(-4 i / layers)": [
            name for name in optional & dense.keys() if not _are_thresholds(dense[name], model)
        ],
    }
    refuse_faults(complaints, model, source)
    fused = {
        key: key_layouts.fuse(key, {name: known[name] for name in parts}, model.architecture, source).contiguous()
        for key, parts in shapes.items()
    }
    model.load_state_dict(fused, strict=True, assign=True)
    return model.eval()


def save_lightglue(
    model: LightGlue,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Writes our own layout: all of the file or nothing.

    Args:
        model: the network.
        path: ends in .safetensors by custom.
        metadata: more to tell, such as licence and training data.
        thresholds: some of `recommended.PAPERS_THRESHOLDS`, as they suit these weights: what a matcher takes where
            its user says nothing.

    Raises:
        ValueError: where no matcher would take these thresholds.
        StoreError: where the file cannot be written.
    """
    told = dict(metadata or {})
    if thresholds:
        check_thresholds(thresholds)
        told[THRESHOLDS] = json.dumps(dict(thresholds), sort_keys=True)
    _save(model, "lightglue", asdict(model.architecture), path, told)


def save_superpoint(model: SuperPoint, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """As `save_lightglue`."""
    _save(model, "superpoint", asdict(model.architecture), path, metadata)


def _without_weights(kind: Callable[[Architecture], Network], arch: Architecture, source: str) -> Network:
    """A network on the meta device: neither memory nor random numbers for weights that are replaced."""
    try:
        with torch.device("meta"):
            return kind(arch)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{source}: no network has the sizes {arch} ({error})") from error


def _are_thresholds(values: Tensor, model: nn.Module) -> bool:
    return isinstance(model, LightGlue) and key_layouts.are_thresholds(values, model.architecture.num_layers)


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


def _save(
    model: nn.Module,
    network: str,
    architecture: dict[str, Any],
    path: str | Path,
    metadata: Mapping[str, str] | None,
) -> None:
    described = {
        **(metadata or {}),
        "format": FORMAT,
        "network": network,
        "architecture": json.dumps(architecture, sort_keys=True),
    }
    save_tensors(model.state_dict(), path, described)
