"""Methods of configurations: the same cases in this library and in `transformers`, and where they differ."""

from __future__ import annotations

import copy
import json
import logging
import pickle

import pytest
import torch

import sfm_lightglue
from sfm_lightglue.errors import ConfigError
from tests.helpers.both_libraries import LIBRARIES, SMALL_DETECTOR, small_config

EVERY_CONFIGURATION = {
    "_name_or_path",
    "chunk_size_feed_forward",
    "is_encoder_decoder",
    "output_attentions",
    "output_hidden_states",
    "return_dict",
    "transformers_version",
}
"""Keys of all configurations, which tell nothing about LightGlue."""


@pytest.fixture(params=sorted(LIBRARIES))
def library(request):
    return LIBRARIES[request.param]


def test_keys_of_transformers_are_taken_and_unknown_keys_are_kept(library):
    config = library.LightGlueConfig(
        attn_implementation="eager", transformers_version="5.23.0", task_note="a", torch_dtype="float16"
    )
    assert config.task_note == "a" and config.dtype == torch.float16
    values = config.to_dict()
    assert values["task_note"] == "a" and values["dtype"] == "float16" and values["model_type"] == "lightglue"
    assert config.num_key_value_heads == 4 == values["num_key_value_heads"]


def test_every_common_key_has_a_default_and_can_be_set(library):
    config = library.LightGlueConfig()
    assert config.output_hidden_states is config.output_attentions is False and config.return_dict is True
    assert config.chunk_size_feed_forward == 0 and not config.is_encoder_decoder and config.dtype is None
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1"} and config.num_labels == 2
    chosen = {
        "return_dict": False,
        "output_hidden_states": True,
        "output_attentions": True,
        "chunk_size_feed_forward": 5,
        "architectures": ["Other"],
        "id2label": {0: "label"},
        "label2id": {"label": 0},
        "problem_type": "regression",
    }
    config = library.LightGlueConfig(**chosen, dtype="float16")
    assert {name: getattr(config, name) for name in chosen} == chosen and config.dtype == torch.float16
    config = library.LightGlueConfig(num_labels=5, torch_dtype="bfloat16")
    assert config.num_labels == len(config.label2id) == 5 and config.torch_dtype == torch.bfloat16
    config.num_labels = 3
    assert config.id2label == {0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}


def test_json_strings_files_and_dictionaries_are_read_back(library, tmp_path):
    config = small_config(library, filter_threshold=0.2, note="kept")
    assert json.loads(config.to_json_string())["filter_threshold"] == 0.2
    assert json.loads(config.to_json_string())["keypoint_detector_config"]["descriptor_decoder_dim"] == 64
    assert "return_dict" not in config.to_diff_dict() and config.to_dict()["return_dict"] is True
    config.to_json_file(tmp_path / "one.json")
    config.save_pretrained(tmp_path)
    for back in (
        library.LightGlueConfig.from_json_file(tmp_path / "one.json"),
        library.LightGlueConfig.from_pretrained(tmp_path),
        library.LightGlueConfig.from_pretrained(str(tmp_path / "one.json")),
        library.LightGlueConfig.from_dict(config.to_dict()),
        library.AutoConfig.from_pretrained(tmp_path),
        pickle.loads(pickle.dumps(config)),
        copy.deepcopy(config),
    ):
        assert type(back).__name__ == "LightGlueConfig"
        assert {**back.to_dict(), "_name_or_path": ""} == {**config.to_dict(), "_name_or_path": ""}
    values, unused = library.LightGlueConfig.get_config_dict(tmp_path, foo=1, cache_dir=str(tmp_path))
    assert values["filter_threshold"] == 0.2 and unused == {"foo": 1}


@pytest.mark.parametrize("options", [{}, {"descriptor_dim": 64, "num_attention_heads": 2, "hidden_size": 37}])
def test_dictionaries_have_the_keys_and_sizes_of_transformers(options, tmp_path):
    """The sizes follow from `descriptor_dim`; a given one has no effect."""
    ours, theirs = (each.LightGlueConfig(**options) for each in (sfm_lightglue, LIBRARIES["theirs"]))
    dim = options.get("descriptor_dim", 256)
    for write in ("to_dict", "to_diff_dict"):
        found, expected = getattr(ours, write)(), getattr(theirs, write)()
        assert (expected["hidden_size"], expected["intermediate_size"]) == (dim, 2 * dim)
        expected = {key: each for key, each in expected.items() if isinstance(each, (int, float, str))}
        expected = {key: each for key, each in expected.items() if key not in EVERY_CONFIGURATION}
        assert len(expected) >= 14 and {key: found.get(key) for key in expected} == expected
    assert json.loads(ours.to_json_string()) == ours.to_diff_dict()
    ours.to_json_file(tmp_path / "config.json", use_diff=False)
    for values in (json.loads((tmp_path / "config.json").read_text()), ours.to_dict(), theirs.to_dict()):
        back = sfm_lightglue.LightGlueConfig.from_dict(values)
        assert back == ours
        wider = sfm_lightglue.LightGlueConfig.from_dict(values, descriptor_dim=128)
        assert wider.to_dict()["hidden_size"] == 128 == wider.hidden_size


def test_overrides_are_used_and_unused_ones_are_returned(library, tmp_path):
    small_config(library).save_pretrained(tmp_path)
    config, unused = library.LightGlueConfig.from_pretrained(
        tmp_path, output_attentions=True, foo=False, return_unused_kwargs=True
    )
    assert config.output_attentions and unused == {"foo": False}
    config = library.LightGlueConfig.from_pretrained(tmp_path, keypoint_detector_config={"nms_radius": 7})
    detector = config.keypoint_detector_config
    assert detector.nms_radius == 7 and detector.descriptor_decoder_dim == 64
    config, unused = library.LightGlueConfig.from_dict({"descriptor_dim": 64}, return_unused_kwargs=True, bar=2)
    assert config.descriptor_dim == 64 and unused == {"bar": 2}


def test_update_sets_fields_from_dictionaries_and_text(library):
    config = small_config(library)
    config.update({"filter_threshold": 0.3, "num_hidden_layers": 2})
    assert (config.filter_threshold, config.num_hidden_layers) == (0.3, 2)
    config.update_from_string("num_hidden_layers=5,filter_threshold=0.5,attention_bias=false,hidden_act=relu")
    assert (config.num_hidden_layers, config.filter_threshold) == (5, 0.5)
    assert config.attention_bias is False and config.hidden_act == "relu"


def test_equal_configurations_are_equal(library):
    assert small_config(library) == small_config(library) != small_config(library, filter_threshold=0.3)
    assert library.SuperPointConfig() != library.LightGlueConfig()


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 3.0},
        {"num_hidden_layers": True},
        {"attention_bias": "no"},
        {"attention_bias": 1},
        {"hidden_act": 3},
        {"depth_confidence": "high"},
        {"keypoint_detector_config": 4},
        {"descriptor_dim": None},
    ],
)
def test_wrong_types_are_refused(library, values):
    with pytest.raises(Exception, match=rf"(?s){next(iter(values))}.*(must|expected|match)"):
        library.LightGlueConfig(**values)


def test_wrong_types_are_refused_when_a_field_is_set(library):
    config = small_config(library)
    with pytest.raises(Exception, match="num_hidden_layers"):
        config.num_hidden_layers = 3.5
    assert config.num_hidden_layers == 3


def test_a_configuration_of_superpoint_is_found_within_that_of_lightglue(library, tmp_path):
    small_config(library).save_pretrained(tmp_path)
    config = library.SuperPointConfig.from_pretrained(tmp_path)
    assert config.model_type == "superpoint" and config.descriptor_decoder_dim == 64


def test_auto_config_makes_a_configuration_of_a_model_type(library):
    config = library.AutoConfig.for_model("superpoint", nms_radius=3)
    assert type(config).__name__ == "SuperPointConfig" and config.nms_radius == 3
    with pytest.raises(Exception, match="llamas"):
        library.AutoConfig.for_model("llamas")


def test_a_configuration_of_transformers_is_taken_wherever_ours_is(tmp_path):
    theirs = small_config(LIBRARIES["theirs"], filter_threshold=0.2)
    ours = small_config(sfm_lightglue, filter_threshold=0.2)
    model = sfm_lightglue.LightGlueForKeypointMatching(theirs)
    assert model.config == ours and isinstance(model.config, sfm_lightglue.LightGlueConfig)
    model.save_pretrained(tmp_path)
    for load in (sfm_lightglue.LightGlueForKeypointMatching, sfm_lightglue.AutoModel):
        assert load.from_pretrained(tmp_path, config=theirs).config.filter_threshold == 0.2
    assert sfm_lightglue.AutoModel.from_config(theirs).config == ours
    detector = LIBRARIES["theirs"].SuperPointConfig(nms_radius=7)
    assert sfm_lightglue.LightGlueConfig(detector).keypoint_detector_config.nms_radius == 7
    assert sfm_lightglue.SuperPointForKeypointDetection(detector).config.nms_radius == 7
    with pytest.raises(ConfigError, match="expected a LightGlueConfig, got dict"):
        sfm_lightglue.LightGlueForKeypointMatching({"descriptor_dim": 32})


# ---- Where the libraries differ ----


def test_an_integer_is_a_number():
    """`transformers` refuses depth_confidence=1, although -1 is the documented way to switch it off."""
    assert sfm_lightglue.LightGlueConfig(depth_confidence=-1).depth_confidence == -1.0
    with pytest.raises(Exception, match="expected float, got int"):
        LIBRARIES["theirs"].LightGlueConfig(depth_confidence=-1)


def test_misspelt_names_are_refused():
    """`transformers` keeps a misspelt name as an attribute, and the field keeps its default."""
    assert LIBRARIES["theirs"].LightGlueConfig(depth_confidense=0.5).depth_confidence == 0.95
    with pytest.raises(ConfigError, match="did you mean 'depth_confidence'"):
        sfm_lightglue.LightGlueConfig(depth_confidense=0.5)


def test_misspelt_attributes_are_refused_and_other_names_are_kept():
    """`transformers` keeps the attribute, and the model has as many layers as before."""
    theirs, ours = small_config(LIBRARIES["theirs"]), small_config(sfm_lightglue)
    theirs.num_hiden_layers = 7
    assert theirs.num_hidden_layers == 3 and theirs.to_dict()["num_hiden_layers"] == 7
    with pytest.raises(ConfigError, match=r"unknown option 'num_hiden_layers' \(did you mean 'num_hidden_layers'"):
        ours.num_hiden_layers = 7
    with pytest.raises(ConfigError, match="did you mean 'nms_radius'"):
        ours.keypoint_detector_config.nms_radios = 3
    for config in (theirs, ours):
        config.my_note, config.torch_dtype = "kept", torch.float16
        assert config.to_dict()["my_note"] == "kept" and config.dtype == torch.float16
    assert "num_hiden_layers" not in ours.to_dict()


def test_sizes_follow_from_the_dimension_and_cannot_be_set():
    """`transformers` keeps the sizes of the former dimension, or those that are set."""
    theirs, ours = small_config(LIBRARIES["theirs"]), small_config(sfm_lightglue)
    for config in (theirs, ours):
        config.descriptor_dim = 64
    assert theirs.to_dict()["hidden_size"] == 32 and ours.to_dict()["hidden_size"] == 64
    theirs.hidden_size = 16
    with pytest.raises(ConfigError, match="hidden_size is fixed or follows from other options"):
        ours.hidden_size = 16
    with pytest.raises(ConfigError, match="model_type is fixed"):
        ours.update(sfm_lightglue.SuperPointConfig().to_dict())
    with pytest.raises(ConfigError, match="'hidden_size' is no number"):
        ours.update_from_string("hidden_size=16")
    ours.update({**small_config(sfm_lightglue, descriptor_dim=128).to_dict(), "hidden_size": 16})
    assert (theirs.hidden_size, ours.hidden_size, ours.intermediate_size) == (16, 128, 256)


def test_impossible_values_are_refused_and_change_nothing():
    """`transformers` takes any number as a threshold or a size."""
    assert LIBRARIES["theirs"].LightGlueConfig(filter_threshold=2.0, num_hidden_layers=-3).num_hidden_layers == -3
    config = small_config(sfm_lightglue)
    with pytest.raises(ConfigError, match="filter_threshold"):
        config.update({"num_hidden_layers": 2, "filter_threshold": 2.0})
    assert config == small_config(sfm_lightglue)


def test_more_query_heads_have_as_many_key_heads():
    """In `transformers`, from_dict sets the number of queries after that of keys was filled with the default."""
    assert LIBRARIES["theirs"].LightGlueConfig.from_dict({}, num_attention_heads=8).num_key_value_heads == 4
    assert sfm_lightglue.LightGlueConfig.from_dict({}, num_attention_heads=8).num_key_value_heads == 8


def test_another_model_type_is_refused():
    """`transformers` keeps the name of the other model as an attribute."""
    with pytest.raises(ConfigError, match="model_type: expected 'lightglue', got 'superglue'"):
        sfm_lightglue.LightGlueConfig(model_type="superglue")


def test_options_without_effect_are_named_once(caplog, tmp_path):
    small_config(sfm_lightglue).save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        sfm_lightglue.LightGlueConfig.from_pretrained(tmp_path, foo=1, bar=2)
    assert [record.getMessage() for record in caplog.records] == ["lightglue: no such option, without effect: bar, foo"]


def test_numbers_of_numpy_are_numbers():
    import numpy as np

    config = sfm_lightglue.LightGlueConfig(num_hidden_layers=np.int64(3), filter_threshold=np.float32(0.5))
    assert config.to_json_string().count("3") > 0 and type(config.num_hidden_layers) is int
    with pytest.raises(ConfigError, match=r"encoder_hidden_sizes must be an integer, got 8\.0"):
        sfm_lightglue.LightGlueConfig({**SMALL_DETECTOR, "encoder_hidden_sizes": [8.0, 8, 16, 16]})


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_are_finite_and_names_right(bad):
    config = sfm_lightglue.LightGlueConfig()
    with pytest.raises(ConfigError, match="depth_confidence must be a finite number"):
        config.depth_confidence = bad
    with pytest.raises(ConfigError, match="did you mean 'depth_confidence'"):
        config.update({"filter_threshold": 0.3, "depth_confidense": 0.5})
    assert (config.depth_confidence, config.filter_threshold) == (0.95, 0.1)
    config.update({"my_note": "kept"})
    assert config.my_note == "kept"
