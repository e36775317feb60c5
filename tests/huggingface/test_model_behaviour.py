"""What `transformers` promises for every model, as cases for both libraries: files, copies, types, modes, outputs."""

from __future__ import annotations

import inspect
import io
import json

import pytest
import torch
from safetensors import safe_open

import sfm_lightglue
from sfm_lightglue.errors import ConfigError, WeightsError
from tests.helpers.both_libraries import LIBRARIES, small_config, small_model, write_model
from tests.helpers.matching_references import make_inputs

theirs = LIBRARIES["theirs"]


@pytest.fixture(params=sorted(LIBRARIES))
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model whose pairs stop early, so that the shapes are the same in both libraries."""
    return write_model(tmp_path_factory.mktemp("model"), depth_confidence=0.95, width_confidence=0.99)


def outputs(model, **options):
    with torch.no_grad():
        return model(make_inputs(1), **options)


def same(one, other) -> bool:
    return list(one) == list(other) and all(torch.equal(value, other[name]) for name, value in one.items())


def test_two_calls_give_equal_outputs(library, folder):
    model = library.LightGlueForKeypointMatching.from_pretrained(folder)
    assert same(outputs(model), outputs(model))
    with torch.inference_mode():
        assert same(model(make_inputs(1)), outputs(model))


def test_saved_and_loaded_models_give_equal_outputs(library, folder, tmp_path):
    model = library.LightGlueForKeypointMatching.from_pretrained(folder)
    expected = outputs(model)
    model.save_pretrained(tmp_path)
    model.save_pretrained(str(tmp_path / "again"), push_to_hub=False)
    for path in (tmp_path, str(tmp_path / "again")):
        assert same(outputs(library.LightGlueForKeypointMatching.from_pretrained(path)), expected)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    fresh = library.LightGlueForKeypointMatching(model.config).eval()
    fresh.load_state_dict(torch.load(buffer, weights_only=True))
    assert same(outputs(fresh), expected)


def test_files_of_a_saved_model_say_what_they_are(library, folder, tmp_path):
    library.LightGlueForKeypointMatching.from_pretrained(folder).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["architectures"] == ["LightGlueForKeypointMatching"] and values["model_type"] == "lightglue"
    assert values["dtype"] == "float32" and values["keypoint_detector_config"]["model_type"] == "superpoint"
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata()["format"] == "pt"
        names = set(file.keys())
    assert names == set(theirs.LightGlueForKeypointMatching.from_pretrained(folder).state_dict())


def test_weights_that_are_not_contiguous_are_saved(library, folder, tmp_path):
    model = library.LightGlueForKeypointMatching.from_pretrained(folder)
    expected = outputs(model)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data = parameter.data.t().contiguous().t()
    model.save_pretrained(tmp_path)
    found = outputs(library.LightGlueForKeypointMatching.from_pretrained(tmp_path))
    torch.testing.assert_close(found.matching_scores, expected.matching_scores, atol=1e-5, rtol=0)


def test_tuples_have_the_values_of_the_mapping(library, folder):
    model = library.LightGlueForKeypointMatching.from_pretrained(folder, attn_implementation="eager")
    for options in ({}, {"output_hidden_states": True}, {"output_hidden_states": True, "output_attentions": True}):
        output, plain = outputs(model, **options), outputs(model, return_dict=False, **options)
        assert len(plain) == len(output) == len(output.to_tuple())
        for one, other in zip(plain, output.to_tuple(), strict=True):
            for each, same_each in zip(one, other, strict=True) if isinstance(one, tuple) else [(one, other)]:
                assert torch.equal(each, same_each)


def test_states_and_attentions_have_the_documented_shapes(library, folder):
    """7 states and 2 attentions a layer, for the 2 B images."""
    model = library.LightGlueForKeypointMatching.from_pretrained(folder, attn_implementation="eager")
    model.config.output_hidden_states = model.config.output_attentions = True
    output, config = outputs(model), model.config
    layers = len(output.attentions) // 2
    assert 0 < layers <= config.num_hidden_layers and len(output.hidden_states) == 7 * layers
    widths = [each.shape[2] for each in output.hidden_states[:7]]
    d = config.descriptor_dim
    assert widths == [d, d, 2 * d, d, d, 2 * d, d] and output.hidden_states[0].shape[0] == 2
    n = output.mask.shape[2]
    assert output.attentions[0].shape == (2, config.num_attention_heads, n, n)


def test_modes_of_new_and_loaded_models(library, folder):
    model = library.LightGlueForKeypointMatching.from_pretrained(folder)
    assert not model.training and model.train().training and not model.eval().training
    assert library.LightGlueForKeypointMatching(small_config(library)).training
    assert model.base_model is model and not model.can_generate()
    assert next(iter(inspect.signature(model.forward).parameters)) == model.main_input_name


def test_types_are_chosen_at_the_load_and_afterwards(library, folder):
    model = library.LightGlueForKeypointMatching
    for dtype in (torch.float16, "bfloat16", torch.float64):
        loaded = model.from_pretrained(folder, dtype=dtype)
        assert loaded.dtype == loaded.config.dtype
        assert {each.dtype for each in loaded.parameters()} == {loaded.dtype}
    assert loaded.to(torch.float32).dtype == torch.float32 and loaded.bfloat16().dtype == torch.bfloat16
    assert library.AutoModel.from_config(small_config(library), dtype=torch.float16).dtype == torch.float16
    single = library.SuperPointForKeypointDetection
    assert single.from_pretrained(folder, dtype="float16").dtype == torch.float16


def test_the_configuration_of_the_detector_is_that_within_the_configuration(library):
    model = small_model(library)
    assert model.keypoint_detector.config is model.config.keypoint_detector_config
    assert model.config.use_return_dict is True and model.config.is_encoder_decoder is False


def test_models_are_loaded_within_the_context_of_a_device(library, folder):
    with torch.device("cpu"):
        model = library.LightGlueForKeypointMatching.from_pretrained(folder)
    assert same(outputs(model), outputs(library.LightGlueForKeypointMatching.from_pretrained(folder)))
    with torch.device("meta"), pytest.raises((RuntimeError, ConfigError), match="meta"):
        library.LightGlueForKeypointMatching.from_pretrained(folder)
    with torch.device("meta"):
        assert library.LightGlueForKeypointMatching(small_config(library)).device.type == "meta"


def test_untrained_weights_have_the_deviation_of_the_configuration(library):
    """Biases are 0, weights of the layers have `initializer_range`."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = {**small_config(library).keypoint_detector_config.to_dict(), "initializer_range": 0.3}
        config = small_config(library, initializer_range=0.3, keypoint_detector_config=detector)
        state = library.LightGlueForKeypointMatching(config).state_dict()
    weights = [each for name, each in state.items() if name.endswith("self_mlp.fc1.weight")]
    biases = [each for name, each in state.items() if name.endswith("fc1.bias")]
    assert len(weights) == len(biases) // 2 == 3 and not any(bool(each.any()) for each in biases)
    assert all(float(each.std()) == pytest.approx(0.3, rel=0.1) for each in weights)
    # Positions hardly differ with small weights; ours draws these as the authors of the paper do.
    (position,) = (each for name, each in state.items() if "position" in name)
    assert (float(position.std()) > 0.6) == (library is sfm_lightglue)


def test_activations_are_recomputed_on_request(library):
    """Version 5.23 has new names for it, and warns of the former ones; only ours has a loss to train with."""
    model = small_model(library)
    if library is theirs:
        with pytest.raises(ValueError, match="does not support activation checkpointing"):
            model.activation_checkpointing_enable()
        return
    model.activation_checkpointing_enable({"use_reentrant": False})
    assert model.is_activation_checkpointing and model.is_gradient_checkpointing
    model.activation_checkpointing_disable()
    assert not model.is_activation_checkpointing
    for options in ({"every_n_layers": 2}, {"offload": True}):
        with pytest.raises(ValueError, match="every_n_layers must be 1"):
            model.gradient_checkpointing_enable(**options)


def test_attention_is_chosen_without_an_error(library):
    model = small_model(library)
    before = outputs(model)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(outputs(model).matching_scores, before.matching_scores, atol=1e-4, rtol=0)


def test_nothing_is_uploaded(tmp_path):
    """Theirs asks the hub; ours refuses before it asks."""
    model, processor = small_model(sfm_lightglue), sfm_lightglue.LightGlueImageProcessor()
    matcher = sfm_lightglue.KeypointMatchingPipeline(model, processor)
    for each in (model, model.config, processor, matcher):
        with pytest.raises(ConfigError, match="push_to_hub=True is refused: this library uploads nothing"):
            each.push_to_hub("someone/model")
        with pytest.raises(ConfigError, match="push_to_hub=True is refused"):
            each.save_pretrained(tmp_path / "model", push_to_hub=True)
    assert not (tmp_path / "model").exists()


def test_a_folder_without_weights_or_without_configuration_is_an_error(library, tmp_path):
    model = library.LightGlueForKeypointMatching
    with pytest.raises((OSError, WeightsError), match=r"config\.json|model\.safetensors"):
        model.from_pretrained(tmp_path)
    small_config(library).save_pretrained(tmp_path)
    with pytest.raises((OSError, WeightsError), match=r"model\.safetensors"):
        model.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "AutoConfig", "AutoImageProcessor", "AutoModel", "AutoModelForKeypointDetection",
        "AutoModelForKeypointMatching", "KeypointMatchingPipeline", "LightGlueConfig", "LightGlueForKeypointMatching",
        "SuperPointConfig", "SuperPointForKeypointDetection", "pipeline",
    ],
)  # fmt: skip
def test_documented_names_are_those_of_transformers(library, name):
    assert getattr(library, name).__name__ == name


def test_further_names_are_found_without_torchvision():
    """Theirs needs torchvision for its processors, and has the output in its module only."""
    for name in ("LightGlueImageProcessor", "SuperPointImageProcessor"):
        for suffix in ("", "Fast"):
            assert getattr(sfm_lightglue, name + suffix)().size == {"height": 480, "width": 640}
    assert sfm_lightglue.LightGlueKeypointMatchingOutput().to_tuple() == ()


def test_new_names_of_classes_are_found(library):
    """Version 5 calls the processors with Pillow `...Pil`."""
    for name in ("LightGlueImageProcessorPil", "SuperPointImageProcessorPil"):
        assert getattr(library, name)().size["height"] == 480
    assert sfm_lightglue.LightGlueImageProcessorPil is sfm_lightglue.LightGlueImageProcessor
    assert {"LightGlueImageProcessorPil", "SuperPointImageProcessorPil"} <= set(dir(sfm_lightglue))
