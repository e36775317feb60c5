"""The flags for pairs, lists of images and positions, and what they do in a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipelines import colmap, reconstruct
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig

SEQUENTIAL = [("view_00.jpg", "view_01.jpg"), ("view_01.jpg", "view_02.jpg")]


def resolve(*flags: str) -> ReconstructConfig:
    arguments = reconstruct.build_parser().parse_args(["scene", *flags])
    return ReconstructConfig.from_mapping(reconstruct.config_values(arguments, ReconstructConfig))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("pairs.txt", "a+b.txt", "other.txt"):
        Path(name).write_text("a b\n")
    return tmp_path


@pytest.mark.parametrize(
    ("value", "name", "path"),
    [
        ("sequential", "sequential", None),
        ("sequential+spatial", "sequential+spatial", None),
        ("sequential + pairs.txt", "sequential+file", "pairs.txt"),
        ("pairs.txt+sequential", "file+sequential", "pairs.txt"),
        ("a+b.txt", "file", "a+b.txt"),
    ],
)
def test_names_and_a_list_are_joined(here: Path, value: str, name: str, path: str | None) -> None:
    recorded = resolve("--pairs", value).as_mapping()["pairs"]
    assert recorded["name"] == name
    assert recorded.get("path") == (None if path is None else str(here / path))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--pairs", "sequental"], r"--pairs sequental: 'sequental': no such file, .*did you mean 'sequential'"),
        (["--pairs", "sequential+lost.txt"], r"--pairs sequential\+lost\.txt: 'lost\.txt': no such file"),
        (["--pairs", "pairs.txt+other.txt"], "expected one list of pairs"),
        (["--pairs", "sequential+sequential"], "expected different names"),
        (["--exclude-pairs", "lost.txt"], r"--exclude-pairs lost\.txt: no such file"),
        (["--image-list", "lost.txt"], r"--image-list lost\.txt: no such file"),
        (["--positions", "lost.csv"], r"--positions lost\.csv: no such file"),
    ],
)
def test_missing_files_and_unknown_names_are_told(here: Path, flags: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve(*flags)


def test_the_paths_of_lists_are_absolute(here: Path) -> None:
    config = resolve(
        *("--exclude-pairs", "other.txt", "--image-list", "pairs.txt", "--positions", "pairs.txt"),
        *("--pairs", "sequential"),
    )
    assert config.pairs.config.exclude == str(here / "other.txt")
    assert config.image_list_file == config.positions_file == here / "pairs.txt"
    assert resolve().image_list_file is resolve().positions_file is None


def test_excluded_pairs_stay_excluded_if_a_flag_chooses_other_pairs(here: Path) -> None:
    Path("options.toml").write_text('[pairs]\nname = "sequential"\nwindow = 3\nexclude = "other.txt"\n')
    recorded = resolve("--config", "options.toml", "--pairs", "exhaustive").as_mapping()["pairs"]
    assert recorded == {"name": "exhaustive", "exclude": "other.txt"}


@pytest.fixture
def photos(small_scene_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(small_scene_dir / "images", tmp_path / "photos")
    (tmp_path / "list.txt").write_text("view_00.jpg\nview_01.jpg\nview_02.jpg\n")
    (tmp_path / "not.txt").write_text("view_02.jpg view_00.jpg\n")
    return tmp_path / "photos"


def test_a_database_has_the_listed_images_without_the_excluded_pairs(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--image-list", tmp_path / "list.txt", "--exclude-pairs", tmp_path / "not.txt", "--json", "--quiet"]
    assert colmap.main([*map(str, (tmp_path / "database.db", photos, *flags)), "--matcher", "nearest"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["num_images"], summary["num_pairs"]) == (3, len(SEQUENTIAL))


def test_a_name_that_no_photo_has_stops_both_commands(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.txt").write_text("view_00.jpg\nview_0l.jpg\n")
    (tmp_path / "positions.csv").write_text("name,x,y,z\nviev_00.jpg,1,2,3\n")
    for flags, place in (
        (["--image-list", str(tmp_path / "list.txt")], "list.txt:2: no image 'view_0l.jpg'"),
        (["--positions", str(tmp_path / "positions.csv")], "positions.csv:2: no image 'viev_00.jpg'"),
    ):
        assert reconstruct.main([str(photos), "--quiet", *flags]) == 3
        assert place in capsys.readouterr().err
        assert colmap.main([str(tmp_path / "database.db"), str(photos), "--quiet", *flags]) == 3
        assert place in capsys.readouterr().err


def test_pairs_by_position_need_positions(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(tmp_path / "database.db"), str(photos), "--pairs", "spatial", "--set", "pairs.num_neighbors=1"]
    assert colmap.main([*command, "--quiet"]) == 3
    assert "0 of 6 images have a position in their EXIF data; --pairs spatial needs it, or a table --positions" in (
        capsys.readouterr().err
    )
    lines = [f"view_0{i}.jpg,{i * i},0,0" for i in range(6)]
    (tmp_path / "positions.csv").write_text("\n".join(["name,x,y,z", *lines]))
    flags = ["--positions", str(tmp_path / "positions.csv"), "--set", "transitive.rounds=0", "--json"]
    assert colmap.main([*command, *flags, "--matcher", "nearest", "--quiet"]) == 0
    assert json.loads(capsys.readouterr().out)["num_pairs"] == 5


def test_both_jobs_have_the_fields() -> None:
    values = {"image_list": "a.txt", "positions": "b.csv"}
    for config_type in (DatabaseConfig, ReconstructConfig):
        config = config_type.from_mapping(values)
        assert config.as_mapping().items() >= values.items()
        with pytest.raises(ConfigError, match="image_list"):
            config_type.from_mapping({"image_list": 3})
