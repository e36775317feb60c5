"""Names -> components. The names below are the public interface for users and plug-ins."""

from sfm_lightglue.registry.builtin import EXPORTERS, EXTRACTORS, MAPPERS, MATCHERS, PAIR_SELECTORS
from sfm_lightglue.registry.registry import Choice, Entry, Registry

__all__ = ["EXPORTERS", "EXTRACTORS", "MAPPERS", "MATCHERS", "PAIR_SELECTORS", "Choice", "Entry", "Registry"]
