"""Keywords of `from_pretrained`: versions, caches, tokens, places and types; refused and ignored keywords."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import sfm_lightglue
from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.weights import hub
from sfm_lightglue.weights.catalog import CATALOG
from tests.helpers.both_libraries import LIBRARIES, served, small_config, write_model
from tests.helpers.matching_references import make_inputs

NAME = "someone/small"
load = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained


@pytest.fixture(autouse=True)
def _no_network(monkeypatch, tmp_path):
    monkeypatch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging_face"))
    for name in ("SFM_LIGHTGLUE_WEIGHTS", "HF_HUB_CACHE", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(params=sorted(LIBRARIES))
def library(request):
    return LIBRARIES[request.param]


def same_weights(one, other) -> bool:
    state = other.state_dict()
    return all(torch.equal(value, state[key]) for key, value in one.state_dict().items())


def as_repository(root: Path, folder: Path, revision: str, subfolder: str = "") -> Path:
    target = root / NAME / "resolve" / revision / subfolder
    target.mkdir(parents=True)
    for path in folder.iterdir():
        shutil.copy(path, target / path.name)
    return target


@pytest.fixture
def repository(tmp_path, folder, monkeypatch):
    """A local server instead of the hub: the main version, a branch, and a subfolder."""
    root = tmp_path / "served"
    as_repository(root, folder, "main")
    branch = as_repository(root, folder, "refs/pr/1")
    config = json.loads((branch / "config.json").read_text())
    (branch / "config.json").write_text(json.dumps(config | {"filter_threshold": 0.3}))
    as_repository(root, folder, "v2", "inner")
    requests: list[tuple[str, str]] = []
    with served(root, requests) as address:
        monkeypatch.setattr(hub, "_HUB", address)
        monkeypatch.delenv("SFM_LIGHTGLUE_OFFLINE")
        yield requests


def test_revision_subfolder_and_cache_dir_choose_the_files(repository, tmp_path):
    assert load(NAME).config.filter_threshold == 0.1
    assert load(NAME, revision="main").config.filter_threshold == 0.1
    assert load(NAME, revision="refs/pr/1").config.filter_threshold == 0.3
    inner = load(NAME, revision="v2", subfolder="inner", cache_dir=tmp_path / "mine")
    assert inner.config.filter_threshold == 0.1
    assert (tmp_path / "mine" / "someone--small@v2" / "inner" / "model.safetensors").is_file()
    with pytest.raises(WeightsError, match=r"config\.json cannot be downloaded .*404"):
        load(NAME, subfolder="other")
    processor = sfm_lightglue.AutoImageProcessor.from_pretrained(NAME, revision="v2", subfolder="inner")
    assert processor.size == {"height": 64, "width": 88}
    paths = [path for path, _ in repository]
    assert len(paths) == len(set(paths)) > 6


def test_tokens_are_sent_only_where_they_are_given(repository, monkeypatch, tmp_path):
    load(NAME, token="hf_secret", cache_dir=tmp_path / "a")
    assert {sent for _, sent in repository} == {"Bearer hf_secret"}
    repository.clear()
    monkeypatch.setenv("HF_TOKEN", "hf_stored")
    sfm_lightglue.AutoConfig.from_pretrained(NAME, token=True, cache_dir=tmp_path / "b")
    sfm_lightglue.AutoConfig.from_pretrained(NAME, token=False, cache_dir=tmp_path / "c")
    assert [sent for _, sent in repository] == ["Bearer hf_stored", ""]
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError, match=r"token=True: there is no token"):
        load(NAME, token=True, revision="other")
    (tmp_path / "hugging_face").mkdir()
    (tmp_path / "hugging_face" / "token").write_text("hf_login\n")
    repository.clear()
    sfm_lightglue.LightGlueConfig.from_pretrained(NAME, use_auth_token=True, cache_dir=tmp_path / "d")
    assert [sent for _, sent in repository] == ["Bearer hf_login"]


def test_local_files_only_and_force_download(repository, tmp_path, folder):
    with pytest.raises(WeightsError, match=r"config\.json is missing, and local_files_only=True forbids"):
        load(NAME, local_files_only=True)
    assert repository == []
    load(NAME)
    count = len(repository)
    load(NAME, local_files_only=True)
    assert len(repository) == count
    cached = tmp_path / "cache" / "sfm_lightglue" / "hub" / "someone--small" / "config.json"
    cached.write_text("{}")
    assert load(NAME, force_download=True).config.descriptor_dim == 32
    assert json.loads(cached.read_text())["descriptor_dim"] == 32
    assert sorted(path.rpartition("/")[2] for path, _ in repository[count:]) == ["config.json", "model.safetensors"]
    with pytest.raises(ConfigError, match="exclude each other"):
        load(NAME, force_download=True, local_files_only=True)
    with pytest.raises(WeightsError, match="local_files_only=True forbids"):
        load("superpoint_lightglue", local_files_only=True)


def test_the_cache_of_hugging_face_is_read_with_revisions(library, folder, tmp_path):
    """Both libraries, from one cache."""
    cache = tmp_path / "shared_cache"
    repository = cache / "models--someone--small"
    commits = {"main": "a" * 40, "v2": "b" * 40}
    for revision, commit in commits.items():
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / revision).write_text(commit)
    config = json.loads((folder / "config.json").read_text()) | {"filter_threshold": 0.4}
    (repository / "snapshots" / commits["v2"] / "config.json").write_text(json.dumps(config))
    options = {"cache_dir": str(cache), "local_files_only": True}
    model = library.LightGlueForKeypointMatching
    assert model.from_pretrained(NAME, **options).config.filter_threshold == 0.1
    assert model.from_pretrained(NAME, revision="v2", **options).config.filter_threshold == 0.4
    assert library.AutoConfig.from_pretrained(NAME, revision=commits["v2"], **options).filter_threshold == 0.4


@pytest.mark.parametrize("files", [{"safe_serialization": False}, {"max_shard_size": "20kB"}])
@pytest.mark.parametrize("forbidden_by", ["the keyword", "the environment"])
def test_a_cached_repository_of_any_layout_is_read_offline(folder, tmp_path, monkeypatch, files, forbidden_by):
    """It has no model.safetensors and no file of a processor; nothing asks the hub for them."""
    commit = "a" * 40
    cache = tmp_path / "hugging_face" / "hub" / "models--someone--small"
    load(folder).save_pretrained(cache / "snapshots" / commit, **files)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    options = {"local_files_only": True} if forbidden_by == "the keyword" else {}
    if options:
        monkeypatch.delenv("SFM_LIGHTGLUE_OFFLINE")
    assert same_weights(load(NAME, **options), load(folder))
    assert sfm_lightglue.pipeline(model=NAME, device="cpu", **options).model.config.descriptor_dim == 32
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json is missing, and .* forbids downloads"):
        sfm_lightglue.LightGlueImageProcessor.from_pretrained(NAME, **options)


def test_a_repository_without_its_processor_file_stretches_images_offline(folder, tmp_path, monkeypatch, caplog):
    """The file of the catalogue has the weights alone; the processor of its repository stretches."""
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", str(tmp_path))
    name = "ETH-CVG/lightglue_superpoint"
    load(folder).save_pretrained(tmp_path)
    path = (tmp_path / "model.safetensors").rename(tmp_path / CATALOG[name].file)
    known = replace(CATALOG[name], sha256=hashlib.sha256(path.read_bytes()).hexdigest(), size=path.stat().st_size)
    monkeypatch.setitem(CATALOG, name, known)
    processor = sfm_lightglue.pipeline(model=name, device="cpu", num_attention_heads=2).image_processor
    assert not processor.keep_aspect_ratio and processor.size == {"height": 480, "width": 640}
    assert processor.do_grayscale and f"{name}: its preprocessor_config.json is not on this machine" in caplog.text


def test_types_devices_and_loading_info(library, folder, tmp_path):
    model = library.LightGlueForKeypointMatching
    assert model.from_pretrained(folder).dtype == torch.float32
    place = {"device_map": "cpu"} if library is sfm_lightglue else {}  # theirs needs a further package for it
    half = model.from_pretrained(folder, dtype="bfloat16", **place)
    assert half.dtype == half.config.dtype == torch.bfloat16 and half.device.type == "cpu"
    half.save_pretrained(tmp_path)
    assert model.from_pretrained(tmp_path, dtype="auto").dtype == torch.bfloat16
    assert model.from_pretrained(tmp_path).dtype == torch.bfloat16
    loaded, info = model.from_pretrained(tmp_path, torch_dtype=torch.float32, output_loading_info=True)
    assert loaded.dtype == torch.float32 and not loaded.training
    assert info.keys() == {"missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"}
    assert not any(info.values())


@pytest.mark.parametrize(
    ("device_map", "message"),
    [({"a": "cpu", "b": "meta"}, "on one device, got cpu, meta"), ("disk", "disk"), ({}, "none")],
)
def test_a_model_is_on_one_device(folder, device_map, message):
    assert load(folder, device_map={"": "cpu"}).device.type == load(folder, device_map="auto").device.type == "cpu"
    with pytest.raises(ConfigError, match=message):
        load(folder, device_map=device_map)


def test_a_configuration_and_a_state_dict_can_be_given(library, folder, tmp_path):
    model = library.LightGlueForKeypointMatching
    base = model.from_pretrained(folder)
    config = small_config(library, filter_threshold=0.7)
    base.config.save_pretrained(tmp_path)
    assert model.from_pretrained(folder, config=config).config.filter_threshold == 0.7
    assert same_weights(model.from_pretrained(folder, config=str(tmp_path)), base)
    state = {key: 2 * value for key, value in base.state_dict().items()}
    doubled = model.from_pretrained(None, config=base.config, state_dict=state)
    assert torch.equal(doubled.state_dict()[next(iter(state))], state[next(iter(state))])
    assert base.config.filter_threshold == 0.1 and not doubled.training


def test_our_state_dict_can_be_given_in_both_spellings(folder):
    base = load(folder)
    for layout in ("sfm_lightglue", "transformers"):
        again = load(folder, state_dict=base.state_dict(layout=layout))
        assert same_weights(again, base)
    with pytest.raises(WeightsError, match="missing keys"):
        load(folder, state_dict=dict(list(base.state_dict().items())[3:]))
    with pytest.raises(ConfigError, match="config and state_dict are needed"):
        load(None)


def test_weights_of_other_sizes_stay_untrained_if_that_is_allowed(library, folder, caplog):
    model = library.LightGlueForKeypointMatching
    options = {"num_attention_heads": 4, "num_key_value_heads": 4}
    loaded, info = model.from_pretrained(folder, ignore_mismatched_sizes=True, output_loading_info=True, **options)
    assert {name for name, *_ in info["mismatched_keys"]} == {"positional_encoder.projector.weight"}
    assert [tuple(shape) for shape in next(iter(info["mismatched_keys"]))[1:]] == [(8, 2), (4, 2)]
    with torch.no_grad():
        assert loaded(make_inputs(1)).matches.numel() > 0
    with pytest.raises((WeightsError, RuntimeError), match=r"num_heads is 2, not 4|ignore_mismatched_sizes"):
        model.from_pretrained(folder, **options)


def test_missing_weights_are_an_error(folder, tmp_path):
    """`transformers` logs them, and the model has random weights there."""
    shutil.copytree(folder, tmp_path / "torn")
    path = tmp_path / "torn" / "model.safetensors"
    state = load_file(path)
    del state["transformer_layers.1.self_mlp.fc1.weight"]
    save_file(state, path, {"format": "pt"})
    _, info = LIBRARIES["theirs"].LightGlueForKeypointMatching.from_pretrained(
        tmp_path / "torn", output_loading_info=True
    )
    assert set(info["missing_keys"]) == {"transformer_layers.1.self_mlp.fc1.weight"}
    with pytest.raises(WeightsError, match=r"missing keys: transformer_layers\.1\.self_mlp\.fc1\.weight"):
        load(tmp_path / "torn")


def test_keywords_without_effect_are_named_in_one_warning(folder, caplog):
    with caplog.at_level(logging.WARNING):
        load(
            folder,
            attn_implementation="sdpa",
            use_safetensors=True,
            low_cpu_mem_usage=True,
            trust_remote_code=False,
            weights_only=True,
            proxies=None,
        )
    assert [record.getMessage() for record in caplog.records] == [
        "LightGlueForKeypointMatching.from_pretrained: without effect here: attn_implementation, low_cpu_mem_usage,"
        " trust_remote_code, use_safetensors, weights_only"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trust_remote_code": True}, "trust_remote_code=True is refused: code"),
        ({"from_tf": True}, "from_tf=True is refused"),
        ({"revision": 3}, "revision: expected str, got 3"),
        ({"subfolder": "../other"}, "subfolder: expected a folder within the repository"),
        ({"local_files_only": "yes"}, "local_files_only: expected true or false"),
        ({"filter_treshold": 0.3}, "did you mean 'filter_threshold'"),
        ({"key_mapping": {}}, "unknown option 'key_mapping'"),
        ({"dtype": "int64"}, "dtype: expected a floating-point type"),
        ({"device": "cpu", "device_map": "cpu"}, "device and device_map exclude each other"),
        ({"variant": "../x"}, "variant: expected letters and digits"),
    ],
)
def test_impossible_keywords_are_refused(folder, options, message):
    for kind in (sfm_lightglue.LightGlueForKeypointMatching, sfm_lightglue.AutoModelForKeypointMatching):
        with pytest.raises(ConfigError, match=message):
            kind.from_pretrained(folder, **options)


def test_a_single_file_of_the_catalogue_has_no_revision():
    with pytest.raises(ConfigError, match=r"lightglue_sift: is a single file .* revision, subfolder"):
        load("lightglue_sift", revision="v2")


def test_a_token_does_not_follow_to_another_host(tmp_path, monkeypatch):
    """The hub redirects to a server of files, which must not see the token."""
    from sfm_lightglue.weights.download import DownloadConfig, download

    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "x").write_text("content")
    seen: list[tuple[str, str]] = []
    with (
        served(tmp_path / "files", seen) as files,
        redirecting(f"{files.replace('127.0.0.1', 'localhost')}/x") as first,
    ):
        download(f"{first}/x", tmp_path / "x", config=DownloadConfig(token="hf_secret"))
    assert (tmp_path / "x").read_text() == "content" and seen == [("/x", "")]
    assert "hf_secret" not in repr(DownloadConfig(token="hf_secret"))


def redirecting(target: str):
    """A server that redirects every request."""
    import contextlib
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.headers["Authorization"] == "Bearer hf_secret"
            self.send_response(302)
            self.send_header("Location", target)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """No log."""

    @contextlib.contextmanager
    def running():
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()

    return running()
