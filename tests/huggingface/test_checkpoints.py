"""Reading and writing of pretrained models: folders, single files, names, caches; and refused files."""

from __future__ import annotations

import json
import threading
import traceback
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfm_lightglue import LightGlueConfig, LightGlueForKeypointMatching, LightGlueImageProcessor, pipeline
from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.models.checkpoints import load_lightglue
from sfm_lightglue.weights import hub
from tests.helpers.matching_references import make_both, make_inputs, make_reference
from tests.helpers.untrained import write_lightglue, write_superpoint

load = LightGlueForKeypointMatching.from_pretrained


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SFM_LIGHTGLUE_WEIGHTS", raising=False)
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging_face"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference")
    make_reference(depth_confidence=0.95, width_confidence=0.99).save_pretrained(path)
    return path


def assert_equal(one: LightGlueForKeypointMatching, other: LightGlueForKeypointMatching) -> None:
    assert one.config.to_dict() == other.config.to_dict() and not one.training
    state = other.state_dict()
    assert one.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("detector", ["superpoint", "sift", "disk"])
def test_saved_models_are_read_back(tmp_path, detector):
    sizes = {"descriptor_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_act": "silu"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LightGlueForKeypointMatching(
            LightGlueConfig(keypoint_detector_config={"model_type": detector}, **sizes)
        )
    model.eval().save_pretrained(tmp_path / "model")
    back = load(tmp_path / "model")
    assert_equal(back, model)
    inputs = make_inputs(1)
    with torch.no_grad():
        one, other = model(inputs), back(inputs)
    assert torch.equal(one.keypoints, other.keypoints) and torch.equal(one.matching_scores, other.matching_scores)


def test_pickled_weights_of_transformers_are_read(tmp_path, folder):
    model = load(folder)
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    torch.save(
        make_reference(depth_confidence=0.95, width_confidence=0.99).state_dict(), tmp_path / "pytorch_model.bin"
    )
    assert_equal(load(tmp_path), model)


def test_options_replace_those_of_the_file(folder):
    model = load(folder, depth_confidence=-1.0, filter_threshold=0.3, hidden_act="relu", dtype="bfloat16")
    assert (model.config.depth_confidence, model.config.filter_threshold) == (-1.0, 0.3)
    assert model.lightglue.architecture.hidden_act == "relu" and model.dtype == torch.bfloat16
    assert load(folder, config=LightGlueConfig.from_pretrained(folder), device="cpu").config.depth_confidence == 0.95
    with pytest.raises(ConfigError, match=r"unknown option 'depth_confidense' .*depth_confidence"):
        load(folder, depth_confidense=1)
    assert load(folder, torch_dtype=torch.float16, device_map="cpu").dtype == torch.float16
    with pytest.raises(ConfigError, match="dtype"):
        load(folder, dtype="int64")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"descriptor_dim": 48}, "descriptor_dim is 32, not 48"),
        ({"num_hidden_layers": 4}, "num_layers is 3, not 4"),
        ({"num_attention_heads": 4}, "num_heads is 2, not 4"),
        ({"num_key_value_heads": 1}, "kv_heads is 2, not 1"),
        ({"attention_bias": False}, "attention_bias"),
        ({"keypoint_detector_config": {"model_type": "sift"}}, "position_dim is 2, not 4"),
        ({"keypoint_detector_config": {"descriptor_decoder_dim": 64}}, "its SuperPoint is"),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_refused(tmp_path, folder, change, message):
    values = json.loads((folder / "config.json").read_text()) | change
    (tmp_path / "config.json").write_text(json.dumps(values))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(WeightsError, match=rf"model\.safetensors: .*{message}"):
        load(tmp_path)


def test_the_detector_of_a_single_file_is_detected(tmp_path, folder):
    both = load(folder / "model.safetensors")
    assert both.config.keypoint_detector_config.model_type == "superpoint"
    assert both.config.keypoint_detector_config.encoder_hidden_sizes == (8, 8, 16, 16)
    assert both.config.descriptor_dim == 32 and both.config.num_hidden_layers == 3
    sift = load(write_lightglue(tmp_path / "sift.safetensors"))
    assert sift.config.keypoint_detector_config.model_type == "sift" and sift.config.num_hidden_layers == 4
    matcher = write_lightglue(tmp_path / "x.safetensors", input_dim=32, use_scale_orientation=False)
    with pytest.raises(WeightsError, match=r"x\.safetensors: contains no detector; give .* keypoint_detector_weights"):
        load(matcher)
    pair = load(matcher, keypoint_detector_weights=write_superpoint(tmp_path / "superpoint.safetensors"))
    assert pair.config.keypoint_detector_config.descriptor_decoder_dim == 32
    with pytest.raises(WeightsError, match="input_dim is 32, not 64"):
        load(matcher, keypoint_detector_weights=folder / "model.safetensors")


def test_a_disk_within_a_lightglue_is_found(tmp_path):
    """With any prefix below `keypoint_detector.`, because the published file has another wrapper."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        detector = {"model_type": "disk"}
        config = LightGlueConfig(detector, descriptor_dim=32, num_hidden_layers=2, num_attention_heads=2)
        model = LightGlueForKeypointMatching(config).eval()
    model.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    renamed = {key.replace("keypoint_detector.", "keypoint_detector.model."): value for key, value in state.items()}
    save_file(renamed, tmp_path / "renamed.safetensors")
    back = load(tmp_path / "renamed.safetensors")
    assert_equal(back, model)
    del state["keypoint_detector.unet.path_down.0.1.3.bias"]
    save_file(state, tmp_path / "torn.safetensors")
    with pytest.raises(WeightsError, match=r"torn\.safetensors: .*missing keys: keypoint_detector\.unet"):
        load(tmp_path / "torn.safetensors")


def test_names_are_found_in_the_folder_of_the_user_and_the_cache_of_hugging_face(tmp_path, folder, monkeypatch):
    expected, name = load(folder), "someone/lightglue_x"
    LightGlueImageProcessor(size=(96, 128)).save_pretrained(folder)
    snapshot = tmp_path / "hugging_face" / "hub" / "models--someone--lightglue_x" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(folder, target_is_directory=True)
    reference = tmp_path / "hugging_face" / "hub" / "models--someone--lightglue_x" / "refs" / "main"
    reference.parent.mkdir()
    reference.write_text("abc")
    assert_equal(load(name), expected)
    assert LightGlueImageProcessor.from_pretrained(name).size == {"height": 96, "width": 128}
    reference.unlink()
    with pytest.raises(WeightsError, match=r"someone/lightglue_x: config\.json is missing"):
        load(name)
    (tmp_path / "mine" / "someone").mkdir(parents=True)
    (tmp_path / "mine" / name).symlink_to(folder, target_is_directory=True)
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", str(tmp_path / "mine"))
    assert_equal(load(name), expected)


def test_repositories_are_downloaded_file_by_file(tmp_path, folder, monkeypatch):
    """From a local server instead of the hub; a file that the repository does not have is an error."""
    served = tmp_path / "served" / "someone" / "small" / "resolve" / "main"
    served.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (served / name).symlink_to(folder / name)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """No log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=tmp_path / "served"))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        monkeypatch.setattr(hub, "_HUB", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.delenv("SFM_LIGHTGLUE_OFFLINE")
        matcher = pipeline("keypoint-matching", "someone/small")
        with pytest.raises(WeightsError, match=r"preprocessor_config\.json cannot be downloaded .*404.*put it at"):
            LightGlueImageProcessor.from_pretrained("someone/small")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert_equal(matcher.model, load(folder))
    assert matcher.image_processor.size == {"height": 480, "width": 640}
    assert_equal(load("someone/small"), matcher.model)  # now from the cache


def test_names_of_the_catalogue_are_single_files(tmp_path, folder, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "lightglue_superpoint.safetensors").symlink_to(folder / "model.safetensors")
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", str(tmp_path / "mine"))
    model = load("ETH-CVG/lightglue_superpoint")
    assert torch.equal(
        model.lightglue.layers[0].self_mlp.fc1.weight, load(folder).lightglue.layers[0].self_mlp.fc1.weight
    )


@pytest.mark.parametrize("name", ["ETH-CVG/lightglue_superpoint", "someone/else", "superpoint_lightglue"])
def test_the_offline_error_names_url_and_path(name, tmp_path):
    with pytest.raises(WeightsError, match=r"SFM_LIGHTGLUE_OFFLINE forbids downloads: get https://\S+ .* put it at"):
        load(name)


def test_missing_models_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"lightglue_swift: no such folder or file.*did you mean 'lightglue_sift'"):
        load("lightglue_swift")
    with pytest.raises(WeightsError, match=r"contains no config\.json"):
        load(tmp_path)
    LightGlueConfig().save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"contains no model\.safetensors"):
        load(tmp_path)


def test_tied_weights_stay_tied(tmp_path):
    """Cross-attention with one projection for queries and keys, as in the published weights."""
    reference, _ = make_both(tmp_path / "untied")
    for layer in reference.transformer_layers:
        layer.cross_attention.k_proj.load_state_dict(layer.cross_attention.q_proj.state_dict())
    reference.save_pretrained(tmp_path / "tied")
    tied = load(tmp_path / "tied")
    assert tied.lightglue.architecture.cross_is_tied
    assert not load(tmp_path / "untied").lightglue.architecture.cross_is_tied
    assert load_lightglue(tmp_path / "tied" / "model.safetensors").architecture.cross_is_tied
    tied.save_pretrained(tmp_path / "again")
    assert_equal(load(tmp_path / "again"), tied)
    tied.load_state_dict(reference.state_dict())


@pytest.mark.parametrize("forbidden", [True, False])
@pytest.mark.parametrize("name", ["ETH-CVG/lightglue_superpoint", "someone/model"])
def test_a_name_of_the_hub_without_network_is_one_error_without_a_chain(monkeypatch, name, forbidden):
    """The message contains the cause of `urllib`; there is no second traceback."""

    def no_network(*arguments, **options):
        raise OSError(111, "Connection refused")

    monkeypatch.setattr("socket.create_connection", no_network)
    monkeypatch.setattr("sfm_lightglue.weights.download.time.sleep", lambda seconds: None)
    for variable in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    if not forbidden:
        monkeypatch.delenv("SFM_LIGHTGLUE_OFFLINE")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    reason = (
        "SFM_LIGHTGLUE_OFFLINE forbids" if forbidden else r"cannot be downloaded \(no connection: Connection refused\)"
    )
    with pytest.raises(WeightsError, match=rf"^{name}.*{reason}.*: get https://.* elsewhere and put it at ") as caught:
        load(name)
    text = "".join(traceback.format_exception(caught.value))
    assert text.count("Traceback") == 1
    assert "urllib" not in text
