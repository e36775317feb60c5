"""Which components belong together: a LightGlue knows only the features that it was trained with."""

from __future__ import annotations

from dataclasses import replace

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.aliked import AlikedConfig
from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig
from sfm_lightglue.registry.registry import Choice

LIGHTGLUE_FROM_EXTRACTOR = {
    "sift": "lightglue_sift",
    "superpoint": "superpoint_lightglue",
    "disk": "disk_lightglue",
    "aliked": "aliked_lightglue",
    "doghardnet": "doghardnet_lightglue",
    "xfeat": "xfeat-lighterglue",
}
"""Name of the weights, as `sfm-lightglue weights list` shows them, by the name of the extractor."""


def with_fitting_weights(matcher: Choice, extractor: Choice) -> Choice:
    """The matcher with the weights for an extractor's features, where it is a LightGlue without any.

    Args:
        matcher: any matcher.
        extractor: whose features it will be given.

    Raises:
        ConfigError: where it is a LightGlue, and no weights are known for the extractor.
    """
    config = matcher.config
    if not isinstance(config, LightGlueMatcherConfig) or config.weights:
        return matcher
    weights, features = LIGHTGLUE_FROM_EXTRACTOR.get(extractor.name), f"extractor {extractor.name}"
    if isinstance(extractor.config, AlikedConfig) and extractor.config.model == "t16":
        weights, features = None, f"{features} with model t16, which has 64 dimensions"
    if weights is None:
        raise ConfigError(
            f"matcher {matcher.name}: no weights are known for the features of {features};"
            " name a file of them (--matcher-weights FILE), or choose --matcher nearest"
        )
    return Choice(matcher.name, replace(config, weights=weights))
