"""Clouds side by side: aligned models are drawn at the same places."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.reconstruction_picture import main, side_by_side
from sfm_lightglue.errors import DataError
from tests.helpers.models_to_draw import make_model

SIZE = (160, 120)


def points_only(picture: Image.Image, idx: int) -> np.ndarray:
    """The part of a picture below the title of the model with this index."""
    return np.asarray(picture)[16:, idx * SIZE[0] : (idx + 1) * SIZE[0]].astype(int)


def test_a_model_of_another_scale_is_drawn_at_the_same_places():
    picture = side_by_side([("first", make_model()), ("second", make_model(scale=7.0))], SIZE, zoom=1.0)
    assert picture.size == (2 * SIZE[0], SIZE[1])
    first, second = (points_only(picture, idx) for idx in (0, 1))
    assert (first[..., 1] > 100).sum() > 100, "no points are drawn"
    assert np.abs(first - second).mean() < 1.0


def test_zoom_spreads_the_points():
    rows = [
        np.flatnonzero((points_only(side_by_side([("one", make_model())], SIZE, zoom), 0)[..., 1] > 100).any(1))
        for zoom in (0.6, 0.9)
    ]
    assert np.ptp(rows[1]) > 1.1 * np.ptp(rows[0])


def test_models_without_common_images_are_refused():
    other = make_model(num_images=2)
    with pytest.raises(DataError, match="other: 2 images in common"):
        side_by_side([("first", make_model()), ("other", other)], SIZE, 1.0)


def test_the_command_writes_a_picture(tmp_path):
    make_model().write_binary(str(tmp_path))
    assert main([str(tmp_path / "clouds.jpg"), f"a={tmp_path}", f"b={tmp_path}", "--size", "160", "120"]) == 0
    with Image.open(tmp_path / "clouds.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (320, 120))
