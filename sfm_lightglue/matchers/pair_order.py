"""The order of the two images of a pair inside a network."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.types import Features


def comes_second(features0: Features, features1: Features) -> bool:
    """Whether the first of two images becomes the second inside the network, which rounds both sides differently.

    The image with fewer points comes first, so that batches need the least padding; ties are broken by the bytes.
    """
    if len(features0) != len(features1):
        return len(features0) > len(features1)
    if not np.array_equal(features0.keypoints, features1.keypoints):
        return features0.keypoints.tobytes() > features1.keypoints.tobytes()
    return _rest_of(features0) > _rest_of(features1)


def _rest_of(features: Features) -> tuple[tuple[int, int], int, list[bytes]]:
    arrays = (features.descriptors, features.scales, features.orientations)
    return features.image_size, features.quarter_turns, [one.tobytes() for one in arrays if one is not None]
