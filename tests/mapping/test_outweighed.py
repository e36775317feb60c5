"""Among places that look alike, an image leaves a model if doubtful pairs say more against its pose than for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.judgement import judge_models
from sfm_lightglue.mapping.outweighed import outweighed_images
from sfm_lightglue.mapping.pair_agreement import read_stored_pairs
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import ExactScene, make_model, ring_scene, write_database

WRONG, NUM_IMAGES = "00.jpg", 8
ELSEWHERE = [ImagePair(WRONG, f"{number:02d}.jpg") for number in (4, 5, 6, 7)]
"""Doubtful pairs that match other points of the image than the model has."""


@pytest.fixture(scope="module")
def scene() -> ExactScene:
    return ring_scene(NUM_IMAGES)


@pytest.fixture(scope="module")
def database(scene: ExactScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = [pair for pair in scene.pairs if pair not in ELSEWHERE]
    return write_database(tmp_path_factory.mktemp("outweighed") / "database.db", scene, pairs)


def doubtful(scene: ExactScene, pairs: Collection[ImagePair], num: int | None = None) -> dict[ImagePair, np.ndarray]:
    """Inliers of pairs that match other points."""
    matches = {pair: scene.matches(pair).indices.astype(np.int64)[:num] for pair in pairs}
    return {pair: np.column_stack([rows[:, 0], np.roll(rows[:, 1], 7)]) for pair, rows in matches.items()}


def probabilities(scene: ExactScene, own: float, elsewhere: float) -> Mapping[ImagePair, float]:
    """Of the pairs of the image with its neighbours, and with those that contradict its pose."""
    return {pair: elsewhere if pair in ELSEWHERE else own for pair in scene.pairs if pair.name0 == WRONG}


@pytest.mark.parametrize(
    ("own", "elsewhere", "found"),
    [(0.3, 0.45, [WRONG]), (0.45, 0.3, []), (0.9, 0.45, []), (0.02, 0.09, []), (0.5, 0.4, [])],
    ids=["wrong", "right", "sure", "improbable", "more pairs, but weaker ones"],
)
def test_an_image_is_outweighed_by_the_probabilities_of_its_pairs(
    scene: ExactScene, database: Path, own: float, elsewhere: float, found: list[str]
) -> None:
    weights = probabilities(scene, own, elsewhere)
    pairs = read_stored_pairs(database)
    assert outweighed_images(make_model(scene), pairs, doubtful(scene, ELSEWHERE), weights) == found


def test_what_has_no_points_or_agrees_is_not_against_an_image(scene: ExactScene, database: Path) -> None:
    weights, pairs, model = probabilities(scene, 0.3, 0.45), read_stored_pairs(database), make_model(scene)
    assert outweighed_images(model, pairs, {}, weights) == []
    assert outweighed_images(model, pairs, doubtful(scene, ELSEWHERE, 7), weights) == [], "few matches"
    few = doubtful(scene, ELSEWHERE, 100), probabilities(scene, 0.02, 0.13)
    assert outweighed_images(model, pairs, *few) == [], "as few as 39 inliers of sure pairs"
    agreeing = {pair: scene.matches(pair).indices.astype(np.int64) for pair in ELSEWHERE}
    assert outweighed_images(model, pairs, agreeing, weights) == []
    outside = {ImagePair(WRONG, "other.jpg"): np.zeros((90, 2), np.int64)}
    assert outweighed_images(model, pairs, outside, weights) == []
    others = [pair for pair in pairs if WRONG not in (pair.name0, pair.name1)]
    assert outweighed_images(model, others, doubtful(scene, ELSEWHERE), weights) == [], "nothing is known for it"


def test_it_is_taken_out_of_the_model(scene: ExactScene, database: Path) -> None:
    weights = probabilities(scene, 0.3, 0.45)
    for inliers, outcome in ((doubtful(scene, ELSEWHERE), "reduced"), (None, "accepted")):
        model = make_model(scene)
        options = {"probability": weights, "doubtful_inliers": inliers}
        (judged,) = judge_models([model], database, ChecksConfig(), frozenset({1}), **options)
        assert judged.verdict.outcome == outcome
        out = {name: image.reason for name, image in judged.verdict.images.items() if image.status != "registered"}
        assert out == ({} if inliers is None else {WRONG: "contradicts"})
        assert model.num_reg_images() == NUM_IMAGES - len(out)


@pytest.mark.parametrize(("min_kept_images", "num_out", "outcome"), [(0.5, 2, "reduced"), (0.8, 0, "rejected")])
def test_several_images_are_taken_out_together_or_none(
    scene: ExactScene, tmp_path: Path, min_kept_images: float, num_out: int, outcome: str
) -> None:
    """The rest is adjusted once. If too few images are left, the model is rejected as it is."""
    wrong = ("00.jpg", "01.jpg")
    elsewhere = [pair for pair in scene.pairs if pair.name0 in wrong and pair.name1 >= "04.jpg"]
    weights = {pair: 0.45 if pair in elsewhere else 0.3 for pair in scene.pairs if pair.name0 in wrong}
    database = write_database(tmp_path / "database.db", scene, [each for each in scene.pairs if each not in elsewhere])
    model, sizes = make_model(scene), list[int]()
    (judged,) = judge_models(
        [model],
        database,
        ChecksConfig(min_kept_images=min_kept_images),
        frozenset({1}),
        adjust=lambda each: sizes.append(each.num_reg_images()),
        probability=weights,
        doubtful_inliers=doubtful(scene, elsewhere),
    )
    assert judged.verdict.outcome == outcome
    assert sizes == [NUM_IMAGES - num_out] * (num_out > 0)
    assert model.num_reg_images() == NUM_IMAGES - num_out
    assert [name for name, image in judged.verdict.images.items() if image.reason == "contradicts"] == [*wrong]
