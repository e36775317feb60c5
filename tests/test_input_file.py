"""Files that a user names: only regular files are read, and each error names the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.input_file import read_input_file


def test_regular_files_are_read_and_links_to_them(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    (tmp_path / "link").symlink_to(path)
    assert read_input_file(path, max_bytes=7) == read_input_file(tmp_path / "link") == b"content"


def test_larger_files_than_expected_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"content")
    with pytest.raises(DataError, match=r"a\.bin: cannot be read .*at most"):
        read_input_file(path, max_bytes=6)


@pytest.mark.skipif(os.name != "posix", reason="makes special files of POSIX")
def test_special_files_neither_block_nor_fill_the_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, kind in {"pipe": "a named pipe", "zero": "a device"}.items():
        with pytest.raises(DataError, match=f"it is {kind}, not a regular file"):
            read_input_file(tmp_path / name)


@pytest.mark.parametrize("name", ["missing", "a\0b", "x" * 5000])
def test_impossible_names_are_errors_of_the_wanted_class_with_a_short_message(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read") as caught:
        read_input_file(tmp_path / name, error_type=ConfigError)
    message = str(caught.value)
    assert "\0" not in message
    assert len(message) < 600
