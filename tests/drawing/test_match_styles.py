"""Colours of scores and layers, and epipolar lines inside an image."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.drawing.match_styles import (
    distinct_colours,
    draw_epipolar_lines,
    draw_layers,
    layer_colours,
    line_in_image,
    score_colours,
)
from sfm_lightglue.drawing.matches import PairCanvas
from sfm_lightglue.images.image import Image


def grey_images(size: tuple[int, int] = (320, 240)) -> tuple[Image, Image]:
    pixels = np.full((size[1], size[0]), 128, np.uint8)
    return Image.from_array(pixels), Image.from_array(pixels)


def test_scores_go_from_red_to_green() -> None:
    colours = np.array(score_colours(np.linspace(0, 1, 11)), int)
    red_over_green = colours[:, 0] - colours[:, 1]
    assert red_over_green[0] > 100 and red_over_green[-1] < -100
    assert (np.diff(red_over_green) < 0).all()
    assert score_colours(np.array([-1.0, 2.0, np.nan])) == [*score_colours(np.array([0.0, 1.0, 0.0]))]


def test_later_layers_are_brighter() -> None:
    brightness = np.array(layer_colours(np.arange(1, 10), 9)).sum(axis=1)
    assert (np.diff(brightness) > 0).all()
    assert layer_colours(np.array([1]), 1) == layer_colours(np.array([1]), 9)


def test_layers_are_drawn_at_their_keypoints() -> None:
    pair = PairCanvas(grey_images(), 240)
    keypoints = np.array([[100.0, 60.0], [200.0, 180.0]])
    draw_layers(pair, 1, keypoints, np.array([1, 9]), 9)
    colours = layer_colours(np.array([1, 9]), 9)
    for (x, y), colour in zip(pair.place(1, keypoints), colours, strict=True):
        assert pair.canvas.getpixel((round(x) - 2, round(y) - 2)) == colour
    assert pair.place(1, keypoints)[0, 0] > 320


@pytest.mark.parametrize("seed", range(20))
def test_a_line_is_cut_at_the_border(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = (320, 240)
    inside = generator.uniform((0, 0), size)
    a, b = generator.normal(size=2)
    line = np.array([a, b, -(a * inside[0] + b * inside[1])])
    ends = line_in_image(line, size)
    assert ends is not None
    np.testing.assert_allclose(ends @ line[:2] + line[2], 0, atol=1e-9 * np.abs(line).max())
    on_border = np.isclose(ends, 0, atol=1e-6) | np.isclose(ends, size, atol=1e-6)
    assert on_border.any(axis=1).all()
    between = (inside - ends[0]) @ (ends[1] - ends[0]) / np.sum((ends[1] - ends[0]) ** 2)
    assert 0 <= between <= 1


def test_level_upright_and_absent_lines() -> None:
    level = line_in_image(np.array([0.0, 1.0, -50.0]), (320, 240))
    assert level is not None and sorted(level.tolist()) == [[0, 50], [320, 50]]
    upright = line_in_image(np.array([1.0, 0.0, -50.0]), (320, 240))
    assert upright is not None and sorted(upright.tolist()) == [[50, 0], [50, 240]]
    assert line_in_image(np.array([0.0, 1.0, 50.0]), (320, 240)) is None


def test_epipolar_lines_pass_through_the_matches() -> None:
    """For a sideways motion, lines are level: they cross both images at the row of their match."""
    pair = PairCanvas(grey_images(), 240)
    F = np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    keypoints = np.array([[160.0, 100.0]]), np.array([[120.0, 100.0]])
    draw_epipolar_lines(pair, ((320, 240), (320, 240)), F, keypoints, np.array([0]))
    row = np.asarray(pair.canvas)[100]
    drawn = (row == distinct_colours(1)[0]).all(axis=1)
    assert drawn[5:315].mean() > 0.9 and drawn[333:640].mean() > 0.9
    assert not (np.asarray(pair.canvas)[150] == distinct_colours(1)[0]).all(axis=1).any()
