"""Safetensors files as NumPy arrays, without torch. Reading never runs code from the file."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.errors import WeightsError


def read_arrays(path: Path) -> dict[str, AnyArray]:
    """The arrays of a safetensors file, by key.

    Raises:
        WeightsError: the file cannot be read, or is not a safetensors file.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except Exception as error:  # damaged bytes raise SafetensorError, KeyError, TypeError, ...
        raise WeightsError(f"{path}: damaged, or not a safetensors file ({error}); install it again") from error
