"""Photos of several cameras, and of none with an image plane, from the command to the model."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines.reconstruct import main
from sfm_lightglue.colmap.model import read_model
from tests.helpers.shared_data import shared_data


def test_panoramas_are_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shared_data("cases", "06-equirect")
    assert main([str(folder), "--output", str(tmp_path / "out"), "--quiet"]) == 3
    error = capsys.readouterr().err
    assert "7 of 7 photos are each a panorama of 360 degrees" in error
    assert "cut it into perspective views" in error
    assert not (tmp_path / "out" / "sparse").exists()


def test_digital_zoom_gives_two_cameras(tmp_path: Path) -> None:
    """Half of the photos have a digital zoom of 1.7 in their EXIF data, and the same focal length in mm."""
    folder = shared_data("cases", "15b-digital-zoom")
    few = ("--matcher", "nearest", "--max-keypoints", "1000", "--threads", "1")
    assert main([str(folder), "--output", str(tmp_path), "--quiet", *few]) == 0
    model = read_model(tmp_path / "sparse" / "0")
    assert model.num_reg_images() == 10
    short_px, long_px = sorted(camera.mean_focal_length() for camera in model.cameras.values())
    assert long_px / short_px == pytest.approx(1.7, rel=0.03)
    assert short_px == pytest.approx(430, rel=0.03)
