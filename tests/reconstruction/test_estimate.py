"""What a reconstruction will cost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.reconstruct import main
from sfm_lightglue.errors import DataError
from sfm_lightglue.messages import duration
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.estimate import estimate_cost
from sfm_lightglue.reconstruction.run import reconstruct
from tests.helpers.reconstructions import one_thread

QUICK = {"extractor": {"max_keypoints": 300, "max_keypoints_dense": 1000}, "matcher": {"name": "nearest"}}


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_estimate_counts_images_and_pairs_and_writes_nothing(small_scene_dir: Path, tmp_path: Path) -> None:
    before = sorted(small_scene_dir.rglob("*"))
    estimate = estimate_cost(small_scene_dir, tmp_path / "out", ReconstructConfig.from_mapping(QUICK))
    num_images = estimate.num_images
    assert num_images > 3
    assert estimate.num_pairs == num_images * (num_images - 1) // 2
    assert all(value is not None and value >= 0 for value in estimate.seconds.values())
    assert sorted(small_scene_dir.rglob("*")) == before
    assert not (tmp_path / "out").exists()


def test_disk_and_pairs_are_those_of_the_run(small_scene_dir: Path, tmp_path: Path) -> None:
    config = one_thread(**QUICK)
    estimate = estimate_cost(small_scene_dir, tmp_path / "out", config)
    result = reconstruct(small_scene_dir, tmp_path / "out", config)
    assert result.summary.num_pairs == estimate.num_pairs
    parts = ("features", "dense_features", "matches", "two_view", "database.db")
    used = sum(
        folder_size(path) if path.is_dir() else path.stat().st_size
        for path in (tmp_path / "out" / part for part in parts)
    )
    assert estimate.disk_mb is not None
    assert 0.5 < estimate.disk_mb * 2**20 / used < 2


def test_lists_of_images_and_positions_are_used(small_scene_dir: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in (small_scene_dir / "images").iterdir())[:3]
    (tmp_path / "list.txt").write_text("\n".join(names))
    lines = ["name,x,y,z", *(f"{name},{i},0,0" for i, name in enumerate(names))]
    (tmp_path / "positions.csv").write_text("\n".join(lines))
    files = {"image_list": str(tmp_path / "list.txt"), "positions": str(tmp_path / "positions.csv")}
    config = ReconstructConfig.from_mapping(QUICK | files | {"pairs": {"name": "spatial"}})
    estimate = estimate_cost(small_scene_dir, tmp_path / "out", config)
    assert (estimate.num_images, estimate.num_pairs) == (3, 3)


def test_pairs_that_are_chosen_by_the_features_have_no_number(small_scene_dir: Path, tmp_path: Path) -> None:
    config = ReconstructConfig.from_mapping(QUICK | {"pairs": {"name": "retrieval"}})
    estimate = estimate_cost(small_scene_dir, tmp_path / "out", config)
    if estimate.num_pairs is None:
        assert estimate.disk_mb is None
        assert "1,000 pairs take about" in str(estimate)
    else:
        assert f"up to {estimate.num_pairs} pairs (retrieval)" in str(estimate)
    assert estimate.seconds_per_pair > 0


def test_the_command_prints_it(small_scene_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--matcher", "nearest", "--max-keypoints", "300", "--output", str(tmp_path / "out"), "--quiet"]
    assert main([str(small_scene_dir), "--dry-run", *flags]) == 0
    text = capsys.readouterr().out
    assert "images; extraction takes about" in text
    assert "pairs (" in text
    assert main([str(small_scene_dir), "--dry-run", "--json", *flags]) == 0
    values = json.loads(capsys.readouterr().out)
    assert {"num_images", "num_pairs", "pairs", "seconds", "memory_mb", "disk_mb"} <= values.keys()
    assert not (tmp_path / "out").exists()


def test_one_image_is_too_few(small_scene_dir: Path, tmp_path: Path) -> None:
    source = sorted((small_scene_dir / "images").glob("*"))[0]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / source.name).write_bytes(source.read_bytes())
    with pytest.raises(DataError, match="needs two images"):
        estimate_cost(tmp_path, config=ReconstructConfig.from_mapping(QUICK))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 second"),
        (100, "100 seconds"),
        (600, "10 minutes"),
        (3 * 3600, "3 hours"),
        (5 * 86400, "5 days"),
    ],
)
def test_a_duration_has_the_unit_that_suits_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text
