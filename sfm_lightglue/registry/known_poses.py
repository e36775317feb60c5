"""The components of a job whose poses are known."""

from __future__ import annotations

from dataclasses import fields

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.combined import CombinedPairsConfig
from sfm_lightglue.registry.builtin import MAPPERS, PAIR_SELECTORS
from sfm_lightglue.registry.pair_registry import EXCLUDE
from sfm_lightglue.registry.registry import Choice

_MAPPER = "known_poses"
_AUTO = "auto"


def mapper_of_poses(mapping: Choice, poses: str) -> Choice:
    """The mapper that keeps known poses, with the limits of the mapper that was chosen.

    Args:
        mapping: as it was chosen.
        poses: file of the poses, "" if they are to be found.

    Raises:
        ConfigError: if the mapper would find poses that are known, or needs poses that are not.
    """
    if not poses:
        if mapping.name == _MAPPER:
            raise ConfigError(f"`mapping.name` {_MAPPER} needs the poses of the images; give them by `poses`")
        return mapping
    if mapping.name == _MAPPER:
        return mapping
    if mapping.name != _AUTO:
        raise ConfigError(
            f"`mapping.name` {mapping.name} finds poses, and `poses` gives them; leave out one of both options"
        )
    known = {field.name for field in fields(MAPPERS.choose(_MAPPER).config)}
    options = {name: value for name, value in MAPPERS.options(mapping).items() if name in known}
    return MAPPERS.choose(_MAPPER, options)


def pairs_of_poses(pairs: Choice, poses: str) -> Choice:
    """The pairs by overlapping fields of view, if poses are known and no pairs were chosen.

    Args:
        pairs: as they were chosen.
        poses: file of the poses, "" if they are to be found.
    """
    if not poses or pairs.name != _AUTO:
        return pairs
    excluded = pairs.config.exclude if isinstance(pairs.config, CombinedPairsConfig) else ""
    return PAIR_SELECTORS.choose("frusta", {EXCLUDE: excluded} if excluded else {})
