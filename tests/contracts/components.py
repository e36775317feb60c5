"""The registries' components that can be built here, for the contracts that all of them keep."""

from typing import Any

import pytest

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.registry import Registry

OPTIONS: dict[str, dict[str, Any]] = {
    "sift": {"max_keypoints": 256},
    "superpoint": {"max_keypoints": 256},
}
"""What makes a component quick enough for tests."""


def build(registry: Registry[Any], name: str) -> Any:
    """A component by name; skips the test where its weights are not here."""
    try:
        return registry.build(registry.choose(name, OPTIONS.get(name)))
    except WeightsError as error:
        pytest.skip(f"{name} needs weights that are not here: {error}")
