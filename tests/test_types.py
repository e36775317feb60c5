"""The values that pass between the stages check their arguments when they are made."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.types import Camera, Features, ImagePair, Matches, Scene, SceneImage, TwoViewGeometry

CAMERA = Camera("PINHOLE", 40, 30, (50, 50, 20, 15))


def make_features(**changes):
    values = {
        "keypoints": np.array([[1, 2], [3, 4], [5, 6]], np.float32),
        "scores": np.array([3, 2, 1], np.float32),
        "descriptors": np.eye(3, 8, dtype=np.float32),
        "image_size": (40, 30),
        "scales": np.ones(3, np.float32),
        "orientations": np.zeros(3, np.float32),
    }
    return Features(**values | changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": np.zeros((3, 2))}, "keypoints: expected float32"),
        ({"keypoints": np.zeros((3, 3), np.float32)}, "keypoints"),
        ({"scores": np.zeros(2, np.float32)}, "scores"),
        ({"descriptors": np.zeros((2, 8), np.float32)}, "descriptors"),
        ({"descriptors": np.zeros(3, np.float32)}, "descriptors"),
        ({"descriptors": np.zeros((3, 8), np.float16)}, "descriptors"),
        ({"scales": np.zeros(4, np.float32)}, "scales"),
        ({"orientations": np.zeros(3)}, "orientations"),
        ({"quarter_turns": 4}, "quarter_turns"),
        ({"image_size": (3, 30)}, "outside"),
        ({"keypoints": np.full((3, 2), np.nan, np.float32)}, "outside"),
        ({"keypoints": np.full((3, 2), -2, np.float32)}, "outside"),
    ],
)
def test_features_with_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_features(**changes)


def test_features_may_be_empty():
    empty = make_features(
        keypoints=np.zeros((0, 2), np.float32),
        scores=np.zeros(0, np.float32),
        descriptors=np.zeros((0, 8), np.float32),
        scales=None,
        orientations=None,
    )
    assert len(empty) == 0
    assert len(empty.digest) == 64


@pytest.mark.parametrize(
    "changes",
    [
        {"keypoints": np.array([[1, 2], [3, 4], [5, 7]], np.float32)},
        {"scores": np.array([3, 2, 0], np.float32)},
        {"descriptors": np.eye(3, 9, dtype=np.float32)},
        {"image_size": (40, 31)},
        {"scales": None},
        {"orientations": None},
        {"quarter_turns": 1},
        {"scales": np.zeros(3, np.float32), "orientations": np.ones(3, np.float32)},
    ],
)
def test_the_digest_of_features_changes_with_every_field(changes):
    assert make_features(**changes).digest != make_features().digest


def test_the_digest_of_features_is_their_key_where_there_is_one():
    assert make_features().digest == make_features().digest
    assert make_features(key="abc").digest == "abc"


@pytest.mark.parametrize(
    ("indices", "scores", "message"),
    [
        (np.zeros((1, 2), np.int64), np.zeros(1, np.float32), "indices: expected int32"),
        (np.zeros((1, 3), np.int32), np.zeros(1, np.float32), "indices"),
        (np.zeros((1, 2), np.int32), np.zeros(2, np.float32), "scores"),
        (np.array([[0, 1], [0, 2]], np.int32), np.zeros(2, np.float32), "side 0"),
        (np.array([[1, 0], [2, 0]], np.int32), np.zeros(2, np.float32), "side 1"),
    ],
)
def test_matches_with_wrong_arguments_are_refused(indices, scores, message):
    with pytest.raises(ValueError, match=message):
        Matches(indices, scores)


def test_swapping_matches_twice_changes_nothing():
    matches = Matches(np.array([[0, 5], [2, 1], [3, 4]], np.int32), np.array([0.1, 0.2, 0.3], np.float32), 4)
    swapped = matches.swapped()
    assert swapped.indices.tolist() == [[1, 2], [4, 3], [5, 0]]
    np.testing.assert_array_equal(swapped.scores, np.array([0.2, 0.3, 0.1], np.float32))
    assert swapped.stop_layer == 4
    again = swapped.swapped()
    np.testing.assert_array_equal(again.indices, matches.indices)
    np.testing.assert_array_equal(again.scores, matches.scores)
    assert again.digest == matches.digest != swapped.digest


def test_what_was_asked_stays_with_its_image() -> None:
    rows = np.array([[0, 3], [2, 1]], np.int32)
    asked0, asked1 = np.array([True, False, True]), np.array([False, True, True, True])
    matches = Matches(rows, np.ones(2, np.float32), 4, "key", asked0, asked1)
    swapped = matches.swapped()
    assert swapped.asked0 is asked1 and swapped.asked1 is asked0
    some = matches.where(np.array([False, True]))
    assert some.indices.tolist() == [[2, 1]]
    assert (some.asked0 is asked0, some.asked1 is asked1, some.stop_layer, some.key) == (True, True, 4, "")
    with pytest.raises(ValueError, match="asked1: expected bool"):
        Matches(rows, np.ones(2, np.float32), asked1=np.ones(4, np.int32))  # type: ignore[arg-type]


def test_no_matches_swap_to_no_matches():
    assert len(Matches.empty()) == 0
    assert Matches.empty().swapped().indices.shape == (0, 2)


def test_the_names_of_a_pair_are_sorted():
    assert ImagePair.from_names("b", "a") == ImagePair.from_names("a", "b") == ImagePair("a", "b")
    for name0, name1 in (("b", "a"), ("a", "a")):
        with pytest.raises(ValueError, match="in order"):
            ImagePair(name0, name1)
    with pytest.raises(ValueError, match="in order"):
        ImagePair.from_names("a", "a")
    assert sorted([ImagePair("b", "c"), ImagePair("a", "d")])[0].name0 == "a"


@pytest.mark.parametrize("size", [(0, 3), (3, -1)])
def test_a_camera_has_a_size(size):
    with pytest.raises(ValueError, match="size must be positive"):
        replace(CAMERA, width=size[0], height=size[1])


def test_cameras_are_equal_by_value():
    assert Camera("PINHOLE", 40, 30, [50.0, 50.0, 20.0, 15.0]) == CAMERA
    assert len({CAMERA, replace(CAMERA, source="exif")}) == 2
    assert CAMERA.size == (40, 30)


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a")])
def test_a_scene_is_sorted(names):
    images = tuple(SceneImage(name, Path(name), CAMERA, 0, "") for name in names)
    with pytest.raises(ValueError, match="sorted"):
        Scene(Path(), images)


def test_a_two_view_geometry_counts_its_inliers():
    mask = np.array([True, False, True])
    assert TwoViewGeometry("general", mask, Rigid3.identity(), np.eye(3)).num_inliers == 2
    with pytest.raises(ValueError, match="inlier_mask"):
        TwoViewGeometry("general", mask.astype(np.uint8), Rigid3.identity(), np.eye(3))


def test_pairs_in_order_are_sorted_pairs():
    pairs = {ImagePair(a, b) for a in "bcax" for b in ["c", "d", "ca", "z"] if a < b}
    assert ImagePair.in_order(pairs) == sorted(pairs)
