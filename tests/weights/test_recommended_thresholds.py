"""Thresholds that weights recommend, and their use by a matcher."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sfm_lightglue import LightGlueConfig, LightGlueForKeypointMatching
from sfm_lightglue.errors import WeightsError
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.models.checkpoints import load_lightglue, save_lightglue
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture, LightGlueThresholds
from sfm_lightglue.weights.recommended_thresholds import PAPERS_THRESHOLDS, recommended_thresholds
from sfm_lightglue.weights.state_dict import WeightsFile, read_weights, save_tensors

TINY = LightGlueArchitecture(8, 16, 2, 2)


@pytest.fixture
def network() -> LightGlue:
    return LightGlue(TINY)


def thresholds_of(path: Path, **options: float) -> tuple[float, ...]:
    config = LightGlueMatcher(LightGlueMatcherConfig(str(path), **options), "cpu").config
    return tuple(config.given_thresholds().values())


def test_weights_without_recommendation_use_those_of_the_paper(tmp_path: Path, network: LightGlue) -> None:
    save_lightglue(network, tmp_path / "plain.safetensors")
    assert thresholds_of(tmp_path / "plain.safetensors") == (0.95, 0.99, 0.1)


def test_recommendations_are_defaults_that_options_override(tmp_path: Path, network: LightGlue) -> None:
    path = tmp_path / "recommending.safetensors"
    save_lightglue(network, path, {"license": "none"}, {"width_confidence": 0.8, "filter_threshold": 0.3})
    assert thresholds_of(path) == (0.95, 0.8, 0.3)
    assert thresholds_of(path, width_confidence=-1.0, depth_confidence=0.5) == (0.5, -1.0, 0.3)
    assert read_weights(path).metadata["license"] == "none"
    assert load_lightglue(path).architecture == TINY


def test_recommended_and_given_thresholds_have_the_same_identity(tmp_path: Path, network: LightGlue) -> None:
    """The identity contains the values, not their origin; other values give another identity."""
    path = tmp_path / "recommending.safetensors"
    save_lightglue(network, path, None, {"width_confidence": 0.8})
    recommended = LightGlueMatcher(LightGlueMatcherConfig(str(path)), "cpu").identity
    assert LightGlueMatcher(LightGlueMatcherConfig(str(path), width_confidence=0.8), "cpu").identity == recommended
    assert LightGlueMatcher(LightGlueMatcherConfig(str(path), width_confidence=0.99), "cpu").identity != recommended


@pytest.mark.parametrize(
    "stored",
    ["no JSON", "[1]", json.dumps({"width": 0.5}), json.dumps({"width_confidence": "wide"}), '{"width_confidence": 7}'],
)
def test_recommendations_that_cannot_be_read_name_the_file(tmp_path: Path, network: LightGlue, stored: str) -> None:
    path = tmp_path / "odd.safetensors"
    save_tensors(network.state_dict(), path, {"format": "sfm_lightglue", "thresholds": stored})
    with pytest.raises(WeightsError, match=r"odd\.safetensors: its recommended thresholds"):
        LightGlueMatcher(LightGlueMatcherConfig(str(path)), "cpu")


def test_files_of_others_recommend_nothing(tmp_path: Path, network: LightGlue) -> None:
    (tmp_path / "text.pth").write_text("no weights")
    save_tensors(network.state_dict(), tmp_path / "other.safetensors", {"thresholds": "any text"})
    for name in ("text.pth", "missing.pth", "other.safetensors"):
        assert recommended_thresholds(tmp_path / name) == {}


@pytest.mark.parametrize("thresholds", [{"width_confidence": 7.0}, {"filter_threshold": -1.0}, {"width": 0.5}])
def test_invalid_recommendations_are_not_written(
    tmp_path: Path, network: LightGlue, thresholds: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match=next(iter(thresholds))):
        save_lightglue(network, tmp_path / "odd.safetensors", None, thresholds)
    assert not (tmp_path / "odd.safetensors").exists()


def test_the_papers_thresholds_are_those_of_the_network_and_of_hugging_face() -> None:
    for thresholds in (LightGlueThresholds(), LightGlueConfig()):
        assert {name: getattr(thresholds, name) for name in PAPERS_THRESHOLDS} == PAPERS_THRESHOLDS


def test_models_of_the_hugging_face_api_use_and_save_recommended_thresholds(tmp_path: Path) -> None:
    sift = LightGlue(LightGlueArchitecture(128, 16, 2, 2, use_scale_orientation=True, tied_cross_attention=False))
    save_lightglue(sift, tmp_path / "sift.safetensors", None, {"width_confidence": 0.8, "depth_confidence": -1.0})
    model = LightGlueForKeypointMatching.from_pretrained(tmp_path / "sift.safetensors")
    assert (model.config.width_confidence, model.config.thresholds().depth_confidence) == (0.8, None)
    given = LightGlueForKeypointMatching.from_pretrained(tmp_path / "sift.safetensors", width_confidence=0.9)
    assert given.config.width_confidence == 0.9
    model.save_pretrained(tmp_path / "saved")
    assert thresholds_of(tmp_path / "saved" / "model.safetensors") == (-1.0, 0.8, 0.1)


def test_the_hugging_face_api_reads_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sift = LightGlue(LightGlueArchitecture(128, 16, 2, 2, use_scale_orientation=True, tied_cross_attention=False))
    path = tmp_path / "sift.safetensors"
    save_lightglue(sift, path, None, {"width_confidence": 0.8})
    reads: list[Path] = []

    def read(path: str | Path, sha256: str | None = None) -> WeightsFile:
        reads.append(Path(path))
        return read_weights(path, sha256)

    monkeypatch.setattr("sfm_lightglue.huggingface.checkpoints.read_weights", read)
    monkeypatch.setattr("sfm_lightglue.models.checkpoints.read_weights", read)
    LightGlueForKeypointMatching.from_pretrained(path)
    assert reads == [path]
