"""The fit of the logistic model of look-alikes: calibrated, with known signs, and tested on unseen groups."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lookalikes_fit import (
    PENALTIES,
    PRIOR,
    PairTable,
    calibration_error,
    chosen_penalty,
    fit,
    held_out_probabilities,
    mean_loss,
    ranking_quality,
    reliability_table,
    scene_probabilities_of,
)
from benchmarks.lookalikes_pairs import MAX_KEYPOINTS, LabelledScene
from benchmarks.lookalikes_scenes import SCENES
from benchmarks.lookalikes_training import FIRST_SEED, SIZE, training_scenes, training_set
from sfm_lightglue.lookalikes.cues import CUES_VERSION, PairCues
from sfm_lightglue.lookalikes.probability import PACKAGED_MODEL, OverlapModel
from sfm_lightglue.lookalikes.twins import TWINS_VERSION

TRUTH = replace(PRIOR, weights=tuple(2 * weight for weight in PRIOR.weights), slope=0.4, offset=0.6)
"""Cues say twice as much as the prior weights, and the logit of the score is too large."""


def simulated(num_scenes: int, seed: int) -> PairTable:
    """Pairs whose labels follow `TRUTH`; a tenth of all values is unknown."""
    rng = np.random.default_rng(seed)
    num = 60 * num_scenes
    values = rng.normal(PRIOR.means, PRIOR.scales, (num, len(PRIOR.fields)))
    values[rng.random(values.shape) < 0.1] = np.nan
    standard = np.nan_to_num((values - np.array(PRIOR.means)) / np.array(PRIOR.scales))
    logits = TRUTH.slope * (standard @ np.array(TRUTH.weights) + TRUTH.bias) + TRUTH.offset
    is_true = rng.random(num) < 1 / (1 + np.exp(-logits))
    scene = np.repeat(np.arange(num_scenes), 60)
    return PairTable(values, is_true, scene % 5, scene, np.ones(num))


@pytest.fixture(scope="module")
def table() -> PairTable:
    """Pairs of 40 scenes."""
    return simulated(40, 0)


def test_scores_keep_their_scale_and_the_calibration_is_learned(table):
    model = fit(table, PENALTIES[-1])
    assert model.bias == PRIOR.bias
    assert model.fields == PRIOR.fields
    np.testing.assert_allclose(model.weights, PRIOR.weights, rtol=0.2)
    assert model.slope == pytest.approx(2 * TRUTH.slope, rel=0.2)


def test_weights_follow_the_data_but_never_change_their_signs(table):
    column = PRIOR.fields.index("jaccard")
    turned = table.values.copy()
    turned[:, column] = 2 * PRIOR.means[column] - turned[:, column]
    model = fit(replace(table, values=turned), PENALTIES[0])
    assert model.weights[column] == 0
    assert all(weight * prior >= 0 for weight, prior in zip(model.weights, PRIOR.weights, strict=True))
    free, held = (
        np.abs(np.array(fit(replace(table, values=turned), penalty).weights) - PRIOR.weights).max()
        for penalty in (PENALTIES[0], 100.0)
    )
    assert held < 0.1 < free


def test_probabilities_of_unseen_groups_are_calibrated(table):
    probabilities = held_out_probabilities(table, PENALTIES[0])
    assert calibration_error(table, probabilities) < 0.05
    assert ranking_quality(table.is_true, probabilities) > 0.8
    constant = np.full(len(table.is_true), table.is_true.mean())
    assert mean_loss(table, probabilities) < mean_loss(table, constant) - 0.1
    by_hand = scene_probabilities_of(table, PRIOR)
    assert mean_loss(table, probabilities) < mean_loss(table, by_hand)
    assert calibration_error(table, 1 - probabilities) > 0.3
    assert reliability_table(table, probabilities).count("\n") == 11


def test_a_group_does_not_train_its_own_probabilities(table):
    own = table.group == 2
    cues = table.values[own]
    flipped = replace(table, is_true=np.where(own, ~table.is_true, table.is_true))
    first, second = (held_out_probabilities(one, PENALTIES[0])[own] for one in (table, flipped))
    assert len(cues) > 0
    assert np.array_equal(first, second)


def test_weights_leave_the_prior_only_where_the_groups_agree(table):
    near = held_out_probabilities(table, 100.0)
    right = np.where(table.is_true, 1.0, 0.0)
    better_in_one = np.where(table.group == 0, 0.3 * right + 0.7 * near, 0.03 * (1 - right) + 0.97 * near)
    assert mean_loss(table, better_in_one) < mean_loss(table, near)
    better_in_all = 0.3 * right + 0.7 * near
    assert chosen_penalty(table, {1.0: near, 0.1: better_in_one}) == 1.0
    assert chosen_penalty(table, {1.0: near, 0.1: better_in_all}) == 0.1


def test_the_weight_of_a_pair_counts(table):
    heavy = replace(table, weight=np.where(table.is_true, 3.0, 1.0))
    assert fit(heavy, PENALTIES[0]).offset > fit(table, PENALTIES[0]).offset + 0.5


def test_ranking_quality_of_equal_values_is_one_half():
    is_true = np.array([True, True, False])
    assert ranking_quality(is_true, np.zeros(3)) == 0.5
    assert ranking_quality(is_true, np.array([2.0, 3.0, 1.0])) == 1.0


def test_training_seeds_are_no_others():
    scenes = training_scenes(3)
    assert len({scene.seed for scene in scenes}) == len(scenes)
    assert min(scene.seed for scene in scenes) == FIRST_SEED
    assert max(scene.seed for scene in SCENES) < FIRST_SEED
    assert {scene.with_positions for scene in scenes} == {True, False}


def labelled(like: bool) -> LabelledScene:
    """Three true and three false pairs; the false ones match as completely as the true ones, or hardly at all."""
    known = list(zip(PRIOR.fields, PRIOR.means, PRIOR.scales, np.sign(PRIOR.weights), strict=True))
    complete, hardly = (
        PairCues(**{name: mean + side * sign * scale for name, mean, scale, sign in known}).as_vector()
        for side in (1, -1)
    )
    rows = [complete] * 3 + [complete if like else hardly] * 3
    ends = np.array([(0, 1), (1, 2), (0, 2), (3, 4), (4, 5), (3, 5)])
    return LabelledScene(np.array(rows), np.array([0.9, 0.8, 0.7, 0.0, 0.1, 0.2]), ends, np.tile(np.eye(3), (6, 1, 1)))


def test_scenes_whose_false_pairs_look_true_are_left_out(tmp_path, monkeypatch):
    scenes = training_scenes(1)[:2]
    found = {scenes[0].kind: labelled(like=False), scenes[1].kind: labelled(like=True)}
    monkeypatch.setattr("benchmarks.lookalikes_training.data_versions", lambda: {"all": 1})
    monkeypatch.setattr("benchmarks.lookalikes_training._labelled", lambda scene, *_: found[scene.kind])
    training = training_set(scenes, tmp_path)
    assert (training.used, training.twins) == ((scenes[0],), (scenes[1],))
    assert training.table.is_true.tolist() == [True] * 3 + [False] * 3


def test_labelled_pairs_are_read_as_they_were_written(tmp_path):
    scene = labelled(like=False)
    scene.save(tmp_path / "scene.npz")
    again = LabelledScene.load(tmp_path / "scene.npz")
    np.testing.assert_array_equal(again.cues, scene.cues)
    np.testing.assert_array_equal(again.rotations, scene.rotations)
    assert again.is_true.tolist() == scene.is_true.tolist()


@pytest.fixture(scope="module")
def trained() -> PairTable:
    """The pairs of the training of the packaged file, as the program wrote them."""
    return PairTable.load(Path(__file__).with_name("lookalikes_training_pairs.npz"))


def test_the_packaged_coefficients_are_fitted_to_the_pairs_of_the_training(trained):
    stored = json.loads(PACKAGED_MODEL.read_text(encoding="utf-8"))
    again, packaged = fit(trained, stored["training"]["penalty"]), OverlapModel.from_mapping(stored)
    np.testing.assert_allclose(again.weights, packaged.weights, atol=2e-3)
    assert (again.slope, again.offset) == pytest.approx((packaged.slope, packaged.offset), abs=5e-3)
    assert (len(trained.is_true), trained.is_true.sum()) == tuple(
        stored["training"][name] for name in ("num_pairs", "num_true")
    )


def test_validation_chose_how_near_the_packaged_weights_are_to_those_set_by_hand(trained):
    stored = json.loads(PACKAGED_MODEL.read_text(encoding="utf-8"))
    held_out = {penalty: held_out_probabilities(trained, penalty) for penalty in PENALTIES}
    assert stored["training"]["penalty"] == chosen_penalty(trained, held_out) < PENALTIES[-1]
    assert stored["weights"] != list(PRIOR.weights)


def test_probabilities_of_rendered_kinds_that_were_held_out_are_calibrated(trained):
    stored = json.loads(PACKAGED_MODEL.read_text(encoding="utf-8"))["training"]
    probabilities = held_out_probabilities(trained, stored["penalty"])
    measured = stored["kinds_held_out"]
    assert calibration_error(trained, probabilities) == pytest.approx(measured["calibration_error"], abs=0.01)
    assert mean_loss(trained, probabilities) == pytest.approx(measured["loss"], abs=0.01)
    scores = scene_probabilities_of(trained, replace(PRIOR, slope=1.0, offset=0.0))
    assert mean_loss(trained, probabilities) < 0.6 * mean_loss(trained, scores)
    assert calibration_error(trained, probabilities) < 0.5 * calibration_error(trained, scores)


def test_the_packaged_file_was_made_by_the_program():
    stored = json.loads(PACKAGED_MODEL.read_text(encoding="utf-8"))
    training, model = stored["training"], OverlapModel.from_mapping(stored)
    assert model.fields == PRIOR.fields
    assert (model.bias, model.means, model.scales) == (PRIOR.bias, PRIOR.means, PRIOR.scales)
    assert all(weight * prior >= 0 for weight, prior in zip(model.weights, PRIOR.weights, strict=True))
    assert model != PRIOR
    assert training["penalty"] in PENALTIES
    known = [[scene.kind, scene.seed] for scene in training_scenes(9)]
    chosen = training["scenes"] + training["left_out_with_twins"]
    assert sorted(chosen) == sorted(known[: len(chosen)])
    assert training["num_true"] < training["num_pairs"]
    assert training["kinds_held_out"]["calibration_error"] < 0.1
    data = training["data"]
    assert (data["image_size"], data["max_keypoints"]) == (list(SIZE), MAX_KEYPOINTS)
    assert {"extractor", "matcher", "two_view"} <= data.keys()
    assert (data["cues"], data["twins"]) == (CUES_VERSION, TWINS_VERSION), "train again: the cues have another version"
