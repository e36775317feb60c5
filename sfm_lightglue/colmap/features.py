"""Convert our features to the form of COLMAP's databases."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.colmap.database_reader import bytes_from_root_sift
from sfm_lightglue.types import Features


def colmap_features(features: Features) -> tuple[Float32Array, UInt8Array | None]:
    """Features as COLMAP keeps them.

    Args:
        features: of one image. An unknown `shrink_factor` is taken as 1, which COLMAP only uses to draw keypoints.

    Returns:
        Keypoints [N, 4] with scale and orientation, [N, 2] where they have none; and where they are RootSIFT,
        their descriptors [N, 128] as bytes, for COLMAP's own matchers and retrieval.
    """
    if features.scales is None or features.orientations is None:
        return features.keypoints, None
    factor = features.shrink_factor or 1.0
    keypoints = np.column_stack([features.keypoints, features.scales * (factor / 2), features.orientations])
    # Of all descriptors, only RootSIFT has 128 values without a negative one: square roots of fractions.
    is_root_sift = features.descriptors.shape[1] == 128 and bool((features.descriptors >= 0).all())
    return keypoints.astype(np.float32), bytes_from_root_sift(features.descriptors) if is_root_sift else None
