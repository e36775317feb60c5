"""Which matches are drawn if there are too many."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.drawing.matches import evenly_chosen


@pytest.mark.parametrize("number", [0, 1, 11, 12, 13, 23, 24, 500])
@pytest.mark.parametrize("limit", [1, 12])
def test_as_many_lines_as_the_limit_allows_are_chosen_evenly(number: int, limit: int) -> None:
    mask = np.zeros(2 * number, np.bool_)
    mask[1::2] = True
    chosen = evenly_chosen(mask, limit)
    assert len(np.unique(chosen)) == len(chosen) == min(number, limit)
    assert mask[chosen].all()
    if len(chosen) > 1:
        assert (chosen[0], chosen[-1]) == (1, 2 * number - 1) and np.ptp(np.diff(chosen)) <= 2
