"""The search in epipolar bands finds what a comparison of all keypoints finds."""

import numpy as np
import pytest

from sfm_lightglue.two_view import band_search
from sfm_lightglue.two_view.band_search import BandSide, mutual_best

pytestmark = pytest.mark.usefixtures("each_implementation")

PERIODS = {"essential": 2 * np.pi, "fundamental": np.pi}


def side(rng, num, centre, period, varies=False):
    """Keypoints of an image whose epipole lies at `centre`: their angles around it, and the changes per pixel."""
    offsets = rng.uniform((0, 0), (1600, 1200), (num, 2)) - centre
    distances = np.linalg.norm(offsets, axis=1)
    descriptors = np.abs(rng.standard_normal((num, 16))).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    angles = np.mod(np.arctan2(offsets[:, 1], offsets[:, 0]), period)
    angles[: num // 10 : 2], angles[1 : num // 10 : 2] = 0, period  # rounding gives both
    limits = rng.uniform(0.5, 3.5, (2, num)) if varies else np.repeat([[2.0], [2.5]], num, axis=1)
    return BandSide(
        angles,
        1 / np.maximum(distances, 1e-9),
        *limits,
        rng.uniform(-1, 1, num),
        descriptors,
    )


def compared_with_all(side0, side1, period):
    """Rows of both images, best and second best cosine of the mutual best keypoints, without any blocks."""
    gaps = side0.angles[:, None] - side1.angles
    gaps -= np.rint(gaps / period) * period
    squared = (side0.limits_px * side0.slopes)[:, None] ** 2 + (side0.other_limits_px[:, None] * side1.slopes) ** 2
    allowed = (gaps**2 <= squared) & (side1.depths >= side0.depths[:, None])
    cosines = np.where(allowed, side0.descriptors @ side1.descriptors.T, np.float32(-2))
    rows0 = np.arange(len(cosines))
    rows1 = cosines.argmax(axis=1)
    mutual = (cosines[rows0, rows1] > -2) & (cosines.argmax(axis=0)[rows1] == rows0)
    rows0, rows1 = rows0[mutual], rows1[mutual]
    seconds = np.maximum(np.sort(cosines, axis=1)[rows0, -2], np.sort(cosines, axis=0)[-2, rows1])
    return rows0, rows1, cosines[rows0, rows1], seconds


@pytest.mark.parametrize(
    "epipole",
    [(800.0, 600.0), (3.0, 4.0), (-50.0, 700.0), (-20000.0, 500.0), (900.0, 5e3)],
    ids=["in the middle", "in a corner", "at the border", "outside", "below"],
)
@pytest.mark.parametrize("period", PERIODS.values(), ids=PERIODS)
@pytest.mark.parametrize("varies", [False, True], ids=["equal limits", "different limits"])
@pytest.mark.parametrize("num", [100, 700])
def test_it_finds_the_best_ones_of_all(epipole, num, varies, period):
    rng = np.random.default_rng(num)
    centre = np.array(epipole)
    side0, side1 = (side(rng, *of, period, varies) for of in ((num, centre), (num + 13, centre + 5)))
    found = mutual_best(side0, side1, period)
    rows0, rows1, best, second = compared_with_all(side0, side1, period)
    assert len(rows0) >= 10
    num_at_edges = max(1, 0.02 * len(rows0))  # float32 at the edge of a band
    assert (np.diff(found.rows0) > 0).all()
    pairs, expected = (set(zip(*rows, strict=True)) for rows in ((found.rows0, found.rows1), (rows0, rows1)))
    assert len(pairs ^ expected) <= num_at_edges
    _, own, other = np.intersect1d(found.rows0, rows0, return_indices=True)
    is_same = found.rows1[own] == rows1[other]
    assert np.abs(found.similarities[own] - best[other])[is_same].max() < 1e-5
    assert (np.abs(found.next_similarities[own] - second[other]) >= 1e-5).sum() <= num_at_edges


@pytest.mark.parametrize("block_size", [1, 2, 64])
def test_equal_similarities_and_rows_with_one_best_column(monkeypatch, block_size):
    similarities = np.array(
        [
            [0.90, 0.50, 0.10, 0.00],
            [0.80, 0.70, 0.20, 0.00],  # the best column of row 0 too
            [0.80, 0.85, 0.30, 0.00],
            [0.40, 0.60, 0.60, 0.00],  # two best columns, of which the first has better rows
            [0.30, 0.85, 0.20, 0.00],  # as similar as row 2
            [0.10, 0.10, 0.70, 0.70],  # two best columns
        ],
        np.float32,
    )
    monkeypatch.setattr(band_search, "_BLOCK_SIZE", block_size)
    side0, side1 = (
        BandSide(
            np.zeros(len(each)),
            np.full(len(each), 0.01),
            np.ones(len(each)),
            np.ones(len(each)),
            np.zeros(len(each)),
            each,
        )
        for each in (np.eye(6, dtype=np.float32), similarities.T.copy())
    )
    found = mutual_best(side0, side1, np.pi)
    assert list(zip(found.rows0, found.rows1, strict=True)) == [(0, 0), (2, 1), (5, 2)]
    np.testing.assert_array_equal(found.similarities, np.float32([0.90, 0.85, 0.70]))
    np.testing.assert_array_equal(found.next_similarities, np.float32([0.80, 0.85, 0.70]))


def test_an_image_without_keypoints_has_no_best_ones():
    rng = np.random.default_rng(0)
    none, some = (side(rng, num, np.zeros(2), np.pi) for num in (0, 5))
    for pair in ((none, some), (some, none), (none, none)):
        found = mutual_best(*pair, np.pi)
        assert len(found.rows0) == len(found.rows1) == len(found.similarities) == len(found.next_similarities) == 0
