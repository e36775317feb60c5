"""Several processes that add to one database: the one that writes computes nothing twice."""

from pathlib import Path

import pytest

from sfm_lightglue.reconstruction import add_to_database as add_module
from sfm_lightglue.reconstruction.add_to_database import add_to_database
from tests.helpers.colmap_databases import config, dump
from tests.helpers.sparse_maps import EXTRACTOR

TABLES = ("cameras", "images", "keypoints", "matches", "two_view_geometries")


@pytest.fixture
def filled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one whenever a database is filled."""
    calls: list[str] = []
    original = add_module.match_scene

    def counted(*arguments: object) -> object:
        calls.append("filled")
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(add_module, "match_scene", counted)
    return calls


def folder_config():
    return config(extractor=EXTRACTOR, executor={"name": "folder"})


@pytest.mark.parametrize("is_new", [True, False])
def test_the_process_that_writes_fills_once(
    small_scene_dir: Path, tmp_path: Path, filled: list[str], is_new: bool
) -> None:
    database, images = tmp_path / "database.db", small_scene_dir / "images"
    if not is_new:
        add_to_database(database, images, config(extractor=EXTRACTOR), tmp_path / "store")
        filled.clear()
    add_to_database(database, images, folder_config(), tmp_path / "store", overwrite=not is_new)
    assert filled == ["filled"]
    add_to_database(tmp_path / "alone.db", images, config(extractor=EXTRACTOR), tmp_path / "store")
    assert dump(database, *TABLES) == dump(tmp_path / "alone.db", *TABLES)


def test_a_database_that_another_program_changed_meanwhile_is_filled_again(
    small_scene_dir: Path, tmp_path: Path, filled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, images = tmp_path / "database.db", small_scene_dir / "images"
    original = add_module.sole_writer

    def overtaken(path: Path):
        monkeypatch.setattr(add_module, "sole_writer", original)
        add_to_database(database, images, config(extractor={"name": "sift", "max_keypoints": 64}), tmp_path / "other")
        return original(path)

    monkeypatch.setattr(add_module, "sole_writer", overtaken)
    add_to_database(database, images, folder_config(), tmp_path / "store", overwrite=True)
    assert len(filled) == 3  # that of the other program, and two of this one
    add_to_database(tmp_path / "alone.db", images, config(extractor=EXTRACTOR), tmp_path / "store")
    assert dump(database, "keypoints", "matches") == dump(tmp_path / "alone.db", "keypoints", "matches")
