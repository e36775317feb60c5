"""Thresholds that weights recommend, and what a matcher makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.models.files import safetensors_metadata
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.weights import load_lightglue, save_lightglue, save_tensors

TINY = LightGlueArchitecture(8, 16, 2, 2)
NAMES = ("depth_confidence", "width_confidence", "filter_threshold")


@pytest.fixture
def network() -> LightGlue:
    return LightGlue(TINY)


def thresholds_of(path: Path, **options: float) -> tuple[float | None, ...]:
    config = LightGlueMatcher(LightGlueMatcherConfig(str(path), **options), "cpu").config
    return tuple(getattr(config, name) for name in NAMES)


def test_weights_that_say_nothing_get_those_of_the_paper(tmp_path: Path, network: LightGlue) -> None:
    save_lightglue(network, tmp_path / "plain.safetensors")
    assert thresholds_of(tmp_path / "plain.safetensors") == (0.95, 0.99, 0.1)


def test_weights_recommend_and_users_decide(tmp_path: Path, network: LightGlue) -> None:
    path = tmp_path / "telling.safetensors"
    save_lightglue(network, path, {"license": "none"}, {"width_confidence": 0.8, "filter_threshold": 0.3})
    assert thresholds_of(path) == (0.95, 0.8, 0.3)
    assert thresholds_of(path, width_confidence=-1.0, depth_confidence=0.5) == (0.5, -1.0, 0.3)
    assert safetensors_metadata(path)["license"] == "none"
    assert load_lightglue(path).architecture == TINY


def test_recommended_thresholds_count_as_given_ones_do(tmp_path: Path, network: LightGlue) -> None:
    """The store cannot tell whether a number was recommended or given; other numbers are another matcher."""
    path = tmp_path / "telling.safetensors"
    save_lightglue(network, path, None, {"width_confidence": 0.8})
    recommended = LightGlueMatcher(LightGlueMatcherConfig(str(path)), "cpu").identity
    assert LightGlueMatcher(LightGlueMatcherConfig(str(path), width_confidence=0.8), "cpu").identity == recommended
    assert LightGlueMatcher(LightGlueMatcherConfig(str(path), width_confidence=0.99), "cpu").identity != recommended


@pytest.mark.parametrize(
    "told",
    ["no JSON", "[1]", json.dumps({"width": 0.5}), json.dumps({"width_confidence": "wide"}), '{"width_confidence": 7}'],
)
def test_recommendations_that_cannot_be_read_name_the_file(tmp_path: Path, network: LightGlue, told: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_tensors(network.state_dict(), path, {"thresholds": told})
    with pytest.raises(WeightsError, match=r"odd\.safetensors: its recommended thresholds"):
        LightGlueMatcher(LightGlueMatcherConfig(str(path)), "cpu")


def test_other_files_have_no_metadata(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    assert safetensors_metadata(tmp_path / "text.pth") == {}
    assert safetensors_metadata(tmp_path / "missing.pth") == {}
