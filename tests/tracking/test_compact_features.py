"""Compact features stand for the first ones in matching."""

import numpy as np
import pytest

from sfm_lightglue.features import Features
from sfm_lightglue.tracking.compact_features import CompactFeatures


@pytest.mark.parametrize("signed", [False, True], ids=["RootSIFT", "signed"])
def test_descriptors_hardly_change_and_the_rest_not_at_all(signed):
    random = np.random.default_rng(0)
    descriptors = random.normal(size=(50, 128)).astype(np.float32)
    descriptors = descriptors if signed else np.abs(descriptors)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    columns = [random.uniform(1, 9, 50).astype(np.float32) for _ in range(3)]
    keypoints = random.uniform(0, 99, (50, 2)).astype(np.float32)
    features = Features(keypoints, columns[0], descriptors, (100, 100), columns[1], columns[2], 1, "a key", 1.5)
    compact = CompactFeatures.of(features)
    again = compact.as_features()
    assert len(compact) == 50
    assert np.abs(again.descriptors - descriptors).max() < 0.01
    assert (np.einsum("nd,nd->n", again.descriptors, descriptors) > 0.999).all()
    for name in ("keypoints", "scores", "scales", "orientations"):
        assert np.array_equal(getattr(again, name), getattr(features, name))
    assert (again.image_size, again.quarter_turns, again.shrink_factor) == ((100, 100), 1, 1.5)
    assert again.digest == compact.as_features().digest != features.digest
    assert compact.dense.descriptors.nbytes * 4 == descriptors.nbytes


def test_no_features_stay_none():
    none = np.zeros(0, np.float32)
    compact = CompactFeatures.of(Features(np.zeros((0, 2), np.float32), none, np.zeros((0, 128), np.float32), (9, 9)))
    assert len(compact) == len(compact.as_features()) == 0
