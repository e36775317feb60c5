"""The places of a folded model stand out: images from one place share fewer points than those of farther true pairs."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.lookalikes.fold_places import located_fold, view_angles_deg
from sfm_lightglue.lookalikes.model_check import check_fold
from sfm_lightglue.lookalikes.sparse_model import SparseModel
from sfm_lightglue.types import ImagePair
from tests.helpers.folded_models import street_model

FOLDED = {"num_twins": 400, "num_own": 120}
"""Most points of the houses are common, so that the shares contradict no place."""


def places(names: tuple[str, ...]) -> set[tuple[str, ...]]:
    return {tuple(name for name in names if name[0] == house) for house in {name[0] for name in names}}


@pytest.mark.parametrize("num_houses", [2, 3])
def test_the_houses_of_a_folded_street_stand_out(num_houses: int) -> None:
    model = street_model(True, num_houses, **FOLDED)
    found = check_fold(model)
    located = located_fold(model, found)
    assert located is not None
    assert set(located.groups) == places(found.names)
    assert len(located.conflicts) == num_houses * (num_houses - 1) // 2
    assert located.conflict == located.conflicts[0].conflict > 0.5
    assert (located.names, located.num_common.tolist()) == (found.names, found.num_common.tolist())


@pytest.mark.parametrize("detected", [0.5, 0.8, 0.95])
def test_no_place_stands_out_in_a_right_street(detected: float) -> None:
    model = street_model(False, 2, detected=detected)
    assert located_fold(model, check_fold(model)) is None


def test_pairs_that_were_not_matched_say_nothing() -> None:
    model = street_model(True, **FOLDED)
    found = check_fold(model)
    within = [ImagePair(f"{house}-{n}.jpg", f"{house}-{n + 1}.jpg") for house in range(2) for n in range(5)]
    assert located_fold(model, found, within) is None


def test_places_that_the_user_joined_are_one() -> None:
    model = street_model(True, **FOLDED)
    found = check_fold(model, trusted=[ImagePair("0-2.jpg", "1-2.jpg")])
    assert found.is_joined.all()
    assert located_fold(model, found) is None


def test_the_angle_between_views_is_that_of_the_rays() -> None:
    arrays = SparseModel.from_model(street_model(False, 2))
    angles = view_angles_deg(arrays)
    assert np.array_equal(angles, angles.T, equal_nan=True)
    assert np.isnan(angles[0, -1]), "images of different houses have no common points"
    is_known = arrays.num_common() // arrays.step >= 5
    np.fill_diagonal(is_known, False)
    assert np.array_equal(~np.isnan(angles), is_known)
    near, far = angles[0, 1], angles[0, 5]
    # Neighbours stand 1.2 apart, 9 before the house.
    assert near == pytest.approx(np.degrees(np.arctan(1.2 / 9)), abs=2.5)
    assert near < angles[0, 2] < far
