"""Pretrained models on the disk: folders written by `transformers` or this library, and single files of weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.configuration_base import CONFIG_FILE, Configuration
from sfm_lightglue.huggingface.detector_configuration import (
    DetectorConfig,
    DiskDetectorConfig,
    SiftDetectorConfig,
    SuperPointConfig,
)
from sfm_lightglue.huggingface.detectors import (
    Detector,
    DiskDetector,
    SiftDetector,
    SuperPointDetector,
    superpoint_architecture,
    superpoint_config,
    untrained_lightglue,
)
from sfm_lightglue.huggingface.placement import dtype_from
from sfm_lightglue.huggingface.resized_weights import Mismatches, fill_matching
from sfm_lightglue.huggingface.shards import read_state
from sfm_lightglue.models.checkpoints import (
    lightglue_from_file,
    lightglue_from_state_dict,
    lightglue_metadata,
    superpoint_from_file,
    superpoint_from_state_dict,
)
from sfm_lightglue.models.disk import Disk
from sfm_lightglue.models.key_layouts import SUPERPOINT_HUGGING_FACE_RULES, Layout, lightglue_to_hugging_face
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.superpoint import SuperPoint, SuperPointArchitecture
from sfm_lightglue.weights.hub import find_source
from sfm_lightglue.weights.hub_options import HubOptions
from sfm_lightglue.weights.lookup import find_weights
from sfm_lightglue.weights.recommended_thresholds import PAPERS_THRESHOLDS, thresholds_from_metadata
from sfm_lightglue.weights.state_dict import WeightsFile, read_weights
from sfm_lightglue.weights.strict import fill_strictly

__all__ = ["LoadRequest", "Loaded", "dtype_from", "hub_keywords", "load", "saved_dtype", "split_weights"]

_DETECTOR_PREFIX = "keypoint_detector."
_OWN_MATCHER, _OWN_DETECTOR = "lightglue.", "keypoint_detector.network."
"""Beginnings of the keys of a state dict of a model of this library."""
_DISK_KEY = re.compile(r"(.*)unet\.path_down\.")
_NUM_STAGES = len(SuperPointArchitecture().encoder_channels)
_DETECTOR_OF = {"superpoint_lightglue": "superpoint_v1", "disk_lightglue": "disk"}
"""Names in the catalogue of weights: for a LightGlue, the detector that it was trained with."""


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """What `LightGlueForKeypointMatching.from_pretrained` was asked for."""

    hub: HubOptions
    config: Any = None
    """A configuration, or the name or path of one; None reads that of the model."""
    detector_weights: str | Path | None = None
    """File of the detector."""
    state: Mapping[str, Tensor] | None = None
    """Weights instead of those of the model."""
    variant: str | None = None
    """Part of the names of the files."""
    allows_other_sizes: bool = False
    """Whether weights of other sizes than those of the configuration stay untrained."""
    overrides: dict[str, Any] = field(default_factory=dict)
    """Fields that replace those of the configuration."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The parts of a model."""

    config: LightGlueConfig
    detector: Detector
    lightglue: LightGlue
    saved_dtype: torch.dtype = torch.float32
    """The type that the weights were saved in; single files are always used in float32."""
    mismatches: Mismatches = field(default_factory=Mismatches)


def load(name_or_path: str | Path | None, request: LoadRequest) -> Loaded:
    """The parts of `LightGlueForKeypointMatching.from_pretrained`."""
    config = _given_config(request)
    detector_weights = request.detector_weights or _DETECTOR_OF.get(str(name_or_path))
    detector_file = None if detector_weights is None else _detector_file(str(detector_weights), request.hub)
    if name_or_path is None and (config is None or request.state is None):
        raise ConfigError("from_pretrained: without a name or path, config and state_dict are needed")
    source = None if name_or_path is None else find_source(name_or_path, request.hub)
    if request.state is not None and config is None and isinstance(source, Path) and source.is_file():
        config = _config_of_file(*split_weights(read_weights(source), detector_file), request.overrides)
    if request.state is None and isinstance(source, Path) and source.is_file():
        matcher, detector = split_weights(read_weights(source), detector_file)
        config = config or _config_of_file(matcher, detector, request.overrides)
        return _parts(config, matcher, detector, request)
    if config is None:
        assert source is not None  # a state dict without name needs a configuration
        config = LightGlueConfig.from_pretrained(source, **hub_keywords(request.hub), **request.overrides)
    if request.state is None:
        assert source is not None
        file = read_state(source, request.hub, request.variant)
    else:
        file = WeightsFile(Path("state_dict"), dict(request.state), {})
    loaded = _parts(config, *split_weights(file, detector_file), request)
    return replace(loaded, saved_dtype=saved_dtype(config, file))


def state_to_write(
    config: LightGlueConfig, detector: Detector, lightglue: LightGlue
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights and metadata of the files of `save_pretrained`."""
    if not isinstance(detector, SiftDetector):
        return state_for_transformers(detector, lightglue), {"format": "pt"}
    # SIFT has no weights, and `transformers` has no such detector: the file is one of `save_lightglue`.
    chosen = ((name, getattr(config.thresholds(), name)) for name in PAPERS_THRESHOLDS)
    thresholds = {name: -1.0 if value is None else value for name, value in chosen}
    return lightglue.state_dict(), lightglue_metadata(lightglue, thresholds=thresholds)


def state_for_transformers(detector: Detector, lightglue: LightGlue) -> dict[str, Tensor]:
    """The weights with the keys and shapes of `transformers`; those of DISK keep theirs.

    Raises:
        ValueError: if the detector is SIFT, which has no counterpart there.
    """
    state = lightglue_to_hugging_face(lightglue.state_dict(), lightglue.architecture)
    if isinstance(detector, SiftDetector):
        return state
    rules = () if isinstance(detector, DiskDetector) else SUPERPOINT_HUGGING_FACE_RULES
    names = Layout(rules, _DETECTOR_PREFIX)
    return state | {names.names(key)[0]: value for key, value in detector.network.state_dict().items()}


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


def _given_config(request: LoadRequest) -> LightGlueConfig | None:
    """The configuration of a request, as a copy: that of the caller is not changed."""
    given = request.config
    if given is None:
        return None
    if isinstance(given, (str, Path)):
        found: LightGlueConfig = LightGlueConfig.from_pretrained(
            given, **hub_keywords(request.hub), **request.overrides
        )
        return found
    copied: LightGlueConfig = LightGlueConfig.from_dict(LightGlueConfig.of(given).to_dict(), **request.overrides)
    return copied


def _detector_file(weights: str, hub: HubOptions) -> WeightsFile:
    """A file of a detector, by its path or its name in the catalogue."""
    access = HubOptions(local_files_only=hub.local_files_only)
    found = find_source(weights, access) if hub.local_files_only else find_weights(weights)
    return read_weights(found)


def hub_keywords(hub: HubOptions) -> dict[str, Any]:
    """The options as keywords of a `from_pretrained`."""
    return {name: getattr(hub, name) for name in HubOptions.__dataclass_fields__}


def split_weights(file: WeightsFile, detector_file: WeightsFile | None) -> tuple[WeightsFile, WeightsFile]:
    """The weights of LightGlue and of the detector; a state dict of a model of this library contains both."""
    state = file.state
    if not any(key.startswith((_OWN_MATCHER, _OWN_DETECTOR)) for key in state):
        return file, detector_file or file
    matcher = {key.removeprefix(_OWN_MATCHER): each for key, each in state.items() if key.startswith(_OWN_MATCHER)}
    detector = {key.removeprefix(_OWN_DETECTOR): each for key, each in state.items() if key.startswith(_OWN_DETECTOR)}
    strange = {key: each for key, each in state.items() if not key.startswith((_OWN_MATCHER, _OWN_DETECTOR))}
    return replace(file, state=matcher | strange), detector_file or replace(file, state=detector)


def saved_dtype(config: Configuration, file: WeightsFile) -> torch.dtype:
    """The type of the weights in config.json, else that of the first in the file."""
    if isinstance(config.dtype, torch.dtype) and config.dtype.is_floating_point:
        return config.dtype
    found = (value.dtype for value in file.state.values() if value.is_floating_point())
    return next(found, torch.float32)


def _config_of_file(matcher: WeightsFile, detector: WeightsFile, overrides: Mapping[str, Any]) -> LightGlueConfig:
    """The configuration of a file of LightGlue's weights, whose sizes select the detector."""
    arch = lightglue_from_file(matcher).architecture
    given = overrides.get("keypoint_detector_config")
    values = {
        "keypoint_detector_config": _detector_config(arch, detector) if given is None else given,
        "descriptor_dim": arch.descriptor_dim,
        "num_hidden_layers": arch.num_layers,
        "num_attention_heads": arch.num_heads,
        "num_key_value_heads": arch.num_key_value_heads,
        "attention_bias": arch.attention_bias,
        "hidden_act": arch.hidden_act,
        "attention_dropout": arch.attention_dropout,
        **thresholds_from_metadata(matcher.metadata, matcher.path),
    }
    config: LightGlueConfig = LightGlueConfig.from_dict(values, **overrides)
    return config


def _parts(config: LightGlueConfig, matcher: WeightsFile, detector: WeightsFile, request: LoadRequest) -> Loaded:
    """The networks of a configuration with the weights of files.

    Raises:
        WeightsError: if the weights do not fit; with `allows_other_sizes`, only if they are damaged.
    """
    lightglue = lightglue_from_file(matcher)
    found = Mismatches()
    if request.allows_other_sizes and _differences(lightglue.architecture, config):
        fresh = untrained_lightglue(config, lightglue.architecture.cross_is_tied)
        lightglue, found = fill_matching(fresh, lightglue, str(matcher.path))
    else:
        _require_same(lightglue.architecture, config, matcher.path)
    return Loaded(config, _load_detector(config, detector), _with_options(lightglue, config), mismatches=found)


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
    return SuperPointDetector(detector_config, read_superpoint(file, detector_config))


def read_superpoint(file: WeightsFile, config: SuperPointConfig) -> SuperPoint:
    """The SuperPoint in a file, with the sizes of a configuration.

    Raises:
        WeightsError: if there is none, or it has other sizes.
    """
    expected = superpoint_architecture(config)
    if len(expected.encoder_channels) != _NUM_STAGES:  # a file does not tell it
        return superpoint_from_state_dict(file.state, str(file.path), expected)
    network = superpoint_from_file(file)
    if network.architecture != expected:
        raise WeightsError(
            f"{file.path}: its SuperPoint is {network.architecture}, but the configuration has {expected}"
        )
    return network


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


def _differences(arch: LightGlueArchitecture, config: LightGlueConfig) -> list[str]:
    """Sizes of weights that are not those of a configuration, in words."""
    expected = config.architecture()
    sizes = ("input_dim", "descriptor_dim", "num_layers", "num_heads", "kv_heads", "position_dim", "attention_bias")
    wrong = [name for name in sizes if getattr(arch, name) != getattr(expected, name)]
    return [f"{name} is {getattr(arch, name)}, not {getattr(expected, name)}" for name in wrong]


def _require_same(arch: LightGlueArchitecture, config: LightGlueConfig, path: Path) -> None:
    """Check that weights have the sizes of a configuration.

    Raises:
        WeightsError: if sizes differ; the message names them.
    """
    wrong = _differences(arch, config)
    if wrong:
        raise WeightsError(
            f"{path}: does not fit the configuration ({CONFIG_FILE} or the detector): {'; '.join(wrong)}"
        )


def _with_options(lightglue: LightGlue, config: LightGlueConfig) -> LightGlue:
    """The same weights with activation and dropout of the configuration, which files of weights may lack."""
    expected = config.architecture()
    wanted = replace(
        lightglue.architecture, hidden_act=expected.hidden_act, attention_dropout=expected.attention_dropout
    )
    return lightglue_from_state_dict(lightglue.state_dict(), "weights", wanted)
