"""The compiled kernels, where they exist."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from functools import cache

from sfm_lightglue.kernels import build

VARIABLE = "SFM_LIGHTGLUE_KERNELS"
"""Environment variable; with the value "off", NumPy does the work of the kernels."""

_WITHOUT_NUMBER = {
    "describe_blobs",
    "double_size",
    "find_in_front",
    "find_orientations",
    "sampson_errors",
    "squared_errors",
}
"""Functions that cannot fail, and return nothing."""


@dataclass(frozen=True, slots=True)
class LoadedKernels:
    """The library, or why there is none.

    Args:
        library: None if NumPy does the work.
        reason: why, and what to do; "" with a library.
    """

    library: ctypes.CDLL | None
    reason: str = ""


def compiled() -> ctypes.CDLL | None:
    """The compiled kernels, or None: then NumPy does the same work, in more time."""
    return load_kernels().library


@cache
def load_kernels() -> LoadedKernels:
    """Load the library once; one that was compiled from other sources is not used."""
    if os.environ.get(VARIABLE, "").lower() == "off":
        return LoadedKernels(None, f"switched off by {VARIABLE}")
    if not build.LIBRARY.is_file():
        return LoadedKernels(None, "not compiled when the package was installed: no C compiler was found")
    try:
        library = ctypes.CDLL(str(build.LIBRARY))
        library.source_digest.restype = ctypes.c_char_p
        if library.source_digest().decode() != build.source_digest():
            return LoadedKernels(None, "compiled from other sources than those that are installed")
        for name in build.FUNCTIONS:
            getattr(library, name).restype = None if name in _WITHOUT_NUMBER else ctypes.c_int64
    except (OSError, AttributeError) as error:
        return LoadedKernels(None, f"cannot be loaded: {error}")
    return LoadedKernels(library)
