"""Points that are followed from image to image by pyramidal Lucas-Kanade, and the corners where they begin."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from sfm_lightglue.arrays import AnyArray, BoolArray, Float32Array, Float64Array, UInt8Array
from sfm_lightglue.images import resize_to_fit
from sfm_lightglue.tracking.config import FlowConfig

_MAX_LEVEL = 4
_BACK_LEVEL = 1
_CRITERIA = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.02)

_MAX_MEAN_CHANGE = 6.0
"""Change of the mean grey value between two images, of 255, beyond which their exposures are matched."""


@dataclass(frozen=True, slots=True, eq=False)
class FlowImage:
    """A grey image in which points are followed.

    Args:
        grey: [H, W] uint8, the frame or a shrunk copy.
        factors: (x, y) stored pixels per pixel of `grey`.
    """

    grey: UInt8Array
    factors: tuple[float, float]

    @classmethod
    def of(cls, image: UInt8Array, max_size: int) -> FlowImage:
        """From a frame [H, W] or [H, W, 3], shrunk so that its longer side has at most `max_size` pixels."""
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small, factors = resize_to_fit(np.ascontiguousarray(grey, dtype=np.uint8), max_size)
        return cls(small, factors)

    def to_cv(self, pixels: AnyArray) -> Float32Array:
        """Stored pixels [N, 2] to OpenCV's pixels [N, 1, 2] of `grey`."""
        return np.ascontiguousarray(np.asarray(pixels) / self.factors - 0.5, dtype=np.float32).reshape(-1, 1, 2)

    def from_cv(self, points: AnyArray) -> Float64Array:
        """OpenCV's pixels [N, 1, 2] of `grey` to stored pixels [N, 2]."""
        return (np.asarray(points, dtype=np.float64).reshape(-1, 2) + 0.5) * self.factors

    def contains(self, pixels: AnyArray, border_px: float = 2.0) -> BoolArray:
        """Which stored pixels [N, 2] lie in the image, away from its border by pixels of `grey`."""
        height, width = self.grey.shape
        points = np.asarray(pixels) / self.factors
        inside = ((points >= border_px) & (points <= np.array([width, height]) - border_px)).all(axis=1)
        return np.asarray(inside, np.bool_)


def follow(
    before: FlowImage, after: FlowImage, pixels: Float64Array, guess: Float64Array, config: FlowConfig
) -> tuple[Float64Array, BoolArray]:
    """Follow points from one image to another.

    Args:
        before: image of the points.
        after: image in which they are searched.
        pixels: [N, 2] stored pixels in `before`.
        guess: [N, 2] where they are expected in `after`.
        config: window, and limit of the forward-backward check.

    Returns:
        Stored pixels [N, 2] in `after`, and [N] which of them were found.

    Source: Bouguet, Pyramidal implementation of the Lucas Kanade feature tracker, 2000; Kalal et al.,
    Forward-backward error, 2010.
    """
    if len(pixels) == 0:
        return np.zeros((0, 2)), np.zeros(0, np.bool_)
    target = matched_exposure(after.grey, before.grey)
    start, window = before.to_cv(pixels), (config.window_px, config.window_px)
    end, found, difference = cv2.calcOpticalFlowPyrLK(
        before.grey,
        target,
        start,
        after.to_cv(guess),
        winSize=window,
        maxLevel=_MAX_LEVEL,
        criteria=_CRITERIA,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    # The way back begins at the start: it converges there if the two windows agree.
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(
        target,
        before.grey,
        end,
        start.copy(),
        winSize=window,
        maxLevel=_BACK_LEVEL,
        criteria=_CRITERIA,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    returned = np.linalg.norm((back - start).reshape(-1, 2), axis=1) <= config.max_backward_error_px
    moved = after.from_cv(end)
    agrees = (found[:, 0] > 0) & (found_back[:, 0] > 0) & (difference[:, 0] <= config.max_difference)
    is_found: BoolArray = agrees & returned & after.contains(moved)
    return moved, is_found


def matched_exposure(grey: UInt8Array, reference: UInt8Array) -> UInt8Array:
    """An image with the distribution of grey values of a reference, if their means differ much: an exposure jump.

    Args:
        grey: [H, W].
        reference: [H, W].
    """
    if abs(float(cv2.mean(grey)[0]) - float(cv2.mean(reference)[0])) <= _MAX_MEAN_CHANGE:
        return grey
    ranks, reference_ranks = (
        np.cumsum(np.bincount(one.ravel(), minlength=256)) / one.size for one in (grey, reference)
    )
    table = np.interp(ranks, reference_ranks, np.arange(256)).round().astype(np.uint8)
    return np.asarray(cv2.LUT(grey, table), dtype=np.uint8)


def new_corners(image: FlowImage, taken: AnyArray, number: int, spacing_px: float) -> Float64Array:
    """Corners away from points that are followed already, strongest first.

    Args:
        image: to search.
        taken: [N, 2] stored pixels of the points.
        number: largest number of corners.
        spacing_px: smallest distance of corners from each other and from the points, in pixels of `image.grey`.

    Returns:
        Stored pixels [M, 2].

    Source: Shi and Tomasi, Good features to track, 1994.
    """
    if number <= 0:
        return np.zeros((0, 2))
    free = np.full(image.grey.shape, 255, np.uint8)
    for x, y in image.to_cv(taken).reshape(-1, 2).round().astype(int).tolist():
        cv2.circle(free, (x, y), round(spacing_px), 0, -1)
    corners = cv2.goodFeaturesToTrack(image.grey, number, 0.005, spacing_px, mask=free, blockSize=5)
    if corners is None:
        return np.zeros((0, 2))
    found = image.from_cv(corners)
    return found[image.contains(found, 8.0)]
