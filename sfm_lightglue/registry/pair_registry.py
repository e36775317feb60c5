"""The registry of pair selectors: names joined by + choose several, and any of them may exclude pairs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.pairs.base import PairSelector
from sfm_lightglue.pairs.combined import CombinedPairs, CombinedPairsConfig
from sfm_lightglue.registry.registry import Choice, Registry

JOINED_BY = "+"
"""What stands between the names of several selectors."""

EXCLUDE = "exclude"
"""The option that every selection of pairs has."""


class PairRegistry(Registry[PairSelector]):
    """Pair selectors by name. The table of several has the options of all of them."""

    def choose(self, name: str, options: Mapping[str, Any] | None = None) -> Choice:
        """Choose one selector, or several whose names are joined by +, and set their options.

        Args:
            name: such as "sequential+retrieval".
            options: values by name of the option. Each goes to every selector that has it. `exclude` is the path of a
                list of pairs to leave out.

        Raises:
            ConfigError: if a name or an option is unknown, or a value is invalid.
        """
        given = dict(options or {})
        exclude = given.pop(EXCLUDE, "")
        if not isinstance(exclude, str):
            raise ConfigError(f"pairs: {EXCLUDE}: expected str, got {exclude!r}")
        names = [part.strip() for part in name.split(JOINED_BY)]
        if len(names) == 1 and not exclude:
            return super().choose(name, given)
        if len(set(names)) < len(names) or "" in names:
            raise ConfigError(f"pairs {name!r}: expected different names with {JOINED_BY} between them")
        defaults = [super(PairRegistry, self).choose(part).config for part in names]
        fields = [{field.name for field in dataclasses.fields(config)} for config in defaults]
        _require_known(name, given, set().union(*fields))
        parts = [
            super(PairRegistry, self).choose(part, {key: given[key] for key in sorted(known & given.keys())})
            for part, known in zip(names, fields, strict=True)
        ]
        joined = JOINED_BY.join(names)
        return Choice(joined, CombinedPairsConfig(tuple(part.config for part in parts), exclude))

    def build(self, choice: Choice, device: str = "cpu") -> PairSelector:
        """Make the selector of a choice, or the one that combines several."""
        if not isinstance(choice.config, CombinedPairsConfig):
            return super().build(choice, device)
        names = choice.name.split(JOINED_BY)
        parts = {
            name: super(PairRegistry, self).build(Choice(name, config), device)
            for name, config in zip(names, choice.config.parts, strict=True)
        }
        return CombinedPairs(parts, choice.config.exclude)

    def options(self, choice: Choice) -> dict[str, Any]:
        """The options of all selectors of a choice in one table.

        Without those of which the selectors have different defaults: a value that was set is that of all.
        """
        if not isinstance(choice.config, CombinedPairsConfig):
            return super().options(choice)
        tables = [asdict(config) for config in choice.config.parts]
        merged = {
            option: value
            for table in tables
            for option, value in table.items()
            if all(other.get(option, value) == value for other in tables)
        }
        return merged | ({EXCLUDE: choice.config.exclude} if choice.config.exclude else {})


def _require_known(name: str, given: Mapping[str, Any], known: set[str]) -> None:
    for option in given:
        if option not in known:
            every = sorted({*known, EXCLUDE})
            hint = nearest_hint(option, every)
            raise ConfigError(f"pairs {name}: unknown option {option!r}{hint}; expected one of {', '.join(every)}")
