"""Keys whose first parts are the same."""

from dataclasses import dataclass

import pytest

from sfm_lightglue.store.store import KeyPrefix, canonical_json, make_key


@dataclass(frozen=True)
class Config:
    size: int = 3


@pytest.mark.parametrize("first", [("matches",), ("two_view", Config()), (1, {"b": 2, "a": [1.5]}, "]")])
@pytest.mark.parametrize("rest", [("a" * 64,), ('"quoted\\', "ä\udce9"), ([1.5, Config(4)], {"y": 1, "x": None})])
def test_a_prefix_gives_the_same_keys_as_all_parts_at_once(first, rest):
    prefix = KeyPrefix(*first)
    for _ in range(2):  # a key does not change the prefix
        assert prefix.key(*map(canonical_json, rest)) == make_key(*first, *rest)
