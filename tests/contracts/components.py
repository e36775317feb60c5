"""The registries' components as they can be built here, for the contracts that all of them keep."""

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
"""What makes a component quick enough for tests."""

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
    """A component by name, networks with untrained weights."""
    options = dict(OPTIONS.get(name, {}))
    if name in _WRITERS:
        options["weights"] = _weights(name)
    return registry.build(registry.choose(name, options), "cpu")
