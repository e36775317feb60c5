"""`LightGlueConfig`: effect of every field, files exchanged with `transformers`, refused values."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

import sfm_lightglue
from sfm_lightglue import LightGlueConfig, LightGlueForKeypointMatching
from sfm_lightglue.errors import ConfigError, StoreError, WeightsError
from sfm_lightglue.models.checkpoints import load_lightglue, save_lightglue
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.lightglue_activations import ACTIVATIONS
from tests.helpers.matching_references import make_inputs, make_reference

TheirConfig = pytest.importorskip("transformers").LightGlueConfig
TheirDetectorConfig = pytest.importorskip("transformers").SuperPointConfig
ACT2FN = pytest.importorskip("transformers.activations").ACT2FN

SMALL = {
    "keypoint_detector_config": {
        "model_type": "superpoint",
        "encoder_hidden_sizes": [8, 8, 16, 16],
        "decoder_hidden_size": 32,
        "descriptor_decoder_dim": 64,
        "keypoint_threshold": 0.01,
    },
    "descriptor_dim": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def build(**options) -> LightGlueForKeypointMatching:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LightGlueForKeypointMatching(LightGlueConfig.from_dict(SMALL | options))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with random weights that give some matches."""
    folder = tmp_path_factory.mktemp("trained")
    make_reference(depth_confidence=0.95, width_confidence=0.99).save_pretrained(folder)
    return folder


def outputs(folder, **options):
    with torch.no_grad():
        return LightGlueForKeypointMatching.from_pretrained(folder, **options)(make_inputs(1))


def test_defaults_are_those_of_transformers():
    ours, theirs = LightGlueConfig(), TheirConfig()
    for name, value in ours.to_dict().items():
        if name not in ("architectures", "keypoint_detector_config"):
            assert getattr(theirs, name) == value, name
    assert ours.keypoint_detector_config.to_dict().items() <= theirs.keypoint_detector_config.to_dict().items()
    assert (ours.hidden_size, ours.intermediate_size) == (theirs.hidden_size, theirs.intermediate_size)


def test_detector_config_changes_the_detector():
    small = build(keypoint_detector_config=SMALL["keypoint_detector_config"] | {"descriptor_decoder_dim": 16})
    assert small.lightglue.architecture.input_dim == 16
    assert small.keypoint_detector.network.convDb.weight.shape[0] == 16
    assert build(keypoint_detector_config={"model_type": "sift"}).lightglue.architecture.position_dim == 4
    from_theirs = LightGlueConfig(keypoint_detector_config=TheirDetectorConfig(nms_radius=7))
    assert from_theirs.keypoint_detector_config.nms_radius == 7


def test_descriptor_dim_is_the_dimension_of_the_states():
    assert build(descriptor_dim=48).lightglue.layers[0].self_mlp.fc2.weight.shape == (48, 96)
    assert isinstance(build(descriptor_dim=64).lightglue.input_projection, torch.nn.Identity)


def test_num_hidden_layers_counts_layers_and_heads():
    network = build(num_hidden_layers=5).lightglue
    assert (len(network.layers), len(network.assignments), len(network.confidences)) == (5, 5, 4)


def test_num_attention_heads_sets_the_size_of_the_position_projection():
    assert build(num_attention_heads=4).lightglue.position_projection.weight.shape == (4, 2)


@pytest.mark.parametrize(("heads", "rows"), [(None, 3 * 32), (4, 3 * 32), (2, 32 + 2 * 16), (1, 32 + 2 * 8)])
def test_num_key_value_heads_sets_the_size_of_the_projection(heads, rows):
    network = build(num_attention_heads=4, num_key_value_heads=heads).lightglue
    assert network.layers[0].self_attention.projection.weight.shape == (rows, 32)


def test_attention_bias_gives_the_projections_biases():
    layers = [build(attention_bias=bias).lightglue.layers[0] for bias in (True, False)]
    assert layers[0].cross_attention.projection.bias is not None and layers[1].cross_attention.projection.bias is None
    assert layers[1].cross_mlp.fc1.bias is not None


@pytest.mark.parametrize("deviation", [0.02, 0.3])
def test_initializer_range_is_the_deviation_of_untrained_weights(deviation):
    fresh = build(initializer_range=deviation).lightglue.layers[0].self_mlp.fc1
    assert float(fresh.weight.detach().std()) == pytest.approx(deviation, rel=0.1)
    assert not bool(fresh.bias.any())
    detector = build(keypoint_detector_config=SMALL["keypoint_detector_config"] | {"initializer_range": deviation})
    spread = detector.keypoint_detector.network.convPa.weight.detach().std()
    assert float(spread) == pytest.approx(deviation, rel=0.1)


def test_hidden_act_changes_the_updates(trained):
    one, other = (outputs(trained, hidden_act=name).matching_scores for name in ("gelu", "relu"))
    assert float((one - other).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_those_of_transformers(name):
    x = torch.linspace(-15, 15, 301)
    torch.testing.assert_close(ACTIVATIONS[name](x), ACT2FN[name](x), atol=1e-3 if "gelu" in name else 1e-5, rtol=0)


def test_attention_dropout_has_an_effect_in_training_mode_only(trained):
    model = LightGlueForKeypointMatching.from_pretrained(trained, attention_dropout=0.3, depth_confidence=-1.0)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        quiet = [model(make_inputs(1)).matching_scores for _ in range(2)]
        model.train()
        noisy = [model(make_inputs(1)).matching_scores for _ in range(2)]
    assert torch.equal(quiet[0], quiet[1])
    assert torch.equal(quiet[0], outputs(trained, depth_confidence=-1.0).matching_scores)
    assert float((noisy[0] - noisy[1]).abs().max()) > 1e-4


def test_thresholds_change_stopping_pruning_and_matches(trained):
    base = outputs(trained, depth_confidence=-1.0, width_confidence=-1.0)
    assert int(outputs(trained, depth_confidence=0.01, width_confidence=-1.0).prune.max()) < int(base.prune.max()) == 3
    narrow = outputs(trained, depth_confidence=-1.0, width_confidence=0.05)
    assert int((narrow.prune[narrow.mask.bool()] < 3).sum()) > 10
    assert int((base.matches >= 0).sum()) > int((outputs(trained, filter_threshold=0.9).matches >= 0).sum())


def test_requested_outputs_are_returned(trained):
    output = outputs(trained, output_attentions=True, output_hidden_states=True)
    assert output.attentions is not None and output.hidden_states is not None
    assert isinstance(outputs(trained, return_dict=False), tuple)


def test_remote_code_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="trust_remote_code=True is refused"):
        LightGlueConfig(trust_remote_code=True)
    with pytest.raises(ConfigError, match="refused"):
        LightGlueConfig.from_dict(SMALL | {"trust_remote_code": True})
    with pytest.raises(ConfigError, match="refused"):
        sfm_lightglue.pipeline("keypoint-matching", trust_remote_code=True)
    (tmp_path / "config.json").write_text(json.dumps(SMALL))
    with pytest.raises(ConfigError, match=r"trust_remote_code=True is refused"):
        LightGlueForKeypointMatching.from_pretrained(tmp_path, trust_remote_code=True)


def test_a_file_with_remote_code_of_a_built_in_detector_is_read():
    """The published LightGlue for DISK is such a file."""
    detector = {
        "model_type": "disk",
        "auto_map": {"AutoConfig": "configuration_disk.DiskConfig"},
        "descriptor_decoder_dim": 128,
        "max_num_keypoints": None,
        "pad_if_not_divisible": True,
        "weights": "depth",
    }
    config = LightGlueConfig.from_dict({"trust_remote_code": True, "keypoint_detector_config": detector})
    assert config.keypoint_detector_config.model_type == "disk" and not config.trust_remote_code
    assert config.architecture().input_dim == 128
    with pytest.raises(ConfigError, match="refused"):
        LightGlueConfig.from_dict({"keypoint_detector_config": detector}, trust_remote_code=True)


def test_files_can_be_exchanged_with_transformers(tmp_path):
    ours = LightGlueConfig.from_dict(SMALL, depth_confidence=0.5, num_key_value_heads=1, hidden_act="silu")
    ours.save_pretrained(tmp_path / "ours")
    theirs = TheirConfig.from_pretrained(tmp_path / "ours")
    assert (theirs.depth_confidence, theirs.num_key_value_heads, theirs.hidden_act) == (0.5, 1, "silu")
    assert theirs.keypoint_detector_config.encoder_hidden_sizes == [8, 8, 16, 16]
    theirs.save_pretrained(tmp_path / "theirs")
    assert LightGlueConfig.from_pretrained(tmp_path / "theirs").to_dict() == ours.to_dict()
    assert LightGlueConfig.from_pretrained(tmp_path / "theirs", depth_confidence=0.7).depth_confidence == 0.7


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_attention_heads": 3}, "descriptor_dim 32"),
        ({"num_key_value_heads": 3, "num_attention_heads": 4}, "num_key_value_heads"),
        ({"hidden_act": "gulu"}, "hidden_act 'gulu'"),
        ({"attention_dropout": 1.0}, "attention_dropout"),
        ({"initializer_range": 0}, "initializer_range"),
        ({"filter_threshold": 2}, "filter_threshold"),
        ({"depth_confidence": 1.5}, "depth_confidence"),
        ({"num_hidden_layer": 3}, "did you mean 'num_hidden_layers'"),
        ({"model_type": "superglue"}, "'superglue'"),
        ({"keypoint_detector_config": {"model_type": "aliked"}}, "'aliked' is not built in"),
        ({"keypoint_detector_config": {"model_type": "superpoint", "keypoint_decoder_dim": 64}}, "65"),
        ({"keypoint_detector_config": {"model_type": "superpoint", "nms_radius": -1}}, "negative"),
        ({"keypoint_detector_config": {"model_type": "sift", "max_keypoints": 0}}, "sift"),
        ({"keypoint_detector_config": {"model_type": "disk", "nms_radius": -1}}, "disk"),
        ({"keypoint_detector_config": 3}, "expected a dictionary"),
    ],
)
def test_impossible_values_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        LightGlueConfig.from_dict(SMALL | options)


def test_fields_are_checked_again_when_a_model_is_built():
    config = LightGlueConfig.from_dict(SMALL)
    config.num_attention_heads = 5
    with pytest.raises(ConfigError, match="num_heads 5"):
        LightGlueForKeypointMatching(config)


def test_unreadable_and_missing_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"contains no config\.json"):
        LightGlueConfig.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match=r"config\.json: cannot be read as JSON"):
        LightGlueConfig.from_pretrained(tmp_path)
    with pytest.raises(StoreError, match="cannot be written"):
        LightGlueConfig().save_pretrained(tmp_path / "config.json")


def test_files_of_weights_without_new_fields_are_read(tmp_path):
    """Files with an activation, and files of versions without this field."""
    path = tmp_path / "x.safetensors"
    chosen = LightGlueArchitecture(8, 16, 2, 2, hidden_act="silu", attention_dropout=0.1)
    save_lightglue(LightGlue(chosen), path)
    assert load_lightglue(path).architecture == chosen
    fields = {"input_dim": 8, "descriptor_dim": 16, "num_layers": 2, "num_heads": 2}
    metadata = {"format": "sfm_lightglue", "network": "lightglue", "architecture": json.dumps(fields)}
    state = LightGlue(LightGlueArchitecture(8, 16, 2, 2)).state_dict()
    safetensors.torch.save_file(state, path, metadata=metadata)
    assert load_lightglue(path).architecture == LightGlueArchitecture(8, 16, 2, 2)
