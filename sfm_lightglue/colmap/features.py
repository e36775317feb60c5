"""Convert our features to the form of COLMAP's databases."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.colmap.database_reader import bytes_from_root_sift
from sfm_lightglue.types import Features


def colmap_features(features: Features) -> tuple[Float32Array, UInt8Array | None]:
    """Convert features to the arrays that COLMAP stores.

    Args:
        features: features of one image. An unknown `shrink_factor` is taken as 1; COLMAP uses scales for drawing only.

    Returns:
        Keypoints [N, 4] with scale and orientation, or [N, 2] if they have none; and the descriptors [N, 128] as bytes
        if they are RootSIFT, for COLMAP's matchers and retrieval, else None.
    """
    if features.scales is None or features.orientations is None:
        return features.keypoints, None
    factor = features.shrink_factor or 1.0
    keypoints = np.column_stack([features.keypoints, features.scales * (factor / 2), features.orientations])
    # Of all descriptors, only RootSIFT has 128 values without a negative one: square roots of fractions.
    is_root_sift = features.descriptors.shape[1] == 128 and bool((features.descriptors >= 0).all())
    return keypoints.astype(np.float32), bytes_from_root_sift(features.descriptors) if is_root_sift else None
