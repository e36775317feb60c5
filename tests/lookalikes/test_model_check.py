"""Folds are found in models, and the groups and pairs that make them; see also the right models beside this file."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from sfm_lightglue.lookalikes.fold_groups import agreeing_groups
from sfm_lightglue.lookalikes.model_check import check_fold
from sfm_lightglue.lookalikes.share_evidence import beta_density
from sfm_lightglue.mapping.checks_config import ChecksConfig
from tests.helpers.folded_models import all_pairs, street_model

LIMIT = ChecksConfig().max_conflict


def by_house(names: tuple[str, ...]) -> set[tuple[str, ...]]:
    return {tuple(name for name in names if name[0] == house) for house in {name[0] for name in names}}


@pytest.mark.parametrize("num_houses", [2, 3])
@pytest.mark.parametrize("num_twins", [60, 150, 300])
def test_a_folded_street_is_found_with_its_houses(num_houses: int, num_twins: int) -> None:
    check = check_fold(street_model(True, num_houses, num_twins=num_twins))
    assert check.conflict > 2 * LIMIT
    assert set(check.groups) == by_house(check.names)
    assert len(check.conflicts) == num_houses * (num_houses - 1) // 2


@pytest.mark.parametrize("detected", [0.5, 0.8, 0.95])
def test_a_right_street_is_no_fold(detected: float) -> None:
    check = check_fold(street_model(False, 3, detected=detected))
    assert check.conflict == 0
    assert check.conflicts == ()


@pytest.mark.parametrize("num_houses", [2, 3])
@pytest.mark.parametrize(("num_twins", "num_own"), [(100, 60), (200, 120)])
def test_pairs_that_look_true_hide_no_fold(num_houses: int, num_twins: int, num_own: int) -> None:
    """All pairs of places with many points in common look true, and would join images with weak evidence."""
    model = street_model(True, num_houses, num_twins=num_twins, num_own=num_own)
    pairs = all_pairs([image.name for image in model.images.values()])
    check = check_fold(model, None, dict.fromkeys(pairs, 0.95))
    assert check.conflict > 2 * LIMIT
    assert set(check.groups) == by_house(check.names)


def test_the_more_points_places_have_in_common_the_weaker_the_conflict() -> None:
    found = [check_fold(street_model(True, num_twins=num)).conflict for num in (30, 150, 600)]
    assert found == sorted(found, reverse=True)


def test_equal_places_without_own_points_cannot_be_told_apart() -> None:
    assert check_fold(street_model(True, num_twins=300, num_own=0)).conflict == 0


def test_pairs_that_join_places_are_those_that_became_points() -> None:
    model = street_model(True)
    check = check_fold(model)
    num_inliers = {pair: 40 for pair in all_pairs(check.names)}
    contradicts_model = [pair for pair in num_inliers if pair.name0 == "0-5.jpg" and pair.name1 == "1-0.jpg"]
    num_inliers |= dict.fromkeys(contradicts_model, 4000)  # few of them became points: they tell of another place
    joining = check.joining_pairs(num_inliers)
    assert joining == sorted(joining)
    assert all(pair.name0[0] != pair.name1[0] for pair in joining)
    assert len(joining) >= 30
    assert not set(contradicts_model) & set(joining)


def test_pairs_of_other_images_join_nothing() -> None:
    check = check_fold(street_model(True))
    assert check.joining_pairs({pair: 40 for pair in all_pairs(["8-0.jpg", "0-0.jpg", "9-0.jpg"])}) == []


def test_images_that_were_not_matched_say_nothing() -> None:
    """Then their points are two points each, and missing in each other's images."""
    model = street_model(True, num_twins=0)
    within = [pair for pair in all_pairs([image.name for image in model.images.values()]) if same_house(pair)]
    assert check_fold(model).conflict > LIMIT
    assert check_fold(model, within).conflict == 0
    assert check_fold(model, []).conflict == 0


def same_house(pair: object) -> bool:
    return pair.name0[0] == pair.name1[0]  # type: ignore[attr-defined]


def test_a_low_probability_before_mapping_separates_images_with_weak_evidence() -> None:
    """An image between two groups goes with the group to which its pairs are probable."""
    model = street_model(True, num_twins=150)
    pairs = [pair for pair in all_pairs([image.name for image in model.images.values()]) if not same_house(pair)]
    check = check_fold(model, None, dict.fromkeys(pairs, 0.01))
    assert set(check.groups) == by_house(check.names)
    assert check.conflict == pytest.approx(check_fold(model).conflict)  # the model alone is judged


def test_the_check_is_deterministic_and_independent_of_its_arguments_order() -> None:
    model = street_model(True)
    pairs = all_pairs([image.name for image in model.images.values()])
    first, second = check_fold(model, pairs), check_fold(model, pairs[::-1])
    assert first.groups == second.groups
    assert first.conflict == second.conflict
    np.testing.assert_array_equal(first.evidence, second.evidence)
    np.testing.assert_array_equal(first.evidence, first.evidence.T)


def test_models_of_few_images_are_no_folds() -> None:
    assert check_fold(street_model(True, num_houses=2, num_images=1)).conflict == 0


def test_groups_without_evidence_stay_apart_and_evidence_decides() -> None:
    evidence = np.array([[0, 2, -3, 0], [2, 0, -3, 0], [-3, -3, 0, 1], [0, 0, 1, 0]], float)
    known = evidence != 0
    assert [group.tolist() for group in agreeing_groups(evidence, known)] == [[0, 1], [2, 3]]
    assert [group.tolist() for group in agreeing_groups(np.zeros((3, 3)), np.zeros((3, 3), bool))] == [[0], [1], [2]]
    assert agreeing_groups(np.zeros((0, 0)), np.zeros((0, 0), bool)) == []
    assert [group.tolist() for group in agreeing_groups(np.ones((3, 3)), np.ones((3, 3), bool))] == [[0, 1, 2]]


def test_the_density_of_the_beta_distribution_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x, a, b = rng.uniform(0.01, 0.99, 50), rng.uniform(0.5, 20, 50), rng.uniform(0.5, 20, 50)
    assert np.allclose(beta_density(x, a, b), beta.pdf(x, a, b), rtol=1e-12)
    assert np.allclose(beta_density(x, 0.8, 2.4), beta.pdf(x, 0.8, 2.4), rtol=1e-12)
