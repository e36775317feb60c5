"""Optical flow: known shifts, exposure jumps, image sizes, and corners."""

import cv2
import numpy as np
import pytest

from sfm_lightglue.tracking.config import FlowConfig
from sfm_lightglue.tracking.optical_flow import FlowImage, follow, matched_exposure, new_corners

SHIFT = np.array([6.0, -3.0])
CONFIG = FlowConfig(window_px=21)


def textured(width=320, height=240, seed=0):
    """A smooth random image."""
    noise = np.random.default_rng(seed).normal(size=(height // 4, width // 4)).astype(np.float32)
    large = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(128 + 50 * large, 0, 255).astype(np.uint8)


def shifted(image):
    moved = cv2.warpAffine(image, np.array([[1, 0, SHIFT[0]], [0, 1, SHIFT[1]]]), image.shape[::-1])
    return np.asarray(moved, np.uint8)


def corners_of(image):
    none = np.zeros((0, 2))
    return new_corners(image, none, 200, 8.0)


@pytest.mark.parametrize("max_size", [320, 160])
def test_points_follow_a_shift_also_in_a_shrunk_copy(max_size):
    image = textured()
    before, after = (FlowImage.of(one, max_size) for one in (image, shifted(image)))
    pixels = corners_of(before)
    moved, found = follow(before, after, pixels, pixels, CONFIG)
    assert found.mean() > 0.8
    errors = np.abs(moved[found] - pixels[found] - SHIFT).max(axis=1)
    assert np.quantile(errors, 0.9) < 0.1 * 320 / max_size


def test_an_exposure_jump_does_not_lose_the_points():
    image = textured()
    brighter = cv2.convertScaleAbs(shifted(image), alpha=1.5, beta=15)
    before, after = FlowImage.of(image, 320), FlowImage.of(np.asarray(brighter, np.uint8), 320)
    pixels = corners_of(before)
    moved, found = follow(before, after, pixels, pixels, CONFIG)
    assert found.mean() > 0.45
    assert np.median(np.abs(moved[found] - pixels[found] - SHIFT)) < 0.1


def test_equal_exposures_stay_as_they_are_and_jumps_are_undone():
    image = textured()
    assert matched_exposure(image, image) is image
    darker = (image * 0.5).astype(np.uint8)
    restored = matched_exposure(darker, image)
    assert np.abs(restored.astype(int) - image).mean() < 2
    assert np.abs(darker.astype(int) - image).mean() > 40


def test_an_unrelated_image_has_few_of_the_points():
    before, other = FlowImage.of(textured(), 320), FlowImage.of(textured(seed=1), 320)
    pixels = corners_of(before)
    _, found = follow(before, other, pixels, pixels, CONFIG)
    assert found.mean() < 0.1


def test_corners_keep_their_distance_from_each_other_and_from_tracks():
    image = FlowImage.of(textured(), 320)
    first = new_corners(image, np.zeros((0, 2)), 50, 10.0)
    second = new_corners(image, first, 50, 10.0)
    both = np.concatenate([first, second])
    distances = np.linalg.norm(both[:, None] - both[None], axis=2) + 1000 * np.eye(len(both))
    assert len(first) > 40 and len(second) > 10
    assert distances.min() > 8.5
    assert new_corners(image, first, 0, 10.0).shape == (0, 2)


def test_no_points_give_no_points():
    image = FlowImage.of(textured(), 320)
    moved, found = follow(image, image, np.zeros((0, 2)), np.zeros((0, 2)), CONFIG)
    assert moved.shape == (0, 2) and found.shape == (0,)
