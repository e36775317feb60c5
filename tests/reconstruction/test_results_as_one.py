"""The results in the output folder are those of one run, and what was changed or damaged is restored."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.store import publication
from tests.helpers.reconstructions import one_thread, tree


def record_of(output: Path) -> dict[str, dict[str, str]]:
    record: dict[str, dict[str, str]] = json.loads((output / "run.json").read_text())
    return record


def results(output: Path) -> dict[str, bytes]:
    """The published files without the record, which has times."""
    return {
        name: content
        for name, content in tree(output).items()
        if name.startswith(("sparse/", "rejected/")) or name in {"points.ply", "database.db"}
    }


def test_the_record_names_the_digest_of_each_file(finished: Path) -> None:
    files = record_of(finished)["files"]
    assert files.keys() == results(finished).keys()
    assert files.keys() >= {"sparse/0/points3D.bin", "points.ply", "database.db"}
    for name, content in results(finished).items():
        assert files[name] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    "name", ["sparse/0/points3D.bin", "sparse/0/cameras.bin", "points.ply", "database.db", "run.json"]
)
@pytest.mark.parametrize("damage", ["cut off", "removed", "one byte", "of another run"])
def test_what_was_damaged_is_restored_by_the_next_run(
    small_scene_dir: Path, finished: Path, tmp_path: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    path = output / name
    content = path.read_bytes()
    if damage == "removed":
        path.unlink()
    else:
        middle = len(content) // 2
        changed = {
            "cut off": content[:middle],
            "one byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "of another run": content + b"\0" * 32,
        }
        path.write_bytes(changed[damage])
    with caplog.at_level(logging.WARNING):
        summary = reconstruct(small_scene_dir, output, one_thread()).summary
    assert summary.cache["misses"] == 0
    assert results(output) == results(finished)
    assert record_of(output)["files"] == record_of(finished)["files"]
    if name != "run.json":
        assert f"restored: {name}" in caplog.text


def test_an_undamaged_folder_is_not_written_again(small_scene_dir: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}
    reconstruct(small_scene_dir, output, one_thread())
    changed = {path.name for path, time_ns in before.items() if path.stat().st_mtime_ns != time_ns}
    assert changed <= {"run.json", "log.txt", "state.json"}


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("at", range(1, 5))
def test_killed_while_it_publishes_the_next_run_finds_no_mixture(
    small_scene_dir: Path, finished: Path, tmp_path: Path, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the next run wants the results of the earlier configuration."""
    other = one_thread(extractor={"name": "sift", "max_keypoints": 300})
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    num_calls = 0

    def dying(source: object, target: object) -> None:
        nonlocal num_calls
        if publication.PENDING_NAME in f"{source} {target}":
            num_calls += 1
            if num_calls == at:
                raise Killed
        replace(source, target)  # type: ignore[arg-type]

    replace = os.replace
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", dying)
        patched.setattr(os, "replace", dying)
        with pytest.raises(Killed):
            reconstruct(small_scene_dir, output, other)
    reconstruct(small_scene_dir, output, one_thread())
    assert results(output) == results(finished)
    assert not (output / publication.PENDING_NAME).exists()


def test_files_of_the_user_beside_a_model_stay(small_scene_dir: Path, finished: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    (output / "sparse" / "0" / "notes.md").write_text("nice")
    (output / "sparse" / "aligned").mkdir()
    (output / "sparse" / "0" / "points3D.txt").write_text("a text file that would be another model")
    reconstruct(small_scene_dir, output, one_thread(extractor={"name": "sift", "max_keypoints": 300}))
    assert (output / "sparse" / "0" / "notes.md").read_text() == "nice"
    assert (output / "sparse" / "aligned").is_dir()
    assert not (output / "sparse" / "0" / "points3D.txt").exists()


def test_whoever_reads_a_model_completes_the_publication_of_a_killed_run(
    small_scene_dir: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    with monkeypatch.context() as patched, pytest.raises(Killed):

        def complete(folder: Path) -> None:
            if (folder / publication.PENDING_NAME).exists():
                raise Killed

        patched.setattr(publication, "_complete", complete)
        reconstruct(small_scene_dir, output, one_thread(extractor={"name": "sift", "max_keypoints": 300}))
    assert results(output) == results(finished)
    model = read_model(output)
    files = record_of(output)["files"]
    assert files != record_of(finished)["files"]
    assert publication.changed_files(output, files) == []
    assert model.num_points3D() == json.loads((output / "run.json").read_text())["summary"]["num_points"]


def test_text_files_beside_an_unchanged_model_are_removed_once(
    small_scene_dir: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    for name in ("cameras.txt", "points3D.ply"):
        (output / "sparse" / "0" / name).write_text("by the user")
    reconstruct(small_scene_dir, output, one_thread())
    assert not (output / "sparse" / "0" / "cameras.txt").exists()
    assert (output / "sparse" / "0" / "points3D.ply").exists()
    before = (output / "sparse" / "0").stat().st_ino
    reconstruct(small_scene_dir, output, one_thread())
    assert (output / "sparse" / "0").stat().st_ino == before
    assert "restored" not in caplog.text


def test_models_that_are_computed_anew_are_no_damage(
    small_scene_dir: Path, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    shutil.copytree(finished, output)
    shutil.rmtree(output / "models")
    before = (output / "database.db").stat().st_mtime_ns
    reconstruct(small_scene_dir, output, one_thread())
    assert (output / "database.db").stat().st_mtime_ns == before
    assert "restored" not in caplog.text
    assert results(output) == results(finished)


def test_paths_that_are_no_text_can_be_recorded(small_scene_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "\udcff"
    folder.mkdir()
    pairs = folder / "pairs.txt"
    names = [f"view_{i:02d}.jpg" for i in range(6)]
    pairs.write_text("\n".join(f"{one} {two}" for i, one in enumerate(names) for two in names[i + 1 :]))
    output = tmp_path / "out"
    reconstruct(small_scene_dir, output, one_thread(pairs={"name": "file", "path": str(pairs)}))
    assert json.loads((output / "run.json").read_text())["config"]["pairs"]["path"] == str(pairs)
