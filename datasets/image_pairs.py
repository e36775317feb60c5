"""Pairs of real photographs with known relation: a pose, perhaps depth, or a homography."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from datasets.ground_truth import read_scene
from datasets.imc import COVISIBILITY_FILE, read_covisible_pairs
from datasets.photo_size import photo_size
from datasets.text import finite_numbers, word_lines
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.evaluation.depth import project_by_depth, read_depth
from sfm_lightglue.evaluation.truth import EvaluationPair, SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3, rotation_angle_deg
from sfm_lightglue.scene.cameras import make_camera

_GRID_STEP_PX = 8
"""Overlap is measured on every so many pixels along both sides."""

_DEPTH_AGREEMENT = 0.1
"""A point is seen by both images where its depth differs by less than this share; sensors are no better."""


def pair_of_scene(scene: SceneTruth, name0: str, name1: str, group: str) -> EvaluationPair:
    """Two photos of a scene with their relative pose.

    Raises:
        DataError: where the scene's cameras are not known.
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
    """All pairs of a scene whose cameras are turned against each other by at most an angle.

    Raises:
        DataError: where the scene's cameras are not known.
    """
    return _pairs_within(scene, combinations(scene.names, 2), group, max_rotation_deg)


def folder_pairs(path: Path, max_rotation_deg: float = 60.0) -> list[EvaluationPair]:
    """The pairs of a scene folder of any format: those that `pair_covisibility.csv` recommends, else `scene_pairs`.

    Raises:
        DataError: where the folder cannot be read, or tells no poses or cameras.
    """
    scene = read_scene(path)
    if len(scene.names) < 2:
        raise DataError(f"{path}: no ground truth of at least two images here")
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
    """At most so many of the pairs, spread evenly over the list; all of them where it is None."""
    if max_pairs is None or len(pairs) <= max_pairs:
        return pairs
    return [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, max_pairs).round().astype(int))]


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
        pair = pair_of_scene(scene, name0, name1, group)
        cam1_from_cam0 = pair.cam1_from_cam0
        if cam1_from_cam0 is None or rotation_angle_deg(cam1_from_cam0.R) > 90:
            continue
        share = min(
            _seen_share(scene, depth_from_name, name0, name1, cam1_from_cam0),
            _seen_share(scene, depth_from_name, name1, name0, cam1_from_cam0.inverse()),
        )
        if overlap[0] <= share <= overlap[1]:
            found.append(replace(pair, depth0=depth_from_name[name0], overlap=share))
    return evenly(found, max_pairs)


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


def read_pair_list(path: Path, image_root: Path, group: str = "pairs") -> list[EvaluationPair]:
    """Pairs in SuperGlue's text format: name0 name1 rot0 rot1 K0 (9) K1 (9) T_0to1 (16) on a line.

    K is in OpenCV's pixels, of the photo as it is stored, and T is cam1_from_cam0. rot0 and rot1 count the
    counter-clockwise quarter turns that stand the photos upright; with 0, their EXIF data say.

    Raises:
        DataError: where the file cannot be read, a line is not of that format, or a photo is missing.

    Source: Sarlin et al., SuperGlue: Learning Feature Matching with Graph Neural Networks, 2020, evaluation.
    """
    return [_pair_of_line(place, words, image_root, group) for place, words in word_lines(path)]


def _pair_of_line(place: str, words: list[str], image_root: Path, group: str) -> EvaluationPair:
    if len(words) != 38:
        raise DataError(
            f"{place}: not SuperGlue's format with ground truth (name0 name1 rot0 rot1 K0 K1 T_0to1):"
            f" {len(words)} words, expected 38"
        )
    turns = finite_numbers(place, words[2:4], 2, "rot0 rot1, SuperGlue's turns")
    if not set(turns) <= {0.0, 1.0, 2.0, 3.0}:
        raise DataError(f"{place}: rot0 and rot1 must be 0, 1, 2 or 3, got {words[2]} and {words[3]}")
    values = finite_numbers(place, words[4:], 34, "K0 K1 T_0to1 of SuperGlue's format")
    paths = [image_root / name for name in words[:2]]
    try:
        sizes = [photo_size(photo) for photo in paths]
        K0, K1 = values[:9].reshape(3, 3), values[9:18].reshape(3, 3)
        cameras = [
            make_camera("PINHOLE", size, (K[0, 0], K[1, 1], K[0, 2] + 0.5, K[1, 2] + 0.5))
            for size, K in zip(sizes, (K0, K1), strict=True)
        ]
        pose = Rigid3.from_matrix(values[18:].reshape(4, 4))
    except (ConfigError, DataError, ValueError) as error:
        raise DataError(f"{place}: {error}") from error
    quarter_turns = [int(-turn % 4) if turn else None for turn in turns]
    return EvaluationPair(
        group, paths[0], paths[1], cameras[0], cameras[1], pose, quarter_turns=(quarter_turns[0], quarter_turns[1])
    )
