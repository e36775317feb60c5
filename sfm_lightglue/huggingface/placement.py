"""The device and the type of the weights of a loaded model, from the keywords of `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.devices import resolve_device

_AUTOMATIC = ("auto", "balanced", "balanced_low_0", "sequential")


def one_device(device: Any, device_map: Any) -> torch.device:
    """The device of a model.

    Args:
        device: such as "cuda"; None is the default device of torch, which is the CPU unless it is set.
        device_map: a device, the number of a GPU, a dictionary with one device for all parts, or "auto", which is CUDA
            if available.

    Raises:
        ConfigError: if both are given, if there are several devices, or if this machine does not have the device.
    """
    if device is not None and device_map is not None:
        raise ConfigError("device and device_map exclude each other: remove one")
    chosen = device_map if device is None else device
    if isinstance(chosen, Mapping):
        names = {str(each) for each in chosen.values()}
        if len(names) != 1:
            raise ConfigError(f"device_map: a model is on one device, got {', '.join(sorted(names)) or 'none'}")
        chosen = next(iter(chosen.values()))
    if isinstance(chosen, int) and not isinstance(chosen, bool):
        chosen = f"cuda:{chosen}" if chosen >= 0 else "cpu"
    return resolve_device("auto" if chosen in _AUTOMATIC else str(chosen or torch.get_default_device()))


def require_values(caller: str) -> None:
    """Refuse to load weights where torch makes tensors without values.

    Raises:
        ConfigError: within `torch.device("meta")`.
    """
    if torch.get_default_device().type == "meta":
        raise ConfigError(
            f'{caller}: within torch.device("meta"), weights have no values; load outside of it, or give device="meta"'
        )


def dtype_from(dtype: torch.dtype | str | None, saved: torch.dtype = torch.float32) -> torch.dtype:
    """A floating-point type from its name; None and "auto" are that of the saved weights.

    Raises:
        ConfigError: if it is not a floating-point type.
    """
    if dtype in (None, "auto"):
        return saved
    found = getattr(torch, dtype.removeprefix("torch."), None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ConfigError(f"dtype: expected a floating-point type such as 'bfloat16', got {dtype!r}")
    return found
