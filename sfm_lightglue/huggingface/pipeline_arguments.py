"""Keywords of `pipeline`, sorted by what they are for."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.devices import resolve_device
from sfm_lightglue.huggingface.loading_options import WITHOUT_EFFECT, refuse_keywords, warn_without_effect
from sfm_lightglue.huggingface.placement import dtype_from
from sfm_lightglue.weights.hub_options import HubOptions

TASK = "keypoint-matching"

_CALLER = "pipeline"
_CALLS = ("batch_size", "num_workers", "threshold", "timeout")
_OTHER_MEDIA = ("tokenizer", "video_processor", "binary_output")
"""Keywords for tasks of other kinds."""
_ACCESS = tuple(field.name for field in fields(HubOptions))

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PipelineArguments:
    """The arguments of `pipeline`, sorted."""

    is_loaded: bool
    """Whether the model is loaded by its name, instead of given."""
    loading: dict[str, Any]
    """Keywords of the model's `from_pretrained`."""
    access: dict[str, Any]
    """Those that choose files, also for the processor."""
    calls: dict[str, Any]
    """Keywords of `KeypointMatchingPipeline`."""
    image_processor: Any
    """A processor, its name, or None."""
    device: torch.device | None
    """Device that the model is moved to; None leaves it."""
    dtype: torch.dtype | None
    """Type of a given model; None does not change it."""
    pipeline_class: type[Any] | None
    """Class instead of `KeypointMatchingPipeline`."""


def sort_arguments(
    model: Any,
    image_processor: Any,
    device: torch.device | str | int | None,
    dtype: torch.dtype | str | None,
    trust_remote_code: bool | None,
    keywords: Mapping[str, Any],
) -> PipelineArguments:
    """Sort and check the arguments of `pipeline`.

    Raises:
        ConfigError: on refused and impossible values, and on options of loading for a model that is given.
    """
    left = {key: value for key, value in keywords.items() if key != "model_kwargs"}
    for key, value in dict(keywords.get("model_kwargs") or {}).items():
        if left.setdefault(key, value) is not value:
            raise ConfigError(f"{key}: is given twice, as a keyword and in model_kwargs; remove one")
    refuse_keywords({**left, "trust_remote_code": trust_remote_code}, _CALLER)
    if left.pop("framework", None) not in (None, "pt"):
        raise ConfigError("framework: only 'pt' (torch) is supported")
    calls = {key: left.pop(key, None) for key in _CALLS}
    ignored = [key for key in _OTHER_MEDIA if left.pop(key, None)]
    if ignored:
        _LOGGER.warning("%s: without effect here: %s", _CALLER, ", ".join(ignored))
    processor = _first_processor(image_processor, left.pop("processor", None), left.pop("feature_extractor", None))
    chosen = left.pop("torch_dtype", None) if dtype is None else dtype
    left.pop("torch_dtype", None)
    pipeline_class = left.pop("pipeline_class", None)
    if pipeline_class is not None and not hasattr(pipeline_class, "predict"):
        raise ConfigError(f"pipeline_class: expected a class of a pipeline, got {pipeline_class!r}")
    if device is not None and left.get("device_map") is not None:
        raise ConfigError("device and device_map exclude each other: remove one")
    is_loaded = model is None or isinstance(model, (str, Path))
    if not is_loaded:
        _require_nothing_to_load(left)
    where = as_device(device) if device is not None else None
    if is_loaded and where is None and left.get("device_map") is None:
        where = resolve_device("auto")
    return PipelineArguments(
        is_loaded=is_loaded,
        loading={**left, "dtype": chosen},
        access={key: left[key] for key in _ACCESS if key in left},
        calls={key: value for key, value in calls.items() if value is not None},
        image_processor=processor,
        device=where,
        dtype=None if is_loaded or chosen in (None, "auto") else dtype_from(chosen),
        pipeline_class=pipeline_class,
    )


def sort_parts(image_processor: Any, keywords: Mapping[str, Any]) -> tuple[Any, torch.dtype | None]:
    """The processor and the type of the weights from the keywords of `KeypointMatchingPipeline`; None does not choose.

    Raises:
        ConfigError: on parts for other media, and on impossible types.
        TypeError: on an unknown keyword.
    """
    left = dict(keywords)
    processor = _first_processor(image_processor, left.pop("processor", None), left.pop("feature_extractor", None))
    former = left.pop("torch_dtype", None)
    dtype = left.pop("dtype", None)
    chosen = former if dtype is None else dtype
    given = [name for name in _OTHER_MEDIA if left.pop(name, None)]
    if given:
        raise ConfigError(f"KeypointMatchingPipeline: {', '.join(given)} must be empty: this task has images only")
    if left:
        raise TypeError(f"KeypointMatchingPipeline: unknown argument {min(left)!r}")
    return processor, None if chosen in (None, "auto") else dtype_from(chosen)


def as_device(device: torch.device | str | int) -> torch.device:
    """A device from its name or the number of a GPU; -1 is the CPU, and so is any number without a GPU.

    Raises:
        ConfigError: if this machine does not have the device.
    """
    if not isinstance(device, int):
        return resolve_device(str(device))
    if device >= 0 and not torch.cuda.is_available():
        _LOGGER.warning("device=%d: there is no GPU here, and the CPU is used", device)
        return torch.device("cpu")
    return resolve_device("cpu" if device < 0 else f"cuda:{device}")


def require_counts(batch_size: int | None, num_workers: int | None) -> None:
    """Check numbers of a call.

    Raises:
        ValueError: if one is out of range.
    """
    if batch_size is not None and batch_size < 1:
        raise ValueError(f"batch_size: must be positive, got {batch_size}")
    if num_workers is not None and num_workers < 0:
        raise ValueError(f"num_workers: must not be negative, got {num_workers}")


def _first_processor(*candidates: Any) -> Any:
    """The first that is given; that of images, of a processor that has several parts."""
    given = next((each for each in candidates if each is not None), None)
    return getattr(given, "image_processor", given)


def _require_nothing_to_load(keywords: Mapping[str, Any]) -> None:
    warn_without_effect(keywords, _CALLER)
    without = [key for key in keywords if key in _ACCESS or key in ("device_map", "config")]
    named = sorted(key for key in without if keywords[key] is not None)
    if named:
        _LOGGER.warning("%s: without effect for a model that is loaded already: %s", _CALLER, ", ".join(named))
    options = sorted(set(keywords) - set(without) - WITHOUT_EFFECT)
    if options:
        raise ConfigError(f"{', '.join(options)}: set in the configuration of the model instead")
