"""NumPy array types used in signatures, and a check of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]
Int8Array = npt.NDArray[np.int8]
IndexArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]


def require_array(name: str, array: npt.NDArray[Any], dtype: Any, shape: Sequence[int | None]) -> None:
    """Check type and shape of an array.

    Args:
        name: of the array in the message.
        array: to check.
        dtype: expected type.
        shape: expected sizes; None for any size.

    Raises:
        ValueError: if one differs.
    """
    if (
        array.dtype != dtype
        or array.ndim != len(shape)
        or any(want is not None and want != got for want, got in zip(shape, array.shape, strict=True))
    ):
        wanted = [size if size is not None else "D" for size in shape]
        raise ValueError(f"{name}: expected {np.dtype(dtype)} {wanted}, got {array.dtype} {list(array.shape)}")
