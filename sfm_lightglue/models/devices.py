"""Where networks run."""

from __future__ import annotations

import torch

from sfm_lightglue.errors import ConfigError


def resolve_device(name: str) -> torch.device:
    """A torch device by name; "auto" is CUDA where there is any, else the CPU.

    Raises:
        ConfigError: for an unknown name, or a device that this machine lacks.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {str(error).splitlines()[0]}") from error
    return device
