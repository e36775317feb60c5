"""Safetensors files without torch."""

import pytest

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.weights.array_file import read_arrays
from sfm_lightglue.weights.lookup import find_weights


def test_arrays_are_read_by_key():
    arrays = read_arrays(find_weights("retrieval_sift"))
    assert arrays["mean"].shape == (128,)


@pytest.mark.parametrize("content", [b"", b"not safetensors", b"\xff" * 64])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "vocabulary.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"vocabulary\.safetensors: damaged"):
        read_arrays(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"missing\.safetensors"):
        read_arrays(tmp_path / "missing.safetensors")


def test_a_file_cut_off_is_refused(tmp_path):
    path = tmp_path / "vocabulary.safetensors"
    path.write_bytes(find_weights("retrieval_sift").read_bytes()[:-9])
    with pytest.raises(WeightsError, match="damaged"):
        read_arrays(path)
