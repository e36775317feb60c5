"""Objects: outputs, attributes and methods of models, saving in several files, copies, recomputed layers."""

from __future__ import annotations

import copy
import json
import pickle
import runpy
import sys
from pathlib import Path

import pytest
import torch

import sfm_lightglue
from sfm_lightglue.errors import ConfigError, StoreError, WeightsError
from tests.helpers.both_libraries import LIBRARIES, small_model
from tests.helpers.matching_references import make_inputs, make_reference

FIELDS = ["matches", "matching_scores", "keypoints", "prune", "mask"]


@pytest.fixture(params=sorted(LIBRARIES))
def library(request):
    return LIBRARIES[request.param]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    make_reference().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def outputs(folder):
    """Outputs of both libraries for one pair."""
    with torch.no_grad():
        return {
            name: library.LightGlueForKeypointMatching.from_pretrained(folder)(make_inputs(1))
            for name, library in LIBRARIES.items()
        }


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_outputs_are_tuples_and_mappings(outputs, name):
    output = outputs[name]
    assert list(output) == list(output.keys()) == FIELDS and len(output) == 5 and isinstance(output, dict)
    assert output[0] is output["matches"] is output.matches is output.to_tuple()[0] is output.get("matches")
    assert [each is output[key] for key, each in output.items()] == [True] * 5 and output[1:3][1] is output.keypoints
    assert output.loss is None and "loss" not in output and list({**output}) == FIELDS
    with pytest.raises(KeyError):
        output["loss"]
    for forbidden in (lambda: output.pop("mask"), lambda: output.update({}), lambda: output.setdefault("mask", 1)):
        with pytest.raises(Exception, match=r"cannot use|not removed"):
            forbidden()
    for again in (copy.deepcopy(output), pickle.loads(pickle.dumps(output))):
        assert type(again) is type(output) and list(again) == FIELDS
        assert torch.equal(again.keypoints, output.keypoints)
    leaves = torch.utils._pytree.tree_leaves(output)
    assert len(leaves) >= 5 and all(isinstance(leaf, torch.Tensor) for leaf in leaves[:5])
    gathered = type(output)((key, output[key]) for key in output)
    assert torch.equal(gathered.mask, output.mask) and list(gathered) == FIELDS


def test_fields_keep_their_order_and_can_be_set(outputs):
    output = copy.copy(outputs["ours"])
    output.loss = torch.tensor(1.0)
    output["attentions"] = ()
    assert list(output) == ["loss", *FIELDS, "attentions"] and output[0] is output.loss
    output.loss = None
    assert list(output) == [*FIELDS, "attentions"]
    with pytest.raises(KeyError, match="'other' is no field"):
        output["other"] = 1
    assert output.input_size == (64, 88) and "input_size" not in output
    assert "tensor[1, 2, " in repr(output)
    mapped = torch.utils._pytree.tree_map(lambda each: each, output)
    assert mapped.input_size == (64, 88) and mapped.filled_sizes is output.filled_sizes


def test_maps_keep_any_value_of_the_loss(outputs):
    output = copy.copy(outputs["ours"])
    output.loss = torch.tensor(1.0)
    mapped = torch.utils._pytree.tree_map(lambda each: [0, 1], output)
    assert mapped.loss == mapped.mask == [0, 1]
    assert type(output)(loss=3).loss == 3 and type(output)(loss=[1, 2]).loss == [1, 2]


def test_impossible_sizes_leave_the_folder_as_it_was(tmp_path):
    model = small_model(sfm_lightglue)
    for options in ({"max_shard_size": "many"}, {"variant": "../x"}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            model.save_pretrained(tmp_path, **options)
        assert list(tmp_path.iterdir()) == []


def test_tuples_are_returned_on_request(library, folder):
    model = library.LightGlueForKeypointMatching.from_pretrained(folder)
    with torch.no_grad():
        plain = model(make_inputs(1), return_dict=False)
        assert type(plain) is tuple and len(plain) == 5
        model.config.return_dict = False
        assert type(model(make_inputs(1))) is tuple
        model.config.return_dict = True
        assert not isinstance(model(make_inputs(1), something_else=3), tuple)


def test_attributes_and_counts_of_a_model(library):
    model, size = small_model(library), sum(each.numel() for each in small_model(LIBRARIES["theirs"]).parameters())
    assert model.config_class is library.LightGlueConfig and model.base_model_prefix == "lightglue"
    assert model.main_input_name == "pixel_values" and model.device.type == "cpu" and model.dtype == torch.float32
    assert model.num_parameters() == size == model.num_parameters(exclude_embeddings=True)
    for parameter in model.keypoint_detector.parameters():
        parameter.requires_grad_(False)
    detector = sum(each.numel() for each in model.keypoint_detector.parameters())
    assert 0 < model.num_parameters(only_trainable=True) == size - detector < size
    assert model.get_memory_footprint() == 4 * size == model.get_memory_footprint(return_buffers=False)
    assert model.half().dtype == torch.float16 and model.get_memory_footprint() == 2 * size
    assert model.name_or_path == ""


def test_auto_model_makes_and_reads_models(library, folder):
    for auto in (library.AutoModel, library.AutoModelForKeypointMatching):
        model = auto.from_pretrained(folder, filter_threshold=0.3)
        assert type(model).__name__ == "LightGlueForKeypointMatching" and model.config.filter_threshold == 0.3
        assert type(auto.from_config(model.config)).__name__ == "LightGlueForKeypointMatching"
        with pytest.raises(Exception, match="from_pretrained"):
            auto()
    assert model.name_or_path == str(folder)
    detector = library.AutoModelForKeypointDetection.from_config(model.config.keypoint_detector_config)
    assert type(detector).__name__ == "SuperPointForKeypointDetection"
    with pytest.raises(Exception, match=r"(?i)lightglue"):
        library.AutoModelForKeypointDetection.from_pretrained(folder)
    with pytest.raises(Exception, match=r"(?i)superpoint"):
        library.AutoModelForKeypointMatching.from_config(library.SuperPointConfig())


@pytest.mark.parametrize("writer", sorted(LIBRARIES))
@pytest.mark.parametrize("reader", sorted(LIBRARIES))
def test_several_files_with_an_index_are_exchanged(folder, tmp_path, writer, reader):
    model = LIBRARIES[writer].LightGlueForKeypointMatching.from_pretrained(folder)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(shards) > 3 and shards == sorted(set(index["weight_map"].values()))
    assert shards[0] == f"model-00001-of-{len(shards):05d}.safetensors"
    assert index["metadata"]["total_size"] == model.get_memory_footprint()
    back = LIBRARIES[reader].LightGlueForKeypointMatching.from_pretrained(tmp_path)
    original = LIBRARIES[reader].LightGlueForKeypointMatching.from_pretrained(folder)
    state = original.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in back.state_dict().items())


def test_files_of_earlier_weights_are_removed(folder, tmp_path):
    model = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained(folder)
    (tmp_path / "model.safetensors.txt").write_text("of the user")
    for options, count in (
        ({"max_shard_size": 40_000}, None),
        ({}, 1),
        ({"safe_serialization": False, "max_shard_size": "40 KB"}, None),
        ({"variant": "fp16"}, None),
        ({"safe_serialization": False}, 2),
    ):
        model.save_pretrained(tmp_path, **options)
        weights = [path for path in tmp_path.iterdir() if path.suffix in (".bin", ".safetensors")]
        assert count is None or len(weights) == count
        back = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained(tmp_path, variant=options.get("variant"))
        state = model.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in back.state_dict().items())
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "model.safetensors.txt", "pytorch_model.bin", "model.fp16.safetensors"}


def test_a_model_with_sift_is_saved_in_several_files(tmp_path):
    model = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained("lightglue_sift", filter_threshold=0.3)
    model.save_pretrained(tmp_path, max_shard_size="1MB")
    back = sfm_lightglue.AutoModel.from_pretrained(tmp_path)
    assert back.config == model.config and len(list(tmp_path.glob("model-*.safetensors"))) > 2
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in back.state_dict().items())
    with pytest.raises(ValueError, match="2-d positions"):
        model.state_dict(layout="transformers")


def test_damaged_sets_of_files_are_refused(folder, tmp_path):
    load = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained
    load(folder).save_pretrained(tmp_path, max_shard_size="50KB")
    path = tmp_path / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    first, name = next(iter(index["weight_map"].items()))
    lost = {key: "model-9.safetensors" if each == name else each for key, each in index["weight_map"].items()}
    for weight_map, message in (
        ({**index["weight_map"], first: "../model.safetensors"}, "expected a weight_map"),
        (lost, r"contains no model-9\.safetensors"),
        ({key: value for key, value in index["weight_map"].items() if key != first}, "other keys than in model"),
        ({}, "expected a weight_map"),
    ):
        path.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(WeightsError, match=message):
            load(tmp_path)


def test_impossible_options_of_saving_are_refused(folder, tmp_path):
    model = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained(folder)
    for size in ("5XB", "many", 0, True, -3):
        with pytest.raises(ConfigError, match=r"max_shard_size: expected bytes"):
            model.save_pretrained(tmp_path, max_shard_size=size)
    with pytest.raises(ConfigError, match="push_to_hub=True is refused: this library uploads nothing"):
        model.save_pretrained(tmp_path, push_to_hub=True)
    model.save_pretrained(tmp_path / "nothing", is_main_process=False)
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        model.save_pretrained(tmp_path / "file")


def test_given_weights_are_saved(folder, tmp_path):
    model = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained(folder)
    state = {key: value + 1 for key, value in model.state_dict(layout="transformers").items()}
    model.save_pretrained(tmp_path, state_dict=state)
    back = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained(tmp_path).state_dict(layout="transformers")
    assert back.keys() == state.keys() and all(torch.equal(back[key], state[key]) for key in state)
    assert model.dtype == torch.float32 and not torch.equal(
        model.state_dict(layout="transformers")["token_confidence.0.token.bias"], back["token_confidence.0.token.bias"]
    )
    with pytest.raises(ValueError, match="layout: expected"):
        model.state_dict(layout="other")


def test_models_are_copied_and_pickled(library, folder):
    model = library.LightGlueForKeypointMatching.from_pretrained(folder)
    with torch.no_grad():
        expected = model(make_inputs(1))
        for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert again.config is not model.config and again.config == model.config
            assert torch.equal(again(make_inputs(1)).matching_scores, expected.matching_scores)


def test_recomputed_layers_give_the_same_gradients_with_less_memory():
    model = small_model(sfm_lightglue, attention_dropout=0.1).train()
    inputs = make_inputs(1)
    n = model(inputs).mask.shape[2]
    labels = torch.full((1, 2, n), -1)

    def gradients() -> tuple[list[torch.Tensor], int]:
        kept = 0

        def pack(value: torch.Tensor) -> torch.Tensor:
            nonlocal kept
            kept += value.numel()
            return value

        torch.manual_seed(3)
        model.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            loss = model(inputs, labels=labels).loss
        num_kept = kept
        loss.backward()
        return [each.grad.clone() for each in model.lightglue.parameters() if each.grad is not None], num_kept

    with torch.random.fork_rng():
        expected, num_kept = gradients()
        assert not model.is_gradient_checkpointing and model.supports_gradient_checkpointing
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        assert model.is_gradient_checkpointing
        found, num_kept_now = gradients()
        model.gradient_checkpointing_disable()
        assert not model.is_gradient_checkpointing
    assert len(expected) == len(found) > 30
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(expected, found, strict=True))
    assert num_kept_now < 0.5 * num_kept
    with pytest.raises(ValueError, match="unknown other"):
        model.gradient_checkpointing_enable({"other": 1})
    with pytest.raises(ValueError, match="is not trained"):
        sfm_lightglue.SuperPointForKeypointDetection(
            model.config.keypoint_detector_config
        ).gradient_checkpointing_enable()


# ---- Where the libraries differ ----


def test_misspelt_arguments_and_integer_pixels_are_refused(folder):
    """`transformers` ignores the first, and takes bytes as if they were values from 0 to 1."""
    inputs = make_inputs(1)
    theirs = LIBRARIES["theirs"].LightGlueForKeypointMatching.from_pretrained(folder)
    ours = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained(folder)
    with torch.no_grad():
        assert theirs(inputs, output_hidden_state=True).hidden_states is None
        with pytest.raises(TypeError, match="did you mean 'output_hidden_states'"):
            ours(inputs, output_hidden_state=True)
        for wrong in ((inputs * 255).to(torch.uint8), inputs.long(), inputs.numpy()):
            with pytest.raises(TypeError, match="pixel_values: expected a tensor of floating-point numbers"):
                ours(wrong)


@pytest.mark.parametrize(
    "file", ["helpers/both_libraries.py", "helpers/matching_references.py", "models/test_lightglue_parity.py"]
)
def test_comparisons_are_skipped_without_transformers(file, monkeypatch):
    """A missing package must not stop the collection of the suite."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(pytest.skip.Exception, match="transformers"):
        runpy.run_path(str(Path(__file__).parents[1] / file))
