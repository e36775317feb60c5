"""Pairs of real photographs with known relation: a pose, perhaps depth, or a homography."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from datasets.ground_truth import SceneTruth, read_scene
from sfm_lightglue.cameras import as_pycolmap, make_camera, normalized_from_pixels
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry import Float64Array, Rigid3, homogeneous, rotation_angle_deg
from sfm_lightglue.images import Image
from sfm_lightglue.types import BoolArray, Camera

_GRID_STEP_PX = 8
"""Overlap is measured on every so many pixels along both sides."""

_DEPTH_AGREEMENT = 0.1
"""A point is seen by both images where its depth differs by less than this share; sensors are no better."""


@dataclass(frozen=True, slots=True)
class EvaluationPair:
    """Two photographs, and what is known of them: poses with cameras, or a homography.

    Args:
        group: for tables, such as "hololens 10-50 %".
        path0: file.
        path1: file.
        camera0: intrinsics; None with a homography.
        camera1: intrinsics.
        cam1_from_cam0: pose in the unit of the depth; None with a homography.
        H: [3, 3] from pixels of image 0 to those of image 1, COLMAP convention; None with poses.
        depth0: depth map of image 0 in millimetres, 16-bit, 0 where unknown; None where there is none.
        overlap: share of image 0 or 1, whichever is smaller, that the other sees; None where it is not known.
    """

    group: str
    path0: Path
    path1: Path
    camera0: Camera | None = None
    camera1: Camera | None = None
    cam1_from_cam0: Rigid3 | None = None
    H: Float64Array | None = None
    depth0: Path | None = None
    overlap: float | None = None


@lru_cache(maxsize=128)
def read_depth(path: Path) -> Float64Array:
    """Depth map [H, W] in metres, 0 where unknown, from a 16-bit PNG in millimetres.

    Raises:
        DataError: where it cannot be read.
    """
    try:
        with PilImage.open(path) as image:
            return np.asarray(image, dtype=np.float64) / 1000
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no depth map that can be read ({error})") from error


def scene_pairs(scene: SceneTruth, group: str, max_rotation_deg: float = 60.0) -> list[EvaluationPair]:
    """All pairs of a scene whose cameras are turned against each other by at most an angle."""
    pairs = []
    for name0, name1 in combinations(scene.names, 2):
        cam1_from_cam0 = scene.cam_from_world_from_name[name1] @ scene.cam_from_world_from_name[name0].inverse()
        if rotation_angle_deg(cam1_from_cam0.R) <= max_rotation_deg:
            pairs.append(
                EvaluationPair(
                    group,
                    scene.image_root / name0,
                    scene.image_root / name1,
                    scene.camera_from_name[name0],
                    scene.camera_from_name[name1],
                    cam1_from_cam0,
                )
            )
    return pairs


def depth_pairs(folder: Path, group: str, overlap: tuple[float, float], max_pairs: int) -> list[EvaluationPair]:
    """Pairs of a sequence with depth maps whose overlap lies in a range.

    Args:
        folder: with `cameras.json`, images and `depth/` of PNGs of the same stems.
        group: for tables.
        overlap: smallest and largest share.
        max_pairs: of more, evenly many are taken.
    """
    scene = read_scene(folder)
    depth_from_name = {name: folder / "depth" / f"{Path(name).stem}.png" for name in scene.names}
    found = []
    for name0, name1 in combinations(scene.names, 2):
        cam1_from_cam0 = scene.cam_from_world_from_name[name1] @ scene.cam_from_world_from_name[name0].inverse()
        if rotation_angle_deg(cam1_from_cam0.R) > 90:
            continue
        share = min(
            _seen_share(scene, depth_from_name, name0, name1, cam1_from_cam0),
            _seen_share(scene, depth_from_name, name1, name0, cam1_from_cam0.inverse()),
        )
        if overlap[0] <= share <= overlap[1]:
            found.append(
                EvaluationPair(
                    group,
                    scene.image_root / name0,
                    scene.image_root / name1,
                    scene.camera_from_name[name0],
                    scene.camera_from_name[name1],
                    cam1_from_cam0,
                    depth0=depth_from_name[name0],
                    overlap=share,
                )
            )
    chosen = np.unique(np.linspace(0, len(found) - 1, min(max_pairs, len(found))).round().astype(int))
    return [found[i] for i in chosen]


def _seen_share(
    scene: SceneTruth, depth_from_name: dict[str, Path], name0: str, name1: str, cam1_from_cam0: Rigid3
) -> float:
    """Share of image 0, where its depth is known, that image 1 sees."""
    depth0, depth1 = read_depth(depth_from_name[name0]), read_depth(depth_from_name[name1])
    rows, columns = np.mgrid[0 : depth0.shape[0] : _GRID_STEP_PX, 0 : depth0.shape[1] : _GRID_STEP_PX]
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    projected, z, known = project_by_depth(
        pixels, depth0, scene.camera_from_name[name0], scene.camera_from_name[name1], cam1_from_cam0
    )
    if not known.any():
        return 0.0
    height, width = depth1.shape
    inside = known & (z > 0) & ((projected >= 0) & (projected < (width, height))).all(axis=1)
    column1, row1 = np.floor(projected[inside]).astype(int).T
    other = depth1[row1, column1]
    agrees = (other > 0) & (np.abs(z[inside] - other) < _DEPTH_AGREEMENT * other)
    return float(agrees.sum() / known.sum())


def project_by_depth(
    pixels: Float64Array, depth0: Float64Array, camera0: Camera, camera1: Camera, cam1_from_cam0: Rigid3
) -> tuple[Float64Array, Float64Array, BoolArray]:
    """Where pixels of image 0 are in image 1.

    Args:
        pixels: [N, 2] in image 0, COLMAP convention.
        depth0: [H, W] of image 0, z in the unit of the pose, 0 where unknown.
        camera0: intrinsics.
        camera1: intrinsics.
        cam1_from_cam0: pose.

    Returns:
        Pixels [N, 2] in image 1, depths [N] there, and whether [N] the depth in image 0 is known.
    """
    height, width = depth0.shape
    columns = np.clip(np.floor(pixels[:, 0]).astype(int), 0, width - 1)
    rows = np.clip(np.floor(pixels[:, 1]).astype(int), 0, height - 1)
    z0 = depth0[rows, columns]
    points = cam1_from_cam0 @ (homogeneous(normalized_from_pixels(camera0, pixels)) * z0[:, None])
    safe = np.where(points[:, 2:] > 1e-9, points, np.array([0.0, 0.0, 1.0]))
    return np.asarray(as_pycolmap(camera1).img_from_cam(safe)), points[:, 2], z0 > 0


def homography_pairs(folder: Path, group: str) -> list[EvaluationPair]:
    """Image 1 with each other image of an Oxford folder: `img1.png`, ..., and `H1toNp` in OpenCV's pixels.

    Raises:
        DataError: where a homography cannot be read.
    """
    from_opencv = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1.0]])  # the first centre from 0 to 0.5
    pairs = []
    for path in sorted(folder.glob("H1to*p")):
        number = path.name.removeprefix("H1to").removesuffix("p")
        try:
            H = np.loadtxt(path).reshape(3, 3)
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: no homography of 3 x 3 numbers ({error})") from error
        other = next(iter(sorted(folder.glob(f"img{number}.*"))), None)
        first = next(iter(sorted(folder.glob("img1.*"))), None)
        if first is None or other is None:
            raise DataError(f"{folder}: {path.name} is there, but not img1 and img{number}")
        pairs.append(
            EvaluationPair(f"{group} 1-{number}", first, other, H=from_opencv @ H @ np.linalg.inv(from_opencv))
        )
    return pairs


def read_pair_list(path: Path, image_root: Path, group: str = "pairs") -> list[EvaluationPair]:
    """Pairs in SuperGlue's text format: name0 name1 rot0 rot1 K0 (9) K1 (9) T_0to1 (16) on a line.

    K is in OpenCV's pixels. Photos are taken as they are stored: rot0 and rot1 must be 0.

    Raises:
        DataError: where the file cannot be read or a line is not of that format.
    """
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        try:
            rotations = [int(word) for word in words[2:4]]
            values = np.array([float(word) for word in words[4:]])
            if len(values) != 34:
                raise ValueError(f"{len(words)} words, expected 38")
        except ValueError as error:
            raise DataError(f"{path}:{number}: not SuperGlue's format ({error})") from error
        if any(rotations):
            raise DataError(f"{path}:{number}: turned images (rot0, rot1) are not supported")
        paths = [image_root / name for name in words[:2]]
        sizes = [Image.read(image).size for image in paths]
        K0, K1, T = values[:9].reshape(3, 3), values[9:18].reshape(3, 3), values[18:].reshape(4, 4)
        cameras = [
            make_camera("PINHOLE", size, (K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5))
            for size, K in zip(sizes, (K0, K1), strict=True)
        ]
        pairs.append(EvaluationPair(group, paths[0], paths[1], cameras[0], cameras[1], Rigid3.from_matrix(T)))
    return pairs
