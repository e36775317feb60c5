"""Which files are the masks of which images, and what happens to images without a fitting one."""

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PilImage

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.scene.masks import MaskFolder
from tests.helpers.photos import textured, write_photo

LEVEL = textured(64, 48)
MASK = np.where(np.arange(64) < 20, 0, 255)[None].repeat(48, 0).astype(np.uint8)


def photos(root, *names, **options):
    for name in names:
        write_photo(root / name, LEVEL, **options)


def masks(root, *names, pixels=MASK):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        PilImage.fromarray(pixels).save(root / name, "PNG")


def mask_names(scene, root):
    """The mask of each image, relative to a folder; None without."""
    return {image.name: image.mask and image.mask.relative_to(root).as_posix() for image in scene.images}


def test_the_rule_of_names():
    files = ["a/b.jpg.png", "a/c.png", "d.JPG.PNG", "e.png", "E.jpg.png"]
    folder = MaskFolder(Path("masks"), "", tuple(Path("masks") / name for name in files))
    found = {
        name: folder.mask_of(name)
        for name in ("a/b.jpg", "a/c.jpg", "d.JPG", "d.jpg", "e.jpg", "e.png", "b.jpg", "c", "a/c")
    }
    assert found == {
        "a/b.jpg": Path("masks/a/b.jpg.png"),
        "a/c.jpg": Path("masks/a/c.png"),
        "d.JPG": Path("masks/d.JPG.PNG"),
        "d.jpg": Path("masks/d.JPG.PNG"),
        "e.jpg": Path("masks/E.jpg.png"),
        "e.png": Path("masks/e.png"),
        "b.jpg": None,
        "c": None,
        "a/c": Path("masks/a/c.png"),
    }
    nested = MaskFolder(Path("walk/masks"), "walk/", (Path("walk/masks/b.jpg.png"),))
    assert nested.mask_of("walk/b.jpg") == Path("walk/masks/b.jpg.png")
    assert nested.mask_of("b.jpg") is None


@pytest.mark.parametrize("folder", ["masks", "mask", "MASKS", "Mask"])
@pytest.mark.parametrize("photo_folder", ["", "images/"])
def test_masks_beside_the_photos_or_beside_their_folder(tmp_path, folder, photo_folder):
    photos(tmp_path / photo_folder, "a.jpg", "walk/b.JPG", "c.png")
    masks(tmp_path / folder, "a.jpg.png", "walk/b.JPG.png", "c.png")
    scene = load_scene(tmp_path)
    assert mask_names(scene, tmp_path / folder) == {
        "a.jpg": "a.jpg.png",
        "c.png": "c.png",
        "walk/b.JPG": "walk/b.JPG.png",
    }
    assert scene.skipped == ()
    digests = {image.content_digest for image in scene.images} | {image.digest for image in scene.images}
    assert len(digests) == 2 * len({image.digest for image in scene.images})


def test_masks_within_sub_folders(tmp_path):
    photos(tmp_path, "one/a.jpg", "two/a.jpg")
    masks(tmp_path, "one/masks/a.jpg.png", "masks/two/a.jpg.png", "masks/one/a.jpg.png")
    assert mask_names(load_scene(tmp_path), tmp_path) == {
        "one/a.jpg": "one/masks/a.jpg.png",  # the nearest one
        "two/a.jpg": "masks/two/a.jpg.png",
    }


def test_without_a_mask_nothing_changes(tmp_path, caplog):
    photos(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    masks(tmp_path / "masks", "b.jpg.png")
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        a, b, c = load_scene(tmp_path).images
    assert a.mask is c.mask is None
    assert a.content_digest == a.digest
    assert b.content_digest != b.digest
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning == "2 photos have no mask, so all of their pixels are used: a.jpg, c.jpg"


def test_another_mask_is_another_content(tmp_path):
    photos(tmp_path, "a.jpg")
    digests = set()
    for pixels in (MASK, 255 - MASK, np.full_like(MASK, 255)):
        masks(tmp_path / "masks", "a.jpg.png", pixels=pixels)
        (image,) = load_scene(tmp_path).images
        digests.add(image.content_digest)
    assert len(digests) == 3


def test_a_folder_of_photographs_may_be_named_masks(tmp_path, caplog):
    """Photographs of carnival masks, for example."""
    photos(tmp_path, "a.jpg", "masks/venice.jpg", "masks/b/rome.jpg")
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        scene = load_scene(tmp_path)
    assert scene.names == ("a.jpg", "masks/b/rome.jpg", "masks/venice.jpg")
    assert not caplog.records


@pytest.mark.parametrize("photo_folder", ["", "images/"])
def test_masks_with_other_names_are_left_out_and_the_rule_is_stated(tmp_path, photo_folder, caplog):
    photos(tmp_path / photo_folder, "a.jpg")
    masks(tmp_path / "masks", "a_mask.png", "b_mask.png")
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        scene = load_scene(tmp_path)
    assert scene.names == ("a.jpg",)
    assert scene.images[0].mask is None
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "left out the folder" in warning
    assert "the mask of a/b.jpg is a/b.jpg.png" in warning


@pytest.mark.parametrize("folder", ["scene/sky", "elsewhere"])
def test_a_stated_folder(tmp_path, folder):
    photos(tmp_path / "scene", "a.jpg", "walk/b.jpg")
    masks(tmp_path / "scene", "masks/a.jpg.png")
    masks(tmp_path / folder, "a.png", "walk/b.jpg.png")
    scene = load_scene(tmp_path / "scene", masks=tmp_path / folder)
    assert mask_names(scene, tmp_path / folder) == {"a.jpg": "a.png", "walk/b.jpg": "walk/b.jpg.png"}


def test_a_stated_folder_without_masks_is_refused(tmp_path):
    photos(tmp_path, "a.jpg", "walk/b.jpg")
    with pytest.raises(ConfigError, match=r"`masks` .*nowhere: no such folder"):
        load_scene(tmp_path, masks=tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"`masks` .*: no file in it is the mask of a photo; the mask of a/b\.jpg"):
        load_scene(tmp_path, masks=tmp_path / "walk")


def test_masks_beside_each_photo(tmp_path):
    """The folder of the masks may be that of the photos."""
    photos(tmp_path, "a.jpg", "b.png")
    masks(tmp_path, "a.jpg.png", "b.png.png")
    scene = load_scene(tmp_path, masks=tmp_path)
    assert mask_names(scene, tmp_path) == {"a.jpg": "a.jpg.png", "b.png": "b.png.png"}


def test_a_photo_whose_mask_cannot_be_used_is_left_out(tmp_path):
    photos(tmp_path, "good.jpg", "half.jpg", "other.jpg", "text.jpg", "empty.jpg")
    photos(tmp_path, "turned.jpg", orientation=6)
    masks(tmp_path / "masks", "good.jpg.png")
    masks(tmp_path / "masks", "half.jpg.png", pixels=MASK[::2, ::2].copy())
    masks(tmp_path / "masks", "other.jpg.png", pixels=MASK[:40].copy())
    masks(tmp_path / "masks", "turned.jpg.png", pixels=np.ascontiguousarray(MASK.T))
    (tmp_path / "masks" / "text.jpg.png").write_text("no image")
    (tmp_path / "masks" / "empty.jpg.png").write_bytes(b"")
    scene = load_scene(tmp_path)
    assert scene.names == ("good.jpg", "half.jpg", "turned.jpg")
    reasons = {photo.name: photo.reason for photo in scene.skipped}
    assert set(reasons) == {"empty.jpg", "other.jpg", "text.jpg"}
    assert all(reason.startswith("its mask cannot be used: ") for reason in reasons.values())
    assert "64 x 40 pixels, which is another aspect than that of the photo (64 x 48)" in reasons["other.jpg"]


def test_a_folder_of_masks_alone_has_photos(tmp_path):
    """Nothing is outside of it, so nothing tells that these are masks but their two grey levels."""
    masks(tmp_path / "masks", "a.jpg.png")
    with pytest.raises(DataError, match="no photo found"):
        load_scene(tmp_path)


@pytest.mark.parametrize(
    ("orientation", "size", "is_told"), [(3, (64, 48), True), (6, (48, 48), True), (6, (64, 48), False)]
)
def test_masks_whose_orientation_is_not_certain_are_told(tmp_path, caplog, orientation, size, is_told):
    write_photo(tmp_path / "a.jpg", textured(*size), orientation=orientation)
    masks(tmp_path, "masks/a.jpg.png", pixels=np.full(size[::-1], 255, np.uint8))
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        load_scene(tmp_path)
    assert ("taken as the photos are stored, not upright" in caplog.text) == is_told
