"""The search in epipolar bands finds what a comparison of all keypoints finds."""

import numpy as np
import pytest

from sfm_lightglue.two_view.band_search import BandSide, best_of_bands

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
    """Best row, best and second best cosine of each keypoint of image 0, and those of image 1, without any blocks."""
    gaps = side0.angles[:, None] - side1.angles
    gaps -= np.rint(gaps / period) * period
    squared = (side0.limits_px * side0.slopes)[:, None] ** 2 + (side0.other_limits_px[:, None] * side1.slopes) ** 2
    allowed = (gaps**2 <= squared) & (side1.depths >= side0.depths[:, None])
    cosines = np.where(allowed, side0.descriptors @ side1.descriptors.T, np.float32(-2))
    results = []
    for values in (cosines, cosines.T):
        ordered = np.sort(values, axis=1)
        rows = np.where(ordered[:, -1] > -2, values.argmax(axis=1), -1)
        results.append((rows, ordered[:, -1], ordered[:, -2]))
    return results


@pytest.mark.parametrize(
    "epipole",
    [(800.0, 600.0), (3.0, 4.0), (-50.0, 700.0), (-20000.0, 500.0), (900.0, 5e3)],
    ids=["in the middle", "in a corner", "at the border", "outside", "below"],
)
@pytest.mark.parametrize("period", PERIODS.values(), ids=PERIODS)
@pytest.mark.parametrize("varies", [False, True], ids=["equal limits", "different limits"])
@pytest.mark.parametrize("num", [40, 700])
def test_it_finds_the_best_ones_of_all(epipole, num, varies, period):
    rng = np.random.default_rng(num)
    centre = np.array(epipole)
    side0, side1 = (side(rng, *of, period, varies) for of in ((num, centre), (num + 13, centre + 5)))
    for found, (rows, best, second) in zip(
        best_of_bands(side0, side1, period), compared_with_all(side0, side1, period), strict=True
    ):
        is_same = found.rows == rows
        assert is_same.mean() >= 1 - 2 / num  # float32 at the edge of a band
        assert np.abs(found.similarities - best)[is_same].max() < 1e-5
        assert (np.abs(found.next_similarities - second) < 1e-5).mean() >= 1 - 4 / num
        assert (rows >= 0).any()


def test_an_image_without_keypoints_has_no_best_ones():
    rng = np.random.default_rng(0)
    none, some = (side(rng, num, np.zeros(2), np.pi) for num in (0, 5))
    for pair in ((none, some), (some, none), (none, none)):
        best0, best1 = best_of_bands(*pair, np.pi)
        assert (len(best0.rows), len(best1.rows)) == tuple(len(each.angles) for each in pair)
        assert (best0.rows == -1).all() and (best1.rows == -1).all()
