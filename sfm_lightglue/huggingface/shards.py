"""Files of weights of a folder or a repository: one file, or several with an index, as `transformers` writes them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfm_lightglue.errors import ConfigError, StoreError, WeightsError
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.weights.hub import find_file, find_file_or_none, read_json, write_json
from sfm_lightglue.weights.hub_options import HubOptions
from sfm_lightglue.weights.state_dict import StateDict, WeightsFile, read_weights, save_tensors, summarise

_STEMS = (("model", "safetensors"), ("pytorch_model", "bin"))
_UNITS = {"": 1, **{f"{unit}B": 1000**power for power, unit in enumerate("KMGT", start=1)}}
_UNITS |= {f"{unit}iB": 1024**power for power, unit in enumerate("KMGT", start=1)} | {"B": 1}


def read_state(source: Path | str, hub: HubOptions, variant: str | None = None) -> WeightsFile:
    """Read the weights of a folder or a repository.

    Args:
        source: of `find_source`.
        hub: version, access and subfolder.
        variant: part of the names of the files, such as "fp16" in model.fp16.safetensors.

    Returns:
        All tensors; its path is that of the file, or of the index of several files.

    Raises:
        WeightsError: if files are missing or damaged, or do not have the tensors of their index.
    """
    names = [_file_name(stem, suffix, variant) for stem, suffix in _STEMS]
    for name, index_name in zip(names, [_index_name(*each, variant) for each in _STEMS], strict=True):
        path = find_file_or_none(source, name, hub)
        if path is not None:
            return read_weights(path)
        index = find_file_or_none(source, index_name, hub)
        if index is not None:
            return _read_shards(index, source, hub)
    return read_weights(find_file(source, names[0], hub))


def write_state(
    state: Mapping[str, Tensor],
    folder: Path,
    metadata: Mapping[str, str],
    *,
    max_shard_size: int | str = "50GB",
    safe_serialization: bool = True,
    variant: str | None = None,
) -> None:
    """Write weights as one file, or as several with an index; files of earlier weights are removed.

    Args:
        state: tensors by key.
        folder: is created.
        metadata: of every safetensors file.
        max_shard_size: most bytes of a file; text has a unit, such as "5MB". A larger tensor is a file of its own.
        safe_serialization: False writes files of `torch.save`.
        variant: part of the names of the files.

    Raises:
        ConfigError: on an impossible size or variant.
        StoreError: if a file cannot be written.
    """
    stem, suffix = _STEMS[0 if safe_serialization else 1]
    parts = _parts(state, _num_bytes(max_shard_size))
    names = [_file_name(stem, suffix, variant)]
    if len(parts) > 1:
        whole = names[0].removesuffix(f".{suffix}")
        names = [f"{whole}-{number:05d}-of-{len(parts):05d}.{suffix}" for number in range(1, len(parts) + 1)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error}); give another folder") from error
    for name, part in zip(names, parts, strict=True):
        _write(part, folder / name, metadata, safe_serialization)
    if len(parts) > 1:
        size = sum(_size(value) for value in state.values())
        weight_map = {key: name for name, part in zip(names, parts, strict=True) for key in part}
        index = _index_name(stem, suffix, variant)
        write_json(folder / index, {"metadata": {"total_size": size}, "weight_map": weight_map})
        names.append(index)
    _remove_others(folder, variant, set(names))


def _read_shards(index: Path, source: Path | str, hub: HubOptions) -> WeightsFile:
    try:
        weight_map: Any = read_json(index).get("weight_map")
    except ConfigError as error:
        raise WeightsError(str(error)) from error
    is_map = isinstance(weight_map, dict) and len(weight_map) > 0
    if not is_map or not all(isinstance(name, str) and re.fullmatch(r"[\w.-]+", name) for name in weight_map.values()):
        raise WeightsError(f"{index}: expected a weight_map from keys to names of files beside it")
    state: StateDict = {}
    metadata: Mapping[str, str] = {}
    for name in sorted(set(weight_map.values())):
        file = read_weights(find_file(source, name, hub))
        wrong = file.state.keys() ^ {key for key, each in weight_map.items() if each == name}
        if wrong:
            raise WeightsError(f"{file.path}: other keys than in {index.name}: {summarise(wrong)}")
        state |= file.state
        metadata = file.metadata
    return WeightsFile(index, state, metadata)


def _parts(state: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    """Tensors in their order, cut where a file would be larger than the limit in bytes."""
    parts: list[dict[str, Tensor]] = [{}]
    filled = 0
    for key, value in state.items():
        if len(parts[-1]) > 0 and filled + _size(value) > limit:
            parts.append({})
            filled = 0
        parts[-1][key] = value
        filled += _size(value)
    return parts


def _size(value: Tensor) -> int:
    return value.numel() * value.element_size()


def _num_bytes(size: Any) -> int:
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", str(size).strip())
    unit = "" if match is None else match[2].replace("K", "k").replace("k", "K")
    if match is None or isinstance(size, bool) or unit not in _UNITS or int(match[1]) < 1:
        raise ConfigError(f'max_shard_size: expected bytes, or text such as "5MB" or "2GiB", got {size!r}')
    return int(match[1]) * int(_UNITS[unit])


def _file_name(stem: str, suffix: str, variant: str | None) -> str:
    if variant is not None and not re.fullmatch(r"[\w-]+", str(variant)):
        raise ConfigError(f"variant: expected letters and digits, such as 'fp16', got {variant!r}")
    return f"{stem}.{suffix}" if variant is None else f"{stem}.{variant}.{suffix}"


def _index_name(stem: str, suffix: str, variant: str | None) -> str:
    return f"{stem}.{suffix}.index.json" if variant is None else f"{stem}.{suffix}.index.{variant}.json"


def _write(state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str], is_safe: bool) -> None:
    if is_safe:
        save_tensors(state, path, metadata)
        return
    content = io.BytesIO()
    torch.save({key: value.detach().cpu().contiguous() for key, value in state.items()}, content)
    with atomic_write(path) as file:
        file.write(content.getvalue())


def _remove_others(folder: Path, variant: str | None, names: set[str]) -> None:
    """Remove the files of earlier weights: otherwise `read_state` could read them instead of the new ones."""
    patterns = [re.escape(_index_name(*each, variant)) for each in _STEMS]
    for stem, suffix in _STEMS:
        whole = _file_name(stem, suffix, variant).removesuffix(f".{suffix}")
        patterns.append(rf"{re.escape(whole)}(-\d{{5}}-of-\d{{5}})?\.{suffix}")
    for path in sorted(folder.iterdir()):
        if path.name not in names and any(re.fullmatch(pattern, path.name) for pattern in patterns):
            path.unlink()
