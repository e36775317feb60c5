"""Place recognition: keyframes of the same place come first, whatever the features."""

from types import SimpleNamespace

import numpy as np

from sfm_lightglue.features import Features
from sfm_lightglue.tracking.place_recognition import PlaceRecognition
from tests.helpers.slam_ring import NUM_STEPS, Ring

STEPS = range(0, NUM_STEPS, 2)


def filled(ring, change=lambda features: features):
    places = PlaceRecognition()
    for step in STEPS:
        places.add(SimpleNamespace(idx=step, features=change(ring.features(step)[0])))
    return places


def signed(features):
    """The same features with descriptors that are not those of SIFT."""
    descriptors = (features.descriptors - 0.05)[:, :64].copy()
    return Features(features.keypoints, features.scores, descriptors, features.image_size, features.scales)


def test_the_keyframe_of_the_place_comes_first():
    ring = Ring()
    places = filled(ring)
    assert len(places) == len(STEPS)
    for step in STEPS[::4]:
        features, _ = ring.features(step, offset=(0.2, 0.1, 0.2))
        (best, similarity), (_, second) = places.query(features, 2)
        assert best == step
        assert 0.4 < similarity <= 1.01
        assert second < similarity


def test_a_keyframe_that_was_added_is_asked_about_by_its_number():
    ring = Ring()
    places, (features, _) = filled(ring), ring.features(11)
    places.add(SimpleNamespace(idx=11, features=features))
    assert places.query_keyframe(11, 5) == places.query(features, 5, excluded={11})
    assert places.query_keyframe(11, 5, excluded={10})[0][0] == 12
    assert places.query_keyframe(13, 5) == []


def test_excluded_and_removed_keyframes_are_not_found():
    ring = Ring()
    places = filled(ring)
    features, _ = ring.features(10)
    found = [idx for idx, _ in places.query(features, 30, excluded={10, 8})]
    assert sorted(found) == sorted(set(STEPS) - {8, 10})
    places.remove(12)
    places.remove(12)
    assert 12 not in [idx for idx, _ in places.query(features, 30)]
    places.keep([10, 14, 16])
    assert places.query(features, 30)[0][0] == 10
    assert len(places) == 3


def test_a_vocabulary_is_learnt_for_other_features():
    ring = Ring()
    places = PlaceRecognition()
    for step in range(9):
        places.add(SimpleNamespace(idx=step, features=signed(ring.features(step)[0])))
        assert places.query(signed(ring.features(step)[0]), 1) == []
    for step in range(9, 20):
        places.add(SimpleNamespace(idx=step, features=signed(ring.features(step)[0])))
    for step in (2, 9, 19):
        assert places.query(signed(ring.features(step)[0]), 1)[0][0] == step


def test_images_without_features_are_never_found():
    ring = Ring()
    none = ring.features(0)[0].rows(np.zeros(0, np.int64))
    places = filled(ring)
    places.add(SimpleNamespace(idx=1, features=none))
    assert places.query(none, 3) == []
    assert 1 not in [idx for idx, _ in places.query(ring.features(1)[0], 40)]
    assert PlaceRecognition().query(ring.features(0)[0], 3) == []
