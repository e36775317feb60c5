"""Two models with a twin each: their common end tells how they lie to each other, and without it nothing does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.image_points import pixels_of
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.joint_evidence import EvidenceSide
from sfm_lightglue.mapping.joint_hypotheses import ClearPosition, clear_hypothesis, joint_hypotheses
from sfm_lightglue.mapping.pair_agreement import StoredPair
from tests.helpers.exact_scenes import UP, ExactScene, make_model
from tests.mapping.test_merging import MOVED, part

FIRST, SECOND = range(8), range(8, 16)
SHIFT = 24.0
"""From a point of the first twin to the same point of the second one, along the wall."""

NUM_TWIN, NUM_OTHER = 60, 900


def wall() -> ExactScene:
    """Cameras along a wall with two equal pictures, each of which one half of them sees."""
    rng = np.random.default_rng(0)
    twin = rng.uniform([1, 0, -2], [5, 2, 2], (NUM_TWIN, 3))
    others = rng.uniform([-8, 0, -3], [40, 2, 3], (NUM_OTHER, 3))
    points = np.concatenate([twin, twin + np.array([SHIFT, 0, 0]), others])
    stations = [*np.linspace(-2, 10, len(FIRST)), *np.linspace(-2, 10, len(SECOND)) + SHIFT - 8.5]
    centers = [np.array([x, -8 + 0.4 * (k % 3), 0.5 * (k % 2)]) for k, x in enumerate(stations)]
    poses = {
        f"{k:02d}.jpg": Rigid3.look_at(each, each + np.array([0.0, 8.0, 0.0]), UP) for k, each in enumerate(centers)
    }
    return ExactScene(poses, points)


def descriptors_of(scene: ExactScene) -> Callable[[str], AnyArray]:
    """Points of the twins have the same descriptors; images see them with noise."""
    rng = np.random.default_rng(1)
    of_points = rng.normal(size=(len(scene.points), 32)) / np.sqrt(32)
    of_points[NUM_TWIN : 2 * NUM_TWIN] = of_points[:NUM_TWIN]
    found = {
        name: of_points[rows] + 0.05 * rng.normal(size=(len(rows), 32))
        for name, (rows, _) in sorted(scene.observed.items())
    }
    return lambda name: np.asarray(found[name], np.float32)


def matched(scene: ExactScene, model: pycolmap.Reconstruction, has_right_pairs: bool) -> list[StoredPair]:
    """Pairs between the halves: of equal points, of twins or of one place, as many as a matcher needs."""
    images = {model.images[k].name: model.images[k] for k in sorted(model.reg_image_ids())}
    found = []
    for name0 in (f"{k:02d}.jpg" for k in FIRST):
        for name1 in (f"{k:02d}.jpg" for k in SECOND):
            of0, of1 = (scene.observed[name][0] for name in (name0, name1))
            kinds = [(of0[of0 < NUM_TWIN], NUM_TWIN)]
            kinds += [(np.intersect1d(of0, of1), 0)] if has_right_pairs else []
            for points, shift in kinds:
                points = points[np.isin(points + shift, of1)]
                if len(points) < 30:
                    continue
                rows0, rows1 = np.searchsorted(of0, points), np.searchsorted(of1, points + shift)
                pixels = pixels_of(images[name0])[rows0], pixels_of(images[name1])[rows1]
                found.append(StoredPair(name0, name1, False, *pixels, rows0, rows1, None, 0.5))
                break
    return found


def position(has_right_pairs: bool) -> tuple[ClearPosition | None, int]:
    scene = wall()
    model = make_model(scene)
    halves = part(model, FIRST), part(model, SECOND, MOVED)
    descriptors = descriptors_of(scene)
    pairs = matched(scene, model, has_right_pairs)
    hypotheses = joint_hypotheses(*halves, pairs, lambda each: EvidenceSide.of_model(each, descriptors), 0)
    return clear_hypothesis(hypotheses), len(hypotheses)


def test_the_common_end_of_two_models_is_found_although_most_pairs_show_twins() -> None:
    clear, number = position(has_right_pairs=True)
    assert number >= 2
    assert clear is not None
    moved = np.asarray(MOVED * wall().poses["12.jpg"].center)
    assert clear.best.target_from_source @ moved == pytest.approx(wall().poses["12.jpg"].center, abs=0.3)
    assert clear.rival.evidence.fraction < 0.3
    assert len(clear.rival.pairs) > len(clear.best.pairs)
    assert clear.best.evidence.fraction > 0.65
    assert clear.best.num_independent >= 2


def test_without_pairs_of_the_common_end_twins_join_nothing() -> None:
    clear, number = position(has_right_pairs=False)
    assert number == 0, "all pairs tell one position"
    assert clear is None
