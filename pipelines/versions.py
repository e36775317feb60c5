"""What `--version` prints: versions, and the digests of the weights of the package."""

from __future__ import annotations

import platform
from typing import Any

from sfm_lightglue.diagnosis.requirements import OPENCV_WHEELS, installed_version
from sfm_lightglue.diagnosis.weights import DIGEST_LENGTH, shipped_digests
from sfm_lightglue.version import __version__

_LIBRARIES = ("torch", "pycolmap")


def versions() -> dict[str, Any]:
    """Plain values for JSON: no library is imported."""
    return {
        "version": __version__,
        "python": platform.python_version(),
        "libraries": {name: installed_version(name) for name in (*_LIBRARIES, _opencv())},
        "weights": shipped_digests(),
    }


def _opencv() -> str:
    """The wheel that cv2 is from; if there is none, the one that is asked for."""
    return next((name for name in OPENCV_WHEELS if installed_version(name) is not None), OPENCV_WHEELS[0])


def versions_text() -> str:
    """The same in a few lines; the first one is the version."""
    found = versions()
    libraries = ", ".join(f"{name} {version or 'missing'}" for name, version in found["libraries"].items())
    width = max(map(len, found["weights"]))
    return "\n".join(
        [
            f"sfm-lightglue {found['version']}",
            f"python {found['python']}, {libraries}",
            *(f"{name:<{width}}  sha256 {digest[:DIGEST_LENGTH]}" for name, digest in found["weights"].items()),
        ]
    )
