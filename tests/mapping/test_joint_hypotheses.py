"""Two models are joined by doubtful pairs only if all images of both clearly agree with one position."""

from __future__ import annotations

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


def test_points_are_found_at_the_right_position_and_missing_at_a_wrong_one(scene, models) -> None:
    first, second = sides_of(scene, models)
    limit = least_similarity([first, second])
    assert 0.68 <= limit < 0.95
    right = joint_evidence(first, second, RIGHT, limit)
    assert right.num_expected > 100
    assert right.fraction > 0.65, "a quarter of the observations of one point is less alike than the limit"
    wrong = joint_evidence(first, second, TURN @ RIGHT, limit)
    assert wrong.fraction < 0.1
    assert right.is_matched.shape == (len(first.xyz) + len(second.xyz),)
    assert right.is_matched.sum() > wrong.is_matched.sum()


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


def test_pairs_that_say_the_same_are_one_hypothesis_with_its_evidence(scene, models) -> None:
    pairs = pairs_of(make_model(scene), lambda a, b: a < "06.jpg" <= b and int(a[:2]) >= 3 and int(b[:2]) <= 8)
    found = joint_hypotheses(*models, pairs, descriptors_of(scene), 0)
    assert len(found[0].pairs) == len(pairs) == 9
    assert found[0].num_independent == 3
    assert found[0].evidence.fraction > 0.65
    poses = {name: scene.poses[name] for name in sorted(scene.poses) if name >= "06.jpg"}
    moved = {
        image.name: np.linalg.inv(np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]))[:3, 3]
        for image in models[1].images.values()
    }
    for name, pose in poses.items():
        assert found[0].target_from_source @ moved[name] == pytest.approx(pose.center, abs=0.05)
    assert clear_hypothesis(found) is None, "it was compared with nothing"


def hypothesis(num_pairs: int, fraction: float, num_expected: int = 1000, first: str = "a") -> JointHypothesis:
    pairs = tuple(ImagePair(f"{first}{k:02d}", f"z{first}{k:02d}") for k in range(num_pairs))
    evidence = JointEvidence(num_expected, round(fraction * num_expected), np.zeros(0, np.bool_))
    return JointHypothesis(pairs, num_pairs, Sim3.identity(), evidence)


TWINS = hypothesis(30, 0.2, 5000, "t")
"""Most pairs say that twins are one place; most points are missing then."""


def test_a_position_with_less_overlap_is_believed_if_that_of_twins_is_refuted() -> None:
    right = hypothesis(8, 0.6, 300)
    assert clear_hypothesis([TWINS, right]) is right
    assert clear_hypothesis([TWINS, right, hypothesis(1, 0.02, 400, "x")]) is right
    assert clear_hypothesis([hypothesis(4, 0.2, 5000, "t"), right]) is right


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("nothing", []),
        ("no rival", [hypothesis(30, 0.7)]),
        ("the larger overlap may be that of twins", [hypothesis(30, 0.7), hypothesis(18, 0.2, 300, "x")]),
        ("twins are not refuted", [hypothesis(30, 0.5, 5000, "t"), hypothesis(8, 0.6, 300)]),
        ("a rare rival is as good", [TWINS, hypothesis(8, 0.6, 300), hypothesis(1, 0.5, 300, "x")]),
        ("the rival overlaps less", [hypothesis(30, 0.2, 200, "t"), hypothesis(8, 0.6, 300)]),
        ("the rival has few pairs", [hypothesis(3, 0.2, 5000, "t"), hypothesis(8, 0.6, 300)]),
        ("few pairs", [TWINS, hypothesis(4, 0.6, 300)]),
        ("few points", [TWINS, hypothesis(8, 0.6, 30)]),
        ("most points are missing", [hypothesis(30, 0.02, 5000, "t"), hypothesis(8, 0.2, 300)]),
        ("pairs of one image", [TWINS, replace(hypothesis(8, 0.6, 300), num_independent=1)]),
    ],
)
def test_nothing_is_guessed(name: str, found: list[JointHypothesis]) -> None:
    assert clear_hypothesis(found) is None, name


def test_a_hypothesis_tells_what_is_known_of_it() -> None:
    assert str(hypothesis(8, 0.6, 300)) == "8 pairs tell a position, 180 of 300 points found"
