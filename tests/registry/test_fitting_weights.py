"""The weights of a LightGlue are chosen for the extractor, and the default needs no option."""

from __future__ import annotations

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.registry.fitting_weights import LIGHTGLUE_FROM_EXTRACTOR, with_fitting_weights
from sfm_lightglue.registry.registry import Choice
from sfm_lightglue.weights.catalog import CATALOG


@pytest.mark.parametrize(("extractor", "weights"), sorted(LIGHTGLUE_FROM_EXTRACTOR.items()))
def test_the_weights_fit_the_extractor(extractor: str, weights: str) -> None:
    assert extractor in EXTRACTORS.names
    assert weights in CATALOG
    config = ReconstructConfig.from_mapping({"extractor": {"name": extractor}})
    assert config.matcher.name == "lightglue"
    assert config.matcher.config.weights == weights


def test_given_weights_and_other_matchers_are_not_changed() -> None:
    sift = EXTRACTORS.choose("sift")
    named, nearest = MATCHERS.choose("lightglue", {"weights": "mine.pth"}), MATCHERS.choose("nearest")
    assert with_fitting_weights(named, sift) == named
    assert with_fitting_weights(nearest, sift) == nearest


def test_the_error_for_an_extractor_without_known_weights_names_the_options() -> None:
    with pytest.raises(ConfigError, match=r"extractor mine; give a file .*`matcher\.weights`.*`matcher\.name` nearest"):
        with_fitting_weights(MATCHERS.choose("lightglue"), Choice("mine", None))


def test_the_small_aliked_is_refused_before_anything_is_downloaded() -> None:
    with pytest.raises(ConfigError, match="t16, which have 64 dimensions; give a file"):
        ReconstructConfig.from_mapping({"extractor": {"name": "aliked", "model": "t16"}})


def test_a_resolved_configuration_is_read_back_unchanged() -> None:
    config = ReconstructConfig()
    assert config.as_mapping()["matcher"]["weights"] == "lightglue_sift"
    assert ReconstructConfig.from_mapping(config.as_mapping()) == config
