"""Build the components of the registries for contract tests: small, and with untrained weights."""

import atexit
import functools
import tempfile
from pathlib import Path
from typing import Any

from sfm_lightglue.registry.registry import Registry
from tests.helpers.untrained import (
    write_aliked,
    write_disk,
    write_hardnet,
    write_lightglue,
    write_superpoint,
    write_xfeat,
)

OPTIONS: dict[str, dict[str, Any]] = {
    "sift": {"max_keypoints": 256},
    "superpoint": {"max_keypoints": 256},
    "aliked": {"max_keypoints": 256},
    "xfeat": {"max_keypoints": 256},
    "disk": {"max_keypoints": 256},
    "doghardnet": {"max_keypoints": 128},
}
"""Options that make a component fast enough for tests."""

_WRITERS = {
    "superpoint": write_superpoint,
    "aliked": write_aliked,
    "xfeat": write_xfeat,
    "disk": write_disk,
    "doghardnet": write_hardnet,
    "lightglue": write_lightglue,
}


@functools.cache
def _weights(name: str) -> str:
    folder = tempfile.TemporaryDirectory(prefix="untrained_")
    atexit.register(folder.cleanup)
    return str(_WRITERS[name](Path(folder.name) / f"{name}.safetensors"))


def build(registry: Registry[Any], name: str) -> Any:
    """Build a component by name; networks have untrained weights."""
    options = dict(OPTIONS.get(name, {}))
    if name in _WRITERS:
        options["weights"] = _weights(name)
    return registry.build(registry.choose(name, options), "cpu")
