"""The fit of the logistic model of look-alikes: calibrated, with known signs, and tested on unseen groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.lookalikes_fit import (
    SIGN_FROM_CUE,
    PairTable,
    calibration_error,
    fit,
    held_out_probabilities,
    logits,
    mean_loss,
    ranking_quality,
    reliability_table,
)
from benchmarks.lookalikes_training import FIRST_SEED, training_scenes
from sfm_lightglue.lookalikes.cues import PairCues

FIELDS = ("jaccard", "missing_low", "order_gap")


@pytest.fixture(scope="module")
def table() -> PairTable:
    """Pairs whose labels depend on two cues; the third has the wrong sign, and a tenth of all values is unknown."""
    rng = np.random.default_rng(0)
    values = rng.normal((0.4, 0.6, 0.2), (0.2, 0.1, 0.1), (4000, 3))
    margin = 8 * (values[:, 0] - 0.4) - 12 * (values[:, 1] - 0.6) + 4 * (values[:, 2] - 0.2) + 0.5
    is_true = rng.random(4000) < 1 / (1 + np.exp(-margin))
    values[rng.random(values.shape) < 0.1] = np.nan
    return PairTable(values, is_true, rng.integers(0, 5, 4000), np.ones(4000))


def test_weights_have_the_known_sign_and_useless_cues_are_left_out(table):
    model = fit(table, FIELDS, 1e-3)
    assert model.fields == ("jaccard", "missing_low")
    assert model.weights[0] > 0 > model.weights[1]
    assert model.true_fraction == pytest.approx(table.is_true.mean(), abs=1e-3)


def test_probabilities_of_unseen_groups_are_calibrated(table):
    probabilities = held_out_probabilities(table, FIELDS, 1e-3)
    assert calibration_error(table, probabilities) < 0.05
    assert ranking_quality(table.is_true, probabilities) > 0.8
    constant = np.full(4000, table.is_true.mean())
    assert mean_loss(table, probabilities) < mean_loss(table, constant) - 0.1
    assert calibration_error(table, 1 - probabilities) > 0.3
    assert reliability_table(table, probabilities).count("\n") == 11


def test_a_group_does_not_train_its_own_probabilities(table):
    flipped = replace(table, is_true=np.where(table.group == 2, ~table.is_true, table.is_true))
    own = table.group == 2
    first, second = (held_out_probabilities(one, FIELDS, 1e-3)[own] for one in (table, flipped))
    assert np.array_equal(first, second)


def test_logits_equal_those_of_the_library(table):
    model = fit(table, FIELDS, 1e-3)
    rows = table.values[:20]
    cues = [PairCues(**dict(zip(FIELDS, row.tolist(), strict=True))) for row in rows]
    assert logits(model, rows, FIELDS) == pytest.approx(model.logits(cues))


def test_the_weight_of_a_pair_counts(table):
    heavy = replace(table, weight=np.where(table.is_true, 3.0, 1.0))
    assert fit(heavy, FIELDS, 1e-3).bias > fit(table, FIELDS, 1e-3).bias + 0.5


def test_ranking_quality_of_equal_values_is_one_half():
    is_true = np.array([True, True, False])
    assert ranking_quality(is_true, np.zeros(3)) == 0.5
    assert ranking_quality(is_true, np.array([2.0, 3.0, 1.0])) == 1.0


def test_every_cue_with_a_sign_exists_and_training_seeds_are_no_others():
    assert set(SIGN_FROM_CUE) <= set(PairCues.FIELDS)
    scenes = training_scenes(3)
    assert len({scene.seed for scene in scenes}) == len(scenes)
    assert min(scene.seed for scene in scenes) == FIRST_SEED
    assert {scene.with_positions for scene in scenes} == {True, False}
