"""Blobs and their descriptors, against OpenCV's SIFT as a second implementation."""

from dataclasses import fields

import cv2
import numpy as np
import pytest
from scipy.spatial import cKDTree

from sfm_lightglue.extractors.scale_space import BlobLimits, find_blobs
from sfm_lightglue.extractors.sift_descriptors import describe, orientations
from tests.helpers.photos import textured

pytestmark = pytest.mark.usefixtures("each_implementation")

EDGES = 10.0
ALL = BlobLimits(0.02, 10**6)


@pytest.fixture(scope="module", params=[(400, 300), (333, 241)], ids=str)
def pixels(request):
    return textured(*request.param)


@pytest.fixture(scope="module")
def reference(pixels):
    sift = cv2.SIFT.create(contrastThreshold=0.02, edgeThreshold=EDGES, enable_precise_upscale=True)
    found, descriptors = sift.detectAndCompute(pixels, None)
    columns = [np.array([getattr(one, name) for one in found]) for name in ("pt", "size", "response", "angle")]
    return (columns[0] + 0.5, *columns[1:3], np.radians(columns[3]), descriptors)


def positions(points, scales):
    """Where a distance of 0.1 is a tenth of a pixel, or a fortieth of the scale."""
    return np.column_stack([points, 4 * np.log(scales)])


def partners(found, others):
    """Distance to the nearest of the others, and its index."""
    return cKDTree(positions(*others)).query(positions(*found))


def test_blobs_are_those_of_opencv(pixels, reference):
    points, scales, responses = reference[:3]
    blobs, _ = find_blobs(pixels, EDGES, ALL)
    assert len(blobs) > 300
    distances, rows = partners((points, scales), (blobs.keypoints, blobs.scales))
    same = distances < 0.2
    assert same.mean() > 0.95
    assert np.median(distances) < 0.03
    np.testing.assert_allclose(blobs.contrasts[rows[same]], responses[same], rtol=0.05, atol=1e-4)
    back, _ = partners((blobs.keypoints, blobs.scales), (points, scales))
    assert (back < 0.2).mean() > 0.95


def test_angles_and_descriptors_are_those_of_opencv(pixels, reference):
    """Where a blob has several good orientations, OpenCV has several keypoints; ours has the lowest angle."""
    points, scales, _, angles, descriptors = reference
    blobs, space = find_blobs(pixels, EDGES, ALL)
    found, _ = orientations(space, blobs)
    assert ((found >= 0) & (found < 2 * np.pi + 1e-6)).all()
    distances, rows = partners((points, scales), (blobs.keypoints, blobs.scales))
    same = distances < 0.05
    difference = np.abs((found[rows] - angles + np.pi) % (2 * np.pi) - np.pi)[same]
    assert (difference < np.radians(10)).mean() > 0.7
    ours = describe(space, blobs.rows(rows[same]), angles[same].astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-5)
    theirs = descriptors[same] / np.linalg.norm(descriptors[same], axis=1, keepdims=True)
    cosines = (ours * theirs).sum(axis=1)
    assert np.median(cosines) > 0.99
    assert np.percentile(cosines, 1) > 0.95


def test_the_second_orientation_is_another_one_of_opencv(pixels, reference):
    points, scales, _, angles, _ = reference
    blobs, space = find_blobs(pixels, EDGES, ALL)
    first, second = orientations(space, blobs)
    has_two = np.isfinite(second)
    assert 0.05 < has_two.mean() < 0.5
    assert (second[has_two] > first[has_two]).all()
    found = 0
    for place, scale, angle in zip(blobs.keypoints[has_two], blobs.scales[has_two], second[has_two], strict=True):
        same = (np.abs(points - place).max(axis=1) < 0.05) & (np.abs(scales / scale - 1) < 0.05)
        difference = np.abs((angles[same] - angle + np.pi) % (2 * np.pi) - np.pi)
        found += bool((difference < np.radians(10)).any())
    assert found > 0.6 * has_two.sum()


def test_faint_blobs_come_beside_the_others(pixels):
    few = BlobLimits(0.02, 50)
    clear, _ = find_blobs(pixels, EDGES, few)
    both, _ = find_blobs(pixels, EDGES, few, BlobLimits(0.01, 10**6))
    assert not clear.is_faint.any()
    assert both.is_faint.sum() > 20
    for one in fields(clear):
        np.testing.assert_array_equal(getattr(both.rows(~both.is_faint), one.name), getattr(clear, one.name))


def test_the_number_that_is_wanted_leaves_out_faint_blobs_only(pixels):
    every, few = find_blobs(pixels, EDGES, ALL)[0], find_blobs(pixels, EDGES, BlobLimits(0.02, 50))[0]
    assert 50 < len(few) < len(every)
    best = np.sort(every.contrasts)[::-1]
    np.testing.assert_array_equal(np.sort(few.contrasts)[::-1][:50], best[:50])


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (16, 16), (17, 240), (300, 16)])
def test_images_of_any_size_have_blobs_or_none(size):
    blobs, space = find_blobs(textured(*size), EDGES, ALL)
    angles, _ = orientations(space, blobs)
    assert describe(space, blobs, angles).shape == (len(blobs), 128)
    assert (blobs.keypoints <= size).all()


def test_a_black_image_with_a_threshold_of_zero_has_no_blobs():
    blobs, space = find_blobs(np.zeros((60, 80), np.uint8), EDGES, BlobLimits(0.0, 10))
    assert len(blobs) == len(orientations(space, blobs)[0]) == 0
