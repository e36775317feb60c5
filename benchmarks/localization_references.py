"""What the poses of `benchmarks.localization` are compared with: the truth, also of another sensor, or another map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from benchmarks.reconstruction_scenes import BenchmarkScene
from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.alignment import similarity_from_poses
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, project_to_rotation, rotation_angle_deg, umeyama

TRUTH, OTHER_SENSOR, ALL_IMAGES = "truth", "truth, sensor fitted", "all images"

ROUGH_TRUTH = "seven_scenes"
"""The scene whose true poses and intrinsics are those of a depth camera, up to some pixels."""

_NUM_ITERATIONS = 1000
"""Alternating steps become small slowly, and cost little."""


@dataclass(frozen=True, slots=True)
class Reference:
    """Poses that are taken for right, and how far others may be from them.

    Args:
        name: `TRUTH`, `OTHER_SENSOR` or `ALL_IMAGES`.
        poses: `cam_from_world` by name.
        unit: of distances, in the unit of the poses.
        max_distance: largest distance of a centre, in `unit`.
        max_angle_deg: largest angle of a rotation.
    """

    name: str
    poses: Mapping[str, Rigid3]
    unit: float
    max_distance: float = 0.01
    max_angle_deg: float = 0.5


def references(scene: BenchmarkScene, whole: Mapping[str, Rigid3]) -> list[Reference]:
    """What the poses of a scene are compared with: the truth, and a map of all images if there is one."""
    truth = scene.truth.cam_from_world_from_name
    if scene.name.startswith(ROUGH_TRUTH):
        found = [Reference(name, truth, 1.0, 0.03, 5.0) for name in (TRUTH, OTHER_SENSOR)]
    else:
        found = [Reference(TRUTH, truth, scene.truth.extent)]
    if whole:
        found.append(Reference(ALL_IMAGES, whole, SceneTruth("", scene.truth.image_root, whole).extent))
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """The frame of a reference, and the sensor of its poses, which moves with the camera.

    Args:
        reference_from_map: similarity of the frames.
        place: [3] position of the sensor in the frame of the camera, in the unit of the map.
        sensor_from_camera: [3, 3] rotation of the axes.
    """

    reference_from_map: Sim3
    place: Float64Array = field(default_factory=lambda: np.zeros(3))
    sensor_from_camera: Float64Array = field(default_factory=lambda: np.eye(3))

    @classmethod
    def of(cls, mapped: Mapping[str, Rigid3], reference: Reference) -> Alignment:
        """The alignment of the images of a map with a reference; for `OTHER_SENSOR` with a sensor that fits best."""
        names = sorted(mapped.keys() & reference.poses.keys())
        poses, right = [mapped[name] for name in names], [reference.poses[name] for name in names]
        if reference.name == OTHER_SENSOR:
            return _with_sensor(poses, right)
        if reference.name == ALL_IMAGES:
            return cls(_by_axes(poses, right))
        return cls(similarity_from_poses(names, mapped, reference.poses))

    def errors(self, pose: Rigid3, right: Rigid3) -> tuple[float, float]:
        """Distance of the centres in the unit of the reference, and angle in degrees."""
        center = self.reference_from_map @ (pose.center + pose.R.T @ self.place)
        turned = self.sensor_from_camera @ pose.R @ self.reference_from_map.R.T @ right.R.T
        return float(np.linalg.norm(center - right.center)), rotation_angle_deg(turned)


def _by_axes(poses: list[Rigid3], right: list[Rigid3]) -> Sim3:
    """The similarity whose rotation is that of the axes of the cameras, which is better known between two maps."""
    R = project_to_rotation(sum((one.R.T @ pose.R for one, pose in zip(right, poses, strict=True)), np.zeros((3, 3))))
    centers, moved = (np.array([pose.center for pose in some]) for some in (right, poses))
    moved = moved @ R.T
    mean, moved_mean = centers.mean(axis=0), moved.mean(axis=0)
    scale = float(((centers - mean) * (moved - moved_mean)).sum() / ((moved - moved_mean) ** 2).sum())
    return Sim3(scale, R, mean - scale * moved_mean)


def _with_sensor(poses: list[Rigid3], right: list[Rigid3]) -> Alignment:
    """Similarity and place of the sensor by alternating least squares over the centres, then the mean of its axes."""
    R, centers = np.array([pose.R for pose in poses]), np.array([pose.center for pose in poses])
    true_centers = np.array([pose.center for pose in right])
    place = np.zeros(3)
    for _ in range(_NUM_ITERATIONS):
        similarity = umeyama(centers + np.einsum("nji,j->ni", R, place), true_centers)
        turned = similarity.scale * np.einsum("ij,nkj->nik", similarity.R, R)  # the axes of the cameras, columns
        left = (true_centers - similarity.scale * centers @ similarity.R.T - similarity.t).ravel()
        place = np.linalg.lstsq(turned.reshape(-1, 3), left, rcond=None)[0]
    mean = sum((one.R @ similarity.R @ pose.R.T for one, pose in zip(right, poses, strict=True)), np.zeros((3, 3)))
    return Alignment(similarity, place, project_to_rotation(mean))
