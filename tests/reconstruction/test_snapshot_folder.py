"""The folder of the snapshots of a mapping belongs to one run at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfm_lightglue.mapping.snapshots import MIN_IMAGES
from sfm_lightglue.reconstruction.snapshot_folder import snapshot_folder


def test_a_second_run_of_the_same_mapping_gets_none(tmp_path: Path) -> None:
    root = tmp_path / "snapshots"
    with snapshot_folder(root, "key", MIN_IMAGES) as first:
        assert first == root / "key"
        first.mkdir()
        with snapshot_folder(root, "key", MIN_IMAGES) as second, snapshot_folder(root, "other", MIN_IMAGES) as other:
            assert second is None
            assert other is not None
        assert first.is_dir()
    assert not root.exists()


def test_snapshots_stay_after_an_error(tmp_path: Path) -> None:
    root = tmp_path / "snapshots"
    with pytest.raises(RuntimeError, match="killed"), snapshot_folder(root, "key", MIN_IMAGES) as folder:
        assert folder is not None
        (folder / "first").mkdir(parents=True)
        raise RuntimeError("killed")
    with snapshot_folder(root, "key", MIN_IMAGES) as again:
        assert again is not None
        assert (again / "first").is_dir()
    assert not root.exists()


def test_a_small_scene_has_no_snapshots_and_no_lock(tmp_path: Path) -> None:
    with snapshot_folder(tmp_path / "snapshots", "key", MIN_IMAGES - 1) as folder:
        assert folder is None
        assert not (tmp_path / "snapshots").exists()
