"""Weights that do not fit a network: each wrong key, shape and value is named as in the layout of its file."""

from __future__ import annotations

import dataclasses
import random
import re

import pytest
import torch

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.models.checkpoints import lightglue_from_state_dict
from sfm_lightglue.models.key_layouts import lightglue_to_hugging_face
from sfm_lightglue.models.lightglue import LightGlue
from tests.helpers.weight_layouts import ARCHITECTURES, LAYOUTS, assert_same_weights

pytestmark = pytest.mark.usefixtures("torch_seed")


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


def complaint(load, state) -> str:
    with pytest.raises(WeightsError) as caught:
        load(state)
    return str(caught.value)


def is_in(key: str, message: str) -> bool:
    """Whether the message contains the whole key, not only as a part of another key."""
    return re.search(rf"(?<![\w.]){re.escape(key)}(?![\w.])", message) is not None


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return LAYOUTS[request.param]


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
def test_wrong_shapes_of_size_defining_keys_are_named(name, change):
    """The keys from which the sizes are inferred."""
    load, state, _ = LAYOUTS[name]
    defining = r"pos|input|.*0\.(Wqkv|to_qk|to_v)|.*0\.self_attention|.*0\.cross_attention|convDb|convPa|conv[14]b"
    for key in filter(re.compile(defining).match, state):
        assert is_in(key, complaint(load, {**state, key: change(state[key])})), key


def test_every_unexpected_key_is_named(layout):
    load, state, _ = layout
    lightglue = load is lightglue_from_state_dict
    foreign = {key for name in LAYOUTS for key in LAYOUTS[name][1] if lightglue != name.startswith("superpoint")}
    foreign |= {re.sub(r"\.\d+\.", f".{i}.", key, count=1) for key in state for i in (7, 10**12, "9" * 5000, "01")}
    foreign |= {f"{key}.extra" for key in state} | {f"extra.{key}" for key in state}
    if any(key.startswith("keypoint_detector.") for key in state):  # other names belong to the LightGlue
        foreign = {key for key in foreign if key.startswith("keypoint_detector.")}
    foreign = sorted(foreign - state.keys())
    for key in random.Random(0).sample(foreign, 15):
        message = complaint(load, {**state, key: torch.zeros(3)})
        assert is_in(key, message), (key, message)


@pytest.mark.parametrize("kind", ["weight", "bias"])
@pytest.mark.parametrize("stem", ["input_projection", "confidences.0", "assignments.1.projection"])
def test_half_of_an_unexpected_module_is_named(stem, kind):
    architecture = dataclasses.replace(ARCHITECTURES[5], input_dim=16, num_layers=2)
    state = LightGlue(architecture).state_dict()
    message = complaint(lightglue_from_state_dict, {**state, f"{stem}.{kind}": torch.zeros(16, 8)})
    assert is_in(f"{stem}.{kind}", message)


def test_every_value_that_is_not_a_dense_array_of_numbers_is_named(layout):
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


def test_the_number_of_layers_is_inferred_from_the_majority_of_keys():
    """With a missing layer in the middle, and with a stored architecture that is too large for any memory."""
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
def test_projections_must_fit_a_given_architecture(tied):
    """If the architecture is given, not inferred from the file."""
    other = LAYOUTS["hugging face variant4"] if tied else LAYOUTS["original"]
    expected = dataclasses.replace(other[2].architecture, tied_cross_attention=tied)
    with pytest.raises(WeightsError, match="k_proj.* differs from .*q_proj" if tied else r"wrong shapes: .*to_v"):
        lightglue_from_state_dict(other[1], architecture=expected)


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
