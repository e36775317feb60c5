"""What localization returns for an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.localization.pose import position_covariance
from sfm_lightglue.types import Camera

Reason = Literal[
    "unreadable",
    "no_similar_image",
    "too_few_matches",
    "too_few_inliers",
    "low_inlier_share",
    "not_spread",
    "uncertain",
    "ambiguous",
]
"""Why an image has no pose: see `docs/how-to/localize.md`."""

_HAVE_A_POSE: frozenset[Reason | None] = frozenset({None, "low_inlier_share", "not_spread", "uncertain", "ambiguous"})
"""Reasons against a pose that more than a few keypoints fit; None for an accepted one."""


@dataclass(frozen=True, slots=True)
class SupportingImage:
    """An image of the map that a query was matched with.

    Args:
        name: of the image.
        num_matches: matches with 3D points.
        num_inliers: those that fit the pose; 0 if there is no pose.
    """

    name: str
    num_matches: int
    num_inliers: int


@dataclass(frozen=True, eq=False, slots=True)
class Localization:
    """The pose of an image in a map, or why it has none.

    Args:
        name: of the image.
        cam_from_world: the pose in the frame of the map; None if it was refused.
        reason: why it was refused; None for a pose.
        num_matches: keypoints of the image that the matcher matched with a 3D point.
        num_inliers: those of them that fit the pose, or the best pose that was refused.
        images: of the map, those with most inliers first.
        camera: intrinsics that were used or estimated; None if the image cannot be read.
        covariance: [6, 6] of (rotation in radians, translation in units of the map); None without a pose. The true
            pose is x_cam = exp(w) R x_world + t + v, where (w, v) has this covariance.
        seconds: time for this image.
        message: what an unreadable image lacks; "" for others.
        num_guided_inliers: keypoints that a guided search found, and that fit the pose; 0 if it did not improve it.
        model: path of the model whose frame the pose is in, relative to the output folder of the map, such as
            "sparse/0"; "" for a map of another tool.

    Example:
        >>> found = sfm_lightglue.localize("photos", "left.jpg")[0]
        >>> found.registered, found.cam_from_world.R.shape
        (True, (3, 3))
    """

    name: str
    cam_from_world: Rigid3 | None
    reason: Reason | None
    num_matches: int = 0
    num_inliers: int = 0
    images: tuple[SupportingImage, ...] = ()
    camera: Camera | None = None
    covariance: Float64Array | None = None
    seconds: float = 0.0
    message: str = ""
    num_guided_inliers: int = 0
    model: str = ""

    @property
    def registered(self) -> bool:
        """Whether the image has a pose."""
        return self.cam_from_world is not None

    @property
    def position_deviation(self) -> float | None:
        """Standard deviation of the camera centre in its most uncertain direction, in units of the map."""
        if self.cam_from_world is None or self.covariance is None:
            return None
        return float(np.sqrt(np.linalg.eigvalsh(position_covariance(self.cam_from_world, self.covariance))[-1]))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        pose, camera = self.cam_from_world, self.camera
        return {
            "name": self.name,
            "registered": self.registered,
            "cam_from_world": None if pose is None else {"R": pose.R.tolist(), "t": pose.t.tolist()},
            "reason": self.reason,
            "num_inliers": self.num_inliers,
            "num_matches": self.num_matches,
            "num_guided_inliers": self.num_guided_inliers,
            "model": self.model,
            "covariance": None if self.covariance is None else self.covariance.tolist(),
            "position_deviation": self.position_deviation,
            "camera": None
            if camera is None
            else {
                "model": camera.model,
                "width": camera.width,
                "height": camera.height,
                "params": list(camera.params),
                "source": camera.source,
            },
            "images": [
                {"name": one.name, "num_matches": one.num_matches, "num_inliers": one.num_inliers}
                for one in self.images
            ],
            "seconds": round(self.seconds, 3),
        }

    def __str__(self) -> str:
        counts = f"{self.num_inliers} of {self.num_matches} matches fit"
        if self.reason is not None:
            why = self.message or f"{self.reason.replace('_', ' ')} ({counts})"
            return f"{self.name}: no pose, {why}"
        guided = f", {self.num_guided_inliers} by guided search" if self.num_guided_inliers else ""
        deviation = self.position_deviation
        about = "" if deviation is None else f", position ± {deviation:.2g}"
        return f"{self.name}: {counts}{guided}, {sum(one.num_inliers > 0 for one in self.images)} images{about}"


def best_of_models(results: Sequence[Localization], max_rival_share: float) -> Localization:
    """The result of the model in which an image has most inliers.

    Two models may be two places that look alike: a pose is ambiguous if another model gives nearly as many inliers or
    more, even if its pose is refused, such as for an uncertain position. If an image of the map is in both models, and
    gives inliers in both, they are the same place.

    Args:
        results: of an image in different models; one at least.
        max_rival_share: of the inliers of the best pose, up to which another one is no rival.
    """
    order = sorted(range(len(results)), key=lambda idx: (not results[idx].registered, -results[idx].num_inliers, idx))
    best = results[order[0]]
    rivals = [
        one.num_inliers
        for one in results
        if one is not best and one.reason in _HAVE_A_POSE and not _supporting(one) & _supporting(best)
    ]
    if best.registered and max(rivals, default=0) > max_rival_share * best.num_inliers:
        return replace(best, cam_from_world=None, reason="ambiguous", covariance=None, num_guided_inliers=0, model="")
    return best if best.registered else replace(best, model="")


def _supporting(result: Localization) -> set[str]:
    return {one.name for one in result.images if one.num_inliers > 0}
