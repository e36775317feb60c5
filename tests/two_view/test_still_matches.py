"""Still content over a scene: what is found, and which motions are not taken for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import combinations, pairwise

import numpy as np
import pytest

from sfm_lightglue.two_view.still_matches import StillContent, StillMap, is_still
from sfm_lightglue.types import ImagePair

SIZE = (800, 600)
LOGO = np.random.default_rng(0).uniform([20, 20], [140, 90], (30, 2))
SCENE = np.random.default_rng(1).uniform([0, 100], [800, 600], (2000, 2))
Motion = Callable[[np.ndarray], np.ndarray]


def jitter(points: np.ndarray, seed: int, sigma_px: float = 0.2) -> np.ndarray:
    return (points + np.random.default_rng(seed).normal(scale=sigma_px, size=points.shape)).astype(np.float32)


def matches_of(pair: tuple[int, int], motion: Motion, logo: np.ndarray = LOGO) -> tuple[np.ndarray, np.ndarray]:
    """Matched points of a logo, first, and of a scene that moves between images by a function of the points."""
    rng = np.random.default_rng(pair)
    points0 = SCENE[rng.choice(len(SCENE), 300, replace=False)]
    points1 = points0
    for _ in range(pair[1] - pair[0]):
        points1 = motion(points1)
    seed = 100 * pair[0] + pair[1]
    return jitter(np.concatenate([logo, points0]), seed), jitter(np.concatenate([logo, points1]), seed + 50)


def name_of(idx: int) -> str:
    return f"{idx:02d}.jpg"


def pair_of(numbers: tuple[int, int]) -> ImagePair:
    return ImagePair(name_of(numbers[0]), name_of(numbers[1]))


def sideways(points: np.ndarray) -> np.ndarray:
    return points + np.array([12.0, 3.0])


def slowly(points: np.ndarray) -> np.ndarray:
    """Less than a pixel where the scene is far away, some where it is near."""
    return points + np.stack([0.5 + 5 * (points[:, 1] / 600) ** 2, 0 * points[:, 1]], axis=1)


def forward(points: np.ndarray) -> np.ndarray:
    return (points - [400, 300]) * 1.03 + [400, 300]


def standing(points: np.ndarray) -> np.ndarray:
    return points


def content_of(
    pairs: Iterable[tuple[int, int]],
    num_images: int,
    motion: Motion,
    logo: np.ndarray = LOGO,
    num_keypoints: int = 600,
    still_pairs: Iterable[tuple[int, int]] = (),
) -> StillContent | None:
    still_pairs = set(still_pairs)
    found = StillMap()
    for pair in pairs:
        points = matches_of(pair, standing if pair in still_pairs else motion, logo)
        found.add(pair_of(pair), *points, (SIZE, SIZE), num_keypoints)
    return found.content(num_images)


def all_pairs(num_images: int) -> list[tuple[int, int]]:
    return list(combinations(range(num_images), 2))


def test_still_matches_are_those_at_one_pixel() -> None:
    points = SCENE[:100].astype(np.float32)
    directions = np.array([np.cos(np.arange(100)), np.sin(np.arange(100))]).T.astype(np.float32)
    for size, limit in ((SIZE, 1.0), ((1600, 1200), 1.0), ((3200, 2400), 2.0), ((1200, 3200), 2.0)):
        assert is_still(points, points + 0.98 * limit * directions, size).all()
        assert not is_still(points, points + 1.02 * limit * directions, size).any()
    assert is_still(points[:0], points[:0], SIZE).shape == (0,)


def test_a_logo_in_moving_images_is_found() -> None:
    content = content_of(all_pairs(6), 6, sideways)
    assert content is not None
    assert set(content.pairs) == {pair_of(pair) for pair in all_pairs(6)}
    assert (content.num_dominated, content.num_pairs) == (0, 15)
    points0, points1 = matches_of((1, 4), sideways)
    mask = content.mask(points0, points1, SIZE)
    assert mask[:30].mean() > 0.9
    assert not mask[30:].any()


def test_a_scene_point_that_stands_beside_the_logo_is_kept() -> None:
    content = content_of(all_pairs(6), 6, sideways)
    assert content is not None
    points = np.array([[600, 400], [100, 300]], np.float32)
    assert not content.mask(points, points, SIZE).any()


@pytest.mark.parametrize("motion", [sideways, slowly, forward])
@pytest.mark.parametrize("pairs", [list(pairwise(range(20))), all_pairs(8)], ids=["sequence", "all pairs"])
def test_motions_without_still_content_show_none(motion: Motion, pairs: list[tuple[int, int]]) -> None:
    assert content_of(pairs, 20, motion, np.zeros((0, 2))) is None


def test_fewer_still_matches_than_a_handful_are_chance() -> None:
    assert content_of(all_pairs(6), 6, sideways, LOGO[:7]) is None
    assert content_of(all_pairs(6), 6, sideways, LOGO[:9]) is not None


def test_fewer_than_three_images_show_none() -> None:
    assert StillMap().content(0) is None
    assert content_of([(0, 1)], 2, sideways) is None
    assert content_of(all_pairs(3), 3, sideways) is not None


def test_content_must_be_seen_in_a_share_of_all_images() -> None:
    assert content_of(all_pairs(3), 40, sideways) is None
    assert content_of(all_pairs(12), 40, sideways) is not None


def test_a_pair_that_stands_as_a_whole_is_an_exception() -> None:
    """A camera that rested for two images, in a scene with a logo."""
    content = content_of(all_pairs(8), 8, sideways, still_pairs=[(2, 3)])
    assert content is not None
    assert set(content.pairs) == {pair_of(pair) for pair in all_pairs(8) if pair != (2, 3)}
    assert content.num_dominated == 1


def test_a_pair_of_few_matches_that_stands_is_no_exception() -> None:
    content = content_of(all_pairs(8), 8, sideways, still_pairs=[(2, 3)], num_keypoints=4000)
    assert content is not None
    assert pair_of((2, 3)) in content.pairs


def test_no_pair_is_an_exception_where_most_are_dominated() -> None:
    """A turntable before a standing background."""
    pairs = all_pairs(8)
    content = content_of(pairs, 8, sideways, still_pairs=pairs[:-3])
    assert content is not None
    assert set(content.pairs) == {pair_of(pair) for pair in pairs}
    assert (content.num_dominated, content.num_pairs) == (25, 28)


def test_images_of_two_sizes_have_content_of_their_own() -> None:
    found = StillMap()
    portrait = SIZE[::-1]
    for pair in all_pairs(8):
        points = matches_of(pair, sideways)
        sizes = tuple(SIZE if idx < 4 else portrait for idx in pair)
        if sizes[0] == portrait:
            points = points[0][:, ::-1] + [300, 0], points[1][:, ::-1] + [300, 0]
        found.add(pair_of(pair), *points, sizes, 600)
    content = found.content(8)
    assert content is not None
    assert set(content.cells_from_size) == {SIZE, portrait}
    same_size = {pair_of(pair) for pair in all_pairs(8) if (pair[0] < 4) == (pair[1] < 4)}
    assert set(content.pairs) == same_size
    assert content.num_pairs == 28
    points0, points1 = matches_of((0, 2), sideways)
    assert content.mask(points0, points1, SIZE)[:30].mean() > 0.9
    assert not content.mask(points0, points1, portrait)[:30].any()
    assert not content.mask(points0, points1, (640, 480)).any(), "no image has this size"


def test_the_order_of_the_pairs_does_not_matter() -> None:
    content, backward = (content_of(order, 6, sideways) for order in (all_pairs(6), all_pairs(6)[::-1]))
    assert content is not None
    assert backward is not None
    assert content.pairs == backward.pairs
    assert np.array_equal(content.cells_from_size[SIZE], backward.cells_from_size[SIZE])
