"""Weights of LightGlue that fit an extractor: a LightGlue matches only features that it was trained with."""

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
"""Name of the weights, as in `sfm-lightglue weights list`, by the name of the extractor."""


def with_fitting_weights(matcher: Choice, extractor: Choice) -> Choice:
    """Choose the weights for an extractor's features if the matcher is a LightGlue without weights.

    Args:
        matcher: any matcher.
        extractor: the extractor whose features are matched.

    Returns:
        The matcher with weights; other matchers and matchers with weights unchanged.

    Raises:
        ConfigError: if no weights are known for the extractor.
    """
    config = matcher.config
    if not isinstance(config, LightGlueMatcherConfig) or config.weights:
        return matcher
    weights, features = LIGHTGLUE_FROM_EXTRACTOR.get(extractor.name), f"extractor {extractor.name}"
    if isinstance(extractor.config, AlikedConfig) and extractor.config.model == "t16":
        weights, features = None, f"{features} with model t16, which have 64 dimensions"
    if weights is None:
        raise ConfigError(
            f"matcher {matcher.name}: no weights are known for the features of {features};"
            " give a file of weights with `matcher.weights`, or choose `matcher.name` nearest"
        )
    return Choice(matcher.name, replace(config, weights=weights))
