"""A plan changes nothing, also in an output folder in which a run was killed while it published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.__main__ import main
from sfm_lightglue.store.publication import PENDING_NAME, complete_publication
from tests.helpers.videos import write_frames

FEW = ("--max-keypoints", "300", "--threads", "1", "--set", "extractor.max_keypoints_dense=400")


@pytest.fixture
def unfinished(tmp_path: Path) -> Path:
    """A folder with a publication that is to be completed."""
    new = tmp_path / "unfinished" / PENDING_NAME / "new"
    new.mkdir(parents=True)
    (new / "notes.json").write_text("{}")
    (new.parent / "manifest.json").write_text(json.dumps({"parts": ["notes.json"], "removed": [], "digests": {}}))
    return tmp_path / "unfinished"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_plan_completes_no_publication(
    unfinished: Path, own_scene: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = write_frames(tmp_path / "frames", 3)
    before = contents(tmp_path)
    for line in (["track", str(frames)], ["densify", str(own_scene), *FEW]):
        assert main([*line, "--output", str(unfinished), "--dry-run", "--json", "--quiet"]) == 0
        assert json.loads(capsys.readouterr().out)["dry_run"] is True
        assert contents(tmp_path) == before
    complete_publication(unfinished)
    assert contents(tmp_path) != before, "the folder was to be completed, so the test can fail"
