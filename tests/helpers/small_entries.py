"""Small entries of a store, by number."""

import numpy as np

from sfm_lightglue.store.store import make_key

KEYS = [make_key("entry", number) for number in range(40)]


def arrays_of(number):
    rng = np.random.default_rng(number)
    return {"indices": rng.integers(0, 99, (number, 2), np.int32), "scores": rng.random(number, np.float32)}


def save(store, numbers, kind="matches"):
    for number in numbers:
        store.save(kind, KEYS[number], arrays_of(number))


def found_numbers(store, kind="matches", keys=KEYS):
    """The numbers of the entries that are found; all of them have the right arrays."""
    found = []
    for number, key in enumerate(keys):
        arrays = store.read(kind, key)
        if arrays is not None:
            assert all(np.array_equal(arrays[name], array) for name, array in arrays_of(number).items())
            found.append(number)
    return found


def shard_paths(store, kind="matches"):
    return sorted((store.root / kind).glob("*.npz"))
