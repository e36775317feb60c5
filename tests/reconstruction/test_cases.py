"""Small inputs that were wrong or unclear once, and inputs of the same kind that must stay right."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.images.image import Image
from sfm_lightglue.reconstruction.run import reconstruct
from tests.helpers.library_log import library_log
from tests.helpers.reconstructions import one_thread
from tests.helpers.shared_data import shared_data


@pytest.mark.parametrize(("name", "num_images"), [("11a-wall", 8), ("12-forward", 10)])
def test_planes_and_forward_motion_stay_right(name: str, num_images: int, tmp_path: Path) -> None:
    summary = reconstruct(shared_data("cases", name), tmp_path, one_thread()).summary
    assert summary.num_registered == num_images
    assert [model["verdict"] for model in summary.models] == ["accepted"]
    assert {image["status"] for image in summary.images.values()} == {"registered"}


@pytest.mark.parametrize(
    "cameras",
    [
        {},
        {"model": "SIMPLE_PINHOLE", "params": [430, 240, 180]},
        {"model": "SIMPLE_RADIAL", "params": [430, 240, 180, 0]},
    ],
)
def test_a_camera_that_only_turns_gives_no_model(cameras: dict[str, object], tmp_path: Path) -> None:
    """The lens has a radial distortion that nobody stated."""
    with pytest.raises(ReconstructionError, match="camera only turned") as caught:
        reconstruct(shared_data("cases", "10b-rotation-distorted"), tmp_path, one_thread(cameras=cameras))
    assert caught.value.summary is not None
    assert caught.value.summary["num_registered"] == 0
    reasons = [image["reason"] for image in caught.value.summary["images"].values()]
    assert reasons.count("pure_rotation") >= 7
    assert not list((tmp_path / "sparse").glob("*"))
    record = json.loads((tmp_path / "run.json").read_text())["summary"]
    assert record["images"] == caught.value.summary["images"]
    assert all(model["verdict"] == "rejected" for model in record["models"])
    assert all((tmp_path / model["path"]).is_dir() for model in record["models"])


def test_the_object_on_a_turntable_wins_against_a_standing_background(
    tmp_path: Path,
) -> None:
    """The model is that of the same motion before a plain background."""
    with library_log() as records:
        summary = reconstruct(shared_data("cases", "08-turntable"), tmp_path / "textured", one_thread()).summary
    assert summary.num_registered == 10
    assert any("standing background" in record.getMessage() for record in records)
    summary = reconstruct(shared_data("cases", "08b-turntable-plain"), tmp_path / "plain", one_thread()).summary
    assert summary.num_registered == 10
    textured, plain = (poses_of_model(read_model(tmp_path / name)) for name in ("textured", "plain"))
    extent = max(np.linalg.norm(a.center - b.center) for a in plain.values() for b in plain.values())
    assert align_poses(textured, plain).max_center_error < 0.01 * extent


def test_a_folder_of_masks_beside_the_photos_is_no_folder_of_photos(tmp_path: Path) -> None:
    folder = shared_data("cases", "28-masks")
    summary = reconstruct(folder, tmp_path, one_thread()).summary
    assert (summary.num_images, summary.num_registered) == (4, 4)
    masks = {path.name.removesuffix(".png"): Image.read(path).grey() > 0 for path in (folder / "masks").iterdir()}
    for name, features in read_database(tmp_path / "database.db").features_from_name.items():
        columns, rows = np.floor(features.keypoints).astype(int).T
        assert masks[name][rows, columns].all()
