"""Libraries of photographs: folders and archives, and what happens with damaged ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.synthetic.photo_scenes.photo_library import (
    MAX_QUALITY,
    MIN_QUALITY,
    PhotoLibrary,
    write_photo_archive,
)
from tests.helpers.shared_data import shared_data
from tests.helpers.textured_photos import pattern, write_photos


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "SOURCES.md").write_text("not a photograph")
    return write_photos(tmp_path / "photos")


def stems(library: PhotoLibrary) -> list[str]:
    return [Path(name).stem for name in library.names]


def rms(image0: torch.Tensor, image1: torch.Tensor) -> float:
    return float((image0.float() - image1.float()).square().mean().sqrt())


def test_a_folder_gives_its_photographs_in_order(folder):
    library = PhotoLibrary.open(folder)
    assert library.names == tuple(f"texture_{k}.jpg" for k in range(8))
    assert library.contents == tuple((name, (folder / name).stat().st_size) for name in library.names)
    assert library.device == torch.device("cpu")
    expected = cv2.imread(str(folder / "texture_3.jpg"))[..., ::-1]
    assert np.abs(library.photo("texture_3.jpg").numpy() - expected.astype(float)).max() <= 1


def test_an_archive_has_the_same_names_and_nearly_the_same_pixels(folder, tmp_path):
    report = write_photo_archive(folder, tmp_path / "photos.zip", max_mb=5.0)
    from_folder, from_archive = PhotoLibrary.open(folder), PhotoLibrary.open(tmp_path / "photos.zip")
    assert stems(from_archive) == stems(from_folder)
    assert report.quality == MAX_QUALITY
    assert report.num_photos == len(from_archive) == 8
    for name0, name1 in zip(from_folder.names, from_archive.names, strict=True):
        assert from_folder.photo(name0).shape == from_archive.photo(name1).shape
        assert rms(from_folder.photo(name0), from_archive.photo(name1)) < 12
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "photos.zip"}


def test_archives_use_the_room_but_not_more(folder, tmp_path):
    most = write_photo_archive(folder, tmp_path / "all.zip", 5.0, max_size_px=128)
    for share in (0.9, 0.7):
        max_mb = most.num_bytes * share / 1e6
        report = write_photo_archive(folder, tmp_path / "part.zip", max_mb, max_size_px=128)
        assert report.num_bytes == (tmp_path / "part.zip").stat().st_size <= max_mb * 1e6
        assert report.num_bytes > 0.85 * max_mb * 1e6
        assert MIN_QUALITY <= report.quality < MAX_QUALITY


def test_archives_depend_on_the_photographs_only(folder, tmp_path):
    for name in ("a.zip", "b.zip"):
        write_photo_archive(folder, tmp_path / name, 5.0, max_size_px=100)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    library = PhotoLibrary.open(tmp_path / "a.zip")
    assert {tuple(library.photo(name).shape) for name in library.names} == {(75, 100, 3)}


def test_an_archive_that_cannot_be_so_small_is_refused(folder, tmp_path):
    with pytest.raises(ConfigError, match=r"pack-size: 8 photographs .* do not fit into 0.01 MB"):
        write_photo_archive(folder, tmp_path / "photos.zip", 0.01, max_size_px=128)
    with pytest.raises(ConfigError, match="pack-size"):
        write_photo_archive(folder, tmp_path / "photos.zip", max_mb=float("nan"))
    assert not (tmp_path / "photos.zip").exists()


def test_photographs_of_one_stem_are_refused(folder, tmp_path):
    cv2.imwrite(str(folder / "texture_3.png"), pattern(9))
    with pytest.raises(ConfigError, match=r"texture_3\.jpg, texture_3\.png"):
        write_photo_archive(folder, tmp_path / "photos.zip", 5.0)


def test_photographs_are_decoded_once_while_there_is_room(folder):
    library = PhotoLibrary.open(folder, max_decoded=2)
    first = library.photo("texture_0.jpg")
    library.photo("texture_1.jpg")
    assert library.photo("texture_0.jpg") is first
    library.photo("texture_2.jpg")  # texture_1 was used least recently
    assert library.photo("texture_0.jpg") is first
    library.photo("texture_1.jpg")
    library.photo("texture_2.jpg")
    again = library.photo("texture_0.jpg")
    assert again is not first
    assert torch.equal(again, first)


def test_a_damaged_member_is_named(folder, tmp_path):
    path = tmp_path / "photos.zip"
    write_photo_archive(folder, path, 5.0, max_size_px=128)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("texture_2.webp").header_offset + 200
    data = bytearray(path.read_bytes())
    data[start : start + 50] = bytes(50)
    path.write_bytes(data)
    library = PhotoLibrary.open(path)
    library.photo("texture_1.webp")
    with pytest.raises(DataError, match=r"photos\.zip: texture_2\.webp: damaged"):
        library.photo("texture_2.webp")


def test_a_member_that_is_no_image_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("any.jpg", b"not an image")
    with pytest.raises(DataError, match=r"photos\.zip: any\.jpg"):
        PhotoLibrary.open(tmp_path / "photos.zip").photo("any.jpg")


def test_paths_without_photographs_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("README.md", "no photograph")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(folder / "texture_0.jpg", "texture_0.jpg")
    write_photo_archive(folder, tmp_path / "torn.zip", 5.0, max_size_px=128)
    (tmp_path / "torn.zip").write_bytes((tmp_path / "torn.zip").read_bytes()[:-500])
    for name in ("empty", "empty.zip", "packed.zip", "torn.zip", "missing"):
        with pytest.raises(DataError, match=name):
            PhotoLibrary.open(tmp_path / name)
    with pytest.raises(DataError, match="empty"):
        write_photo_archive(tmp_path / "empty", tmp_path / "out.zip", 5.0)


def test_real_photographs_keep_their_appearance(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in sorted(shared_data("train").glob("*.jpg"))[::200]:
        (folder / path.name).symlink_to(path)
    report = write_photo_archive(folder, tmp_path / "photos.zip", max_mb=0.028 * len(list(folder.iterdir())))
    library, originals = PhotoLibrary.open(tmp_path / "photos.zip"), PhotoLibrary.open(folder)
    for name0, name1 in zip(originals.names, library.names, strict=True):
        height, width = library.photo(name1).shape[:2]
        assert max(height, width) <= 512
        small = cv2.resize(originals.photo(name0).numpy(), (width, height), interpolation=cv2.INTER_AREA)
        assert rms(torch.from_numpy(small), library.photo(name1)) < 6
    assert report.quality >= 60
