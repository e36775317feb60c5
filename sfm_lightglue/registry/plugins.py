"""Components of other packages, found by their entry points without importing any of them."""

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
    """What one or several packages offer under a name.

    Args:
        name: of the component.
        offers: of each package that has the name, "package version" and "module:attribute"; one, unless they clash.
    """

    name: str
    offers: tuple[tuple[str, str], ...]

    @property
    def package(self) -> str:
        """Name and version of the package, or of all that clash."""
        return " and ".join(package for package, _ in self.offers)

    def load(self, kind: str, place: str | None = None) -> Any:
        """Import something of the package.

        Args:
            kind: of component, for messages.
            place: "module:attribute"; what the entry point names where it is None.

        Raises:
            ConfigError: where several packages have the name, or the one that has it cannot be imported.
        """
        if len(self.offers) > 1:
            raise ConfigError(f"{kind} {self.name}: {self.package} both have this name; uninstall one of them")
        place = place or self.offers[0][1]
        try:
            return metadata.EntryPoint(self.name, place, "").load()
        except Exception as error:  # the package may do anything when it is imported
            raise ConfigError(
                f"{kind} {self.name}: package {self.package} cannot be loaded from {place}"
                f" ({type(error).__name__}: {error}); install what it lacks, or another version of it"
            ) from error


@functools.cache
def find_plugins(group: str) -> Mapping[str, Plugin]:
    """The plug-ins of a group, by name; nothing of theirs is imported.

    Args:
        group: such as "sfm_lightglue.extractors".
    """
    offers: dict[str, dict[str, tuple[str, str]]] = {}
    for distribution in metadata.distributions():
        try:
            package = f"{distribution.metadata['Name']} {distribution.version}"
            points = [point for point in distribution.entry_points if point.group == group]
        except Exception as error:  # damaged metadata of any package, of which the others know nothing
            logger.warning("a package with damaged metadata is passed over (%s: %s)", type(error).__name__, error)
            continue
        for point in points:
            # Of a package that is installed twice, the one that Python would import comes first.
            offers.setdefault(point.name, {}).setdefault(package.split()[0].lower(), (package, point.value))
    return {name: Plugin(name, tuple(offers[name][key] for key in sorted(offers[name]))) for name in sorted(offers)}
