"""Scenes of known points and cameras, as a COLMAP model and as a database with verified pairs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.geometry.epipolar import essential_from_pose
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.scene.cameras import as_pycolmap, make_camera
from sfm_lightglue.types import Camera, ImagePair, Matches, SceneImage, TwoViewGeometry

SIZE = (800, 600)
GIVEN = make_camera("SIMPLE_RADIAL", SIZE, (700, 400, 300, 0))
GUESSED = make_camera("SIMPLE_RADIAL", SIZE, (700, 400, 300, 0), "guessed")
EXIF = make_camera("SIMPLE_RADIAL", SIZE, (700, 400, 300, 0), "exif")
UP = np.array([0.0, 0.0, 1.0])


@dataclass(frozen=True, eq=False)
class ExactScene:
    """Cameras that see points, with a little noise of the pixels."""

    poses: dict[str, Rigid3]
    points: np.ndarray
    camera: Camera = GIVEN
    noise_px: float = 0.3

    @cached_property
    def observed(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Rows of the points that each image sees, and their pixels."""
        rng = np.random.default_rng(0)
        native = as_pycolmap(self.camera)
        found = {}
        for name, pose in sorted(self.poses.items()):
            seen = pose @ self.points
            pixels = native.img_from_cam(seen) + rng.normal(scale=self.noise_px, size=(len(seen), 2))
            visible = (seen[:, 2] > 0.1) & (pixels > 1).all(axis=1) & (pixels < np.array(self.camera.size) - 1).all(1)
            found[name] = np.flatnonzero(visible), pixels[visible]
        return found

    def relative_pose(self, pair: ImagePair) -> Rigid3:
        """`cam1_from_cam0` with a translation of length 1."""
        return unit_length(self.poses[pair.name1] @ self.poses[pair.name0].inverse())

    def matches(self, pair: ImagePair) -> Matches:
        """The points that both images see."""
        rows0, rows1 = (self.observed[name][0] for name in (pair.name0, pair.name1))
        _, indices0, indices1 = np.intersect1d(rows0, rows1, return_indices=True)
        return Matches(np.stack([indices0, indices1], axis=1).astype(np.int32), np.ones(len(indices0), np.float32))

    @property
    def pairs(self) -> list[ImagePair]:
        return [ImagePair(*names) for names in combinations(sorted(self.poses), 2)]


def unit_length(pose: Rigid3) -> Rigid3:
    return Rigid3(pose.R, pose.t / np.linalg.norm(pose.t))


def ring_scene(num_images: int = 10, num_points: int = 200, camera: Camera = GIVEN) -> ExactScene:
    """Cameras on an arc of 140 degrees around a cloud of points."""
    poses = {}
    for idx, angle in enumerate(np.linspace(-1.2, 1.2, num_images)):
        center = np.array([8 * np.sin(angle), -8 * np.cos(angle), 1 + 0.8 * np.sin(2.1 * idx)])
        poses[f"{idx:02d}.jpg"] = Rigid3.look_at(center, np.array([0.1 * np.sin(idx), 0, 0]), UP)
    return ExactScene(poses, np.random.default_rng(0).uniform(-1, 1, (num_points, 3)) * [3, 3, 2], camera)


def plane_scene(tilt_deg: float, camera: Camera = GUESSED, num_images: int = 9) -> ExactScene:
    """Cameras 8 above a flat field, every second one tilted by an angle, in changing directions."""
    poses = {}
    for idx in range(num_images):
        center = np.array([1.5 * (idx % 3) - 1.5, 1.5 * (idx // 3) - 1.5, 8.0])
        tilt, azimuth = np.deg2rad(tilt_deg * (idx % 2)), 1.3 * idx
        sideways = np.sin(tilt) * np.array([np.cos(azimuth), np.sin(azimuth), 0.0])
        target = center + sideways - [0.0, 0.0, np.cos(tilt)]
        poses[f"{idx:02d}.jpg"] = Rigid3.look_at(center, target, np.array([0.0, 1.0, 0.0]))
    points = np.random.default_rng(1).uniform(-8, 8, (600, 3)) * [1, 1, 0]
    return ExactScene(poses, points, camera)


def make_model(
    scene: ExactScene,
    poses: Mapping[str, Rigid3] | None = None,
    points_from_name: Mapping[str, np.ndarray] | None = None,
    max_points: Mapping[str, int] | None = None,
) -> pycolmap.Reconstruction:
    """A model of a scene.

    Args:
        scene: with the observations.
        poses: of the images in the model, if they are not those of the scene.
        points_from_name: positions of the points that an image sees, for images that have points of their own.
        max_points: number of points that an image observes at most; all by default.
    """
    model = pycolmap.Reconstruction()
    native = as_pycolmap(scene.camera)
    native.camera_id = 1
    model.add_camera_with_trivial_rig(native)
    tracks: dict[tuple[int, int], pycolmap.Track] = {}
    clouds = [scene.points]
    for image_id, (name, pose) in enumerate(sorted((poses or scene.poses).items()), 1):
        rows, pixels = scene.observed[name]
        image = pycolmap.Image(name=name, keypoints=pixels, image_id=image_id)
        image.camera_id = 1
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(np.column_stack([pose.R, pose.t])))
        cloud = (points_from_name or {}).get(name, scene.points)
        if not any(cloud is other for other in clouds):
            clouds.append(cloud)
        number = next(idx for idx, other in enumerate(clouds) if cloud is other)
        for point2d_idx, row in enumerate(rows[: (max_points or {}).get(name, len(rows))].tolist()):
            tracks.setdefault((number, row), pycolmap.Track()).add_element(image_id, point2d_idx)
    for (number, row), track in sorted(tracks.items()):
        if track.length() > 1:
            model.add_point3D(clouds[number][row], track)
    model.update_point_3d_errors()
    return model


def write_database(
    path: Path,
    scene: ExactScene,
    pairs: Iterable[ImagePair] | None = None,
    wrong: Mapping[ImagePair, Rigid3] | None = None,
    static: Iterable[ImagePair] = (),
) -> Path:
    """A database with the verified pairs of a scene.

    Args:
        path: of a new file.
        scene: with the observations.
        pairs: all pairs by default.
        wrong: `cam1_from_cam0` of pairs that match the wrong points.
        static: pairs that were taken for a pure rotation.
    """
    static = set(static)
    with DatabaseWriter(path) as database:
        for name, (_, pixels) in scene.observed.items():
            database.add_image(SceneImage(name, Path(name), scene.camera, 0, ""), pixels.astype(np.float32))
        for pair in scene.pairs if pairs is None else pairs:
            matches, pose = scene.matches(pair), scene.relative_pose(pair)
            if pair in (wrong or {}):
                pose = (wrong or {})[pair]
                shifted = np.column_stack([matches.indices[:, 0], np.roll(matches.indices[:, 1], 7)])
                matches = Matches(np.ascontiguousarray(shifted), matches.scores)
            mask, E = np.ones(len(matches), np.bool_), essential_from_pose(pose)
            if pair in static:
                still = Rigid3(pose.R, np.zeros(3))
                geometry = TwoViewGeometry("pure_rotation", mask, still, np.zeros((3, 3)), np.zeros((3, 3)), pose.R)
            else:
                geometry = TwoViewGeometry("general", mask, pose, E, E if scene.camera.source != "guessed" else None)
            database.add_pair(pair, matches, geometry)
    return path


def turned_about_vertical(poses: Mapping[str, Rigid3], names: Iterable[str], angle_deg: float) -> dict[str, Rigid3]:
    """Poses of which some are turned about the vertical axis through the origin."""
    turn = Rigid3.from_rotvec(np.radians(angle_deg) * UP, np.zeros(3))
    names = set(names)
    return {name: pose @ turn if name in names else pose for name, pose in poses.items()}
