"""Files of weights: what is written comes back; what is wrong is refused, and named."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import stat

import pytest
import safetensors.torch
import torch

from sfm_lightglue.errors import StoreError, WeightsError
from sfm_lightglue.models.files import file_sha256
from sfm_lightglue.models.layouts import lightglue_to_hugging_face
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.superpoint import SuperPoint, SuperPointArchitecture
from sfm_lightglue.models.weights import (
    lightglue_from_state_dict,
    load_lightglue,
    load_superpoint,
    read_state_dict,
    save_lightglue,
    save_superpoint,
    verify_sha256,
)

ARCHITECTURES = [
    LightGlueArchitecture(input_dim=16, descriptor_dim=32, num_layers=2, num_heads=4),
    LightGlueArchitecture(input_dim=32, descriptor_dim=32, num_layers=1, num_heads=2, attention_bias=False),
    LightGlueArchitecture(input_dim=8, descriptor_dim=24, num_layers=3, num_heads=3, num_key_value_heads=1),
    LightGlueArchitecture(
        input_dim=8,
        descriptor_dim=32,
        num_layers=2,
        num_heads=4,
        num_key_value_heads=2,
        use_scale_orientation=True,
    ),
    LightGlueArchitecture(input_dim=8, descriptor_dim=32, num_layers=2, num_heads=4, tied_cross_attention=False),
    LightGlueArchitecture(
        input_dim=8,
        descriptor_dim=16,
        num_layers=3,
        num_heads=1,
        has_confidence=False,
        has_layer_assignments=False,
    ),
]
SUPERPOINT = SuperPointArchitecture(encoder_channels=(4, 6, 8, 10), decoder_channels=12, descriptor_dim=14)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    state, expected = one.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for key in state:
        assert torch.equal(state[key], expected[key]), key


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_lightglue_comes_back(tmp_path, architecture):
    network, path = LightGlue(architecture), tmp_path / "network.safetensors"
    save_lightglue(network, path, {"licence": "Apache-2.0"})
    loaded = load_lightglue(path)
    assert loaded.architecture == architecture and not loaded.training
    assert_same_weights(loaded, network)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    metadata = read_state_dict(path)[1]
    assert metadata["licence"] == "Apache-2.0"
    assert json.loads(metadata["architecture"])["num_layers"] == architecture.num_layers


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_architecture_is_read_off_the_shapes(architecture):
    network = LightGlue(architecture)
    inferred = lightglue_from_state_dict(network.state_dict()).architecture
    for name in ("input_dim", "descriptor_dim", "num_layers", "num_heads", "kv_heads", "cross_is_tied"):
        assert getattr(inferred, name) == getattr(architecture, name), name
    for name in ("attention_bias", "use_scale_orientation", "has_layer_assignments"):
        assert getattr(inferred, name) == getattr(architecture, name), name


def test_superpoint_comes_back_from_every_layout(tmp_path):
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


def test_hugging_face_file_holds_both_networks(tmp_path):
    matcher, detector = LightGlue(ARCHITECTURES[0]), SuperPoint(SUPERPOINT)
    state = lightglue_to_hugging_face(matcher.state_dict(), matcher.architecture)
    names = {f"conv{i + 1}{c}": f"encoder.conv_blocks.{i}.conv_{c}" for i in range(4) for c in "ab"}
    names |= {f"convP{c}": f"keypoint_decoder.conv_score_{c}" for c in "ab"}
    names |= {f"convD{c}": f"descriptor_decoder.conv_descriptor_{c}" for c in "ab"}
    for key, value in detector.state_dict().items():
        name, kind = key.split(".")
        state[f"keypoint_detector.{names[name]}.{kind}"] = value
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


def test_number_of_heads_must_be_the_promised_one(tmp_path):
    path = tmp_path / "network.safetensors"
    save_lightglue(LightGlue(ARCHITECTURES[0]), path)
    assert load_lightglue(path, num_heads=4).architecture.num_heads == 4
    with pytest.raises(WeightsError, match="has 4 heads, expected 2"):
        load_lightglue(path, num_heads=2)


def broken(change) -> dict[str, torch.Tensor]:
    network = LightGlue(ARCHITECTURES[0])
    state = lightglue_to_hugging_face(network.state_dict(), network.architecture)
    change(state)
    return state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("transformer_layers.1.self_mlp.fc1.bias"),
            r"missing keys: layers\.1\.self_mlp\.fc1\.bias",
        ),
        (
            lambda s: s.pop("transformer_layers.1.self_attention.k_proj.weight"),
            r"missing keys: .*attention\.k\.weight",
        ),
        (
            lambda s: s.pop("transformer_layers.0.cross_attention.v_proj.bias"),
            r"missing keys: .*attention\.v\.bias",
        ),
        (lambda s: s.pop("positional_encoder.projector.weight"), r"missing keys: position_projection"),
        (
            lambda s: s.pop("match_assignment_layers.0.matchability.bias"),
            r"missing keys: assignments\.0\.match",
        ),
        (lambda s: s.pop("token_confidence.0.token.bias"), r"missing keys: confidences\.0\.bias"),
        (
            lambda s: s.update({"transformer_layers.0.extra.weight": torch.zeros(1)}),
            r"unexpected keys: .*extra",
        ),
        (lambda s: s.update({"junk": torch.zeros(1)}), r"unexpected keys: junk"),
        (
            lambda s: s.update({"transformer_layers.1.self_mlp.fc2.weight": torch.zeros(3, 3)}),
            r"wrong shapes: layers\.1\.self_mlp\.fc2\.weight \[3, 3\] instead of \[32, 64\]",
        ),
        (lambda s: s.clear(), "missing keys: position_projection"),
    ],
)
def test_wrong_keys_are_named(change, message):
    with pytest.raises(WeightsError, match=message):
        lightglue_from_state_dict(broken(change))


def test_superpoint_is_no_lightglue_and_the_other_way_round(tmp_path):
    save_superpoint(SuperPoint(SUPERPOINT), tmp_path / "superpoint.safetensors")
    save_lightglue(LightGlue(ARCHITECTURES[0]), tmp_path / "lightglue.safetensors")
    with pytest.raises(WeightsError, match="holds a superpoint, expected a lightglue"):
        load_lightglue(tmp_path / "superpoint.safetensors")
    with pytest.raises(WeightsError, match="holds a lightglue, expected a superpoint"):
        load_superpoint(tmp_path / "lightglue.safetensors")
    torch.save(SuperPoint(SUPERPOINT).state_dict(), tmp_path / "superpoint.pth")
    with pytest.raises(WeightsError, match="unexpected keys: conv1a"):
        load_lightglue(tmp_path / "superpoint.pth")


def test_foreign_confidence_thresholds_are_refused():
    state = {
        "posenc.Wr.weight": torch.zeros(4, 2),
        "self_attn.0.Wqkv.weight": torch.zeros(96, 32),
        "cross_attn.0.to_qk.weight": torch.zeros(32, 32),
        "cross_attn.0.to_v.weight": torch.zeros(32, 32),
        "confidence_thresholds": torch.tensor([0.5]),
    }
    with pytest.raises(WeightsError, match="confidence_thresholds"):
        lightglue_from_state_dict(state)
    state["confidence_thresholds"] = torch.tensor([0.9])
    with pytest.raises(WeightsError, match="missing keys"):
        lightglue_from_state_dict(state)


class Evil:
    """A pickle that would make a folder when it is read."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_code_is_refused_and_does_not_run(tmp_path):
    torch.save({"model": Evil(tmp_path / "pwned")}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth: damaged, or holds more than tensors.*safetensors"):
        load_lightglue(tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil(tmp_path / "pwned")))
    with pytest.raises(WeightsError, match=r"evil\.pkl"):
        load_lightglue(tmp_path / "evil.pkl")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
def test_torn_files_are_refused(tmp_path, suffix, keep):
    path = tmp_path / f"torn{suffix}"
    network = LightGlue(ARCHITECTURES[0])
    if suffix == ".pth":
        torch.save(network.state_dict(), path)
    else:
        save_lightglue(network, path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(WeightsError, match=f"torn{suffix}"):
        load_lightglue(path)


def test_files_without_weights_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.pth: no such file"):
        load_lightglue(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="no such file"):
        load_superpoint(tmp_path)
    (tmp_path / "page.html").write_text("<html>404: not found</html>")
    with pytest.raises(WeightsError, match=r"page\.html: damaged"):
        load_lightglue(tmp_path / "page.html")
    for name, content in (("list", [1, 2]), ("numbers", {"a": 1.0}), ("empty", {})):
        torch.save(content, tmp_path / name)
        with pytest.raises(WeightsError, match=name):
            load_lightglue(tmp_path / name)


@pytest.mark.parametrize(
    "architecture", ["{", "[]", '{"num_layers": 0}', '{"depth": 3}', '{"num_layers": "nine"}', None]
)
def test_unreadable_metadata_are_refused(tmp_path, architecture):
    metadata = {"format": "sfm_lightglue", "network": "lightglue"}
    if architecture is not None:
        metadata["architecture"] = architecture
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(WeightsError, match=r"x\.safetensors: its architecture cannot be read"):
        load_lightglue(tmp_path / "x.safetensors")


def test_sha256_is_verified(tmp_path):
    path = tmp_path / "network.safetensors"
    save_superpoint(SuperPoint(SUPERPOINT), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert file_sha256(path) == digest
    verify_sha256(path, digest.upper())
    load_superpoint(path, sha256=digest)
    with pytest.raises(WeightsError, match=f"sha256 is {digest}, expected 0000"):
        load_superpoint(path, sha256="0" * 64)
    with pytest.raises(WeightsError, match="cannot be read"):
        file_sha256(tmp_path / "absent")


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
