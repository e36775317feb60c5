"""Checkpoints of LightGlue and SuperPoint: read in every known layout, checked strictly, written in our own.

Our own files are safetensors. Their metadata hold the network's name and its architecture as JSON, and for
LightGlue the recommended thresholds (`weights/recommended_thresholds.py`). Other layouts are recognised by their
key names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
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
from sfm_lightglue.weights.state_dict import StateDict, WeightsFile, is_dense, read_weights, save_tensors, summarise
from sfm_lightglue.weights.strict import MISSING, WRONG_SHAPES, Shape, compare_keys, refuse_faults

Network = TypeVar("Network", LightGlue, SuperPoint)
Architecture = TypeVar("Architecture", LightGlueArchitecture, SuperPointArchitecture)


def load_lightglue(path: str | Path, *, num_heads: int | None = None, sha256: str | None = None) -> LightGlue:
    """Reads a LightGlue in the layout of its authors, of Hugging Face or of this project.

    Args:
        path: of a .pth, .safetensors or .bin file; the suffix does not matter.
        num_heads: expected number of heads; None skips the comparison.
        sha256: expected hexadecimal digest; None skips the comparison.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, has another digest, or belongs to another network.
    """
    model = lightglue_from_file(read_weights(path, sha256))
    if num_heads not in (None, model.architecture.num_heads):
        raise WeightsError(f"{path}: has {model.architecture.num_heads} heads, expected {num_heads}")
    return model


def lightglue_from_file(file: WeightsFile) -> LightGlue:
    """As `load_lightglue`, from a file that was read before."""
    architecture = _stored_architecture(LightGlueArchitecture, "lightglue", file)
    return lightglue_from_state_dict(file.state, str(file.path), architecture)


def load_superpoint(path: str | Path, *, sha256: str | None = None) -> SuperPoint:
    """Reads a SuperPoint in the layout of its authors, of Hugging Face or of this project.

    A file of Hugging Face's LightGlue also contains a SuperPoint.

    Args:
        path: as in `load_lightglue`.
        sha256: expected hexadecimal digest; None skips the comparison.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, has another digest, or belongs to another network.
    """
    return superpoint_from_file(read_weights(path, sha256))


def superpoint_from_file(file: WeightsFile) -> SuperPoint:
    """As `load_superpoint`, from a file that was read before."""
    architecture = _stored_architecture(SuperPointArchitecture, "superpoint", file)
    return superpoint_from_state_dict(file.state, str(file.path), architecture)


def lightglue_from_state_dict(
    state: Mapping[str, Tensor], source: str = "state dict", architecture: LightGlueArchitecture | None = None
) -> LightGlue:
    """A LightGlue with the weights of any known layout.

    Args:
        state: tensors by key.
        source: origin of the weights, for messages.
        architecture: of the network; None infers it from the weights.

    Raises:
        WeightsError: with the missing, unexpected, wrongly shaped and unusable keys, as `state` names them.
    """
    state = {str(key): value for key, value in state.items()}
    layout = key_layouts.lightglue_layout(state)
    arch = architecture or key_layouts.lightglue_architecture(state, layout, source)
    if architecture is not None and arch.num_layers > len(state):
        raise WeightsError(f"{source}: {len(state)} keys cannot be those of {arch.num_layers} layers")
    model = _without_weights(LightGlue, arch, source)
    return _fill(model, state, source, layout, is_inferred=architecture is None)


def superpoint_from_state_dict(
    state: Mapping[str, Tensor],
    source: str = "state dict",
    architecture: SuperPointArchitecture | None = None,
) -> SuperPoint:
    """A SuperPoint with the weights of any known layout; arguments and errors as in `lightglue_from_state_dict`."""
    state = {str(key): value for key, value in state.items()}
    layout = key_layouts.superpoint_layout(state)
    arch = architecture or key_layouts.superpoint_architecture(state, layout)
    model = _without_weights(SuperPoint, arch, source)
    return _fill(model, state, source, layout, is_inferred=architecture is None)


def save_lightglue(
    model: LightGlue,
    path: str | Path,
    metadata: Mapping[str, str] | None = None,
    thresholds: Mapping[str, float] | None = None,
) -> None:
    """Writes a LightGlue in our own layout, atomically.

    Args:
        model: the network.
        path: usually ends in .safetensors.
        metadata: further strings, such as licence and training data.
        thresholds: recommended values, some of `PAPERS_THRESHOLDS`; a matcher uses them unless its configuration
            sets others.

    Raises:
        ValueError: no matcher would accept these thresholds.
        StoreError: the file cannot be written.
    """
    save_tensors(model.state_dict(), path, lightglue_metadata(model, metadata, thresholds))


def lightglue_metadata(
    model: LightGlue, metadata: Mapping[str, str] | None = None, thresholds: Mapping[str, float] | None = None
) -> dict[str, str]:
    """The metadata of a file of `save_lightglue`; arguments and errors are the same."""
    described = dict(metadata or {})
    if thresholds:
        check_thresholds(thresholds)
        described[THRESHOLDS] = json.dumps(dict(thresholds), sort_keys=True)
    return _described("lightglue", asdict(model.architecture), described)


def save_superpoint(model: SuperPoint, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a SuperPoint in our own layout; arguments and errors as in `save_lightglue`."""
    save_tensors(model.state_dict(), path, _described("superpoint", asdict(model.architecture), metadata))


def _fill(model: Network, state: Mapping[str, Tensor], source: str, layout: Layout, is_inferred: bool) -> Network:
    """Gives a model on the meta device float32 copies of weights, and sets it to evaluation mode.

    Args:
        model: the network.
        state: exactly its keys, in its shapes, in the layout.
        source: origin of the weights, for messages.
        layout: of the state dict.
        is_inferred: whether the sizes of the model were inferred from the same weights.

    Raises:
        WeightsError: with the missing, unexpected, wrongly shaped and unusable keys.
    """
    state = {key: value for key, value in state.items() if not re.match(layout.others, key)}
    own_shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    parts_from_key = key_layouts.shapes_in_file(own_shapes, layout, model.architecture)
    expected = {name: shape for parts in parts_from_key.values() for name, shape in parts.items()}
    optional = layout.optional() & state.keys()
    known, faults = compare_keys(state, expected, optional)
    key_from_name = {name: key for key, parts in parts_from_key.items() for name in parts}
    _describe_faults(faults, known, expected, key_from_name, type(model).__name__ if is_inferred else None)
    faults["other than 0.8 + 0.1 exp(-4 i / layers)"] = [
        name for name in optional if is_dense(state[name]) and not _are_thresholds(state[name], model)
    ]
    refuse_faults(faults, model, source)
    fused = {
        key: key_layouts.fuse(key, {name: known[name] for name in parts}, model.architecture, source).contiguous()
        for key, parts in parts_from_key.items()
    }
    model.load_state_dict(fused, strict=True, assign=True)
    return model.eval()


def _describe_faults(
    faults: dict[str, Collection[str]],
    known: StateDict,
    expected: Mapping[str, Shape],
    key_from_name: Mapping[str, str],
    inferred_network: str | None,
) -> None:
    """Adds shapes to the names of missing and wrongly shaped keys.

    Args:
        faults: names in the file by kind of fault; changed in place.
        known: expected tensors that the file has.
        expected: shapes by name in the file.
        key_from_name: our key for each name in the file.
        inferred_network: name of a network whose sizes were inferred from the same weights, else None.
    """

    def partner(name: str) -> str:
        """Names the other key of a module of which only one key must be wrong, and it is unknown which."""
        stem, _, kind = name.rpartition(".")
        other = f"{stem}.{'bias' if kind == 'weight' else 'weight'}"
        if not key_layouts.SELF_DEFINING.fullmatch(key_from_name[name]) or other not in known:
            return ""
        return f" (beside {other} {list(known[other].shape)})"

    def wrong_shape(name: str) -> str:
        found = f"{name} {list(known[name].shape)}"
        if inferred_network and key_from_name[name] in key_layouts.SIZE_DEFINING:
            return f"{found} fits no {inferred_network}"
        return f"{found} instead of {list(expected[name])}{partner(name)}"

    faults[MISSING] = [name + partner(name) for name in faults[MISSING]]
    faults[WRONG_SHAPES] = [wrong_shape(name) for name in faults[WRONG_SHAPES]]


def _without_weights(kind: Callable[[Architecture], Network], arch: Architecture, source: str) -> Network:
    """A network on the meta device: weights that will be replaced need no memory and no random numbers."""
    try:
        with torch.device("meta"):
            return kind(arch)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{source}: no network has the sizes {arch} ({error})") from error


def _are_thresholds(values: Tensor, model: nn.Module) -> bool:
    return isinstance(model, LightGlue) and key_layouts.are_thresholds(values, model.architecture.num_layers)


def _stored_architecture(kind: type[Architecture], network: str, file: WeightsFile) -> Architecture | None:
    """The architecture in the metadata of our own files; None for other files."""
    if file.metadata.get("format") != FORMAT:
        return None
    if file.metadata.get("network") != network:
        raise WeightsError(f"{file.path}: contains a {file.metadata.get('network')}, expected a {network}")
    try:
        stored = json.loads(file.metadata["architecture"])
        unknown = stored.keys() - {field.name for field in fields(kind)}
        if unknown:
            raise ValueError(f"unknown fields {summarise(unknown)}")
        return kind(**stored)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{file.path}: its architecture cannot be read ({error})") from error


def _described(network: str, architecture: dict[str, Any], metadata: Mapping[str, str] | None) -> dict[str, str]:
    return {
        **(metadata or {}),
        "format": FORMAT,
        "network": network,
        "architecture": json.dumps(architecture, sort_keys=True),
    }
