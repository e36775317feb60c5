"""Names -> components. Below this there are no names, only protocols.

A component is a configuration, a frozen dataclass, and a function `build(config, device)`. Both are named by
"module:attribute", so that looking up a name imports nothing that is not used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sfm_lightglue.config import config_from_mapping, nearest_hint
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.pairs.base import PairSelector

ComponentT = TypeVar("ComponentT")


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a component is found.

    Args:
        config: "module:attribute" of its configuration, a frozen dataclass.
        build: "module:attribute" of a function or class that takes the configuration, and the keyword `device`
            if `takes_device`.
        takes_device: whether it computes on a torch device.
    """

    config: str
    build: str
    takes_device: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A component by name, with its configuration."""

    name: str
    config: Any


class Registry(Generic[ComponentT]):
    """The known components of one kind.

    Args:
        kind: for messages, such as "extractor".
        entries: the components that come with the library.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    @property
    def names(self) -> tuple[str, ...]:
        """Known names, sorted."""
        return tuple(sorted(self._entries))

    def choose(self, name: str, options: Mapping[str, Any] | None = None) -> Choice:
        """A component with options, all others at their defaults.

        Raises:
            ConfigError: for an unknown name or option, or a value that does not fit.
        """
        entry = self._entry(name)
        return Choice(name, config_from_mapping(_load(entry.config), options or {}, f"{self.kind} {name}"))

    def build(self, choice: Choice, device: str = "cpu") -> ComponentT:
        """Make the component; networks look for their weights now, and load them when they are first used.

        Raises:
            ConfigError: for an unknown name or device.
            WeightsError: where there is no file of weights.
        """
        entry = self._entry(choice.name)
        build: Callable[..., ComponentT] = _load(entry.build)
        return build(choice.config, device=device) if entry.takes_device else build(choice.config)

    def _entry(self, name: str) -> Entry:
        if name not in self._entries:
            hint = nearest_hint(name, self.names)
            raise ConfigError(f"unknown {self.kind} {name!r}{hint}; there are {', '.join(self.names)}")
        return self._entries[name]


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)


EXTRACTORS: Registry[Extractor] = Registry(
    "extractor",
    {
        "sift": Entry("sfm_lightglue.extractors.sift:SiftConfig", "sfm_lightglue.extractors.sift:SiftExtractor"),
        "superpoint": Entry(
            "sfm_lightglue.extractors.superpoint:SuperPointConfig",
            "sfm_lightglue.extractors.superpoint:SuperPointExtractor",
            takes_device=True,
        ),
    },
)

MATCHERS: Registry[Matcher] = Registry(
    "matcher",
    {
        "nearest": Entry(
            "sfm_lightglue.matchers.nearest:NearestConfig", "sfm_lightglue.matchers.nearest:NearestMatcher"
        ),
        "lightglue": Entry(
            "sfm_lightglue.matchers.lightglue:LightGlueMatcherConfig",
            "sfm_lightglue.matchers.lightglue:LightGlueMatcher",
            takes_device=True,
        ),
    },
)

PAIR_SELECTORS: Registry[PairSelector] = Registry(
    "pairs",
    {
        "exhaustive": Entry(
            "sfm_lightglue.pairs.exhaustive:ExhaustiveConfig",
            "sfm_lightglue.pairs.exhaustive:ExhaustivePairs",
        ),
        "sequential": Entry(
            "sfm_lightglue.pairs.sequential:SequentialConfig",
            "sfm_lightglue.pairs.sequential:SequentialPairs",
        ),
        "file": Entry(
            "sfm_lightglue.pairs.from_file:PairsFromFileConfig", "sfm_lightglue.pairs.from_file:PairsFromFile"
        ),
    },
)
