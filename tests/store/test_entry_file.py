"""Large entries are read as NumPy writes them."""

import io
import zipfile

import numpy as np
import pytest

from sfm_lightglue.store.entry_file import read_entry_file, write_entry_file

KEY = "ab" * 32
RNG = np.random.default_rng(0)
ARRAYS = {
    "rows": RNG.random((7, 3), np.float32),
    "columns": np.asfortranarray(RNG.random((4, 5))),
    "cube": np.asfortranarray(RNG.integers(0, 9, (2, 3, 4))),
    "every_second": RNG.random((9, 2))[::2],
    "scalar": np.array(3),
    "empty": np.zeros((0, 128), np.float32),
    "mask": RNG.random(11) < 0.5,
    "words": np.array(["a", "größer"]),
    "bytes": RNG.integers(0, 255, (3, 128), np.uint8),
}


def test_arrays_come_back_as_they_are_and_can_be_changed(tmp_path):
    write_entry_file(tmp_path / "entry.npz", KEY, ARRAYS)
    for _ in range(2):
        found = read_entry_file(tmp_path / "entry.npz", KEY)
        assert found.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            assert np.array_equal(found[name], array)
            found[name][...] = np.zeros(1, array.dtype)[0]  # also not those that are read next


@pytest.mark.parametrize("array", [np.array([{}], object), np.array([1, 2])], ids=["object", "too few bytes"])
def test_other_arrays_are_refused(tmp_path, array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    with zipfile.ZipFile(tmp_path / "entry.npz", "w") as archive:
        archive.writestr("array.npy", stream.getvalue()[:-8])
    with pytest.raises(ValueError, match=r"bytes|array"):
        read_entry_file(tmp_path / "entry.npz", KEY)
