"""Files of weights: what is written comes back; what is wrong is refused, and named."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import random
import re
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
    superpoint_from_state_dict,
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
            r"missing keys: transformer_layers\.1\.self_mlp\.fc1\.bias$",
        ),
        (
            lambda s: s.pop("transformer_layers.1.self_attention.k_proj.weight"),
            r"missing keys: .*attention\.k_proj\.weight$",
        ),
        (
            lambda s: s.pop("transformer_layers.0.cross_attention.v_proj.bias"),
            r"missing keys: .*attention\.v_proj\.bias$",
        ),
        (lambda s: s.pop("positional_encoder.projector.weight"), r"missing keys: positional_encoder"),
        (
            lambda s: s.pop("match_assignment_layers.0.matchability.bias"),
            r"missing keys: match_assignment_layers\.0\.match",
        ),
        (lambda s: s.pop("token_confidence.0.token.bias"), r"missing keys: token_confidence\.0\.token\.bias"),
        (
            lambda s: s.update({"transformer_layers.0.extra.weight": torch.zeros(1)}),
            r"unexpected keys: .*extra",
        ),
        (lambda s: s.update({"junk": torch.zeros(1)}), r"unexpected keys: junk"),
        (
            lambda s: s.update({"transformer_layers.1.self_mlp.fc2.weight": torch.zeros(3, 3)}),
            r"wrong shapes: transformer_layers\.1\.self_mlp\.fc2\.weight \[3, 3\] instead of \[32, 64\]",
        ),
        (lambda s: s.clear(), "missing keys: .* position_projection"),
    ],
)
def test_wrong_keys_are_named(change, message):
    with pytest.raises(WeightsError, match=message):
        lightglue_from_state_dict(broken(change))


def to_original(state: dict[str, torch.Tensor], block: str) -> dict[str, torch.Tensor]:
    """Our LightGlue as the authors' code would have saved it; `block` names a block "self" or "cross" of a layer."""
    result = {}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        if name.startswith("layers."):
            _, index, part, what = name.split(".")
            side, _, part = part.partition("_")
            name, what = f"{block.format(side=side, i=index)}.", f"{side} {part} {what}"
            if what == "cross attention projection":
                result[f"{name}to_qk.{kind}"], result[f"{name}to_v.{kind}"] = value.chunk(2)
                continue
            if what == "self attention projection":
                value = torch.stack(value.chunk(3), dim=1).flatten(0, 1)
            name += {
                "self attention projection": "Wqkv",
                "self attention output": "out_proj",
                "cross attention output": "to_out",
            }.get(what, {"fc1": "ffn.0", "norm": "ffn.1", "fc2": "ffn.3"}.get(what.split()[-1]))
        name = name.replace("position_projection", "posenc.Wr").replace("input_projection", "input_proj")
        name = name.replace("assignments", "log_assignment").replace("projection", "final_proj")
        if name.startswith("confidences"):
            name = name.replace("confidences", "token_confidence") + ".token.0"
        result[f"{name}.{kind}"] = value
    return result


def superpoint_to_hugging_face(state: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    names = {f"conv{i + 1}{c}": f"encoder.conv_blocks.{i}.conv_{c}" for i in range(4) for c in "ab"}
    names |= {f"convP{c}": f"keypoint_decoder.conv_score_{c}" for c in "ab"}
    names |= {f"convD{c}": f"descriptor_decoder.conv_descriptor_{c}" for c in "ab"}
    return {f"{prefix}{names[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()}


def every_layout() -> dict[str, tuple]:
    """Layouts of one LightGlue, its variants, and of one SuperPoint: how to load them, a state dict, the network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, detector = LightGlue(ARCHITECTURES[0]), SuperPoint(SUPERPOINT)
        variants = {f"variant{i}": LightGlue(architecture) for i, architecture in enumerate(ARCHITECTURES)}
        for name in ("variant0", "variant2"):  # the first is in the other layouts; three layers say no more than two
            variants.pop(name)
    own, conv = network.state_dict(), detector.state_dict()
    hugging = lightglue_to_hugging_face(own, network.architecture)
    below = superpoint_to_hugging_face(conv, "keypoint_detector.")
    lightglues = {
        "original": to_original(own, "{side}_attn.{i}"),
        "original in memory": to_original(own, "transformers.{i}.{side}_attn"),
        "hugging face": hugging,
        "glue-factory": {f"matcher.{k}": v for k, v in to_original(own, "transformers.{i}.{side}_attn").items()},
    }
    superpoints = {
        "superpoint": conv,
        "superpoint parallel": {f"module.{k}": v for k, v in conv.items()},
        "superpoint hugging face": superpoint_to_hugging_face(conv),
        "superpoint in lightglue": below,
    }
    result = {name: (lightglue_from_state_dict, state, network) for name, state in lightglues.items()}
    result |= {name: (superpoint_from_state_dict, state, detector) for name, state in superpoints.items()}
    for name, each in variants.items():
        result[f"ours {name}"] = (lightglue_from_state_dict, each.state_dict(), each)
        arch = each.architecture
        if arch.has_confidence and arch.has_layer_assignments and not arch.use_scale_orientation:
            state = lightglue_to_hugging_face(each.state_dict(), arch)
            result[f"hugging face {name}"] = (lightglue_from_state_dict, state, each)
    return result


LAYOUTS = every_layout()


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


def complaint(load, state) -> str:
    with pytest.raises(WeightsError) as caught:
        load(state)
    return str(caught.value)


def is_in(key: str, message: str) -> bool:
    """Whether the message names the key, and not one that merely ends or begins like it."""
    return re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", message) is not None


def test_every_layout_loads(layout):
    load, state, network = layout
    assert_same_weights(load(state), network)


def test_every_missing_key_is_named(layout):
    load, state, _ = layout
    for key in state:
        message = complaint(load, {k: v for k, v in state.items() if k != key})
        assert is_in(key, message) and "missing" in message, (key, message)
        assert "unexpected" not in message and "wrong shapes" not in message, (key, message)


CHANGES = [
    lambda v: torch.zeros(3, 3),
    lambda v: torch.zeros(()),
    lambda v: torch.cat([v, v[:1]]),
    lambda v: v[None],
    lambda v: torch.zeros(0),
]


def test_every_wrong_shape_is_named(layout):
    load, state, _ = layout
    for index, key in enumerate(state):
        message = complaint(load, {**state, key: CHANGES[index % len(CHANGES)](state[key])})
        assert is_in(key, message), (key, message)
        assert "missing" not in message and "unexpected" not in message, (key, message)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["original", "ours variant1", "superpoint"])
def test_telling_keys_may_have_any_shape(name, change):
    """The keys that the sizes are read off."""
    load, state, _ = LAYOUTS[name]
    telling = r"pos|input|.*0\.(Wqkv|to_qk|to_v)|.*0\.self_attention|.*0\.cross_attention|convDb|convPa|conv[14]b"
    for key in filter(re.compile(telling).match, state):
        assert is_in(key, complaint(load, {**state, key: change(state[key])})), key


def test_every_unexpected_key_is_named(layout):
    load, state, _ = layout
    lightglue = load is lightglue_from_state_dict
    foreign = {key for name in LAYOUTS for key in LAYOUTS[name][1] if lightglue != name.startswith("superpoint")}
    foreign |= {re.sub(r"\.\d+\.", f".{i}.", key, count=1) for key in state for i in (7, 10**12, "9" * 5000, "01")}
    foreign |= {f"{key}.extra" for key in state} | {f"extra.{key}" for key in state}
    if any(key.startswith("keypoint_detector.") for key in state):  # else of the LightGlue around
        foreign = {key for key in foreign if key.startswith("keypoint_detector.")}
    foreign = sorted(foreign - state.keys())
    for key in random.Random(0).sample(foreign, 15):
        message = complaint(load, {**state, key: torch.zeros(3)})
        assert is_in(key, message), (key, message)


@pytest.mark.parametrize("kind", ["weight", "bias"])
@pytest.mark.parametrize("stem", ["input_projection", "confidences.0", "assignments.1.projection"])
def test_half_a_module_is_named_where_there_should_be_none(stem, kind):
    architecture = dataclasses.replace(ARCHITECTURES[5], input_dim=16, num_layers=2)
    state = LightGlue(architecture).state_dict()
    message = complaint(lightglue_from_state_dict, {**state, f"{stem}.{kind}": torch.zeros(16, 8)})
    assert is_in(f"{stem}.{kind}", message)


def test_every_value_that_is_no_array_of_numbers_is_named(layout):
    load, state, _ = layout
    values = [1.0, None, [1.0], torch.zeros(3).to_sparse(), torch.zeros(3).long(), torch.nan, torch.inf, -torch.inf]
    for index, key in list(enumerate(state))[:: 3 if len(state) > 30 else 1]:
        value = values[index % len(values)]
        if index % len(values) > 4:
            value, number = state[key].clone(), value
            value.view(-1)[-1] = number
        assert is_in(key, complaint(load, {**state, key: value})), (key, value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_precision_becomes_float32(layout, dtype):
    load, state, _ = layout
    loaded = load({key: value.to(dtype) for key, value in state.items()})
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}


def test_renamed_key_is_both_missing_and_unexpected(layout):
    load, state, _ = layout
    key = next(iter(state))
    message = complaint(load, {(f"{key}x" if k == key else k): v for k, v in state.items()})
    assert is_in(key, message) and is_in(f"{key}x", message)


def test_many_faults_are_listed_together():
    load, state, _ = LAYOUTS["hugging face"]
    gone, *rest = (key for key in state if ".self_mlp." in key)
    state = {key: value for key, value in state.items() if key != gone} | {f"junk{i:02}": None for i in range(60)}
    message = complaint(load, state | {rest[0]: torch.zeros(()), rest[1]: 1.0 / torch.zeros_like(state[rest[1]])})
    assert all(is_in(key, message) for key in (gone, *rest[:2], "junk00", "junk39"))
    assert "and 20 more" in message and "junk40" not in message


def test_layers_are_counted_by_what_is_there():
    """A missing layer in the middle, and a stored architecture that no memory could hold."""
    load, state, network = LAYOUTS["original"]
    far = {re.sub(r"_attn\.1\.", f"_attn.{10**12}.", key): value for key, value in state.items()}
    message = complaint(load, far)
    assert is_in("self_attn.1.ffn.0.weight", message) and is_in(f"self_attn.{10**12}.ffn.0.weight", message)
    huge = dataclasses.replace(network.architecture, num_layers=10**12)
    with pytest.raises(WeightsError, match="1000000000000 layers"):
        lightglue_from_state_dict(network.state_dict(), architecture=huge)
    wide = dataclasses.replace(network.architecture, descriptor_dim=2**62)
    with pytest.raises(WeightsError, match="no network has the sizes"):
        lightglue_from_state_dict(network.state_dict(), architecture=wide)


@pytest.mark.parametrize("tied", [True, False])
def test_promised_projections_must_be_those_of_the_file(tied):
    """Where the architecture is given, not read off the file."""
    other = LAYOUTS["hugging face variant4"] if tied else LAYOUTS["original"]
    promised = dataclasses.replace(other[2].architecture, tied_cross_attention=tied)
    with pytest.raises(WeightsError, match="k_proj.* differs from .*q_proj" if tied else r"wrong shapes: .*to_v"):
        lightglue_from_state_dict(other[1], architecture=promised)


def test_damaged_pickles_raise_nothing_else(tmp_path):
    path, rng = tmp_path / "fuzzed.pth", random.Random(0)
    state = {"posenc.Wr.weight": torch.ones(4, 2), "self_attn.0.Wqkv.weight": torch.ones(96, 32)}
    for modern in (True, False):
        torch.save(state, path, _use_new_zipfile_serialization=modern)
        content = path.read_bytes()
        for _ in range(100):
            damaged = bytearray(content)
            for _ in range(rng.randint(1, 8)):
                damaged[rng.randrange(2, min(len(damaged), 1000))] = rng.randrange(256)
            path.write_bytes(damaged)
            with pytest.raises(WeightsError):
                load_lightglue(path)


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
