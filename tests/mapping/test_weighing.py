"""Verified pairs weighed against each other, on rotations of known cameras."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3, rotation_angle_deg, rotation_from_rotvec
from sfm_lightglue.mapping import weighing as weighing_module
from sfm_lightglue.mapping.weighing import Weighing, untrusted_bridges, weight_of
from sfm_lightglue.types import ImagePair, PairEvidence, TwoViewGeometry

LIMIT_DEG = 5.0
QUARTER_TURN = rotation_from_rotvec(np.array([0, np.pi / 2, 0]))
"""About the vertical, as between two walls of a courtyard."""


@dataclass(frozen=True, eq=False)
class PairRotation:
    """One verified pair."""

    pair: ImagePair
    rotation: np.ndarray
    weight: float


def weigh_pairs(pairs: Sequence[PairRotation], max_error_deg: float) -> Weighing:
    return weighing_module.weigh_pairs(
        [one.pair for one in pairs],
        np.array([one.rotation for one in pairs]).reshape(-1, 3, 3),
        np.array([one.weight for one in pairs], np.float64),
        max_error_deg,
    )


def pair_of(i: int, j: int) -> ImagePair:
    return ImagePair(f"{i:02d}.jpg", f"{j:02d}.jpg")


def random_rotations(num: int, seed: int = 0) -> list[np.ndarray]:
    """`cam_from_world` of cameras."""
    return [rotation_from_rotvec(vector) for vector in np.random.default_rng(seed).normal(size=(num, 3))]


def pair_rotations(
    rotations: list[np.ndarray],
    weights: Mapping[tuple[int, int], float],
    noise_deg: float = 0.3,
    turns: Mapping[tuple[int, int], np.ndarray] | None = None,
    seed: int = 0,
) -> list[PairRotation]:
    """Pairs with noise; those with a turn are wrong."""
    rng = np.random.default_rng(seed)
    found = []
    for (i, j), weight in weights.items():
        noise = rotation_from_rotvec(np.radians(rng.normal(scale=noise_deg, size=3)))
        turn = (turns or {}).get((i, j), np.eye(3))
        found.append(PairRotation(pair_of(i, j), noise @ rotations[j] @ turn @ rotations[i].T, weight))
    return found


def contradicted(weighing: Weighing, pairs: Iterable[PairRotation]) -> set[ImagePair]:
    return {pair.pair for pair in pairs if weighing.errors_deg.get(pair.pair, 180) > LIMIT_DEG}


def courtyard(
    wrong_weight: float, num_true_between: int = 3, seed: int = 0
) -> tuple[list[PairRotation], set[ImagePair], list[np.ndarray]]:
    """Two groups of six cameras at two walls; all wrong pairs between them share one wrong rotation."""
    rng = np.random.default_rng(seed)
    between = [(i, j) for i in range(6) for j in range(6, 12)]
    true_between = [(5 - k, 6 + k) for k in range(num_true_between)]
    weights = {pair: rng.uniform(30, 60) for group in (range(6), range(6, 12)) for pair in combinations(group, 2)}
    weights |= {pair: rng.uniform(35, 45) for pair in true_between}
    wrong = [pair for pair in between if pair not in true_between]
    weights |= {pair: wrong_weight * rng.uniform(0.8, 1.2) for pair in wrong}
    rotations = random_rotations(12, seed)
    pairs = pair_rotations(rotations, weights, turns=dict.fromkeys(wrong, QUARTER_TURN))
    return pairs, {pair_of(*pair) for pair in wrong}, rotations


def test_no_pairs() -> None:
    weighing = weigh_pairs([], LIMIT_DEG)
    assert (weighing.errors_deg, weighing.group_from_name) == ({}, {})
    assert untrusted_bridges({}, []) == []


def test_consistent_pairs_are_one_group_with_small_errors() -> None:
    rotations = random_rotations(12)
    pairs = pair_rotations(rotations, {pair: 10.0 + sum(pair) for pair in combinations(range(12), 2)}, 0.5)
    weighing = weigh_pairs(pairs, LIMIT_DEG)
    assert len(set(weighing.group_from_name.values())) == 1
    assert max(weighing.errors_deg.values()) < 3
    for i, j in combinations(range(12), 2):
        assert rotation_angle_deg(weighing.expected(pair_of(i, j)) @ (rotations[j] @ rotations[i].T).T) < 1
    for pair in pairs:
        error = rotation_angle_deg(pair.rotation @ weighing.expected(pair.pair).T)
        assert weighing.errors_deg[pair.pair] == pytest.approx(error)


def test_a_single_pair_agrees_with_itself() -> None:
    (pair,) = pair_rotations(random_rotations(2), {(0, 1): 3.0})
    assert weigh_pairs([pair], LIMIT_DEG).errors_deg[pair.pair] < 1e-6


@pytest.mark.parametrize("seed", range(5))
def test_coherent_wrong_pairs_with_less_evidence_are_named(seed: int) -> None:
    """They are eleven times as many as the right ones between the two walls."""
    pairs, wrong, _ = courtyard(5.0, seed=seed)
    weighing = weigh_pairs(pairs, LIMIT_DEG)
    assert contradicted(weighing, pairs) == wrong
    for pair in wrong:
        assert weighing.errors_deg[pair] == pytest.approx(90, abs=3)


@pytest.mark.parametrize("seed", range(5))
def test_wrong_pairs_at_random_are_named(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotations = random_rotations(15, seed)
    weights = {pair: float(rng.uniform(20, 60)) for pair in combinations(range(15), 2)}
    wrong = [pair for pair in weights if rng.random() < 0.35]
    weights |= {pair: float(rng.uniform(5, 30)) for pair in wrong}
    turns = {pair: rotation_from_rotvec(rng.normal(size=3)) for pair in wrong}
    turns = {pair: turn for pair, turn in turns.items() if rotation_angle_deg(turn) > 15}
    pairs = pair_rotations(rotations, weights, turns=turns)
    assert contradicted(weigh_pairs(pairs, LIMIT_DEG), pairs) == {pair_of(*pair) for pair in turns}


@pytest.mark.parametrize("seed", range(5))
def test_a_long_walk_with_loops_is_not_contradicted(seed: int) -> None:
    """The errors of 60 steps add up to degrees; the averaging spreads them over the loop."""
    rng = np.random.default_rng(seed)
    rotations = [rotation_from_rotvec(np.array([0, np.radians(6) * idx, 0])) for idx in range(60)]
    weights = {(i, j): float(rng.uniform(20, 80)) for i in range(60) for j in range(i + 1, min(i + 3, 60))}
    loop_pairs = {(i, j): float(rng.uniform(3, 8)) for i in range(3) for j in range(57, 60)}
    pairs = pair_rotations(rotations, weights | loop_pairs, noise_deg=0.3, seed=seed)
    weighing = weigh_pairs(pairs, LIMIT_DEG)
    assert contradicted(weighing, pairs) == set()
    assert len(weighing.errors_deg) == len(pairs)


def test_two_equal_hypotheses_keep_groups_apart() -> None:
    rotations = random_rotations(8)
    inside = {pair: 50.0 for group in (range(4), range(4, 8)) for pair in combinations(group, 2)}
    between = {(0, 4): 20.0, (1, 5): 20.0, (2, 6): 20.0, (3, 7): 20.0}
    turns = {(2, 6): QUARTER_TURN, (3, 7): QUARTER_TURN}
    pairs = pair_rotations(rotations, inside | between, turns=turns)
    weighing = weigh_pairs(pairs, LIMIT_DEG)
    assert len(set(weighing.group_from_name.values())) == 2
    assert weighing.errors_deg.keys() == {pair_of(*pair) for pair in inside}
    # With one more pair for one hypothesis the groups are merged.
    pairs += pair_rotations(rotations, {(0, 5): 25.0})
    weighing = weigh_pairs(pairs, LIMIT_DEG)
    assert len(set(weighing.group_from_name.values())) == 1
    assert contradicted(weighing, pairs) == {pair_of(*pair) for pair in turns}


def test_parts_without_a_pair_between_them_are_groups() -> None:
    rotations = random_rotations(6)
    weights = {pair: 10.0 for group in (range(3), range(3, 6)) for pair in combinations(group, 2)}
    weighing = weigh_pairs(pair_rotations(rotations, weights), LIMIT_DEG)
    assert len(set(weighing.group_from_name.values())) == 2
    assert len(weighing.errors_deg) == 6


def test_the_order_of_the_pairs_does_not_matter() -> None:
    pairs, _, _ = courtyard(5.0)
    weighing = weigh_pairs(pairs, LIMIT_DEG)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(pairs))
        other = weigh_pairs([pairs[idx] for idx in order], LIMIT_DEG)
        assert other.group_from_name == weighing.group_from_name
        assert other.errors_deg.keys() == weighing.errors_deg.keys()
        for pair, error in weighing.errors_deg.items():
            assert other.errors_deg[pair] == pytest.approx(error, abs=1e-6)


def test_only_ratios_of_weights_matter() -> None:
    pairs, _, _ = courtyard(5.0)
    scaled = [replace(pair, weight=100 * pair.weight) for pair in pairs]
    errors, others = (weigh_pairs(each, LIMIT_DEG).errors_deg for each in (pairs, scaled))
    assert np.allclose(list(errors.values()), list(others.values()), atol=1e-6)


def test_cameras_turned_together_have_the_same_errors() -> None:
    """The world has no preferred orientation, and so has none of the cameras."""
    pairs, _, _ = courtyard(5.0)
    turns = dict(zip([f"{idx:02d}.jpg" for idx in range(12)], random_rotations(12, 9), strict=True))
    moved = [
        replace(pair, rotation=turns[pair.pair.name1] @ pair.rotation @ turns[pair.pair.name0].T) for pair in pairs
    ]
    errors, others = (weigh_pairs(each, LIMIT_DEG).errors_deg for each in (pairs, moved))
    assert np.allclose(list(errors.values()), list(others.values()), atol=1e-6)


def num_parts(pairs: Iterable[ImagePair], names: Iterable[str]) -> int:
    """Number of connected parts, by joining labels until nothing changes."""
    label = {name: name for name in names}
    pairs = list(pairs)
    for _ in label:
        for pair in pairs:
            label[pair.name0] = label[pair.name1] = min(label[pair.name0], label[pair.name1])
    return len(set(label.values()))


@pytest.mark.parametrize("seed", range(20))
def test_bridges_are_the_pairs_without_which_a_part_falls_apart(seed: int) -> None:
    rng = np.random.default_rng(seed)
    num = int(rng.integers(2, 14))
    pairs = [pair_of(i, j) for i, j in combinations(range(num), 2) if rng.random() < 1.6 / num]
    names = {name for pair in pairs for name in (pair.name0, pair.name1)}
    bridges = [pair for pair in pairs if num_parts(set(pairs) - {pair}, names) > num_parts(pairs, names)]
    assert untrusted_bridges(dict.fromkeys(pairs, 1.0), [1.0] * max(3, len(pairs))) == sorted(bridges)


def test_a_long_chain_needs_no_recursion() -> None:
    pairs = [ImagePair(f"{i:05d}", f"{i + 1:05d}") for i in range(3000)]
    assert untrusted_bridges(dict.fromkeys(pairs, 1.0), [1.0] * max(3, len(pairs))) == pairs


def test_a_bridge_needs_more_evidence_than_wrong_pairs() -> None:
    triangles = [*combinations(range(3), 2), *combinations(range(3, 6), 2)]
    bridge = pair_of(2, 3)
    weights = {pair_of(*pair): 1.0 for pair in triangles}
    assert untrusted_bridges(weights | {bridge: 29.0}, [12.0, 3.0, 10.0, 11.0]) == [bridge]
    assert untrusted_bridges(weights | {bridge: 30.0}, [12.0, 3.0, 10.0, 11.0]) == []
    assert untrusted_bridges(weights | {bridge: 0.1}, [99.0, 99.0]) == [], "two wrong pairs are no repeated structure"
    many = {pair_of(i, j): 1.0 for i, j in combinations(range(10, 16), 2)} | weights
    assert untrusted_bridges(many | {bridge: 0.1}, [9.0] * 3) == [], "few wrong pairs are no repeated structure"
    assert untrusted_bridges(weights | {bridge: 0.1}, []) == [], "nothing is known to be wrong"
    assert untrusted_bridges(weights | {bridge: 1.0, pair_of(0, 5): 1.0}, [10.0]) == [], "two pairs confirm each other"


def geometry(num_inliers: int, num_matches: int, evidence: PairEvidence | None) -> TwoViewGeometry:
    mask = np.arange(num_matches) < num_inliers
    return TwoViewGeometry("general", mask, Rigid3.identity(), np.eye(3), evidence=evidence)


def test_the_weight_grows_with_the_evidence() -> None:
    weight = weight_of(geometry(50, 100, PairEvidence(40, 30, 0.8, -20)))
    assert weight > 0
    assert weight_of(geometry(50, 100, PairEvidence(40, 35, 0.8, -20))) > weight
    assert weight_of(geometry(50, 100, PairEvidence(80, 30, 0.8, -20))) < weight, "distinctive matches that do not fit"
    assert weight_of(geometry(50, 200, PairEvidence(40, 30, 0.8, -20))) < weight
    assert weight_of(geometry(50, 100, PairEvidence(40, 30, 0.4, -20))) < weight
    assert weight_of(geometry(60, 120, PairEvidence(0, 0, 0.8, -20))) < weight, "look-alikes only"


def test_a_pair_without_evidence_has_a_weight() -> None:
    assert 0 < weight_of(geometry(20, 40, None)) < weight_of(geometry(40, 80, None))


def test_an_image_that_a_strong_wrong_pair_attached_is_outvoted() -> None:
    """The wrong pair is the strongest of all, so it is merged first; eight weaker pairs contradict it."""
    rotations = random_rotations(9)
    weights = {pair: 10.0 for pair in combinations(range(9), 2)}
    pairs = [each for each in pair_rotations(rotations, weights, 0.3) if each.pair != pair_of(0, 8)]
    wrong = PairRotation(pair_of(0, 8), QUARTER_TURN @ rotations[8] @ rotations[0].T, 15.0)
    weighing = weigh_pairs([*pairs, wrong], LIMIT_DEG)
    contradicted = {pair for pair, error in weighing.errors_deg.items() if error > LIMIT_DEG}
    assert contradicted == {wrong.pair}
