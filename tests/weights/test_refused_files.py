"""Files that are refused: damaged, truncated, with code, with a wrong digest, or of another network."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import zipfile

import pytest
import safetensors.torch
import torch

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.models.checkpoints import load_lightglue, load_superpoint, save_lightglue, save_superpoint
from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.models.superpoint import SuperPoint
from sfm_lightglue.weights.digest import fault_of, file_sha256
from sfm_lightglue.weights.state_dict import read_weights
from tests.helpers.weight_layouts import ARCHITECTURES, SUPERPOINT

pytestmark = pytest.mark.usefixtures("torch_seed")


def test_damaged_pickles_raise_only_weights_errors(tmp_path):
    path, rng = tmp_path / "fuzzed.pth", random.Random(0)
    state = {"posenc.Wr.weight": torch.ones(4, 2), "self_attn.0.Wqkv.weight": torch.ones(96, 32)}
    for modern in (True, False):
        torch.save(state, path, _use_new_zipfile_serialization=modern)
        content = path.read_bytes()
        for _ in range(100):
            damaged = bytearray(content)
            for _ in range(rng.randint(1, 8)):
                damaged[rng.randrange(2, min(len(damaged), 1000))] = rng.randrange(256)
            path.write_bytes(damaged)
            with pytest.raises(WeightsError):
                load_lightglue(path)


class Evil:
    """A pickle that creates a folder when it is loaded without protection."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickled_code_is_refused_and_does_not_run(tmp_path):
    torch.save({"model": Evil(tmp_path / "pwned")}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"evil\.pth: damaged, or contains more than tensors.*safetensors"):
        load_lightglue(tmp_path / "evil.pth")
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil(tmp_path / "pwned")))
    with pytest.raises(WeightsError, match=r"evil\.pkl"):
        load_lightglue(tmp_path / "evil.pkl")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.99])
def test_truncated_files_are_refused(tmp_path, suffix, keep):
    path = tmp_path / f"truncated{suffix}"
    network = LightGlue(ARCHITECTURES[0])
    if suffix == ".pth":
        torch.save(network.state_dict(), path)
    else:
        save_lightglue(network, path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(WeightsError, match=f"truncated{suffix}"):
        load_lightglue(path)


def test_files_without_weights_are_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"absent\.pth: no such file"):
        load_lightglue(tmp_path / "absent.pth")
    with pytest.raises(WeightsError, match="no such file"):
        load_superpoint(tmp_path)
    (tmp_path / "page.html").write_text("<html>404: not found</html>")
    with pytest.raises(WeightsError, match=r"page\.html: damaged"):
        load_lightglue(tmp_path / "page.html")
    for name, content in (("list", [1, 2]), ("numbers", {"a": 1.0}), ("empty", {})):
        torch.save(content, tmp_path / name)
        with pytest.raises(WeightsError, match=name):
            load_lightglue(tmp_path / name)


@pytest.mark.parametrize(
    "architecture", ["{", "[]", '{"num_layers": 0}', '{"depth": 3}', '{"num_layers": "nine"}', None]
)
def test_unreadable_metadata_are_refused(tmp_path, architecture):
    metadata = {"format": "sfm_lightglue", "network": "lightglue"}
    if architecture is not None:
        metadata["architecture"] = architecture
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "x.safetensors", metadata=metadata)
    with pytest.raises(WeightsError, match=r"x\.safetensors: its architecture cannot be read"):
        load_lightglue(tmp_path / "x.safetensors")


def test_sha256_is_verified(tmp_path):
    path = tmp_path / "network.safetensors"
    save_superpoint(SuperPoint(SUPERPOINT), path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert file_sha256(path) == digest
    assert fault_of(path, digest.upper()) is None
    load_superpoint(path, sha256=digest)
    with pytest.raises(WeightsError, match=f"has the sha256 {digest}, expected 0000"):
        load_superpoint(path, sha256="0" * 64)
    with pytest.raises(WeightsError, match="cannot be read"):
        file_sha256(tmp_path / "absent")
    assert "cannot be read" in str(fault_of(tmp_path / "absent", None))


def test_superpoint_and_lightglue_are_distinguished(tmp_path):
    save_superpoint(SuperPoint(SUPERPOINT), tmp_path / "superpoint.safetensors")
    save_lightglue(LightGlue(ARCHITECTURES[0]), tmp_path / "lightglue.safetensors")
    with pytest.raises(WeightsError, match="contains a superpoint, expected a lightglue"):
        load_lightglue(tmp_path / "superpoint.safetensors")
    with pytest.raises(WeightsError, match="contains a lightglue, expected a superpoint"):
        load_superpoint(tmp_path / "lightglue.safetensors")
    torch.save(SuperPoint(SUPERPOINT).state_dict(), tmp_path / "superpoint.pth")
    with pytest.raises(WeightsError, match="unexpected keys: conv1a"):
        load_lightglue(tmp_path / "superpoint.pth")


def test_archives_that_are_unpacked_to_far_more_than_their_size_are_refused(tmp_path):
    """torch reads compressed archives too, and 30 MB of zeros are 30 kB."""
    path, bomb = tmp_path / "plain.pth", tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(10)}, path)
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as copy:
        for name in archive.namelist():
            copy.writestr(name, bytes(30_000_000) if name.endswith("data/0") else archive.read(name))
    with pytest.raises(WeightsError, match="would be unpacked to 3"):
        read_weights(bomb)
    assert read_weights(path).state["a"].shape == (10,)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "loop.pth").symlink_to("loop.pth")
    for path in (tmp_path / "pipe.pth", tmp_path / "loop.pth", tmp_path, "/dev/zero", "x" * 5000, "a\0b"):
        with pytest.raises(WeightsError, match="no such file of weights"):
            read_weights(path)
