"""When a frame becomes a keyframe."""

from __future__ import annotations

from dataclasses import dataclass

from sfm_lightglue.tracking.config import KeyframeConfig


@dataclass(frozen=True, slots=True)
class View:
    """How a frame sees the map, compared with its reference keyframe.

    Args:
        num_points: points of the map that fit its pose.
        num_reference_points: points that the reference keyframe had when it was made.
        tracked_share: fraction of the slots of the reference keyframe that are still followed.
        parallax_deg: median angle between the rays to a point from here and from the reference keyframe.
        interval_s: time since the reference keyframe.
    """

    num_points: int
    num_reference_points: int
    tracked_share: float
    parallax_deg: float
    interval_s: float


def is_keyframe(view: View, config: KeyframeConfig) -> bool:
    """Whether a frame becomes a keyframe: it lost tracks, or sees the points from elsewhere.

    Source: Mur-Artal et al., ORB-SLAM, 2015, section V-E; Qin et al., VINS-Mono, 2018, section IV-A.
    """
    if view.tracked_share < config.min_tracked_share:
        return True
    if view.num_points < min(config.min_points, 0.8 * view.num_reference_points):
        return True
    if view.parallax_deg > config.max_parallax_deg:
        return True
    return view.interval_s > config.max_interval_s and view.parallax_deg > config.min_parallax_deg
