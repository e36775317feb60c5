"""Components of other packages, found by their entry points without importing the packages."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from sfm_lightglue.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plugin:
    """A component of other packages.

    Args:
        name: name of the component.
        offers: ("package version", "module:attribute") of each package with a component of this name; more than one
            is a conflict.
    """

    name: str
    offers: tuple[tuple[str, str], ...]

    @property
    def package(self) -> str:
        """Name and version of the package, or of all packages in conflict."""
        return " and ".join(package for package, _ in self.offers)

    def load(self, kind: str, location: str | None = None) -> Any:
        """Import an object of the package.

        Args:
            kind: kind of component, for messages.
            location: "module:attribute"; None imports the object that the entry point names.

        Raises:
            ConfigError: if several packages have a component of this name, or the object cannot be imported.
        """
        if len(self.offers) > 1:
            raise ConfigError(f"{kind} {self.name}: {self.package} both have this name; uninstall one of them")
        location = location or self.offers[0][1]
        try:
            return metadata.EntryPoint(self.name, location, "").load()
        except Exception as error:  # importing a package can raise any error
            raise ConfigError(
                f"{kind} {self.name}: package {self.package} cannot be loaded from {location}"
                f" ({type(error).__name__}: {error}); install its missing dependencies, or another version of it"
            ) from error


@functools.cache
def find_plugins(group: str) -> Mapping[str, Plugin]:
    """The plug-ins of a group by name, without importing them.

    Args:
        group: group of entry points, such as "sfm_lightglue.extractors".
    """
    offers: dict[str, dict[str, tuple[str, str]]] = {}
    for distribution in metadata.distributions():
        try:
            points = [point for point in distribution.entry_points if point.group == group]
            if not points:  # the metadata of all packages would take a second
                continue
            package = f"{distribution.metadata['Name']} {distribution.version}"
        except Exception as error:  # damaged metadata of one package must not affect the others
            logger.warning("ignored a package with damaged metadata (%s: %s)", type(error).__name__, error)
            continue
        for point in points:
            # If a package is installed twice, the copy that Python would import comes first.
            offers.setdefault(point.name, {}).setdefault(package.split()[0].lower(), (package, point.value))
    return {name: Plugin(name, tuple(offers[name][key] for key in sorted(offers[name]))) for name in sorted(offers)}
