"""A model of images with known positions is published in metres, with the transform beside it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.reconstructions import one_thread


def positions_file(path: Path, scene: SyntheticScene, scale: float, offset: tuple[float, float, float]) -> Path:
    lines = ["name,x,y,z"]
    for name, pose in scene.cam_from_world_from_name.items():
        x, y, z = scale * pose.center + offset
        lines.append(f"{name},{x:.6f},{y:.6f},{z:.6f}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_given_positions_set_scale_and_frame(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    positions = positions_file(tmp_path / "positions.csv", small_scene, 10.0, (1000.0, -50.0, 7.0))
    result = reconstruct(small_scene_dir, tmp_path / "out", one_thread(positions=str(positions)))
    poses = poses_of_model(read_model(tmp_path / "out" / "sparse" / "0"))
    truth = {
        name: 10.0 * pose.center + (1000.0, -50.0, 7.0) for name, pose in small_scene.cam_from_world_from_name.items()
    }
    extent_m = np.ptp(np.array([*truth.values()]), axis=0).max()
    assert max(np.linalg.norm(pose.center - truth[name]) for name, pose in poses.items()) < 0.02 * extent_m
    record = json.loads((tmp_path / "out" / "sparse" / "0" / "georegistration.json").read_text())
    assert record["frame"] == "given"
    assert record["images"].keys() == poses.keys()
    summary = result.summary.models[0]["georegistration"]
    assert summary["median_residual_m"] == record["median_residual_m"] < 0.02 * extent_m


def test_other_positions_move_the_same_model(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    """Without what uses positions as evidence: look-alikes, and a second look at images that are left over."""
    plain = {"lookalikes": {"mode": "off"}, "second_chance": {"max_images": 0, "max_pairs_between": 0}}
    first = reconstruct(small_scene_dir, tmp_path / "out", one_thread(**plain))
    assert first.summary.models[0]["georegistration"] is None
    assert not (tmp_path / "out" / "sparse" / "0" / "georegistration.json").exists()
    positions = positions_file(tmp_path / "positions.csv", small_scene, 3.0, (0.0, 0.0, 100.0))
    second = reconstruct(small_scene_dir, tmp_path / "out", one_thread(positions=str(positions), **plain))
    assert second.summary.cache["by_kind"]["mapped"]["hits"] == 1  # nothing is mapped again
    assert second.summary.models[0]["georegistration"]["frame"] == "given"
    third = reconstruct(small_scene_dir, tmp_path / "out", one_thread(**plain))
    assert third.summary.models[0]["georegistration"] is None
    assert not (tmp_path / "out" / "sparse" / "0" / "georegistration.json").exists()
