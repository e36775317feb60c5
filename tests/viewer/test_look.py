"""Keys and colours."""

import string
from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.viewer import scene_parts
from sfm_lightglue.viewer.assemble import side_by_side
from sfm_lightglue.viewer.canvas import KEY_CODES
from sfm_lightglue.viewer.look import COLORINGS, MAX_POINT_FACTOR, VIEW_KEYS, Look, after_key, key_lines
from sfm_lightglue.viewer.models import read_viewed_model
from sfm_lightglue.viewer.point_colors import error_colors, legend, point_colors, ramp
from tests.helpers.viewed_models import write_viewed_scene


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    scene = write_viewed_scene(tmp_path_factory.mktemp("look") / "scene", with_photos=False)
    return side_by_side([read_viewed_model(scene)] * 2, 4 / 3)


@pytest.mark.parametrize("key", ["D", "F", "I", "T", "E", "A", "B", "H", "1"])
def test_a_key_that_is_pressed_twice_changes_nothing(key):
    once = after_key(Look(), key, num_models=2)
    assert once != Look()
    assert after_key(once, key, num_models=2) == Look()


def test_colours_come_in_turn_and_those_by_model_only_for_several():
    for number, names in ((1, COLORINGS[:-1]), (2, COLORINGS)):
        look, seen = Look(), []
        for _ in names:
            seen.append(look.coloring)
            look = after_key(look, "C", number)
        assert tuple(seen) == names and look == Look()
    assert after_key(Look(coloring="model"), "C", 1).coloring == "photo"


def test_points_grow_and_shrink_within_limits():
    assert after_key(after_key(Look(), "+"), "-").point_factor == pytest.approx(1)
    look = Look()
    for _ in range(50):
        look = after_key(look, "+")
    assert look.point_factor == MAX_POINT_FACTOR


def test_other_keys_change_nothing_of_the_look():
    for key in {*string.ascii_uppercase, *string.digits} - {*"DFITEABHC1"} | {*VIEW_KEYS}:
        assert after_key(Look(), key, 1) == Look()
    assert after_key(Look(), "3", 2) == Look() == after_key(Look(), "1", 1)


def test_every_key_of_the_list_is_one_that_does_something():
    lines = key_lines(Look(), 3, has_path=True, has_errors=True)
    listed = [key.upper() for keys, _ in lines for key in keys.split() if len(key) == 1]
    doing = [key for key in listed if after_key(Look(), key, 3) != Look() or key in VIEW_KEYS]
    assert {*listed} == {*doing} and len(doing) > 15
    assert {*doing} <= KEY_CODES.keys()
    fewer = [keys for keys, _ in key_lines(Look(), 1, has_path=False, has_errors=False)]
    assert not {"t", "e", "1 .. 3"} & {*fewer}


@pytest.mark.parametrize("change", [{"coloring": "pink"}, {"background": "blue"}, {"point_factor": 0.0}])
def test_bad_looks_are_refused(change):
    with pytest.raises(ConfigError):
        Look(**change)


def test_colours_are_those_of_what_is_asked(contents):
    errors = np.linspace(0, 2, len(contents.points), dtype=np.float32)
    contents = replace(contents, errors_px=np.random.default_rng(0).permutation(errors))
    assert np.allclose(point_colors(contents, "photo"), np.array([30, 200, 60]) / 255)
    by_error = point_colors(contents, "error")
    order = np.argsort(contents.errors_px)
    assert by_error[order[0], 2] > by_error[order[-1], 2], "small errors are blue"
    assert by_error[order[-1], 0] > by_error[order[0], 0], "large ones are red"
    by_height = point_colors(contents, "height")
    heights = contents.points @ contents.up
    assert by_height[np.argmax(heights)].sum() > by_height[np.argmin(heights)].sum() + 0.5
    by_length = point_colors(contents, "length")
    lengths = contents.track_lengths
    assert len(np.unique(by_length[lengths == lengths.max()], axis=0)) == 1
    assert by_length[lengths.argmax()].sum() > by_length[lengths.argmin()].sum()
    by_model = point_colors(contents, "model")
    assert len(np.unique(by_model, axis=0)) == 2
    for coloring in ("error", "length", "height"):
        assert legend(contents, coloring) is not None
    assert legend(contents, "photo") is None


def test_points_without_an_error_are_grey(contents):
    unknown = replace(contents, errors_px=np.full(len(contents.points), np.nan, np.float32))
    assert np.ptp(point_colors(unknown, "error"), axis=0).max() == 0


def test_a_ramp_ends_at_its_colours():
    stops = np.array([(0.0, 0, 0), (1, 1, 1)])
    found = ramp(np.array([-5.0, 0, 1, 2, 9, np.nan]), 0.0, 2.0, stops)
    np.testing.assert_allclose(found[:5, 0], [0, 0, 0.5, 1, 1])
    assert error_colors(np.zeros(0)).shape == (0, 3)


def test_hidden_models_are_neither_points_nor_cameras(contents):
    look = Look(hidden_models=frozenset({1}))
    assert scene_parts.points_shown(contents, look).sum() == (contents.model_of_point == 0).sum()
    assert {*contents.model_of_camera[scene_parts.cameras_shown(contents, look)]} == {0}
    assert len(scene_parts.cameras_shown(contents, replace(look, cameras=False))) == 0


def test_lines_are_those_that_are_on(contents):
    assert scene_parts.other_lines(contents, Look()).keys() == {"path"}
    assert scene_parts.other_lines(contents, Look(path=False, axes=True)).keys() == {"axes"}
    vertices, segments, colors = scene_parts.track_lines(contents, 0, np.array([1, 4]))
    assert len(vertices) == 4 and segments.tolist() == [[0, 1], [2, 3]] and len(colors) == 2
    np.testing.assert_array_equal(vertices[1::2], contents.centers[[1, 4]])


def test_the_picked_camera_has_another_colour(contents):
    rows = np.array([2, 5, 7])
    _, segments, plain = scene_parts.camera_lines(contents, Look(), rows, None)
    _, _, marked = scene_parts.camera_lines(contents, Look(), rows, 5)
    changed = (plain != marked).any(axis=1)
    assert changed.tolist() == [False] * 10 + [True] * 10 + [False] * 10 and len(segments) == 30
