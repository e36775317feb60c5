"""JSON is valid for every name of a file and every encoding."""

import json

import pytest

from sfm_lightglue.store.json_bytes import json_bytes

NAMES = ["ü.jpg", "写真.jpg", "\udcff.jpg", "a\u2028b\u2029c\x85d\n\x1b.jpg", '"\\', "\U0001f600"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_comes_back_from_one_line(name: str, encoding: str) -> None:
    text = json_bytes({"name": name}, encoding=encoding).decode(encoding)
    assert len(text.splitlines()) == 1
    assert json.loads(text) == {"name": name}


def test_names_are_readable_where_they_can_be() -> None:
    assert json_bytes(["写真"]).decode() == '["写真"]'
    assert json_bytes(["写真"], encoding="ascii") == rb'["\u5199\u771f"]'
    assert json_bytes(["a", "写真"], indent=1).decode() == '[\n "a",\n "写真"\n]'
