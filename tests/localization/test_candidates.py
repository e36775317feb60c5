"""Images of other places are matched before a pose is accepted, and no image is chosen twice."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from sfm_lightglue.localization.candidates import choose_candidates

IDS_FROM_PLACE = {"a": np.arange(10), "b": np.arange(20, 30), "c": np.arange(40, 50)}


class Ranked:
    """An index whose similarities are given."""

    def __init__(self, places: str, similarities: list[float] | None = None) -> None:
        given = similarities or [1 - 0.01 * i for i in range(len(places))]
        self.names = [f"{place}{i}" for i, place in enumerate(places)]
        self.found = list(zip(self.names, given, strict=True))

    def query(self, features: object, k: int) -> list[tuple[str, float]]:
        return self.found[:k]


class Places:
    """Points of a map in which images of one letter see the same points."""

    def observed_ids(self, name: str) -> Any:
        return IDS_FROM_PLACE[name[0]]


def chosen(index: Ranked, num: int, num_first: int) -> tuple[list[str], list[str]]:
    return choose_candidates(cast(Any, index), cast(Any, None), cast(Any, Places()), num, num_first)


@pytest.mark.parametrize("places", ["aaabbbbbb", "aaabbbbb", "aaabbbaaabbb"])
def test_the_twin_of_a_place_is_matched_first(places: str) -> None:
    first, others = chosen(Ranked(places), 8, 3)
    assert first[:3] == ["a0", "a1", "a2"]
    assert {name for name in first if name[0] == "b"} >= {"b3", "b4", "b5"}
    assert all(name[0] == "a" for name in others)


def test_an_unlike_image_of_another_place_is_matched_first_if_it_is_matched_at_all() -> None:
    first, others = chosen(Ranked("aaaaab", [1.0, 0.9, 0.9, 0.9, 0.9, 0.1]), 8, 3)
    assert (first, others) == (["a0", "a1", "a2", "b5"], ["a3", "a4"])


def test_a_rival_displaces_the_last_images() -> None:
    first, others = chosen(Ranked("a" * 12 + "c"), 8, 3)
    assert first == ["a0", "a1", "a2", "c12"]
    assert others == ["a3", "a4", "a5", "a6"]


@pytest.mark.parametrize("num_first", [1, 3, 6, 7, 8])
@pytest.mark.parametrize("places", ["aaaaaaabbbbb", "aaaaaaaa", "abcabcabcabcabc", "aa", ""])
def test_no_image_comes_twice(places: str, num_first: int) -> None:
    index = Ranked(places)
    first, others = chosen(index, 8, num_first)
    assert len(set(first) | set(others)) == len([*first, *others]) == min(8, len(places))
    assert set(index.names[: min(num_first, 6)]) <= set(first)
