"""Hugging Face's page of LightGlue, sentence by sentence, with its examples, in this library and in `transformers`.

The page is docs/source/en/model_doc/lightglue.md of huggingface/transformers, with the docstrings that it includes.
Each test names what the page says. Models and images are local; only the import changes between the libraries.
"""

from __future__ import annotations

import doctest
import inspect

import pytest
import requests
import torch
from PIL import Image

import sfm_lightglue
from tests.helpers.both_libraries import LIBRARIES, served, small_config, small_model, write_model, write_pair
from tests.helpers.matching_references import make_inputs

theirs = LIBRARIES["theirs"]


@pytest.fixture(params=sorted(LIBRARIES))
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A repository of a model, and images beside it."""
    path = write_model(tmp_path_factory.mktemp("page"), depth_confidence=0.95, width_confidence=0.99)
    write_pair(path)
    return path


@pytest.fixture(scope="module")
def address(folder):
    with served(folder) as url:
        yield url


def parameters(function) -> dict[str, object]:
    return {name: each.default for name, each in inspect.signature(function).parameters.items()}


# ---- The examples ----


def test_example_pipeline(library, folder, address):
    """A pipeline by task, model and dtype="auto" matches two addresses with a threshold."""
    pipeline = library.pipeline(task="keypoint-matching", model=str(folder), dtype="auto")
    found = pipeline([f"{address}/first.png", f"{address}/second.png"], threshold=0.9)
    every = pipeline([f"{address}/first.png", f"{address}/second.png"], threshold=0.0)
    rows = every if isinstance(every[0], dict) else every[0]
    assert isinstance(found, list) and len(rows) > 5
    assert rows[0].keys() == {"keypoint_image_0", "keypoint_image_1", "score"}
    assert rows[0]["keypoint_image_0"].keys() == {"x", "y"}
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True) and scores[-1] > 0


def test_example_auto_model(library, folder, address):
    """Images of addresses, AutoImageProcessor and AutoModelForKeypointMatching, matches in pixels, drawings."""
    images = [Image.open(requests.get(f"{address}/{name}.png", stream=True).raw) for name in ("first", "second")]
    processor = library.AutoImageProcessor.from_pretrained(str(folder))
    model = library.AutoModelForKeypointMatching.from_pretrained(str(folder), dtype="auto")
    inputs = processor(images, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    image_sizes = [[(image.height, image.width) for image in images]]
    processed_outputs = processor.post_process_keypoint_matching(outputs, image_sizes, threshold=0.2)
    for output in processed_outputs:
        rows = list(zip(output["keypoints0"], output["keypoints1"], output["matching_scores"], strict=True))
        assert len(rows) > 3 and all(float(score) > 0.2 for _, _, score in rows)
        assert rows[0][0].numpy().shape == rows[0][1].numpy().shape == (2,)
    visualized_images = processor.visualize_keypoint_matching(images, processed_outputs)
    assert [drawing.size for drawing in visualized_images] == [(2 * 88, 64)]


@pytest.mark.parametrize("name", ["LightGlueConfig", "SuperPointConfig"])
def test_examples_of_the_configurations(library, name):
    """The examples in the docstrings: a configuration, a model of it, and the configuration of the model."""
    examples = doctest.DocTestParser().get_examples(getattr(theirs, name).__doc__.replace("```", ""))
    assert len(examples) == 4
    names: dict[str, object] = {}
    for example in examples:
        exec(example.source.replace("transformers", library.__name__), names)
    assert type(names["configuration"]).__name__ == name and names["model"].config is names["configuration"]


# ---- The introduction and the tips ----


def test_it_matches_local_features_of_two_images_paired_with_superpoint(library, folder):
    config = library.LightGlueConfig.from_pretrained(folder)
    assert config.keypoint_detector_config.model_type == "superpoint"
    assert config.model_type == "lightglue"


def test_it_is_adaptive_to_the_difficulty(library, folder):
    """With depth_confidence, a confident pair runs fewer layers than the configuration has."""
    model = library.LightGlueForKeypointMatching.from_pretrained(folder, depth_confidence=0.01, width_confidence=0.99)
    with torch.no_grad():
        assert int(model(make_inputs(1)).prune.max()) < model.config.num_hidden_layers


def test_the_model_outputs_matching_indices_keypoints_and_scores(library, folder):
    model = library.LightGlueForKeypointMatching.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        output = model(make_inputs(1), output_hidden_states=True, output_attentions=True)
    n = output.mask.shape[-1]
    shapes = {name: tuple(output[name].shape) for name in ("matches", "matching_scores", "keypoints", "prune", "mask")}
    assert shapes == {
        "matches": (1, 2, n),
        "matching_scores": (1, 2, n),
        "keypoints": (1, 2, n, 2),
        "prune": (1, 2, n),
        "mask": (1, 2, n),
    }
    assert output.loss is None and len(output.hidden_states) == 21 and len(output.attentions) == 6
    matches = output.matches[0, 0]
    assert int(matches.min()) == -1 and int((matches >= 0).sum()) > 0 and int(matches.max()) < n  # -1: no match


# ---- LightGlueConfig ----


def test_parameters_of_the_configuration(library):
    defaults = {
        "descriptor_dim": 256,
        "num_hidden_layers": 9,
        "num_attention_heads": 4,
        "depth_confidence": 0.95,
        "width_confidence": 0.99,
        "filter_threshold": 0.1,
        "initializer_range": 0.02,
        "hidden_act": "gelu",
        "attention_dropout": 0.0,
        "attention_bias": True,
    }
    config = library.LightGlueConfig()
    assert {name: getattr(config, name) for name in defaults} == defaults
    assert parameters(library.LightGlueConfig).items() >= defaults.items() or library is theirs
    assert config.num_key_value_heads == 4 and (config.hidden_size, config.intermediate_size) == (256, 512)
    assert type(config.keypoint_detector_config).__name__ == "SuperPointConfig"


def test_the_detector_is_a_configuration_or_a_dictionary(library):
    for detector in (library.SuperPointConfig(nms_radius=3), {"model_type": "superpoint", "nms_radius": 3}, None):
        config = library.LightGlueConfig(keypoint_detector_config=detector)
        assert config.keypoint_detector_config.nms_radius == (4 if detector is None else 3)


def test_the_dimension_is_divided_by_the_number_of_heads(library):
    with pytest.raises(Exception, match=r"num_heads|descriptor_dim"):
        library.LightGlueConfig(descriptor_dim=256, num_attention_heads=7)


# ---- LightGlueImageProcessor ----


def test_parameters_of_post_processing(library):
    names = parameters(library.LightGlueImageProcessor.post_process_keypoint_matching)
    assert list(names)[:4] == ["self", "outputs", "target_sizes", "threshold"] and names["threshold"] == 0.0
    names = parameters(library.LightGlueImageProcessor.visualize_keypoint_matching)
    assert list(names) == ["self", "images", "keypoint_matching_output"]


def test_post_processing_gives_keypoints_scores_and_indices(library, folder):
    """target_sizes are a tensor [B, 2, 2] or tuples of (height, width)."""
    processor = library.AutoImageProcessor.from_pretrained(folder)
    model = library.LightGlueForKeypointMatching.from_pretrained(folder)
    images = [Image.open(folder / f"{name}.png") for name in ("first", "second")]
    with torch.no_grad():
        outputs = model(**processor([images, images], return_tensors="pt"))
    sizes = [((64, 88), (64, 88))] * 2
    for target_sizes in (sizes, torch.tensor(sizes)):
        found = processor.post_process_keypoint_matching(outputs, target_sizes)
        assert len(found) == 2 and found[0].keys() >= {"keypoints0", "keypoints1", "matching_scores"}
        m = len(found[0]["matching_scores"])
        assert m > 3 and tuple(found[0]["keypoints0"].shape) == tuple(found[0]["keypoints1"].shape) == (m, 2)
    if library is sfm_lightglue:  # the page promises the indices, and `transformers` does not return them
        assert tuple(found[0]["matching_indices"].shape) == (m, 2)
    drawn = processor.visualize_keypoint_matching([images, images], found)
    assert len(drawn) == 2 and isinstance(drawn[0], Image.Image)


def test_matches_without_adaptivity_have_the_same_shape(library, folder):
    """`transformers` returns [2 B, N] instead of the [B, 2, N] of its page, and its post-processing fails on them."""
    options = {"depth_confidence": -1.0, "width_confidence": -1.0}
    model = library.LightGlueForKeypointMatching.from_pretrained(folder, **options)
    processor = library.AutoImageProcessor.from_pretrained(folder)
    with torch.no_grad():
        outputs = model(make_inputs(1))
    if library is theirs:
        assert outputs.matches.ndim == 2 and outputs.matches.shape[0] == 2
        with pytest.raises(IndexError):
            processor.post_process_keypoint_matching(outputs, [[(64, 88), (64, 88)]])
        return
    assert tuple(outputs.matches.shape) == (1, 2, outputs.mask.shape[2])
    assert len(processor.post_process_keypoint_matching(outputs, [[(64, 88), (64, 88)]])[0]["keypoints0"]) > 5


# ---- LightGlueForKeypointMatching ----


def test_parameters_of_forward(library):
    names = parameters(library.LightGlueForKeypointMatching.forward)
    chosen = ["pixel_values", "labels", "output_attentions", "output_hidden_states"]
    assert [name for name in names if name in chosen] == chosen
    assert {names[name] for name in chosen[1:]} == {None}
    kinds = inspect.signature(library.LightGlueForKeypointMatching.forward).parameters.values()
    assert any(each.kind is inspect.Parameter.VAR_KEYWORD for each in kinds)


def test_a_tuple_is_returned_if_return_dict_is_false(library):
    with torch.no_grad():
        assert isinstance(small_model(library)(make_inputs(1), return_dict=False), tuple)
        assert isinstance(small_model(library, return_dict=False)(make_inputs(1)), tuple)


def test_states_and_attentions_can_be_requested_by_the_configuration(library):
    model = small_model(library, output_hidden_states=True)
    with torch.no_grad():
        output = model(make_inputs(1))
    assert output.hidden_states is not None and output.attentions is None


def test_the_input_is_pairs(library):
    with pytest.raises(ValueError, match=r"5D tensor|expected \[batch, 2"):
        small_model(library)(torch.zeros(1, 3, 64, 88))


def test_labels_give_the_loss_of_the_paper():
    """The page documents `labels` and `loss`; `transformers` refuses labels."""
    model, inputs = small_model(sfm_lightglue), make_inputs(1)
    with torch.no_grad():
        n = model(inputs).mask.shape[2]
        labels = torch.full((1, 2, n), -1)
        loss = model(inputs, labels=labels).loss
        assert loss.ndim == 0 and float(loss) > 0
        with pytest.raises(ValueError, match="not trainable"):
            small_model(theirs)(inputs, labels=labels)
    assert small_config(sfm_lightglue).to_dict()["architectures"] == ["LightGlueForKeypointMatching"]
