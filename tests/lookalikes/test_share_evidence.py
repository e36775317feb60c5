"""Evidence of shares of common points: what is usual depends on how much two views differ."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.lookalikes.share_evidence import beta_density, share_evidence


def symmetric(values: np.ndarray) -> np.ndarray:
    return np.triu(values, 1) + np.triu(values, 1).T


def slowly(shares: np.ndarray, differences: np.ndarray, is_known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The definition, pair by pair."""
    num = len(shares)
    pairs = [(i, j) for i in range(num) for j in range(num) if is_known[i, j]]
    usual, of_all = np.ones((num, num)), {}
    steps = {pair: differences[pair] // 0.5 * 0.5 for pair in pairs}
    quantile_from_step = {
        step: np.quantile([shares[pair] for pair in pairs if differences[pair] >= step], 0.75)
        for step in set(steps.values())
    }
    for i, j in pairs:
        own = np.array([shares[i, k] for k in range(num) if is_known[i, k]])
        farther = np.array(
            [shares[i, k] for k in range(num) if is_known[i, k] and differences[i, k] >= differences[i, j]]
        )
        of_all[i] = np.sort(own)[-3:].mean()
        quantiles = [value for step, value in quantile_from_step.items() if step <= steps[i, j]]
        weight = min(len(farther) / 10, 1.0)
        usual[i, j] = weight * np.sort(farther)[-3:].mean() + (1 - weight) * min(*quantiles, of_all[i], 1.0)
    usual = np.minimum(np.minimum(usual, usual.T), np.median(list(of_all.values())))
    weight = np.clip((usual - 0.25) / 0.2, 0, 1)
    mean, filled = np.clip(usual, 0.2, 0.9), np.clip(shares, 0.01, 0.99)
    true = 0.95 * beta_density(filled, 16 * mean, 16 * (1 - mean)) + 0.05
    return weight * np.log(true / beta_density(filled, 0.8, 2.4)), is_known & (weight > 0)


@pytest.mark.parametrize(("seed", "num", "fraction"), [(0, 6, 1.0), (1, 16, 0.7), (2, 24, 0.9), (3, 12, 0.15)])
def test_the_evidence_is_that_of_the_definition(seed: int, num: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    shares, differences = (symmetric(rng.uniform(0, most, (num, num))) for most in (1.0, 20.0))
    is_known = symmetric(rng.random((num, num)) < fraction) > 0
    expected, where = slowly(shares, differences, is_known)
    evidence, is_told = share_evidence(shares, np.where(is_known, differences, np.nan), is_known)
    np.testing.assert_array_equal(is_told, where)
    assert is_told.any()
    np.testing.assert_allclose(evidence[is_told], expected[is_told], rtol=1e-9)
    np.testing.assert_allclose(np.where(is_told, evidence, 0), np.where(is_told, evidence, 0).T)


def test_a_small_share_is_evidence_only_if_more_different_views_share_more() -> None:
    """Images along a line: two lack common points, once the most different ones, once two neighbours."""
    place = np.arange(30.0)
    differences = np.abs(place[:, None] - place) / 2
    is_known = differences > 0
    falling = np.clip(0.9 - differences / 15, 0.0, 1.0)
    assert share_evidence(falling, differences, is_known)[0][0, 29] > -0.5
    falling[14, 15] = falling[15, 14] = 0.02
    evidence, is_told = share_evidence(falling, differences, is_known)
    assert evidence[14, 15] < -3
    assert (evidence[is_told] < -1).sum() == 2


def test_without_shares_there_is_no_evidence() -> None:
    for num in (0, 1, 3):
        nothing = np.zeros((num, num))
        evidence, is_told = share_evidence(nothing, np.full((num, num), np.nan), nothing > 0)
        assert evidence.shape == is_told.shape == (num, num)
        assert not is_told.any()
