"""The dense layer of features: its arguments, the rounding of its descriptors, and its first rows."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.types import DenseFeatures, Features


def features_with(descriptors):
    n = len(descriptors)
    generator = np.random.default_rng(1)
    keypoints = (generator.random((n, 2)) * (40, 30)).astype(np.float32)
    scales = np.arange(n, dtype=np.float32)
    return Features(keypoints, np.ones(n, np.float32), descriptors, (40, 30), scales, shrink_factor=2.0)


def unit(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


ROOT_SIFT = unit(np.random.default_rng(0).random((50, 128)))
SIGNED = unit(np.random.default_rng(0).normal(size=(50, 64)))
DENSE = DenseFeatures.from_features(features_with(ROOT_SIFT), num_sparse=20)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": np.zeros((50, 2))}, "keypoints: expected float32"),
        ({"keypoints": np.full((50, 2), np.nan, np.float32)}, "outside"),
        ({"descriptors": np.zeros((50, 128), np.float32)}, "descriptors: expected uint8"),
        ({"descriptors": np.zeros((49, 128), np.uint8)}, "descriptors"),
        ({"scales": np.zeros(49, np.float32)}, "scales"),
        ({"num_sparse": 51}, "num_sparse: expected 0 to 50, got 51"),
        ({"num_sparse": -1}, "num_sparse"),
        ({"zero": 256}, "zero, step"),
        ({"step": 0.0}, "zero, step"),
        ({"step": float("nan")}, "zero, step"),
        ({"image_size": (10, 30)}, "outside"),
    ],
)
def test_dense_features_with_wrong_arguments_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(DENSE, **changes)


@pytest.mark.parametrize(
    ("descriptors", "zero"), [(ROOT_SIFT, 0), (SIGNED, 128), (np.eye(50, 64, dtype=np.float32), 0)]
)
def test_descriptors_are_kept_within_half_a_step(descriptors, zero):
    features = features_with(descriptors)
    dense = DenseFeatures.from_features(features)
    assert dense.zero == zero
    values = (dense.descriptors.astype(np.float64) - dense.zero) * dense.step
    assert np.abs(values - descriptors).max() <= 0.501 * dense.step
    found = dense.unit_descriptors()
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert np.linalg.norm(found - descriptors, axis=1).max() < 0.03


def test_rootsift_is_rounded_as_in_colmap():
    """So bytes of different images can be compared without their steps."""
    assert (DENSE.zero, DENSE.step) == (0, 1 / 512)


def test_what_else_features_have_stays_as_it_is():
    features = features_with(SIGNED)
    dense = DenseFeatures.from_features(features)
    np.testing.assert_array_equal(dense.keypoints, features.keypoints)
    np.testing.assert_array_equal(dense.scales, features.scales)
    assert (dense.image_size, dense.shrink_factor, dense.num_sparse) == ((40, 30), 2.0, 50)


def test_no_features_give_no_dense_features():
    dense = DenseFeatures.from_features(features_with(np.zeros((0, 64), np.float32)))
    assert len(dense) == dense.num_sparse == 0
    assert dense.unit_descriptors().shape == (0, 64)


def test_descriptors_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="not finite"):
        DenseFeatures.from_features(features_with(np.full((3, 8), np.nan, np.float32)))


def test_a_descriptor_without_any_value_stays_zero():
    assert not DenseFeatures.from_features(features_with(np.zeros((3, 8), np.float32))).unit_descriptors().any()


def test_dense_features_start_with_their_sparse_ones_only():
    features = features_with(ROOT_SIFT)
    assert DENSE.starts_with(features.rows(np.arange(20)))
    assert not DENSE.starts_with(features)
    assert not DENSE.starts_with(features.rows(np.arange(20)[::-1]))


def test_selected_rows_belong_together():
    features = features_with(ROOT_SIFT)
    mask = np.arange(50) % 7 == 0
    assert features.rows(mask).digest == features.rows(np.flatnonzero(mask)).digest
    rows = DENSE.rows(np.flatnonzero(mask))
    np.testing.assert_array_equal(rows.keypoints, DENSE.keypoints[mask])
    np.testing.assert_array_equal(rows.descriptors, DENSE.descriptors[mask])
    np.testing.assert_array_equal(rows.scales, DENSE.scales[mask])
    assert (len(rows), rows.num_sparse) == (8, 0)
