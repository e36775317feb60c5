"""The weights of a LightGlue follow the extractor, and the default works without a flag."""

from __future__ import annotations

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.registry.fitting_weights import LIGHTGLUE_FROM_EXTRACTOR, with_fitting_weights
from sfm_lightglue.registry.registry import Choice
from sfm_lightglue.weights.catalog import CATALOG


@pytest.mark.parametrize(("extractor", "weights"), sorted(LIGHTGLUE_FROM_EXTRACTOR.items()))
def test_the_weights_follow_the_extractor(extractor: str, weights: str) -> None:
    assert extractor in EXTRACTORS.names
    assert weights in CATALOG
    config = ReconstructConfig.from_mapping({"extractor": {"name": extractor}})
    assert config.matcher.name == "lightglue"
    assert config.matcher.config.weights == weights


def test_named_weights_and_other_matchers_stay_as_they_are() -> None:
    sift = EXTRACTORS.choose("sift")
    named, nearest = MATCHERS.choose("lightglue", {"weights": "mine.pth"}), MATCHERS.choose("nearest")
    assert with_fitting_weights(named, sift) == named
    assert with_fitting_weights(nearest, sift) == nearest


def test_an_extractor_without_known_weights_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"extractor mine; name a file .*--matcher nearest"):
        with_fitting_weights(MATCHERS.choose("lightglue"), Choice("mine", None))


def test_the_small_aliked_is_refused_before_anything_is_downloaded() -> None:
    with pytest.raises(ConfigError, match="t16, which has 64 dimensions; name a file"):
        ReconstructConfig.from_mapping({"extractor": {"name": "aliked", "model": "t16"}})


def test_a_resolved_configuration_is_read_back_as_it_is() -> None:
    config = ReconstructConfig()
    assert config.as_mapping()["matcher"]["weights"] == "lightglue_sift"
    assert ReconstructConfig.from_mapping(config.as_mapping()) == config
