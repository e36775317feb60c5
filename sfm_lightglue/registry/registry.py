"""Names -> components. Below this there are no names, only protocols.

A component is a configuration, a frozen dataclass, and a function `build(config, device)`. Both are named by
"module:attribute", so that looking up a name imports nothing that is not used.

Other packages add components by an entry point whose value is the "module:attribute" of an `Entry`, in one of the
groups `sfm_lightglue.extractors`, `sfm_lightglue.matchers` and `sfm_lightglue.pairs`. Which names there are is read
from the metadata of the installed packages; a package is imported only when its component is chosen.
"""

from __future__ import annotations

import dataclasses
import importlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sfm_lightglue.config import config_from_mapping
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.registry.plugins import Plugin, find_plugins

ComponentT = TypeVar("ComponentT")

logger = logging.getLogger(__name__)


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
        group: of the entry points by which other packages add theirs, "" for none.
    """

    def __init__(self, kind: str, entries: Mapping[str, Entry], group: str = "") -> None:
        self.kind = kind
        self.group = group
        self._entries = dict(entries)
        self._refused: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """Known names, sorted."""
        return tuple(sorted({*self._entries, *self._plugins()}))

    @property
    def builtin_names(self) -> tuple[str, ...]:
        """Names of the components that come with the library, sorted."""
        return tuple(sorted(self._entries))

    def choose(self, name: str, options: Mapping[str, Any] | None = None) -> Choice:
        """A component with options, all others at their defaults.

        Raises:
            ConfigError: for an unknown name or option, weights of a component that has none, or a value that does not
                fit.
        """
        entry = self._entry(name)
        config_type = self._load(name, entry.config)
        if not (isinstance(config_type, type) and dataclasses.is_dataclass(config_type)):
            raise ConfigError(f"{self.kind} {name}: {entry.config} is no dataclass, so it cannot be its configuration")
        if "weights" in (options or {}) and not _has_weights(config_type) and self._names_with_weights():
            raise ConfigError(
                f"{self.kind} {name} has no weights: give none, or choose a {self.kind} that is a network:"
                f" {', '.join(self._names_with_weights())}"
            )
        return Choice(name, config_from_mapping(config_type, options or {}, f"{self.kind} {name}"))

    def build(self, choice: Choice, device: str = "cpu") -> ComponentT:
        """Make the component; networks look for their weights now, and load them when they are first used.

        Raises:
            ConfigError: for an unknown name or device.
            WeightsError: where there is no file of weights.
        """
        entry = self._entry(choice.name)
        build: Callable[..., ComponentT] = self._load(choice.name, entry.build)
        return build(choice.config, device=device) if entry.takes_device else build(choice.config)

    def _names_with_weights(self) -> tuple[str, ...]:
        """Of the built-in ones: other packages are not imported for a message."""
        return tuple(name for name in self.builtin_names if _has_weights(self._load(name, self._entries[name].config)))

    def _entry(self, name: str) -> Entry:
        plugins = self._plugins()
        if name in self._entries:
            return self._entries[name]
        if name not in plugins:
            hint = nearest_hint(name, self.names)
            raise ConfigError(f"unknown {self.kind} {name!r}{hint}; there are {', '.join(self.names)}")
        entry = plugins[name].load(self.kind)
        if not isinstance(entry, Entry):
            raise ConfigError(
                f"{self.kind} {name}: the entry point of package {plugins[name].package} names no"
                f" sfm_lightglue.registry.Entry, but {entry!r}"
            )
        return entry

    def _plugins(self) -> Mapping[str, Plugin]:
        """Those of other packages; one that takes the name of a built-in component is refused, and named once."""
        found = find_plugins(self.group) if self.group else {}
        for name in sorted(found.keys() & self._entries.keys() - self._refused):
            self._refused.add(name)
            logger.warning(
                "%s %s of package %s is refused: sfm_lightglue has one of this name itself",
                self.kind,
                name,
                found[name].package,
            )
        return {name: plugin for name, plugin in found.items() if name not in self._entries}

    def _load(self, name: str, place: str) -> Any:
        if name not in self._entries:
            return self._plugins()[name].load(self.kind, place)
        module, _, attribute = place.partition(":")
        return getattr(importlib.import_module(module), attribute)


def _has_weights(config_type: type[Any]) -> bool:
    return "weights" in {field.name for field in dataclasses.fields(config_type)}
