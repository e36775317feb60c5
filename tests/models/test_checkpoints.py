"""Checkpoints: networks are written atomically, and read from every layout without change."""

from __future__ import annotations

import json
import os
import stat

import pytest
import safetensors.torch
import torch

from sfm_lightglue.errors import StoreError, WeightsError
from sfm_lightglue.models.checkpoints import (
    lightglue_from_state_dict,
    load_lightglue,
    load_superpoint,
    save_lightglue,
    save_superpoint,
)
from sfm_lightglue.models.key_layouts import lightglue_to_hugging_face
from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.models.superpoint import SuperPoint
from sfm_lightglue.weights.state_dict import read_weights
from tests.helpers.weight_layouts import ARCHITECTURES, SUPERPOINT, assert_same_weights, superpoint_to_hugging_face

pytestmark = pytest.mark.usefixtures("torch_seed")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lightglue_is_read_as_it_was_written(tmp_path, architecture):
    network, path = LightGlue(architecture), tmp_path / "network.safetensors"
    save_lightglue(network, path, {"licence": "Apache-2.0"})
    loaded = load_lightglue(path)
    assert loaded.architecture == architecture and not loaded.training
    assert_same_weights(loaded, network)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    metadata = read_weights(path).metadata
    assert metadata["licence"] == "Apache-2.0"
    assert json.loads(metadata["architecture"])["num_layers"] == architecture.num_layers


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architecture_is_inferred_from_the_shapes(architecture):
    network = LightGlue(architecture)
    inferred = lightglue_from_state_dict(network.state_dict()).architecture
    for name in ("input_dim", "descriptor_dim", "num_layers", "num_heads", "kv_heads", "cross_is_tied"):
        assert getattr(inferred, name) == getattr(architecture, name), name
    for name in ("attention_bias", "use_scale_orientation", "has_layer_assignments"):
        assert getattr(inferred, name) == getattr(architecture, name), name


def test_superpoint_is_read_from_every_layout(tmp_path):
    network, path = SuperPoint(SUPERPOINT), tmp_path / "network.safetensors"
    save_superpoint(network, path)
    assert load_superpoint(path).architecture == SUPERPOINT
    assert_same_weights(load_superpoint(path), network)
    torch.save(network.state_dict(), tmp_path / "superpoint_v1.pth")
    assert_same_weights(load_superpoint(tmp_path / "superpoint_v1.pth"), network)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["", "module.", "matcher."])
def test_wrapped_and_prefixed_pickles_are_read(tmp_path, wrap, prefix):
    network, path = LightGlue(ARCHITECTURES[0]), tmp_path / "network.pth"
    state = {prefix + key: value for key, value in network.state_dict().items()}
    if prefix == "matcher.":
        state["extractor.conv1a.weight"] = torch.zeros(3)
    torch.save(wrap(state), path)
    assert_same_weights(load_lightglue(path), network)
    torch.save(wrap(state), path, _use_new_zipfile_serialization=False)
    assert_same_weights(load_lightglue(path), network)


def test_hugging_face_file_contains_both_networks(tmp_path):
    matcher, detector = LightGlue(ARCHITECTURES[0]), SuperPoint(SUPERPOINT)
    state = lightglue_to_hugging_face(matcher.state_dict(), matcher.architecture)
    state |= superpoint_to_hugging_face(detector.state_dict(), "keypoint_detector.")
    path = tmp_path / "model.safetensors"
    safetensors.torch.save_file(state, path, metadata={"format": "pt"})
    assert_same_weights(load_lightglue(path), matcher)
    assert_same_weights(load_superpoint(path), detector)


def test_half_precision_files_become_float32(tmp_path):
    network, path = LightGlue(ARCHITECTURES[0]), tmp_path / "half.safetensors"
    save_lightglue(network.half(), path)
    assert {parameter.dtype for parameter in load_lightglue(path).parameters()} == {torch.float32}


def test_loading_draws_no_random_numbers():
    state = LightGlue(ARCHITECTURES[0]).state_dict()
    before = torch.random.get_rng_state()
    lightglue_from_state_dict(state)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_loaded_network_shares_no_memory_with_its_source():
    network = LightGlue(ARCHITECTURES[1])
    loaded = lightglue_from_state_dict(network.state_dict())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)
    assert not torch.equal(loaded.position_projection.weight, network.position_projection.weight)


def test_number_of_heads_must_be_the_expected_one(tmp_path):
    path = tmp_path / "network.safetensors"
    save_lightglue(LightGlue(ARCHITECTURES[0]), path)
    assert load_lightglue(path, num_heads=4).architecture.num_heads == 4
    with pytest.raises(WeightsError, match="has 4 heads, expected 2"):
        load_lightglue(path, num_heads=2)


def test_saving_is_atomic_and_repeatable(tmp_path, monkeypatch):
    network, path = LightGlue(ARCHITECTURES[0]), tmp_path / "network.safetensors"
    save_lightglue(network, path)
    content = path.read_bytes()
    save_lightglue(network, path)
    assert path.read_bytes() == content
    assert stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreError, match="No space left on device"):
        save_lightglue(LightGlue(ARCHITECTURES[1]), path)
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == ["network.safetensors"]
    with pytest.raises(StoreError, match="cannot be written"):
        save_lightglue(network, tmp_path / "nowhere" / "x.safetensors")
