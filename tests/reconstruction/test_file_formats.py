"""A folder with a photo of every format, and masks, in one run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.synthetic import SyntheticScene, render_scene
from tests.helpers.encoded_photos import encoded, encoded_deep
from tests.helpers.library_log import library_log
from tests.helpers.reconstructions import one_thread

KINDS = {
    "0.HEIC": "HEIF",  # an iPhone
    "1.jfif": "MPO",
    "2.JP2": "JPEG2000",
    "3.avif": "AVIF",
    "4.ppm": "PPM",
    "5": "PNG",
    "6.tif": ".tiff",  # 12 bits in 16-bit words
    "7.webp": "WEBP",
    "8.heic": "JPEG",  # exported by a program that keeps the name
}


@pytest.fixture(scope="module")
def scene_of_formats() -> SyntheticScene:
    return render_scene(num_images=len(KINDS), size=(320, 240))


def write_formats(scene: SyntheticScene, folder: Path) -> None:
    folder.mkdir()
    for (name, kind), pixels in zip(KINDS.items(), scene.images.values(), strict=True):
        data = encoded_deep(pixels, kind, 12) if kind.startswith(".") else encoded(pixels, kind)
        (folder / name).write_bytes(data)


def test_every_format_in_one_run(scene_of_formats: SyntheticScene, tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    write_formats(scene_of_formats, tmp_path / "photos")
    config = one_thread(
        extractor={"max_keypoints": 400}, pairs={"name": "sequential", "window": 4}, cameras={"mode": "single"}
    )
    with library_log() as records:
        summary = reconstruct(tmp_path / "photos", tmp_path / "out", config).summary
    assert (summary.num_registered, summary.num_skipped) == (len(KINDS), 0)
    assert [model["verdict"] for model in summary.models] == ["accepted"]
    assert not records, [record.getMessage() for record in records]


def test_no_keypoint_lies_under_a_mask(small_scene: SyntheticScene, tmp_path: Path) -> None:
    """Masks of the library's own folder, and of a stated one; the record of the run names the folder."""
    photos, masks = tmp_path / "photos", tmp_path / "masks"
    photos.mkdir()
    masks.mkdir()
    allowed = np.ones((360, 480), bool)
    allowed[:, :200] = False
    for name in list(small_scene.images)[:3]:
        (photos / name).write_bytes(encoded(small_scene.images[name], "JPEG"))
        (masks / f"{name}.png").write_bytes(encoded(np.where(allowed, 255, 0).astype(np.uint8), "PNG"))
    config = one_thread(masks=str(masks), extractor={"max_keypoints": 400})
    first = reconstruct(photos, tmp_path / "out", config)
    assert first.summary.num_registered == 3
    content = read_database(tmp_path / "out" / "database.db")
    for features in content.features_from_name.values():
        assert len(features) > 50
        assert features.keypoints[:, 0].min() >= 200
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["config"]["masks"] == str(masks)
    again = reconstruct(photos, tmp_path / "out", config)
    assert again.summary.cache["misses"] == 0
    without = reconstruct(photos, tmp_path / "out", one_thread(extractor={"max_keypoints": 400}))
    assert without.summary.cache["by_kind"]["features"]["misses"] == 3
