"""Keywords that choose files act in every class that is loaded; others are passed over with one warning, or refused."""

from __future__ import annotations

import json
import logging
import shutil

import pytest

import sfm_lightglue
from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.weights import hub
from tests.helpers.both_libraries import write_model
from tests.helpers.served_hub import served_hub

NAME = "someone/small"
KINDS = [
    "AutoConfig", "AutoImageProcessor", "AutoModel", "AutoModelForKeypointDetection", "AutoModelForKeypointMatching",
    "LightGlueConfig", "LightGlueForKeypointMatching", "LightGlueImageProcessor", "LightGlueImageProcessorFast",
    "SuperPointConfig", "SuperPointForKeypointDetection", "SuperPointImageProcessor", "SuperPointImageProcessorFast",
    "pipeline",
]  # fmt: skip


@pytest.fixture
def served(tmp_path, monkeypatch, folders):
    """Branch `main` and a folder `inner` of branch `v2`; LightGlue and SuperPoint are two repositories."""
    for name in ("SFM_LIGHTGLUE_OFFLINE", "SFM_LIGHTGLUE_WEIGHTS", "HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hugging_face"))
    root = tmp_path / "served"
    for name, folder in folders.items():
        shutil.copytree(folder, root / name / "resolve" / "main")
        shutil.copytree(folder, root / name / "resolve" / "v2" / "inner")
    with served_hub(root) as server:
        monkeypatch.setattr(hub, "_HUB", server.url)
        yield server


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    matcher = write_model(tmp_path_factory.mktemp("lightglue"))
    detector = tmp_path_factory.mktemp("superpoint")
    sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(matcher).save_pretrained(detector)
    sfm_lightglue.SuperPointImageProcessor(size=(64, 88)).save_pretrained(detector)
    return {NAME: matcher, "someone/detector": detector}


def load(kind: str, name: str, **keywords):
    if kind == "pipeline":
        return sfm_lightglue.pipeline(model=name, device="cpu", **keywords)
    return getattr(sfm_lightglue, kind).from_pretrained(name, **keywords)


def repository_of(kind: str) -> str:
    return "someone/detector" if "Detection" in kind or "SuperPoint" in kind else NAME


@pytest.mark.parametrize("kind", KINDS)
def test_files_are_chosen_in_every_class(served, tmp_path, kind) -> None:
    name = repository_of(kind)
    place = {"revision": "v2", "subfolder": "inner", "cache_dir": str(tmp_path / "mine"), "token": "hf_secret"}
    with pytest.raises(WeightsError, match="local_files_only=True forbids downloads"):
        load(kind, name, **place, local_files_only=True)
    assert served.requests == []
    load(kind, name, **place)
    downloaded = {path.name for path in (tmp_path / "mine").rglob("*") if path.is_file() and path.name[0] != "."}
    assert downloaded and not (tmp_path / "cache").exists()
    assert {sent for _, _, sent in served.requests} == {"Bearer hf_secret"}
    served.requests.clear()
    load(kind, name, **place, local_files_only=True)
    assert served.requests == []
    load(kind, name, **place, force_download=True)
    again = {name for method, name, _ in served.requests if method == "GET"}
    assert again >= downloaded - {"processor_config.json"}


@pytest.mark.parametrize("kind", KINDS)
def test_keywords_without_effect_are_named_and_code_is_refused(folders, kind, caplog) -> None:
    folder = str(folders[repository_of(kind)])
    with caplog.at_level(logging.WARNING):
        load(kind, folder, resume_download=True, trust_remote_code=False, proxies=None, mirror="x")
    told = [record.getMessage() for record in caplog.records if "without effect" in record.getMessage()]
    assert len(told) == 1 and "without effect here: mirror, resume_download" in told[0]
    with pytest.raises(ConfigError, match="trust_remote_code=True is refused"):
        load(kind, folder, trust_remote_code=True)
    with pytest.raises(ConfigError, match="trust_remote_code=True is refused"):
        load(kind, "nobody/nothing", trust_remote_code=True)  # before anything is downloaded


@pytest.mark.parametrize(("backend", "is_fast"), [("pil", False), ("torchvision", True), (None, False)])
def test_the_processor_is_chosen_by_its_backend(folders, backend, is_fast) -> None:
    for name, kind in ((NAME, "LightGlue"), ("someone/detector", "SuperPoint")):
        processor = sfm_lightglue.AutoImageProcessor.from_pretrained(folders[name], backend=backend)
        assert type(processor).__name__ == f"{kind}ImageProcessor{'Fast' if is_fast else ''}"
        assert type(sfm_lightglue.AutoImageProcessor.from_pretrained(folders[name], use_fast=is_fast)) is type(
            processor
        )
    with pytest.raises(ConfigError, match="backend: expected 'pil' or 'torchvision'"):
        sfm_lightglue.AutoImageProcessor.from_pretrained(folders[NAME], backend="jax")


def test_the_processor_of_a_pipeline_may_lie_elsewhere(served, folders, tmp_path) -> None:
    values = {"size": {"height": 32, "width": 48}, "image_processor_type": "LightGlueImageProcessorFast"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    made = sfm_lightglue.pipeline(model=NAME, processor=str(tmp_path), device="cpu")
    assert made.image_processor.size == values["size"]
    assert type(made.image_processor) is sfm_lightglue.LightGlueImageProcessorFast
