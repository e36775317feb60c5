"""Parts of an output folder that are replaced together, whatever moment the process is killed at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sfm_lightglue.errors import StoreError
from sfm_lightglue.store import publication
from sfm_lightglue.store.publication import (
    PENDING_NAME,
    Publication,
    changed_files,
    complete_publication,
    file_digest,
    publish_together,
    sole_publisher,
)

PARTS = ("sparse/0", "points.ply", "database.db", "run.json")
FILES = ("sparse/0/cameras.bin", "sparse/0/points3D.bin", "points.ply", "database.db", "run.json")


def publish(output: Path, version: str, removed: tuple[str, ...] = ()) -> None:
    prepared = Publication(output / f".work-{version}")
    for name in FILES:
        prepared.write(name, f"{name} {version}".encode())
    prepared.removed += removed
    with sole_publisher(output):
        publish_together(prepared, output, PARTS)


def versions(output: Path) -> set[str]:
    return {(output / name).read_text().rpartition(" ")[2] for name in FILES}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    publish(tmp_path, "A")
    (tmp_path / "sparse" / "1").mkdir()
    (tmp_path / "sparse" / "1" / "images.bin").write_text("of A")
    return tmp_path


def test_all_parts_are_replaced_and_those_that_disappear_are_removed(output: Path) -> None:
    publish(output, "B", removed=("sparse/1",))
    assert versions(output) == {"B"}
    assert not (output / "sparse" / "1").exists()
    assert {path.name for path in output.iterdir()} == {"sparse", "points.ply", "database.db", "run.json", ".lock"}


class Killed(BaseException):
    """Stands for the end of the process."""


def dying_calls(monkeypatch: pytest.MonkeyPatch, at: int, before: bool) -> Callable[[], int]:
    """Let a call that changes the folder end the process; returns the number of calls so far."""
    num_calls = 0

    def dying(function: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal num_calls
            num_calls += 1
            number = num_calls
            if number == at and before:
                raise Killed
            result = function(*arguments, **options)
            if number == at:
                raise Killed
            return result

        return call

    for module, name in ((os, "rename"), (os, "replace"), (os, "fsync"), (shutil, "rmtree"), (Path, "mkdir")):
        monkeypatch.setattr(module, name, dying(getattr(module, name)))
    exchange = publication._exchange
    monkeypatch.setattr(publication, "_exchange", dying(exchange))
    return lambda: num_calls


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("before", [True, False])
def test_killed_at_any_moment_the_next_one_finds_one_version(
    output: Path,
    before: bool,
    can_exchange: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if not can_exchange:
        monkeypatch.setattr(publication, "_exchange", lambda path0, path1: False)
    seen: set[str] = set()
    for at in range(1, 100):
        trial = tmp_path_factory.mktemp("trial") / "output"
        shutil.copytree(output, trial)
        (trial / "sparse" / "0" / "notes.txt").write_text("of the user")
        (trial / "database.db-wal").write_text("of the old database")
        with monkeypatch.context() as patched:
            num_calls = dying_calls(patched, at, before)
            try:
                publish(trial, "B", removed=("sparse/1",))
                finished = True
            except Killed:
                finished = False
            assert num_calls() >= (0 if finished else at)
        complete_publication(trial)
        assert len(versions(trial)) == 1, at
        assert (trial / "sparse" / "0" / "notes.txt").read_text() == "of the user"
        assert not (trial / PENDING_NAME).exists()
        seen |= versions(trial)
        is_new = versions(trial) == {"B"}
        assert (trial / "sparse" / "1").exists() != is_new
        assert (trial / "database.db-wal").exists() != is_new
        if finished:
            break
    assert finished and at > 12
    assert seen == {"A", "B"}


def test_a_folder_at_the_place_of_a_file_and_the_other_way_round(output: Path) -> None:
    (output / "points.ply").unlink()
    (output / "points.ply").mkdir()
    shutil.rmtree(output / "sparse" / "0")
    (output / "sparse" / "0").write_text("no folder")
    publish(output, "B")
    assert versions(output) == {"B"}


@pytest.mark.parametrize("name", ["../outside", "/outside"])
def test_a_pending_folder_cannot_reach_outside(output: Path, name: str) -> None:
    pending = output / PENDING_NAME
    (pending / "new").mkdir(parents=True)
    (pending / "manifest.json").write_text(f'{{"parts": [], "removed": ["{name}"], "digests": {{}}}}')
    with pytest.raises(StoreError, match="outside the output folder"):
        complete_publication(output)


def test_a_folder_of_another_program_with_that_name_is_left_alone(output: Path) -> None:
    (output / PENDING_NAME).mkdir()
    (output / PENDING_NAME / "site.html").write_text("of another program")
    complete_publication(output)
    assert (output / PENDING_NAME / "site.html").exists()


def test_old_content_is_not_put_back_if_the_new_one_was_changed_meanwhile(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the exchange; then somebody changes a file of the new model."""
    with monkeypatch.context() as patched, pytest.raises(Killed):

        def killed(folder: Path, target: Path) -> None:
            raise Killed

        patched.setattr(publication, "_keep_foreign_files", killed)
        publish(output, "B")
    (output / "sparse" / "0" / "points3D.bin").write_text("changed B")
    complete_publication(output)
    assert (output / "sparse" / "0" / "points3D.bin").read_text() == "changed B"
    assert versions(output) == {"B"}


def test_a_damaged_pending_folder_is_told_with_what_to_do(output: Path) -> None:
    (output / PENDING_NAME).mkdir()
    (output / PENDING_NAME / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match=r"remove the folder .*\.publish"):
        complete_publication(output)
    assert versions(output) == {"A"}


@pytest.fixture
def digests(output: Path) -> Iterator[dict[str, str]]:
    yield {name: file_digest(output / name) or "" for name in FILES}


def test_changed_files_are_found(output: Path, digests: dict[str, str]) -> None:
    assert changed_files(output, digests) == []
    (output / "points.ply").write_text("points.ply a")
    (output / "database.db").unlink()
    (output / "run.json").unlink()
    (output / "run.json").mkdir()
    assert changed_files(output, digests) == ["database.db", "points.ply", "run.json"]
