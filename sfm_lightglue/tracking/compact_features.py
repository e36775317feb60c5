"""The features of a keyframe in a quarter of the memory."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.features import DenseFeatures, Features


@dataclass(frozen=True, slots=True, eq=False)
class CompactFeatures:
    """Features with descriptors of 8 bits a number.

    Args:
        dense: keypoints, descriptors and scales.
        scores: [N].
        orientations: [N] radians, or None.
        quarter_turns: of the image.
    """

    dense: DenseFeatures
    scores: Float32Array
    orientations: Float32Array | None
    quarter_turns: int

    @classmethod
    def of(cls, features: Features) -> CompactFeatures:
        """Make them of features."""
        return cls(
            DenseFeatures.from_features(features), features.scores, features.orientations, features.quarter_turns
        )

    def __len__(self) -> int:
        return len(self.dense)

    def as_features(self) -> Features:
        """Features with descriptors of length 1, which differ by at most half a step of 8 bits from the first ones."""
        dense = self.dense
        return Features(
            dense.keypoints,
            self.scores,
            dense.unit_descriptors(),
            dense.image_size,
            dense.scales,
            self.orientations,
            self.quarter_turns,
            shrink_factor=dense.shrink_factor,
        )
