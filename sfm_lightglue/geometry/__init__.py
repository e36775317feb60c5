"""Transforms, epipolar geometry and alignment, with NumPy only. Users and plug-ins may import these names."""

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.geometry.epipolar import (
    essential_from_pose,
    homogeneous,
    sampson_residuals,
    squared_sampson_errors,
    squared_symmetric_epipolar_errors,
    triangulate,
)
from sfm_lightglue.geometry.transforms import (
    Rigid3,
    Sim3,
    cross_matrix,
    direction_angle_deg,
    direction_angles_deg,
    project_to_rotation,
    relative_pose_error_deg,
    rotation_angle_deg,
    rotation_angles_deg,
    rotation_from_rotvec,
    umeyama,
)

__all__ = [
    "AnyArray",
    "Float64Array",
    "Rigid3",
    "Sim3",
    "cross_matrix",
    "direction_angle_deg",
    "direction_angles_deg",
    "essential_from_pose",
    "homogeneous",
    "project_to_rotation",
    "relative_pose_error_deg",
    "rotation_angle_deg",
    "rotation_angles_deg",
    "rotation_from_rotvec",
    "sampson_residuals",
    "squared_sampson_errors",
    "squared_symmetric_epipolar_errors",
    "triangulate",
    "umeyama",
]
