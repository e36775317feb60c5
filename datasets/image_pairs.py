"""Image pairs with ground truth: of scenes, of sequences with depth, and of lists."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from datasets.ground_truth import read_scene
from datasets.imc import COVISIBILITY_FILE, read_covisible_pairs
from datasets.photo_size import photo_size
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.evaluation.depth import project_by_depth, read_depth
from sfm_lightglue.evaluation.truth import EvaluationPair, SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3, rotation_angle_deg
from sfm_lightglue.image_pair.pair_list import ListedPair, read_listed_pairs
from sfm_lightglue.scene.cameras import make_camera

_GRID_STEP_PX = 8
"""Overlap is measured on a grid of pixels with this spacing."""

_MAX_DEPTH_DIFFERENCE = 0.1
"""Largest relative difference of the depths of a point that both images see; depth sensors are not more accurate."""


def pair_of_scene(scene: SceneTruth, name0: str, name1: str, group: str) -> EvaluationPair:
    """Two images of a scene with their relative pose.

    Raises:
        DataError: if the scene's intrinsics are not known.
    """
    if not scene.camera_from_name:
        raise DataError(f"{scene.image_root}: the intrinsics of scene {scene.name} are not known")
    return EvaluationPair(
        group,
        scene.image_root / name0,
        scene.image_root / name1,
        scene.camera_from_name[name0],
        scene.camera_from_name[name1],
        scene.cam_from_world_from_name[name1] @ scene.cam_from_world_from_name[name0].inverse(),
    )


def scene_pairs(scene: SceneTruth, group: str, max_rotation_deg: float = 60.0) -> list[EvaluationPair]:
    """All pairs of a scene whose relative rotation is at most `max_rotation_deg`.

    Raises:
        DataError: if the scene's intrinsics are not known.
    """
    return _pairs_within(scene, combinations(scene.names, 2), group, max_rotation_deg)


def folder_pairs(path: Path, max_rotation_deg: float = 60.0) -> list[EvaluationPair]:
    """Pairs of a scene folder of any format: those recommended by `pair_covisibility.csv`, else `scene_pairs`.

    Raises:
        DataError: if the folder cannot be read, or has no poses or no intrinsics.
    """
    scene = read_scene(path)
    if len(scene.names) < 2:
        raise DataError(f"{path}: an evaluation needs ground truth of at least two images")
    if (path / COVISIBILITY_FILE).is_file():
        listed = [pair for pair in read_covisible_pairs(path) if set(pair) <= scene.cam_from_world_from_name.keys()]
        return _pairs_within(scene, listed, scene.name, 180.0)
    return scene_pairs(scene, scene.name, max_rotation_deg)


def _pairs_within(
    scene: SceneTruth, names: Iterable[tuple[str, str]], group: str, max_rotation_deg: float
) -> list[EvaluationPair]:
    pairs = (pair_of_scene(scene, name0, name1, group) for name0, name1 in names)
    return [
        pair
        for pair in pairs
        if pair.cam1_from_cam0 is not None and rotation_angle_deg(pair.cam1_from_cam0.R) <= max_rotation_deg
    ]


def evenly(pairs: list[EvaluationPair], max_pairs: int | None) -> list[EvaluationPair]:
    """At most `max_pairs` of the pairs, evenly spaced in the list; None for all."""
    if max_pairs is None or len(pairs) <= max_pairs:
        return pairs
    return [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, max_pairs).round().astype(int))]


def depth_pairs(folder: Path, group: str, overlap: tuple[float, float], max_pairs: int) -> list[EvaluationPair]:
    """Pairs of a sequence with depth maps whose overlap lies in a range.

    Args:
        folder: with `cameras.json`, images, and `depth/` with PNGs of the same stems.
        group: for tables.
        overlap: smallest and largest overlap, as a fraction.
        max_pairs: of more pairs, an evenly spaced subset.
    """
    scene = read_scene(folder)
    depth_from_name = {name: folder / "depth" / f"{Path(name).stem}.png" for name in scene.names}
    pairs = []
    for name0, name1 in combinations(scene.names, 2):
        pair = pair_of_scene(scene, name0, name1, group)
        cam1_from_cam0 = pair.cam1_from_cam0
        if cam1_from_cam0 is None or rotation_angle_deg(cam1_from_cam0.R) > 90:
            continue
        fraction = min(
            _visible_fraction(scene, depth_from_name, name0, name1, cam1_from_cam0),
            _visible_fraction(scene, depth_from_name, name1, name0, cam1_from_cam0.inverse()),
        )
        if overlap[0] <= fraction <= overlap[1]:
            pairs.append(replace(pair, depth0=depth_from_name[name0], overlap=fraction))
    return evenly(pairs, max_pairs)


def _visible_fraction(
    scene: SceneTruth, depth_from_name: dict[str, Path], name0: str, name1: str, cam1_from_cam0: Rigid3
) -> float:
    """Fraction of the pixels of image 0 with known depth that image 1 sees."""
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
    is_visible = (other > 0) & (np.abs(z[inside] - other) < _MAX_DEPTH_DIFFERENCE * other)
    return float(is_visible.sum() / known.sum())


def read_pair_list(path: Path, image_root: Path, group: str = "pairs") -> list[EvaluationPair]:
    """Read pairs in SuperGlue's text format with ground truth: name0 name1 [rot0 rot1] K0 (9) K1 (9) T_0to1 (16).

    K is in OpenCV's pixels of the stored image, and T is cam1_from_cam0. rot0 and rot1 are the counter-clockwise
    quarter turns that make the images upright; 0 uses their EXIF data.

    Raises:
        DataError: if the file cannot be read, a line is not of that format, or an image is missing.

    Source: Sarlin et al., SuperGlue: Learning Feature Matching with Graph Neural Networks, 2020, evaluation.
    """
    return [_pair_of_line(listed, image_root, group) for listed in read_listed_pairs(path, image_root)]


def _pair_of_line(listed: ListedPair, image_root: Path, group: str) -> EvaluationPair:
    if listed.error:
        raise DataError(f"{listed.error}, here with K0, K1 and T_0to1")
    if listed.intrinsics is None or listed.truth is None:
        raise DataError(f"{listed.location}: K0, K1 or T_0to1 is missing; an evaluation needs the true pose")
    path0, path1 = (image_root / name for name in listed.names)
    try:
        camera0, camera1 = (
            make_camera("PINHOLE", photo_size(path), (fx, fy, cx + 0.5, cy + 0.5))
            for path, (fx, fy, cx, cy) in zip((path0, path1), listed.intrinsics, strict=True)
        )
        pose = Rigid3.from_matrix(np.array(listed.truth).reshape(4, 4))
    except (ConfigError, DataError, ValueError) as error:
        raise DataError(f"{listed.location}: {error}") from error
    turns0, turns1 = (-turns % 4 if turns else None for turns in listed.rotations)
    return EvaluationPair(group, path0, path1, camera0, camera1, pose, quarter_turns=(turns0, turns1))
