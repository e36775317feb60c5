"""ALIKED with its published weights: loaded strictly, found by name, and better than SIFT on real images."""

from __future__ import annotations

import functools
import math

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.extractors.aliked import AlikedConfig, AlikedExtractor
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestConfig, NearestMatcher
from sfm_lightglue.models.aliked import ARCHITECTURES, aliked_from_state_dict, load_aliked
from sfm_lightglue.types import Features
from sfm_lightglue.weights.digest import file_sha256
from tests.helpers.shared_data import shared_data

PUBLISHED = ("n16", "n16rot", "n32")
"""The models whose weights are in the shared data."""

NUM_KEYPOINTS = 1024


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_weights_are_loaded_strictly(model):
    path = shared_data("weights", f"aliked-{model}.pth")
    network = load_aliked(path, sha256=file_sha256(path))
    assert network.architecture == ARCHITECTURES[model]
    assert not network.training
    stored = torch.load(path, weights_only=True)
    for key, value in network.state_dict().items():
        if "num_batches_tracked" not in key:
            assert torch.equal(value, stored[key]), key
    del stored["desc_head.sf_conv.weight"]
    with pytest.raises(WeightsError, match=r"missing keys: desc_head\.sf_conv\.weight"):
        aliked_from_state_dict(stored)


@pytest.mark.parametrize("model", PUBLISHED)
def test_published_weights_are_found_by_the_name_of_the_model(model, monkeypatch):
    path = shared_data("weights", f"aliked-{model}.pth")
    monkeypatch.setenv("SFM_LIGHTGLUE_WEIGHTS", str(path.parent))
    named = AlikedExtractor(AlikedConfig(model=model), "cpu")
    given = AlikedExtractor(AlikedConfig(weights=str(path)), "cpu")
    assert named.identity == given.identity  # independent of how the weights were found
    assert named.identity.weights == file_sha256(path)
    assert given.identity != AlikedExtractor(AlikedConfig(weights=str(path), nms_radius_px=3), "cpu").identity


@torch.no_grad()
@pytest.mark.parametrize("model", PUBLISHED)
@pytest.mark.parametrize("grey", [0.0, 0.35, 1.0])
def test_blank_images_have_no_points(model, grey):
    network = load_aliked(shared_data("weights", f"aliked-{model}.pth"))
    (points,) = network(torch.full((1, 3, 90, 120), grey))
    assert points.keypoints.shape == (0, 2) and points.scores.shape == (0,) and points.descriptors.shape == (0, 128)


def graf(number: int, upright: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """An image [H, W, 3] of graf, optionally rotated upright, and its homography from image 1 in OpenCV pixels."""
    folder = shared_data("homographies", "graf")
    pixels = cv2.imread(str(folder / f"img{number}.png"))[:, :, ::-1]
    H = np.eye(3) if number == 1 else np.loadtxt(folder / f"H1to{number}p")
    if not upright:
        return np.ascontiguousarray(pixels), H
    height, width = pixels.shape[:2]
    angle_deg = math.degrees(math.atan2(H[1, 0] - H[0, 1], H[0, 0] + H[1, 1]))
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), angle_deg, 1.0)
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]]) @ turn.T
    turn[:, 2] -= corners.min(axis=0)
    size = tuple(int(side) for side in np.ceil(np.ptp(corners, axis=0)))
    return cv2.warpAffine(pixels, turn, size), np.vstack([turn, [0, 0, 1]]) @ H


@functools.cache
def graf_features(model: str, number: int, upright: bool) -> Features:
    """Features of SIFT, or of a published ALIKED."""
    extractor: Extractor = SiftExtractor(SiftConfig(max_keypoints=NUM_KEYPOINTS))
    if model != "sift":
        path = shared_data("weights", f"aliked-{model}.pth")
        extractor = AlikedExtractor(AlikedConfig(weights=str(path), max_keypoints=NUM_KEYPOINTS), "cpu")
    return extractor.extract(Image.from_array(graf(number, upright)[0]))


def num_correct(model: str, number: int, upright: bool) -> int:
    """Number of mutual nearest neighbours within 3 pixels of the homography."""
    features0, features1 = graf_features(model, 1, False), graf_features(model, number, upright)
    H = graf(number, upright)[1]
    assert min(len(features0), len(features1)) > NUM_KEYPOINTS * 0.99  # equal numbers for a fair comparison
    pairs = NearestMatcher(NearestConfig(ratio=1, max_distance=2)).match(features0, features1).indices
    homogeneous = np.c_[features0.keypoints[pairs[:, 0]] - 0.5, np.ones(len(pairs))] @ H.T
    expected = homogeneous[:, :2] / homogeneous[:, 2:] + 0.5
    return int((np.linalg.norm(expected - features1.keypoints[pairs[:, 1]], axis=1) < 3).sum())


@pytest.mark.parametrize(
    ("model", "number", "upright"),
    [
        ("n16", 3, False),
        # The camera is rolled by 27 degrees, and n16 was not trained on rotations: rotate the image upright for both.
        ("n16", 4, True),
        ("n16rot", 3, False),
        ("n16rot", 4, False),
    ],
)
def test_more_of_its_nearest_neighbours_are_correct_than_of_sift(model, number, upright):
    ours, theirs = num_correct(model, number, upright), num_correct("sift", number, upright)
    assert theirs > 50
    assert ours >= theirs
