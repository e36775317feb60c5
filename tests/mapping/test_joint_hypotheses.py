"""Two models are joined by doubtful pairs only if all images of both clearly agree with one position."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.geometry.transforms import Sim3, rotation_from_rotvec
from sfm_lightglue.mapping.joint_evidence import EvidenceSide, JointEvidence, joint_evidence, least_similarity
from sfm_lightglue.mapping.joint_hypotheses import JointHypothesis, clear_hypothesis, joint_hypotheses
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import ExactScene, make_model, ring_scene
from tests.mapping.test_merging import MOVED, part
from tests.mapping.test_merging_by_points import pairs_of

FIRST, SECOND = range(6), range(6, 12)
SECOND_FROM_FIRST = Sim3(MOVED.scale, np.asarray(MOVED.rotation.matrix()), np.asarray(MOVED.translation))
RIGHT = SECOND_FROM_FIRST.inverse()
TURN = Sim3(1.0, rotation_from_rotvec(np.array([0.0, 0.0, np.pi])), np.zeros(3))


@pytest.fixture(scope="module")
def scene() -> ExactScene:
    return ring_scene(12)


@pytest.fixture(scope="module")
def models(scene: ExactScene) -> list[pycolmap.Reconstruction]:
    model = make_model(scene)
    return [part(model, FIRST), part(model, SECOND, MOVED)]


def descriptors_of(scene: ExactScene, noise: float = 0.05) -> Callable[[str], AnyArray]:
    """Each point has a descriptor of its own; images see it with noise."""
    generator = np.random.default_rng(0)
    of_points = generator.normal(size=(len(scene.points), 32)) / np.sqrt(32)
    found = {
        name: of_points[rows] + noise * generator.normal(size=(len(rows), 32))
        for name, (rows, _) in sorted(scene.observed.items())
    }
    return lambda name: np.asarray(found[name], np.float32)


def sides_of(scene: ExactScene, models: Sequence[pycolmap.Reconstruction]) -> list[EvidenceSide]:
    return [EvidenceSide.of_model(model, descriptors_of(scene)) for model in models]


def sides_by(descriptors: Callable[[str], AnyArray]) -> Callable[[pycolmap.Reconstruction], EvidenceSide]:
    return lambda model: EvidenceSide.of_model(model, descriptors)


def not_asked(model: pycolmap.Reconstruction) -> EvidenceSide:
    raise AssertionError("no evidence is needed")


def test_points_are_found_at_the_right_position_and_missing_at_a_wrong_one(scene, models) -> None:
    first, second = sides_of(scene, models)
    limit = least_similarity([first, second])
    assert 0.68 <= limit < 0.95
    right = joint_evidence(first, second, RIGHT, limit)
    assert right.num_expected > 100
    assert right.fraction > 0.65, "a quarter of the observations of one point is less alike than the limit"
    wrong = joint_evidence(first, second, TURN @ RIGHT, limit)
    assert wrong.fraction < 0.1
    assert min(right.num_points) > 50 and max(right.num_points) <= max(len(first.xyz), len(second.xyz))
    assert min(right.num_images) >= 3
    assert max(wrong.num_images) < 6


def test_both_models_say_the_same_whichever_comes_first(scene, models) -> None:
    first, second = sides_of(scene, models)
    one, other = (
        joint_evidence(first, second, RIGHT, 0.7),
        joint_evidence(second, first, SECOND_FROM_FIRST, 0.7),
    )
    assert (one.num_expected, one.num_matched) == (other.num_expected, other.num_matched)


def test_points_behind_the_surface_of_an_image_are_not_expected_in_it(scene, models) -> None:
    first, second = sides_of(scene, models)
    usual = joint_evidence(first, second, RIGHT, 0.7).num_expected
    towards = np.mean([view.pose.center for view in first.views], axis=0)
    near = replace(first, xyz=first.xyz + 0.5 * towards)
    assert joint_evidence(near, second, RIGHT, 0.7).num_expected < 0.6 * usual


def test_no_evidence_is_computed_where_no_position_can_be_believed(scene, models) -> None:
    same = pairs_of(make_model(scene), lambda a, b: a < "06.jpg" <= b and int(a[:2]) >= 3 and int(b[:2]) <= 8)
    assert len(same) == 9
    assert joint_hypotheses(*models, same, not_asked, 0) == [], "all tell one position, and nothing refutes another"
    few = pairs_of(make_model(scene), lambda a, b: a in {"04.jpg", "05.jpg"} and b in {"06.jpg", "07.jpg"})
    assert len(few) == 4
    assert joint_hypotheses(*models, few, not_asked, 0) == []
    of_one_image = pairs_of(make_model(scene), lambda a, b: a == "05.jpg" and b > a)
    assert len(of_one_image) == 6
    assert joint_hypotheses(*models, of_one_image, not_asked, 0) == []


def test_a_model_without_points_tells_nothing(scene, models) -> None:
    empty = copy.deepcopy(models[1])
    for point in sorted(empty.point3D_ids()):
        empty.delete_point3D(point)
    pairs = pairs_of(make_model(scene), lambda a, b: a < "06.jpg" <= b)
    for sides in ((models[0], empty), (empty, models[0])):
        assert joint_hypotheses(*sides, pairs, sides_by(descriptors_of(scene)), 0) == []
    side = EvidenceSide.of_model(empty, descriptors_of(scene))
    assert len(side.xyz) == 0
    assert joint_evidence(sides_of(scene, models)[0], side, RIGHT, 0.7).num_expected == 0


def hypothesis(num_pairs: int, fraction: float, num_expected: int = 1000, first: str = "a") -> JointHypothesis:
    pairs = tuple(ImagePair(f"{first}{k:02d}", f"z{first}{k:02d}") for k in range(num_pairs))
    num_matched = round(fraction * num_expected)
    each = num_matched // 3
    evidence = JointEvidence(num_expected, num_matched, (each, each), (4, 4))
    return JointHypothesis(pairs, num_pairs, Sim3.identity(), evidence)


def seen(found: JointHypothesis, **changes: object) -> JointHypothesis:
    return replace(found, evidence=replace(found.evidence, **changes))


TWINS = hypothesis(30, 0.2, 5000, "t")
"""Most pairs say that twins are one place; most points are missing then."""


def believed(hypotheses: Sequence[JointHypothesis]) -> JointHypothesis | None:
    found = clear_hypothesis(hypotheses)
    return None if found is None else found.best


def test_a_position_with_less_overlap_is_believed_if_that_of_twins_is_refuted() -> None:
    right = hypothesis(8, 0.6, 300)
    assert believed([TWINS, right]) is right
    assert believed([TWINS, right, hypothesis(1, 0.02, 400, "x")]) is right
    assert believed([hypothesis(4, 0.2, 5000, "t"), right]) is right
    clear = clear_hypothesis([hypothesis(5, 0.1, 3000, "x"), TWINS, right])
    assert clear is not None and clear.rival is TWINS and clear.rival_ratio == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("right", "twins"),
    [
        ((12, 0.56, 315), (54, 0.10, 6974)),
        ((14, 0.48, 260), (65, 0.22, 6306)),
        ((16, 0.38, 346), (35, 0.07, 4820)),
        ((11, 0.54, 167), (8, 0.09, 2395)),
    ],
)
def test_measured_positions_are_believed(right: tuple[int, float, int], twins: tuple[int, float, int]) -> None:
    expected = hypothesis(*right)
    assert believed([hypothesis(*twins, "t"), expected]) is expected


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nothing", []),
        ("no rival", [hypothesis(30, 0.7)]),
        ("the larger overlap may be that of twins", [hypothesis(30, 0.7), hypothesis(18, 0.2, 300, "x")]),
        ("twins, and some of their pairs, turned", [hypothesis(20, 0.45, 2000), hypothesis(10, 0.12, 2100, "x")]),
        ("a turned part, and few others", [hypothesis(20, 0.45, 900), hypothesis(10, 0.12, 3000, "x")]),
        (
            "twins of most pairs, which overlap little",
            [hypothesis(30, 0.2, 400, "t"), hypothesis(20, 0.1, 5000, "x"), hypothesis(8, 0.6, 300)],
        ),
        ("twins are not refuted", [hypothesis(30, 0.5, 5000, "t"), hypothesis(8, 0.6, 300)]),
        ("twins are not refuted enough", [hypothesis(30, 0.35, 5000, "t"), hypothesis(8, 0.9, 300)]),
        ("a rare rival is as good", [TWINS, hypothesis(8, 0.6, 300), hypothesis(1, 0.5, 300, "x")]),
        ("a small rival is as good", [TWINS, hypothesis(8, 0.6, 300), hypothesis(1, 0.5, 44, "x")]),
        ("the rival overlaps less", [hypothesis(30, 0.2, 200, "t"), hypothesis(8, 0.6, 300)]),
        ("the rival has few pairs", [hypothesis(3, 0.2, 5000, "t"), hypothesis(8, 0.6, 300)]),
        ("few pairs", [TWINS, hypothesis(4, 0.6, 300)]),
        ("few points", [TWINS, hypothesis(8, 0.6, 30)]),
        ("few different points of one model", [TWINS, seen(hypothesis(8, 0.6, 300), num_points=(60, 7))]),
        ("a measured table of which one image shows all", [TWINS, seen(hypothesis(10, 0.46, 61), num_images=(1, 1))]),
        ("one image shows all points", [TWINS, seen(hypothesis(8, 0.6, 300), num_images=(4, 1))]),
        ("most points are missing", [hypothesis(30, 0.02, 5000, "t"), hypothesis(8, 0.2, 300)]),
        ("pairs of one image", [TWINS, replace(hypothesis(8, 0.6, 300), num_independent=1)]),
    ],
)
def test_nothing_is_guessed(name: str, found: list[JointHypothesis]) -> None:
    assert clear_hypothesis(found) is None, name


def test_a_hypothesis_tells_what_is_known_of_it() -> None:
    text = "8 pairs tell a position, 180 of 300 points found (60 and 60 different ones, in 4 and 4 images)"
    assert str(hypothesis(8, 0.6, 300)) == text
