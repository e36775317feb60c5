"""Alignment of patches: known shifts are found, and what does not correspond stays."""

import cv2
import numpy as np
import pytest

from sfm_lightglue.refinement.alignment import align
from sfm_lightglue.refinement.patches import Pyramid, grid

SIZE = 15
TURN = np.array([[0.95, -0.2], [0.15, 1.1]])


def texture(warp: np.ndarray | None = None, shift: tuple[float, float] = (0.0, 0.0), seed: int = 0) -> np.ndarray:
    """An image that has at `warp @ x + shift` a value that is a function of x, in pixels of COLMAP's convention."""
    rng = np.random.default_rng(seed)
    waves = rng.normal(scale=0.35, size=(40, 2))
    phases = rng.uniform(0, 2 * np.pi, 40)
    x, y = np.meshgrid(np.arange(320) + 0.5 - shift[0], np.arange(240) + 0.5 - shift[1])
    places = np.stack([x, y], axis=-1) @ np.linalg.inv(np.eye(2) if warp is None else warp).T
    return 128 + 8 * np.cos(places @ waves.T + phases).sum(axis=-1)


def grey(image: np.ndarray) -> Pyramid:
    return Pyramid(np.clip(np.round(image), 0, 255).astype(np.uint8))


def centers() -> np.ndarray:
    x, y = np.meshgrid(np.arange(100, 240, 20.0), np.arange(80, 180, 20.0))
    return np.stack([x.ravel() + 0.3, y.ravel() - 0.2], axis=1)


def templates(image: Pyramid) -> np.ndarray:
    values = image.sample(centers(), np.broadcast_to(np.eye(2), (len(centers()), 2, 2)), grid(SIZE + 2))
    return np.round(values).astype(np.uint8).reshape(-1, SIZE + 2, SIZE + 2)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (0.4, -0.3), (-1.2, 0.9)])
def test_a_known_shift_is_found_whatever_gain_and_bias_are(shift):
    reference = texture()
    target = 0.6 * texture(shift=shift) + 30
    warps = np.broadcast_to(np.eye(2), (len(centers()), 2, 2))
    found = align(grey(target), centers(), warps, templates(grey(reference)), 6, 2.0)
    np.testing.assert_allclose(found.centers, centers() + shift, atol=0.05)
    assert (found.after > 0.99).all()
    assert (found.after >= found.before).all()
    assert (found.sigmas_px < 0.1).all()


def test_a_predicted_distortion_is_taken_into_account():
    reference = texture()
    shift = (12.0, -9.0)
    target = texture(TURN, shift)
    expected = centers() @ TURN.T + shift
    warps = np.broadcast_to(TURN, (len(centers()), 2, 2))
    start = expected + np.random.default_rng(1).uniform(-0.8, 0.8, expected.shape)
    found = align(grey(target), start, warps, templates(grey(reference)), 6, 2.0)
    error = np.linalg.norm(found.centers - expected, axis=1)
    assert np.median(error) < 0.05
    assert np.quantile(error, 0.95) < 0.1


def test_one_patch_gives_the_same_alone_as_among_others():
    reference, target = texture(), grey(texture(shift=(0.4, 0.2)))
    warps = np.broadcast_to(np.eye(2), (len(centers()), 2, 2))
    patches = templates(grey(reference))
    together = align(target, centers(), warps, patches, 5, 2.0)
    alone = align(target, centers()[3:4], warps[3:4], patches[3:4], 5, 2.0)
    np.testing.assert_allclose(alone.centers[0], together.centers[3], atol=1e-5)


def test_patches_do_not_go_beyond_the_bound():
    target = grey(texture(shift=(2.5, 0.0)))
    warps = np.broadcast_to(np.eye(2), (len(centers()), 2, 2))
    found = align(target, centers(), warps, templates(grey(texture())), 6, 1.0)
    assert (np.linalg.norm(found.centers - centers(), axis=1) <= 1.0).all()


def test_other_content_has_a_low_correlation():
    warps = np.broadcast_to(np.eye(2), (len(centers()), 2, 2))
    found = align(grey(texture(seed=5)), centers(), warps, templates(grey(texture())), 6, 2.0)
    assert np.median(found.after) < 0.5


def test_no_contrast_and_straight_edges_have_no_precision():
    flat = np.full((240, 320), 90.0)
    edge = flat.copy()
    edge[:, 160:] = 180
    middle = np.array([[160.0, 120.0]])
    for image, smallest in ((flat, np.inf), (edge, 1.0)):
        pyramid = grey(image)
        patch = np.round(pyramid.sample(middle, np.eye(2)[None], grid(SIZE + 2))).astype(np.uint8)
        noisy = grey(image + np.random.default_rng(0).normal(scale=3, size=image.shape))
        found = align(noisy, middle, np.eye(2)[None], patch.reshape(-1, SIZE + 2, SIZE + 2), 5, 2.0)
        assert found.sigmas_px[0] >= smallest


def test_no_patches_give_an_empty_result():
    empty = align(grey(texture()), np.zeros((0, 2)), np.zeros((0, 2, 2)), np.zeros((0, 17, 17), np.uint8), 5, 2.0)
    assert empty.centers.shape == (0, 2)
    assert empty.before.shape == empty.after.shape == empty.sigmas_px.shape == (0,)


def test_coarse_samples_are_those_of_a_reduced_image():
    image = texture()
    pyramid = Pyramid(image.astype(np.uint8))
    reduced = cv2.resize(image, (160, 120), interpolation=cv2.INTER_AREA)
    at = np.array([[101.0, 81.0]])
    value = pyramid.sample(at, 2 * np.eye(2)[None], np.zeros((1, 2), np.float32))
    assert value[0, 0] == pytest.approx(reduced[40, 50], abs=4)
