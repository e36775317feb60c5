"""Weights for a network of other sizes, for `ignore_mismatched_sizes`."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.models.checkpoints import lightglue_from_state_dict
from sfm_lightglue.models.key_layouts import lightglue_to_hugging_face
from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.weights.state_dict import summarise

Shape = tuple[int, ...]

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mismatches:
    """Differences between weights and network, with the names of `transformers` where it has such a network."""

    missing: frozenset[str] = frozenset()
    """Keys of the network that the weights lack."""
    unexpected: frozenset[str] = frozenset()
    """Keys of the weights that the network lacks."""
    other_shapes: frozenset[tuple[str, Shape, Shape]] = field(default_factory=frozenset)
    """Keys in both, with the shape in the weights and that in the network."""

    def as_loading_info(self) -> dict[str, Any]:
        """The dictionary of `output_loading_info`."""
        return {
            "missing_keys": set(self.missing),
            "unexpected_keys": set(self.unexpected),
            "mismatched_keys": set(self.other_shapes),
            "error_msgs": [],
        }


def fill_matching(fresh: LightGlue, found: LightGlue, source: str) -> tuple[LightGlue, Mismatches]:
    """A new network with the weights that fit it; the others stay untrained, and a warning names them.

    Args:
        fresh: with untrained weights.
        found: with the weights of a file.
        source: of the weights, for messages.

    Raises:
        WeightsError: if no weight fits.
    """
    wanted, given = _spelled(fresh, found)
    common = wanted.keys() & given.keys()
    fitting = {key for key in common if wanted[key].shape == given[key].shape}
    if not fitting:
        raise WeightsError(f"{source}: no weight has the sizes of the configuration")
    mismatches = Mismatches(
        missing=frozenset(wanted.keys() - common),
        unexpected=frozenset(given.keys() - common),
        other_shapes=frozenset((key, tuple(given[key].shape), tuple(wanted[key].shape)) for key in common - fitting),
    )
    _LOGGER.warning("%s: these weights stay untrained: %s", source, summarise(wanted.keys() - fitting))
    state = {key: given[key] if key in fitting else value for key, value in wanted.items()}
    return lightglue_from_state_dict(state, source, fresh.architecture), mismatches


def _spelled(*networks: LightGlue) -> list[dict[str, Tensor]]:
    """The state dicts with the keys of `transformers`, which separate queries, keys and values; else with ours."""
    if any(each.architecture.use_scale_orientation or not each.architecture.has_confidence for each in networks):
        return [each.state_dict() for each in networks]
    return [lightglue_to_hugging_face(each.state_dict(), each.architecture) for each in networks]
