"""Suggested pairs that a closer look leaves out are counted and told."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.pairs.transitive import TransitiveConfig
from sfm_lightglue.reconstruction.pair_record import with_left_out
from sfm_lightglue.stages import into_database
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.into_database import PairCounts, match_scene
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.types import ImagePair

FIRST, LIKELY, UNLIKELY = ImagePair("a", "b"), ImagePair("a", "c"), ImagePair("b", "c")


def counted(monkeypatch: pytest.MonkeyPatch, likely: list[ImagePair]) -> PairCounts:
    names = ("a", "b", "c")
    suggested = IndexedPairs.from_pairs(names, [LIKELY, UNLIKELY])
    monkeypatch.setattr(into_database, "suggested_pairs", lambda *arguments: suggested)
    monkeypatch.setattr(into_database, "without_unlikely", lambda *arguments: IndexedPairs.from_pairs(names, likely))
    monkeypatch.setattr(into_database, "match_pairs", lambda *arguments: ())
    plan = PairPlan([FIRST], TransitiveConfig(rounds=2))
    anything = cast(Any, SimpleNamespace(store=None))
    cameras = cast(Any, dict.fromkeys(names))
    return match_scene(
        plan, cast(Any, {}), cameras, anything, anything, anything, Clock.for_stages(("match", "verify", "select"))
    )


def test_pairs_that_are_left_out_are_counted_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        counts = counted(monkeypatch, [LIKELY])
    assert (counts.num_pairs, counts.num_left_out) == (2, 1)
    assert "1 suggested pairs are left out" in caplog.text and "`transitive.closer_look`" in caplog.text
    assert with_left_out("chosen", counts.num_left_out).startswith("chosen; 1 suggested pairs are left out")


def test_nothing_is_told_if_all_pairs_are_matched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        counts = counted(monkeypatch, [LIKELY, UNLIKELY])
    assert (counts.num_pairs, counts.num_left_out) == (3, 0)
    assert "left out" not in caplog.text
    assert with_left_out("chosen", 0) == "chosen"
