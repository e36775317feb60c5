"""`reconstruct VIDEO`: frames are chosen first, and then it is a folder of photos as any other."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipelines import reconstruct as command
from pipelines.reconstruct import main
from tests.helpers.videos import panned_images, write_video


@pytest.fixture
def reconstructed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The folders that would be reconstructed."""
    called: list[tuple[Any, ...]] = []

    def reconstruct(*arguments: Any) -> Any:
        called.append(arguments)
        return SimpleNamespace(summary=SimpleNamespace(models=[{"path": "sparse/0"}]), output=Path("out"))

    monkeypatch.setattr(command, "reconstruct", reconstruct)
    return called


def test_a_video_becomes_a_folder_of_frames(tmp_path: Path, reconstructed: list[tuple[Any, ...]]) -> None:
    video = write_video(tmp_path / "walk.avi", panned_images(30, (320, 240), 3))
    assert main([str(video), "--quiet"]) == 0
    assert main([str(video), "--quiet", "--output", str(tmp_path / "out")]) == 0
    (folder, output, *_), (same, elsewhere, *_) = reconstructed
    assert folder == same == tmp_path / "walk_frames"
    assert output is None and elsewhere == tmp_path / "out"
    assert len(list((folder / "images").iterdir())) >= 3


def test_what_cannot_be_done_with_a_video_is_one_line(
    tmp_path: Path, reconstructed: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    video = write_video(tmp_path / "walk.avi", panned_images(5))
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(60))
    for arguments, code, text in (
        ([video, "--dry-run"], 2, "--dry-run writes nothing, also no frames"),
        ([tmp_path / "photo.jpg"], 3, "photo.jpg: one image; give the folder"),
    ):
        assert main([*map(str, arguments), "--quiet"]) == code
        captured = capsys.readouterr()
        assert text in captured.err and captured.err.count("\n") == 1
    assert reconstructed == [] and not (tmp_path / "walk_frames").exists()
