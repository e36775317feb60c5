"""Laws of the selection of keypoints from a map of scores, as used by XFeat and DISK."""

from __future__ import annotations

import pytest
import torch

from sfm_lightglue.models.keypoints import Limits, best_first, local_maxima, select_peaks


def by_hand(scores: torch.Tensor, radius: int) -> torch.Tensor:
    """Maxima of one map, pixel by pixel; of equal pixels, the first in reading order."""
    height, width = scores.shape
    equal_to_window = torch.zeros_like(scores, dtype=torch.bool)
    windows = {}
    for y in range(height):
        for x in range(width):
            window = (slice(max(y - radius, 0), y + radius + 1), slice(max(x - radius, 0), x + radius + 1))
            windows[y, x] = window
            equal_to_window[y, x] = scores[y, x] == scores[window].max()
    result = torch.zeros_like(equal_to_window)
    for (y, x), window in windows.items():
        rows, columns = torch.nonzero(equal_to_window[window], as_tuple=True)
        before = (rows + window[0].start) * width + columns + window[1].start < y * width + x
        result[y, x] = equal_to_window[y, x] and not before.any()
    return result


@pytest.mark.parametrize("radius", [0, 1, 2, 4])
@pytest.mark.parametrize("levels", [3, 1000])  # three values make many ties
def test_maxima_are_those_found_pixel_by_pixel(radius, levels):
    generator = torch.Generator().manual_seed(radius)
    scores = torch.randint(levels, (2, 21, 17), generator=generator).float() - levels / 2
    expected = torch.stack([by_hand(each, radius) for each in scores])
    assert torch.equal(local_maxima(scores, radius), expected)
    assert expected.any() and (radius == 0 or not expected.all())


def test_no_two_maxima_share_a_window_even_on_a_plateau():
    peaks = torch.nonzero(local_maxima(torch.ones(1, 40, 50), 3)[0])
    assert peaks.tolist() == [[0, 0]]  # every other pixel has an equal pixel before it


def test_peaks_are_x_y_above_the_threshold():
    scores = torch.zeros(2, 30, 40)
    scores[0, 5, 12], scores[0, 20, 33], scores[1, 29, 39] = 0.5, 0.2, 0.9
    first, second = select_peaks(scores, Limits(0.2, 2))
    assert first.tolist() == [[12, 5]] and second.tolist() == [[39, 29]]


def test_values_are_sorted_and_equal_ones_keep_their_order():
    values = torch.tensor([0.1, 0.7, 0.3, 0.7, 0.2])
    assert best_first(values, Limits()).tolist() == [1, 3, 2, 4, 0]
    assert best_first(values, Limits(max_num_keypoints=2)).tolist() == [1, 3]
    assert best_first(values, Limits(max_num_keypoints=0)).tolist() == []


@pytest.mark.parametrize("options", [{"nms_radius_px": -1}, {"max_num_keypoints": -1}])
def test_negative_limits_are_refused(options):
    with pytest.raises(ValueError, match="must not be negative"):
        Limits(**options)
