"""Pretrained models on the disk: folders written by `transformers` or this library, and single files of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.configuration_base import CONFIG_FILE
from sfm_lightglue.huggingface.detector_configuration import DetectorConfig, DiskDetectorConfig, SiftDetectorConfig
from sfm_lightglue.huggingface.detectors import (
    Detector,
    DiskDetector,
    SiftDetector,
    SuperPointDetector,
    superpoint_architecture,
    superpoint_config,
)
from sfm_lightglue.models.checkpoints import (
    lightglue_from_file,
    lightglue_from_state_dict,
    save_lightglue,
    superpoint_from_file,
    superpoint_from_state_dict,
)
from sfm_lightglue.models.disk import Disk
from sfm_lightglue.models.key_layouts import SUPERPOINT_HUGGING_FACE_RULES, Layout, lightglue_to_hugging_face
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.weights.hub import find_file, find_file_or_none, find_source
from sfm_lightglue.weights.lookup import find_weights
from sfm_lightglue.weights.recommended_thresholds import PAPERS_THRESHOLDS, thresholds_from_metadata
from sfm_lightglue.weights.state_dict import WeightsFile, read_weights, save_tensors
from sfm_lightglue.weights.strict import fill_strictly

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
_DETECTOR_PREFIX = "keypoint_detector."
_DISK_KEY = re.compile(r"(.*)unet\.path_down\.")
_DETECTOR_OF = {"superpoint_lightglue": "superpoint_v1", "disk_lightglue": "disk"}
"""Names in the catalogue of weights: for a LightGlue, the detector that it was trained with."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The parts of a model."""

    config: LightGlueConfig
    detector: Detector
    lightglue: LightGlue


def load(
    name_or_path: str | Path,
    config: LightGlueConfig | None,
    detector_weights: str | Path | None,
    overrides: Mapping[str, Any],
) -> Loaded:
    """The parts of `LightGlueForKeypointMatching.from_pretrained`."""
    source = find_source(name_or_path)
    detector_weights = detector_weights or _DETECTOR_OF.get(str(name_or_path))
    detector_file = None if detector_weights is None else read_weights(find_weights(str(detector_weights)))
    if isinstance(source, Path) and source.is_file():
        file = read_weights(source)
        return _load_file(file, config, detector_file or file, overrides)
    if config is None:
        config = LightGlueConfig.from_pretrained(source, **overrides)
    elif overrides:
        config = LightGlueConfig.from_dict(config.to_dict(), **overrides)
    present = (path for name in WEIGHT_FILES if (path := find_file_or_none(source, name)))
    path = next(present, None) or find_file(source, WEIGHT_FILES[0])
    file = read_weights(path)
    lightglue = _with_options(lightglue_from_file(file), config)
    _require_same(lightglue.architecture, config, path)
    return Loaded(config, _load_detector(config, detector_file or file), lightglue)


def save(config: LightGlueConfig, detector: Detector, lightglue: LightGlue, folder: str | Path) -> None:
    """Write the files of `LightGlueForKeypointMatching.save_pretrained`."""
    config.save_pretrained(folder)
    path, architecture = Path(folder) / WEIGHT_FILES[0], lightglue.architecture
    if isinstance(detector, SiftDetector):  # it has no weights, and `transformers` has no such detector
        chosen = ((name, getattr(config.thresholds(), name)) for name in PAPERS_THRESHOLDS)
        save_lightglue(lightglue, path, thresholds={name: -1.0 if value is None else value for name, value in chosen})
        return
    state = lightglue_to_hugging_face(lightglue.state_dict(), architecture)
    is_disk = isinstance(detector, DiskDetector)
    names = Layout(() if is_disk else SUPERPOINT_HUGGING_FACE_RULES, _DETECTOR_PREFIX)
    state |= {names.names(key)[0]: value for key, value in detector.network.state_dict().items()}
    save_tensors(state, path, {"format": "pt"})


def state_from_transformers(
    state: Mapping[str, Tensor], architecture: LightGlueArchitecture, detector: Detector
) -> dict[str, Any]:
    """A state dict of `transformers` with the keys of a model of this library."""
    matcher = lightglue_from_state_dict(state, "state dict", architecture)
    result = {f"lightglue.{key}": value for key, value in matcher.state_dict().items()}
    if isinstance(detector, DiskDetector):
        weights = disk_from_state_dict(state).state_dict()
        result |= {f"{_DETECTOR_PREFIX}network.{key}": value for key, value in weights.items()}
    if isinstance(detector, SuperPointDetector):
        network = superpoint_from_state_dict(state, "state dict", detector.network.architecture)
        result |= {f"{_DETECTOR_PREFIX}network.{key}": value for key, value in network.state_dict().items()}
    return result


def dtype_from(dtype: torch.dtype | str | None) -> torch.dtype:
    """A floating-point type from its name; None and "auto" are float32.

    Raises:
        ConfigError: if it is not a floating-point type.
    """
    if dtype in (None, "auto"):
        return torch.float32
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype: expected a floating-point type such as 'bfloat16', got {dtype!r}")
    return found


def _load_file(
    file: WeightsFile, config: LightGlueConfig | None, detector_file: WeightsFile, overrides: Mapping[str, Any]
) -> Loaded:
    """The parts of a model from a file of LightGlue's weights, whose sizes select the detector by default."""
    lightglue = lightglue_from_file(file)
    arch = lightglue.architecture
    if config is None:
        values = {
            "keypoint_detector_config": overrides.get("keypoint_detector_config")
            or _detector_config(arch, detector_file),
            "descriptor_dim": arch.descriptor_dim,
            "num_hidden_layers": arch.num_layers,
            "num_attention_heads": arch.num_heads,
            "num_key_value_heads": arch.num_key_value_heads,
            "attention_bias": arch.attention_bias,
            "hidden_act": arch.hidden_act,
            "attention_dropout": arch.attention_dropout,
            **thresholds_from_metadata(file.metadata, file.path),
        }
        config = LightGlueConfig.from_dict(values, **overrides)
    elif overrides:
        config = LightGlueConfig.from_dict(config.to_dict(), **overrides)
    _require_same(arch, config, file.path)
    return Loaded(config, _load_detector(config, detector_file), _with_options(lightglue, config))


def _detector_config(arch: LightGlueArchitecture, file: WeightsFile) -> DetectorConfig:
    """SIFT for a LightGlue that uses scales and orientations, else the detector in a file."""
    if arch.use_scale_orientation:
        return SiftDetectorConfig()
    if any(_DISK_KEY.match(key) for key in file.state):
        return DiskDetectorConfig()
    try:
        return superpoint_config(superpoint_from_file(file).architecture)
    except WeightsError as error:
        raise WeightsError(
            f"{file.path}: contains no detector; give the file of its SuperPoint or DISK as keypoint_detector_weights,"
            " or its keypoint_detector_config"
        ) from error


def _load_detector(config: LightGlueConfig, file: WeightsFile) -> Detector:
    detector_config = config.keypoint_detector_config
    if isinstance(detector_config, SiftDetectorConfig):
        return SiftDetector(detector_config)
    if isinstance(detector_config, DiskDetectorConfig):
        return DiskDetector(detector_config, disk_from_state_dict(file.state, str(file.path)))
    network = superpoint_from_file(file)
    expected = superpoint_architecture(detector_config)
    if network.architecture != expected:
        raise WeightsError(
            f"{file.path}: its SuperPoint is {network.architecture}, but the configuration has {expected}"
        )
    return SuperPointDetector(detector_config, network)


def disk_from_state_dict(state: Mapping[str, Tensor], source: str = "state dict") -> Disk:
    """A DISK from a state dict that may contain a LightGlue too; the keys may have any prefix.

    Raises:
        WeightsError: if there are no weights of DISK, or they do not fit.
    """
    prefixes = sorted({match[1] for key in state if (match := _DISK_KEY.match(key))})
    if len(prefixes) != 1:
        raise WeightsError(f"{source}: contains no weights of DISK; give their file as keypoint_detector_weights")
    return fill_strictly(
        Disk(), {key: value for key, value in state.items() if key.startswith(f"{prefixes[0]}unet.")}, source, prefixes
    )


def _require_same(arch: LightGlueArchitecture, config: LightGlueConfig, path: Path) -> None:
    """Check that weights have the sizes of a configuration.

    Raises:
        WeightsError: if sizes differ; the message names them.
    """
    expected = config.architecture()
    sizes = ("input_dim", "descriptor_dim", "num_layers", "num_heads", "kv_heads", "position_dim", "attention_bias")
    wrong = [name for name in sizes if getattr(arch, name) != getattr(expected, name)]
    if wrong:
        listed = "; ".join(f"{name} is {getattr(arch, name)}, not {getattr(expected, name)}" for name in wrong)
        raise WeightsError(f"{path}: does not fit the configuration ({CONFIG_FILE} or the detector): {listed}")


def _with_options(lightglue: LightGlue, config: LightGlueConfig) -> LightGlue:
    """The same weights with activation and dropout of the configuration, which files of weights may lack."""
    expected = config.architecture()
    wanted = replace(
        lightglue.architecture, hidden_act=expected.hidden_act, attention_dropout=expected.attention_dropout
    )
    return lightglue_from_state_dict(lightglue.state_dict(), "weights", wanted)
