"""Image sets of the benchmark of verified pairs: images, true cameras, and which pairs see a common surface."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from datasets.ground_truth import read_scene
from datasets.image_pairs import depth_pairs
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.scene.cameras import calibration_matrix
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.synthetic import (
    SyntheticScene,
    corresponding_points,
    read_truth,
    render_courtyard,
    render_room,
    render_street,
    write_scene,
)
from sfm_lightglue.types import Camera, ImagePair

MIN_OVERLAP = 0.02
"""Two images have a common surface if at least this fraction of the pixels of one of them is seen by the other."""

RENDERERS: dict[str, Callable[..., SyntheticScene]] = {
    "courtyard": render_courtyard,
    "street": render_street,
    "room": render_room,
}
_STEP_PX = 8
_ASSUMED_DEPTHS_M = (6.0, 12.0, 25.0, 50.0)
"""Distances of the surfaces along a road, where no depth is known."""


@dataclass(frozen=True, slots=True)
class PairSet:
    """Images with truth.

    Args:
        name: for the table, such as "courtyard 10".
        truth: images and cameras.
        common: pairs of images that see a common surface.
        depth: typical distance of the surfaces, in the unit of the world.
    """

    name: str
    truth: SceneTruth
    common: frozenset[ImagePair]
    depth: float


def synthetic_set(kind: str, num_images: int, seed: int, folder: Path) -> PairSet:
    """A rendered scene, from the folder if it was rendered before.

    Args:
        kind: "courtyard", "street" or "room".
        num_images: of the scene.
        seed: of the scene.
        folder: images, truth and overlaps are kept here.
    """
    root = folder / f"{kind}_{num_images}_{seed}"
    path = root / "common.json"
    if not path.is_file():
        scene = RENDERERS[kind](num_images, seed=seed)
        write_scene(scene, root)
        common = [pair for pair in combinations(scene.names, 2) if _overlap(scene, *pair) >= MIN_OVERLAP]
        depth = float(np.median(np.concatenate([one[one > 0] for one in scene.depths.values()])))
        with atomic_write(path) as file:
            file.write(json.dumps({"common": common, "depth": depth}).encode())
    cameras, poses = read_truth(root)
    truth = SceneTruth(f"{kind} {num_images}, seed {seed}", root / "images", poses, cameras, is_metric=True)
    record = json.loads(path.read_text())
    return PairSet(f"{kind} {num_images}", truth, _pairs(record["common"]), record["depth"])


def hololens_set(data: Path, first: int, num_images: int) -> PairSet:
    """Neighbouring images of an indoor walk with depth maps."""
    folder = data / "sequences" / "hololens"
    truth = _window(read_scene(folder), first, num_images, 1)
    seen = depth_pairs(folder, "", (MIN_OVERLAP, 1.0), 10**9)
    common = {ImagePair.from_names(pair.path0.name, pair.path1.name) for pair in seen}
    by_stem = {Path(name).name: name for name in truth.names}
    kept = [(by_stem[p.name0], by_stem[p.name1]) for p in sorted(common) if {p.name0, p.name1} <= by_stem.keys()]
    return PairSet("hololens", truth, _pairs(kept), 2.5)


def kitti_set(data: Path, first: int, num_images: int, step: int) -> PairSet:
    """Every `step`-th image of a drive; common surfaces are those at assumed distances."""
    truth = _window(read_scene(data / "sequences" / "kitti00"), first, num_images, step)
    poses, cameras = truth.cam_from_world_from_name, truth.camera_from_name
    common = [
        (name0, name1)
        for name0, name1 in combinations(truth.names, 2)
        if max(
            _assumed_overlap(cameras[name0], poses[name1] @ poses[name0].inverse()),
            _assumed_overlap(cameras[name1], poses[name0] @ poses[name1].inverse()),
        )
        >= MIN_OVERLAP
    ]
    return PairSet("kitti00", truth, _pairs(common), 15.0)


def _window(truth: SceneTruth, first: int, num_images: int, step: int) -> SceneTruth:
    return truth.only(truth.names[first : first + step * num_images : step])


def _pairs(names: Iterable[tuple[str, str]]) -> frozenset[ImagePair]:
    return frozenset(ImagePair.from_names(*pair) for pair in names)


def _overlap(scene: SyntheticScene, name0: str, name1: str) -> float:
    """The larger of both fractions of pixels that the other image sees."""
    height, width = scene.depths[name0].shape
    num_pixels = (width // _STEP_PX) * (height // _STEP_PX)
    counts = [len(corresponding_points(scene, *names, _STEP_PX)[0]) for names in ((name0, name1), (name1, name0))]
    return max(counts) / num_pixels


def _assumed_overlap(camera: Camera, cam1_from_cam0: Rigid3) -> float:
    """Fraction of the pixels of image 0, at the assumed depths, that image 1 sees without a large change of scale."""
    K = calibration_matrix(camera)
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    x, y = np.meshgrid(np.arange(0, camera.width, 32), np.arange(0, camera.height, 32))
    rays = np.stack([(x.ravel() - cx) / fx, (y.ravel() - cy) / fy, np.ones(x.size)], 1)
    fractions = []
    for depth in _ASSUMED_DEPTHS_M:
        points = cam1_from_cam0 @ (rays * depth)
        z = np.maximum(points[:, 2], 1e-6)
        u, v = fx * points[:, 0] / z + cx, fy * points[:, 1] / z + cy
        in_range = (points[:, 2] > depth / 8) & (points[:, 2] < depth * 8)
        inside = (u >= 0) & (u < camera.width) & (v >= 0) & (v < camera.height)
        fractions.append(float((in_range & inside).mean()))
    return max(fractions)
