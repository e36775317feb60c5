"""Which files and folders of an image folder are read, named or passed over."""

import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image as PilImage
from PIL import TiffImagePlugin

from sfm_lightglue.errors import DataError
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.scene.walk import find_files
from tests.helpers.checkout import ROOT
from tests.helpers.encoded_photos import coloured, encoded
from tests.helpers.photos import textured, write_photo

JPEG = encoded(coloured(64, 48), "JPEG")


def put(root, *names, data=JPEG):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)


def within(seconds, function):
    """The result of a function that must not block."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert results, "it blocks"
    return results[0]


def reasons(scene):
    return {photo.name: photo.reason for photo in scene.skipped}


def test_special_files_are_named_and_never_block(tmp_path, caplog):
    put(tmp_path, "a.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "up").symlink_to("..")
    with socket.socket(socket.AF_UNIX) as server, caplog.at_level(logging.WARNING, "sfm_lightglue"):
        here = os.getcwd()
        try:
            os.chdir(tmp_path)  # the path of a socket is short
            server.bind("socket.jpg")
        finally:
            os.chdir(here)
        scene = within(20, lambda: load_scene(tmp_path, num_threads=2))
    assert scene.names == ("a.jpg",)
    found = reasons(scene)
    assert set(found) == {"gone.jpg", "loop.jpg", "pipe", "pipe.jpg", "socket.jpg", "zero.jpg"}
    assert all(reason.startswith("cannot be read (") for reason in found.values())
    assert "named pipe" in found["pipe"]
    assert "device" in found["zero.jpg"]
    assert "link" in found["gone.jpg"]
    for name in found:
        assert name in caplog.text


def test_folders_and_files_without_permission_are_named(tmp_path, monkeypatch):
    put(tmp_path, "a.jpg", "closed/b.jpg", "c.jpg", "d")
    scan, opened = os.scandir, os.open

    def scandir(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    def open_file(path, *rest, **named):
        if str(path).endswith(("c.jpg", "d")):
            raise PermissionError(13, "Permission denied")
        return opened(path, *rest, **named)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(os, "open", open_file)
    found = reasons(load_scene(tmp_path))
    assert found == {
        "c.jpg": "cannot be read (Permission denied)",
        "closed/": "the folder cannot be read (Permission denied)",
        "d": "cannot be read (Permission denied)",
    }
    with pytest.raises(DataError, match=r"closed: the folder cannot be read \(Permission denied\)"):
        find_files(tmp_path / "closed")


def test_folders_of_thumbnails_and_of_the_system_are_left_out(tmp_path, caplog):
    put(
        tmp_path,
        *("a.jpg", "sub/b.jpg", "thumbs_of_ours/c.jpg", "@paris/d.jpg"),
        *("@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg", "sub/@eaDir/b.jpg", ".@__thumb/a.jpg", "Thumbs/a.jpg"),
        *("sub/thumbnails/b.JPG", "thumb/only.txt", "#recycle/a.jpg", "$RECYCLE.BIN/a.jpg", "__MACOSX/._a.jpg"),
        *("lost+found/a.jpg", "System Volume Information/a.jpg", ".hidden/a.jpg", "._a.jpg"),
    )
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        scene = load_scene(tmp_path)
    assert scene.names == ("@paris/d.jpg", "a.jpg", "sub/b.jpg", "thumbs_of_ours/c.jpg")
    assert scene.skipped == ()
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning == ("left out folders of thumbnails: .@__thumb, @eaDir, Thumbs, sub/@eaDir, sub/thumbnails")


@pytest.mark.parametrize("name", ["thumbs", "@eaDir", ".hidden", "masks", "__MACOSX"])
def test_the_named_folder_is_read_whatever_its_name(tmp_path, name):
    put(tmp_path / name, "a.jpg")
    assert load_scene(tmp_path / name).names == ("a.jpg",)


def test_a_folder_of_nothing_but_thumbnails_says_so(tmp_path):
    put(tmp_path, "thumbs/a.jpg")
    with pytest.raises(DataError, match=r"no photo found; .*folders of thumbnails are left out \(thumbs\)"):
        load_scene(tmp_path)


def test_a_folder_of_videos_says_what_to_do(tmp_path):
    put(tmp_path, "walk.MP4", data=b"\0\0\0\x18ftypmp42")
    with pytest.raises(DataError, match=r"no photo found; .*videos are given by the paths of their files"):
        load_scene(tmp_path)


def test_photographs_are_recognised_by_content(tmp_path):
    put(tmp_path, "jpeg.HEIC", "no_suffix", "SHOUT.JPE", "a.jfif", "odd.suffix", "b.png")
    put(tmp_path, "p.ppm", "q.bin", data=encoded(coloured(64, 48), "PPM"))
    put(tmp_path, "c.JP2", data=encoded(coloured(64, 48), "JPEG2000"))
    put(tmp_path, "notes.txt", data=b"BM begins this text\0\0\0")
    put(tmp_path, "more.txt", data=b"P6 is the sixth part of 7 parts and 255 more")
    put(tmp_path, "icon.ico", "video.thm", "x.mp4.json", data=b"\0\0\1\0")
    put(tmp_path, "camera.thm", "icon.cur")
    scene = load_scene(tmp_path)
    assert scene.names == (
        *("SHOUT.JPE", "a.jfif", "b.png", "c.JP2", "jpeg.HEIC"),
        *("no_suffix", "odd.suffix", "p.ppm", "q.bin"),
    )
    assert scene.skipped == ()


def test_files_that_are_probably_photographs_are_named(tmp_path, caplog):
    put(tmp_path, "good.jpg")
    put(tmp_path, "a.gif", "b.dng", "c.PSD", "d.jxl", data=b"MM\0*")
    put(tmp_path, "e.jpg_original", "f.jpg~", "g.jpg.part")
    put(tmp_path, "cut", data=JPEG[:40])
    put(tmp_path, "h.CR3", data=b"\0\0\0\x18ftypcrx ")
    put(tmp_path, "notes.bak", data=b"text")
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        scene = load_scene(tmp_path)
    assert scene.names == ("good.jpg",)
    found = reasons(scene)
    assert set(found) == {
        *("a.gif", "b.dng", "c.PSD", "cut", "d.jxl", "e.jpg_original", "f.jpg~", "g.jpg.part", "h.CR3"),
    }
    assert found["c.PSD"] == ".PSD files cannot be read; convert them to JPEG or PNG"
    assert found["h.CR3"] == ".CR3 files cannot be read; convert them to JPEG or PNG"
    assert "left out e.jpg_original, f.jpg~, g.jpg.part: a backup copy" in caplog.text


def test_a_raw_file_with_the_name_of_a_tiff_is_not_its_preview(tmp_path):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[50706] = b"\1\4\0\0"  # DNGVersion
    PilImage.fromarray(textured(64, 48)).save(tmp_path / "a.tif", tiffinfo=tags)
    write_photo(tmp_path / "b.tif", textured(64, 48))
    scene = load_scene(tmp_path)
    assert scene.names == ("b.tif",)
    assert reasons(scene) == {"a.tif": "raw files cannot be read; convert them to JPEG or PNG"}


def test_names_are_unicode_also_where_python_reads_them_as_ascii(tmp_path: Path) -> None:
    write_photo(tmp_path / "fünf 五.jpg", textured(64, 48))
    code = (
        "import sys; from pathlib import Path; from sfm_lightglue.scene.folder import load_scene\n"
        "scene = load_scene(Path(sys.argv[1])); print(ascii(scene.names), scene.images[0].path.exists())"
    )
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    environment |= {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == f"{('fünf 五.jpg',)!a} True\n", done.stderr


@pytest.mark.parametrize("suffix", ["gif", "dng", "psd", "CR2"])
def test_a_photo_with_the_suffix_of_another_format_is_a_photo(tmp_path: Path, suffix: str) -> None:
    write_photo(tmp_path / "a.jpg", textured(64, 48)).rename(tmp_path / f"a.{suffix}")
    PilImage.fromarray(textured(64, 48)).save(tmp_path / f"b.{suffix}", "TIFF" if suffix != "gif" else "GIF")
    scene = load_scene(tmp_path)
    assert scene.names == (f"a.{suffix}",)
    assert [photo.name for photo in scene.skipped] == [f"b.{suffix}"]
