"""Pairs whose inliers did not become points of a model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.lookalikes.model_check import check_fold
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.pair_points import pairs_without_points
from sfm_lightglue.reconstruction.folds import Folds
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import make_model, ring_scene
from tests.helpers.folded_models import all_pairs, street_model


@pytest.mark.parametrize(("fraction", "has_points"), [(0.0, False), (0.1, False), (0.5, True), (1.0, True)])
def test_inliers_that_are_no_points_of_the_model_are_found(fraction: float, has_points: bool) -> None:
    scene = ring_scene(4)
    model, pair = make_model(scene), scene.pairs[0]
    inliers = scene.matches(pair).indices.astype(np.int64)
    num_wrong = round((1 - fraction) * len(inliers))
    inliers[:num_wrong, 1] = np.roll(inliers[:num_wrong, 1], 7)
    outside = ImagePair("00.jpg", "not in the model.jpg")
    empty = scene.pairs[1]
    given = {pair: inliers, outside: inliers, empty: np.zeros((0, 2), np.int64)}
    assert pairs_without_points(model, given) == (frozenset() if has_points else {pair})


def test_few_inliers_and_those_without_points_say_nothing() -> None:
    scene = ring_scene(4)
    model, pair = make_model(scene), scene.pairs[0]
    inliers = scene.matches(pair).indices.astype(np.int64)
    wrong = np.column_stack([inliers[:, 0], np.roll(inliers[:, 1], 7)])
    assert pairs_without_points(model, {pair: wrong[:9]}) == frozenset()
    assert pairs_without_points(model, {pair: wrong[:10]}) == {pair}
    image = next(model.images[k] for k in model.reg_image_ids() if model.images[k].name == pair.name0)
    for row in inliers[10:, 0].tolist():
        model.delete_observation(image.image_id, row)
    assert pairs_without_points(model, {pair: inliers}) == frozenset(), "those with points agree"


@pytest.mark.parametrize("is_wrong", [True, False])
def test_wrong_inliers_are_no_sign_of_a_fold_where_others_say_that_images_see_one_place(is_wrong: bool) -> None:
    """In a row of equal things, images that are not next to each other are matched by the wrong things."""
    model = street_model(False, num_houses=1, num_images=9)
    names = sorted(model.images[image_id].name for image_id in model.reg_image_ids())
    step = {pair: names.index(pair.name1) - names.index(pair.name0) for pair in all_pairs(names)}
    probabilities = {pair: 0.99 if number <= 2 else 0.01 for pair, number in step.items()}
    far = [pair for pair, number in step.items() if number > 2]
    wrong = np.column_stack([np.arange(12), np.roll(np.arange(12), 1)])
    folds = Folds(dict.fromkeys(step, 40), step, ChecksConfig().max_conflict, probabilities, has_twins=True)
    assert folds.check(model).conflicts, "the probabilities alone say that both ends are two places"
    folds = replace(folds, doubtful_inliers=dict.fromkeys(far, wrong) if is_wrong else {})
    assert bool(folds.check(model).conflicts) != is_wrong


def test_pairs_that_are_only_doubtful_are_no_sign_of_a_fold_among_twins() -> None:
    model = street_model(False, num_houses=1, num_images=9)
    names = sorted(model.images[image_id].name for image_id in model.reg_image_ids())
    pairs = all_pairs(names)
    found = {}
    for doubtful in (0.01, 0.15):
        near = {pair: names.index(pair.name1) - names.index(pair.name0) <= 2 for pair in pairs}
        probabilities = {pair: 0.99 if is_near else doubtful for pair, is_near in near.items()}
        found[doubtful] = check_fold(model, pairs, probabilities, has_twins=True).conflict
    assert found[0.01] > ChecksConfig().max_conflict
    assert found[0.15] == 0
