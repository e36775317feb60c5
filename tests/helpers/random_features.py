"""Random features of the kind that SIFT gives."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.types import Features


def random_sift(seed: int, num_points: int) -> Features:
    """Random keypoints of an image of 320 x 320 pixels with random descriptors of length 1."""
    rng = np.random.default_rng(seed)
    descriptors = np.abs(rng.normal(size=(num_points, 128))).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    places, scales, angles = (rng.uniform(1, high, (num_points, n)) for high, n in ((300, 2), (9, 1), (6, 1)))
    return Features(
        places.astype(np.float32),
        np.ones(num_points, np.float32),
        descriptors,
        (320, 320),
        scales[:, 0].astype(np.float32),
        angles[:, 0].astype(np.float32),
    )
