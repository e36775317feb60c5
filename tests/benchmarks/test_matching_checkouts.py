"""Two checkouts are compared on the same pairs; here a checkout with itself."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.matching import ROOT
from benchmarks.matching_checkouts import CheckoutMatcher, ratio_table
from sfm_lightglue.matchers.lightglue import LightGlueMatcher
from sfm_lightglue.reconstruction.config import ReconstructConfig
from tests.helpers.random_features import random_sift


def test_a_checkout_finds_the_matches_of_its_own_code() -> None:
    images = [random_sift(seed, 50) for seed in range(3)]
    pairs = [(images[0], images[1]), (images[0], images[2]), (images[0], images[0])]
    with CheckoutMatcher(ROOT, "cpu") as this, CheckoutMatcher(ROOT, "cpu") as other:
        table = ratio_table({"noise": pairs[:2], "equal": pairs[2:]}, this, other).splitlines()
        found = this.timed(*pairs[2])
    assert [line.split("|")[1:3] for line in table[3:]] == [[" noise ", " 2 "], [" equal ", " 1 "], [" all ", " 3 "]]
    assert [line.split("|")[-2].strip() for line in table[3:]] == ["2", "1", "3"]
    here = LightGlueMatcher(device="cpu").match(*pairs[2])
    assert len(here) > 10 and np.array_equal(found.matches.indices, here.indices)
    assert found.cpu_s > 0 and found.wall_s > 0


def test_matches_are_those_of_a_reconstruction_if_asked() -> None:
    both = [random_sift(seed, 800) for seed in (0, 0)]
    with CheckoutMatcher(ROOT, "cpu", as_reconstruct=True) as matcher:
        found = matcher.match(*both)
    expected = LightGlueMatcher(ReconstructConfig().matcher.config, "cpu").match(*both)
    assert len(found) <= 640
    assert np.array_equal(found.indices, expected.indices)


ONE_MATCH = """
def _one_match(self, features0, features1):
    (found,) = self.match_batch([(features0, features1)])
    return Matches(found.indices[:1], found.scores[:1], found.stop_layer)

LightGlueMatcher.match = _one_match
"""


def test_another_checkout_runs_its_own_code(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "sfm_lightglue", tmp_path / "sfm_lightglue", ignore=shutil.ignore_patterns("__pycache__"))
    code = tmp_path / "sfm_lightglue" / "matchers" / "lightglue.py"
    code.write_text(code.read_text(encoding="utf-8") + ONE_MATCH, encoding="utf-8")
    both = [random_sift(seed, 50) for seed in (0, 0)]
    with CheckoutMatcher(ROOT, "cpu") as this, CheckoutMatcher(tmp_path, "cpu") as other:
        assert len(this.match(*both)) > 10
        assert len(other.match(*both)) == 1


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capfd: pytest.CaptureFixture[str]) -> None:
    with CheckoutMatcher(tmp_path, "cpu") as matcher, pytest.raises((EOFError, BrokenPipeError)):
        matcher.match(random_sift(0, 5), random_sift(1, 5))
    assert "not a checkout of this project" in capfd.readouterr().err
