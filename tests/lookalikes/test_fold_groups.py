"""Groups of images that agree: merged in the order of their evidence."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.lookalikes.fold_groups import agreeing_groups


def slowly(evidence: np.ndarray, is_known: np.ndarray) -> list[list[int]]:
    """The definition: in each step, the two groups with the largest mean are merged."""
    groups = [[row] for row in range(len(evidence))]
    values, known = np.where(is_known, evidence, 0.0), is_known.astype(float)
    while True:
        best, merged = 0.0, None
        for second in range(len(groups)):
            for first in range(second):
                block = np.ix_(groups[first], groups[second])
                mean = values[block].sum() / (known[block].sum() + 2.0)
                if mean > best:
                    best, merged = mean, (first, second)
        if merged is None:
            return sorted(sorted(group) for group in groups)
        first, second = merged
        groups[first] += groups.pop(second)


@pytest.mark.parametrize("seed", range(6))
def test_the_groups_are_those_of_the_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 3, 18)
    evidence = np.where(place[:, None] == place, 0.6, -0.6) + rng.normal(0, 1.0, (18, 18))
    evidence = evidence + evidence.T
    is_known = rng.random((18, 18)) < 0.5
    is_known = is_known | is_known.T
    np.fill_diagonal(is_known, False)
    assert [rows.tolist() for rows in agreeing_groups(evidence, is_known)] == slowly(evidence, is_known)
