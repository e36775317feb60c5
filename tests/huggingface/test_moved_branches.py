"""Branches that move: a changed file is downloaded again, an equal one is not, and without the hub the copy is used."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import sfm_lightglue
from sfm_lightglue.errors import WeightsError
from sfm_lightglue.weights import hub, hub_versions
from tests.helpers.both_libraries import write_model
from tests.helpers.served_hub import served_hub

NAME = "someone/small"
load = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained
read_config = sfm_lightglue.LightGlueConfig.from_pretrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def served(tmp_path, folder, monkeypatch):
    """A hub with one repository; and an empty cache."""
    for name in ("SFM_LIGHTGLUE_OFFLINE", "SFM_LIGHTGLUE_WEIGHTS", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging_face"))
    root = tmp_path / "served"
    shutil.copytree(folder, root / NAME / "resolve" / "main")
    with served_hub(root) as server:
        monkeypatch.setattr(hub, "_HUB", server.url)
        yield server


def branch_of(server):
    return server.root / NAME / "resolve" / "main"


def move(server, filter_threshold: float) -> None:
    path = branch_of(server) / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"filter_threshold": filter_threshold}))


def downloads(server) -> list[str]:
    """Names of the files that were downloaded since the last call."""
    found = sorted(name for method, name, _ in server.requests if method == "GET")
    server.requests.clear()
    return found


def test_changed_files_are_downloaded_again_and_equal_ones_are_not(served) -> None:
    first = load(NAME)
    assert downloads(served) == ["config.json", "model.safetensors"]
    load(NAME)
    assert downloads(served) == []
    move(served, 0.3)
    assert load(NAME).config.filter_threshold == 0.3 and downloads(served) == ["config.json"]
    path = branch_of(served) / "model.safetensors"
    save_file({key: 2 * value for key, value in load_file(path).items()}, path, {"format": "pt"})
    bias = "lightglue.layers.0.self_mlp.fc1.bias"
    assert torch.equal(load(NAME).state_dict()[bias], 2 * first.state_dict()[bias])
    assert downloads(served) == ["model.safetensors"]


def test_a_commit_and_local_files_only_ask_nothing(served, monkeypatch) -> None:
    commit = "a" * 40
    shutil.copytree(branch_of(served), branch_of(served).with_name(commit))
    read_config(NAME)
    read_config(NAME, revision=commit)
    served.requests.clear()
    move(served, 0.3)
    assert read_config(NAME, local_files_only=True).filter_threshold == 0.1
    assert read_config(NAME, revision=commit).filter_threshold == 0.1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert read_config(NAME).filter_threshold == 0.1
    assert served.requests == []


@pytest.mark.parametrize("status", [401, 403, 500, 503])
def test_without_an_answer_the_copy_is_used(served, status) -> None:
    read_config(NAME)
    move(served, 0.3)
    served.refusal = status
    assert read_config(NAME).filter_threshold == 0.1
    served.refusal = None
    assert read_config(NAME).filter_threshold == 0.3


def test_without_a_network_the_copy_is_used(served, monkeypatch) -> None:
    read_config(NAME)
    monkeypatch.setattr(hub, "_HUB", "http://127.0.0.1:1")
    assert read_config(NAME).filter_threshold == 0.1


def test_a_file_that_was_removed_from_the_branch_is_not_read(served) -> None:
    sfm_lightglue.LightGlueImageProcessor.from_pretrained(NAME)
    (branch_of(served) / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json"):
        sfm_lightglue.LightGlueImageProcessor.from_pretrained(NAME)


def test_the_token_is_sent_with_the_question(served) -> None:
    for _ in range(2):
        read_config(NAME, token="hf_secret")
    assert {(method, sent) for method, _, sent in served.requests} == {
        ("GET", "Bearer hf_secret"),
        ("HEAD", "Bearer hf_secret"),
    }


def test_the_cache_of_hugging_face_is_used_while_its_commit_is_that_of_the_branch(served, tmp_path) -> None:
    """Then its files are used as they are; afterwards those that are still equal."""
    cache = tmp_path / "hugging_face" / "hub" / "models--someone--small"
    commit = served.commit(branch_of(served) / "config.json")
    shutil.copytree(branch_of(served), cache / "snapshots" / commit)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(commit)
    assert load(NAME).config.filter_threshold == 0.1 and downloads(served) == []
    move(served, 0.3)
    assert load(NAME, local_files_only=True).config.filter_threshold == 0.1
    assert load(NAME).config.filter_threshold == 0.3 and downloads(served) == ["config.json"]


def test_folders_of_the_user_are_used_as_they_are(served, folder, tmp_path, monkeypatch) -> None:
    shutil.copytree(folder, tmp_path / "mine" / NAME)
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", str(tmp_path / "mine"))
    move(served, 0.3)
    assert read_config(NAME).filter_threshold == 0.1 and served.requests == []


def test_versions_of_other_servers_are_unknown(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    for etag in ("", "5f-abc"):
        assert hub_versions.RemoteVersion(etag, "").is_that_of(path)
    assert not hub_versions.RemoteVersion("0" * 40, "").is_that_of(path)
    assert not hub_versions.RemoteVersion("0" * 64, "").is_that_of(path)
