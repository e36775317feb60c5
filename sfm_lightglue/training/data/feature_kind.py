"""What training must know of the features that a matcher is trained for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeatureKind:
    """A kind of local features."""

    name: str
    """Name of the extractor in the registry, such as "sift"."""

    descriptor_dim: int
    """Number of values of a descriptor."""

    has_scale_orientation: bool
    """Whether keypoints have scales and orientations, which the network takes as inputs then."""

    is_mirrorable: bool
    """Whether the descriptors of a mirrored or rotated image follow from those of the image, as with SIFT. Only then
    can pairs be mirrored and rotated without a new image."""


SIFT = FeatureKind("sift", 128, has_scale_orientation=True, is_mirrorable=True)
"""RootSIFT with scale and orientation."""
