"""NumPy array types used in signatures."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float64Array = npt.NDArray[np.float64]
AnyArray = npt.NDArray[Any]
Float32Array = npt.NDArray[np.float32]
Int32Array = npt.NDArray[np.int32]
IndexArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
UInt8Array = npt.NDArray[np.uint8]
