"""Our features as COLMAP's databases hold them."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import Float32Array, UInt8Array
from sfm_lightglue.colmap.database_reader import bytes_from_root_sift
from sfm_lightglue.types import Features


def colmap_features(features: Features, max_image_size: int | None = None) -> tuple[Float32Array, UInt8Array | None]:
    """Features as COLMAP keeps them.

    Args:
        features: of one image.
        max_image_size: longer side in pixels to which the extractor shrank larger pictures, None if it did not.

    Returns:
        Keypoints [N, 4] with scale and orientation, [N, 2] where they have none; and where they are RootSIFT,
        their descriptors [N, 128] as bytes, for COLMAP's own matchers and retrieval.
    """
    if features.scales is None or features.orientations is None:
        return features.keypoints, None
    longer = max(features.image_size)
    enlarged = longer / min(longer, max_image_size or longer)
    keypoints = np.column_stack([features.keypoints, features.scales * (enlarged / 2), features.orientations])
    # RootSIFT alone has 128 numbers none of which is negative: the roots of shares.
    is_root_sift = features.descriptors.shape[1] == 128 and bool((features.descriptors >= 0).all())
    return keypoints.astype(np.float32), bytes_from_root_sift(features.descriptors) if is_root_sift else None
