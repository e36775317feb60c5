"""Names -> components. Code below the registry uses protocols, not names.

A component is a configuration, a frozen dataclass, and a function `build(config, device)`. Both are given as
"module:attribute", so only the chosen components are imported.

Other packages add components by entry points. The value of an entry point is the "module:attribute" of an `Entry`; its
group is `sfm_lightglue.extractors`, `sfm_lightglue.matchers`, `sfm_lightglue.pairs`, `sfm_lightglue.mappers` or
`sfm_lightglue.exporters`. The names are read from the metadata of the installed packages. A package is imported only
when its component is chosen.
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
    """The location of a component.

    Args:
        config: "module:attribute" of its configuration, a frozen dataclass.
        build: "module:attribute" of a function or class that takes the configuration, and the keyword `device`
            if `takes_device`.
        takes_device: whether the component computes on a torch device.
    """

    config: str
    build: str
    takes_device: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """The name of a component and its configuration."""

    name: str
    config: Any


class Registry(Generic[ComponentT]):
    """The known components of one kind.

    Args:
        kind: kind of component in messages, such as "extractor".
        entries: the components of this library by name.
        group: group of the entry points of other packages, "" for none.
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
        """Names of the components of this library, sorted."""
        return tuple(sorted(self._entries))

    def choose(self, name: str, options: Mapping[str, Any] | None = None) -> Choice:
        """Choose a component and set its options.

        Args:
            name: name of the component.
            options: values by name of the option; all others have their defaults.

        Raises:
            ConfigError: if the name or an option is unknown, a value is invalid, or weights are given for a component
                that has none.
        """
        entry = self._entry(name)
        config_type = self._load(name, entry.config)
        if not (isinstance(config_type, type) and dataclasses.is_dataclass(config_type)):
            raise ConfigError(f"{self.kind} {name}: its configuration {entry.config} is not a dataclass")
        if "weights" in (options or {}) and not _has_weights(config_type) and self._names_with_weights():
            raise ConfigError(
                f"{self.kind} {name} has no weights: do not set `{self.kind}.weights`, or choose a network:"
                f" {', '.join(self._names_with_weights())}"
            )
        return Choice(name, config_from_mapping(config_type, options or {}, f"{self.kind} {name}"))

    def build(self, choice: Choice, device: str = "cpu") -> ComponentT:
        """Make a component. Networks locate their weights now and load them at the first use.

        Args:
            choice: name and configuration of the component.
            device: torch device of a network.

        Raises:
            ConfigError: if the name or the device is unknown.
            WeightsError: if the file of weights is missing.
        """
        entry = self._entry(choice.name)
        build: Callable[..., ComponentT] = self._load(choice.name, entry.build)
        return build(choice.config, device=device) if entry.takes_device else build(choice.config)

    def options(self, choice: Choice) -> dict[str, Any]:
        """The values of all options of a choice by name: what `choose` takes."""
        return dataclasses.asdict(choice.config)

    def _names_with_weights(self) -> tuple[str, ...]:
        """Names of built-in components with weights; other packages are not imported for a message."""
        return tuple(name for name in self.builtin_names if _has_weights(self._load(name, self._entries[name].config)))

    def _entry(self, name: str) -> Entry:
        plugins = self._plugins()
        if name in self._entries:
            return self._entries[name]
        if name not in plugins:
            hint = nearest_hint(name, self.names)
            raise ConfigError(f"unknown {self.kind} {name!r}{hint}; choose one of {', '.join(self.names)}")
        entry = plugins[name].load(self.kind)
        if not isinstance(entry, Entry):
            raise ConfigError(
                f"{self.kind} {name}: the entry point of package {plugins[name].package} is {entry!r}, expected a"
                " sfm_lightglue.registry.Entry"
            )
        return entry

    def _plugins(self) -> Mapping[str, Plugin]:
        """Components of other packages. A name of a built-in component is refused, with one warning."""
        found = find_plugins(self.group) if self.group else {}
        for name in sorted(found.keys() & self._entries.keys() - self._refused):
            self._refused.add(name)
            logger.warning(
                "ignored %s %s of package %s: sfm_lightglue has a component of this name",
                self.kind,
                name,
                found[name].package,
            )
        return {name: plugin for name, plugin in found.items() if name not in self._entries}

    def _load(self, name: str, location: str) -> Any:
        if name not in self._entries:
            return self._plugins()[name].load(self.kind, location)
        module, _, attribute = location.partition(":")
        return getattr(importlib.import_module(module), attribute)


def _has_weights(config_type: type[Any]) -> bool:
    return "weights" in {field.name for field in dataclasses.fields(config_type)}
