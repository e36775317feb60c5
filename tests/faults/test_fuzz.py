"""Damaged inputs of all kinds: only errors of the library, in limited time and memory, and no file changed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.robustness import SHARES
from benchmarks.robustness_corpus import make_corpus
from benchmarks.robustness_mutators import mutate_bytes
from benchmarks.robustness_shim import Server
from benchmarks.robustness_trials import Bench

NUM_INPUTS = {name: round(3000 * share) for name, share in SHARES.items()}


@pytest.fixture(scope="module")
def corpus(bench: Bench, scratch: Path) -> Path:
    folder = scratch / "corpus"
    make_corpus(folder, bench.scene, bench.finished("b"))
    return folder


@pytest.mark.parametrize("target", SHARES)
def test_damaged_inputs_end_with_an_error_of_the_library_or_a_result(
    target: str, server: Server, corpus: Path, scratch: Path
) -> None:
    outcome = server.fuzz(target, 0, NUM_INPUTS[target], 1, corpus, scratch / f"fuzz-{target.replace(' ', '-')}")
    assert outcome["num_inputs"] == NUM_INPUTS[target]
    assert outcome["violations"] == []


def test_changes_of_bytes_depend_on_the_seed_only() -> None:
    data = bytes(range(256)) * 4
    changed = [mutate_bytes(data, random.Random(seed)) for seed in range(50)]
    assert changed == [mutate_bytes(data, random.Random(seed)) for seed in range(50)]
    assert sum(one != data for one in changed) > 45
    assert len({len(one) for one in changed}) > 5
