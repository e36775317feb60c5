"""`track` with its real tracker on a short walk along a rendered corridor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from pipelines.track import main
from sfm_lightglue.colmap.model import find_map, read_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.images.image import Image
from sfm_lightglue.registry.builtin import EXTRACTORS
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.store.store import Store
from sfm_lightglue.synthetic.corridor import corridor_loop
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.tracking.config import TrackerConfig

NUM_FRAMES = 16

SECONDS = {"tracking_ms", "waiting_ms"}


@pytest.fixture(scope="module")
def corridor() -> ImageSequence:
    return corridor_loop(600, (320, 240))


@pytest.fixture(scope="module")
def folder(corridor: ImageSequence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corridor")
    for i in range(NUM_FRAMES):
        PIL.Image.fromarray(corridor.image(i)).save(root / f"{i}.png")
    return root


def tracked(folder: Path, output: Path, corridor: ImageSequence) -> list[dict[str, Any]]:
    camera = corridor.camera
    params = ",".join(map(str, camera.params))
    given = ["--camera-model", camera.model, "--camera-params", params, "--output", str(output), "--threads", "1"]
    assert main([str(folder), *given, "--max-keypoints", "400", "--quiet"]) == 0
    lines = (output / "frames.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key not in SECONDS} for line in lines]


def test_poses_are_right_and_a_second_run_gives_the_same_bytes(
    folder: Path, corridor: ImageSequence, tmp_path: Path
) -> None:
    frames = tracked(folder, tmp_path / "a", corridor)
    assert [frame["name"] for frame in frames] == [f"{i}.png" for i in range(NUM_FRAMES)]
    assert all(frame["map"] == 0 for frame in frames), "also those before the start"
    assert {frame["state"] for frame in frames} == {"initializing", "tracked"}
    poses = {frame["name"]: Rigid3(frame["cam_from_world"]["R"], frame["cam_from_world"]["t"]) for frame in frames}
    truth = {f"{i}.png": corridor.cam_from_world[i] for i in range(NUM_FRAMES)}
    length = np.linalg.norm(np.diff(corridor.centers[:NUM_FRAMES], axis=0), axis=1).sum()
    assert align_poses(poses, truth).mean_center_error < 0.02 * length
    model = read_model(tmp_path / "a")
    images = find_map(tmp_path / "a").images
    assert images is not None and all((images / image.name).is_file() for image in model.images.values())
    assert tracked(folder, tmp_path / "b", corridor) == frames
    for path in ("trajectory_tum.txt", "trajectory_kitti.txt", "keyframes.txt", "points.ply"):
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path
    for path in (tmp_path / "a" / "sparse" / "0").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / "sparse" / "0" / path.name).read_bytes(), path.name
    assert_features_are_kept(tmp_path / "a")


def assert_features_are_kept(output: Path) -> None:
    """Other jobs find features of all keyframes in the store, in the rows of those of the model, and matches.

    Keypoints that are aligned with a patch of their point are moved in the model, by two pixels at most.
    """
    location, model, store = find_map(output), read_model(output), Store(output)
    config = TrackerConfig.from_mapping(json.loads((output / "run.json").read_text())["config"])
    extractor = CachedExtractor(EXTRACTORS.build(config.extractor, config.device), store)
    assert location.images is not None
    for image in model.images.values():
        file = Image.read(location.images / image.name)
        features = extractor.read(extractor.key(file.content_digest, file.quarter_turns))
        assert features is not None, image.name
        in_model = np.array([point.xy for point in image.points2D])[: len(features)]
        moved = np.abs(in_model - features.keypoints).max(axis=1)
        has_point = np.array([point.has_point3D() for point in image.points2D])[: len(features)]
        assert moved.max() <= 2, image.name
        np.testing.assert_array_equal(moved[~has_point], 0)
    assert list((output / "matches").glob("*.npz"))
