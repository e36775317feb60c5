"""Loading a folder of images: which files are read, and which camera each image gets."""

import logging

import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.scene.cameras import calibration_matrix, mean_focal_length
from sfm_lightglue.scene.folder import load_scene
from tests.helpers.photos import textured, write_photo

LEVEL, UPRIGHT = textured(64, 48), textured(48, 64)
PINHOLE = {"model": "PINHOLE", "params": (70, 71, 30, 20)}


def write(root, *names, pixels=LEVEL, **options):
    for name in names:
        write_photo(root / name, pixels, **options)


def cameras(root, **options):
    """The images by name, with the camera options."""
    return {image.name: image for image in load_scene(root, CameraConfig(**options)).images}


def idxs(images):
    return [image.camera_idx for image in images.values()]


def test_images_are_found_at_any_depth_and_sorted(tmp_path):
    write(tmp_path, "b.jpg", "a/z.png", "a/b/c.tiff", "B.JPG", "a.JpEg", "ü ö/naïve photo.webp", "d.bmp", "e.TIF")
    scene = load_scene(tmp_path)
    assert scene.names == tuple(
        sorted(["b.jpg", "a/z.png", "a/b/c.tiff", "B.JPG", "a.JpEg", "ü ö/naïve photo.webp", "d.bmp", "e.TIF"])
    )
    assert all(image.path == tmp_path / image.name and image.path.is_file() for image in scene.images)
    assert scene.skipped == ()
    assert scene.root == tmp_path


def test_a_sub_folder_named_images_is_the_scene(tmp_path):
    write(tmp_path, "images/a.jpg", "images/deep/b.jpg", "thumbnail.jpg", "masks/a.png")
    scene = load_scene(tmp_path)
    assert scene.names == ("a.jpg", "deep/b.jpg")
    assert scene.root == tmp_path / "images"


def test_hidden_files_and_other_files_are_ignored(tmp_path):
    write(tmp_path, "a.jpg", ".hidden.jpg", ".thumbnails/a.jpg", "sub/.b.png")
    (tmp_path / "notes.txt").write_text("no photo")
    (tmp_path / "movie.mp4").write_bytes(b"no photo")
    (tmp_path / "folder.jpg").mkdir()
    scene = load_scene(tmp_path)
    assert scene.names == ("a.jpg",)
    assert scene.skipped == ()


def test_output_folders_are_ignored(tmp_path):
    write(tmp_path, "a.jpg", "out/picture.png", "results/new/b.png", "earlier/run/c.png")
    (tmp_path / "earlier" / "run" / "run.json").write_text('{"versions": {"sfm_lightglue": "0.1.0"}}')
    scene = load_scene(tmp_path, ignore=[tmp_path / "out", tmp_path / "other" / ".." / "results"])
    assert scene.names == ("a.jpg",)


@pytest.mark.parametrize("record", ["{}", "[]", "no JSON", '{"versions": {}}'])
def test_the_run_json_of_another_program_hides_no_images(tmp_path, record):
    write(tmp_path, "a.jpg", "walk/b.png")
    (tmp_path / "walk" / "run.json").write_text(record)
    assert load_scene(tmp_path).names == ("a.jpg", "walk/b.png")


def test_linked_folders_are_read_and_circular_links_end(tmp_path):
    write(tmp_path, "elsewhere/b.jpg", "scene/a.jpg")
    (tmp_path / "scene" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "scene")
    assert load_scene(tmp_path / "scene").names == ("a.jpg", "more/b.jpg")


def test_a_scene_that_is_its_own_output_folder_is_read(tmp_path):
    """The output folder can be the scene folder: then the images are beside run.json."""
    write(tmp_path, "a.jpg")
    (tmp_path / "run.json").write_text("{}")
    assert load_scene(tmp_path, ignore=[tmp_path]).names == ("a.jpg",)


def test_unreadable_images_are_named_and_left_out(tmp_path, caplog):
    write(tmp_path, "good.jpg")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.png").write_text("no photo")
    (tmp_path / "raw.cr2").write_bytes(b"II*\0")
    write(tmp_path, "mirrored.jpg", orientation=2)
    write(tmp_path, "tiny.png", pixels=textured(64, 15))
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        scene = load_scene(tmp_path)
    assert scene.names == ("good.jpg",)
    reasons = {photo.name: photo.reason for photo in scene.skipped}
    assert reasons == {
        "empty.jpg": "the file is empty",
        "mirrored.jpg": "stored mirrored (EXIF orientation 2), so it is not a camera image",
        "raw.cr2": ".cr2 files cannot be read; convert them to JPEG or PNG",
        "text.png": "not an image that can be read",
        "tiny.png": "only 64 x 15 pixels",
    }
    assert [record.getMessage() for record in caplog.records] == [
        f"left out {name}: {reason}" for name, reason in reasons.items()
    ]


def test_a_dangling_link_is_left_out(tmp_path):
    write(tmp_path, "a.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    (skipped,) = load_scene(tmp_path).skipped
    assert skipped.name == "gone.jpg"
    assert skipped.reason.startswith("cannot be read")


def test_a_folder_that_is_not_a_scene_is_named(tmp_path):
    with pytest.raises(DataError, match=r"missing: no such folder"):
        load_scene(tmp_path / "missing")
    (tmp_path / "file.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"file\.jpg: not a folder"):
        load_scene(tmp_path / "file.jpg")
    with pytest.raises(DataError, match=r"no photo found, 1 could not be read; JPEG"):
        load_scene(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no photo found; JPEG"):
        load_scene(tmp_path / "empty")


THETA = {"Make": "RICOH", "Model": "RICOH THETA Z1"}


def test_panoramas_are_named_and_left_out(tmp_path, caplog):
    write(tmp_path, "flat.jpg", **THETA)
    write(tmp_path, "crop.jpg", pixels=textured(64, 32), Make="Maker", Model="Other")
    write(tmp_path, "pano1.jpg", "pano2.jpg", pixels=textured(64, 32), **THETA)
    write(tmp_path, "sweep.jpg", pixels=textured(160, 48), Make="Apple", CustomRendered=6)
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        scene = load_scene(tmp_path)
    assert scene.names == ("crop.jpg", "flat.jpg")
    assert [photo.name for photo in scene.skipped] == ["pano1.jpg", "pano2.jpg", "sweep.jpg"]
    assert [photo.reason.partition(",")[0] for photo in scene.skipped] == [
        "a panorama of 360 degrees",
        "a panorama of 360 degrees",
        "a panorama that a turning camera recorded in strips",
    ]
    sphere, sweep = (record.getMessage() for record in caplog.records)
    assert sphere.startswith("left out pano1.jpg, pano2.jpg: a panorama of 360 degrees")
    assert "cut it into perspective views" in sphere
    assert sweep.startswith("left out sweep.jpg: ")


def test_a_folder_of_panoramas_says_so(tmp_path):
    write(tmp_path, "a.jpg", pixels=textured(64, 32), **THETA)
    with pytest.raises(DataError, match=r"the only photo is a panorama of 360 degrees.*cut it into perspective views"):
        load_scene(tmp_path)
    write(tmp_path, "b.jpg", pixels=textured(64, 32), **THETA)
    (tmp_path / "c.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="2 of 3 photos are each a panorama of 360 degrees"):
        load_scene(tmp_path)


def test_threads_change_nothing(tmp_path):
    write(tmp_path, *(f"{i}.jpg" for i in range(8)))
    (tmp_path / "4.jpg").write_bytes(b"")
    assert load_scene(tmp_path, num_threads=4) == load_scene(tmp_path, num_threads=1)


def test_digests_are_those_of_the_files(tmp_path):
    write(tmp_path, "a.png", "same.png")
    write(tmp_path, "b.png", pixels=255 - LEVEL)
    a, b, same = load_scene(tmp_path).images
    assert a.digest == same.digest != b.digest


def test_without_exif_data_images_of_one_size_share_a_camera(tmp_path):
    write(tmp_path, "a.png", "b.png", "other/c.png", "other/d.png")
    images = cameras(tmp_path)
    assert idxs(images) == [0, 0, 1, 1]
    assert {image.camera.source for image in images.values()} == {"guessed"}


def test_without_exif_data_images_of_several_sizes_have_a_camera_each(tmp_path):
    write(tmp_path, "a.png", "b.png")
    write(tmp_path, "c.png", pixels=textured(60, 48))
    assert idxs(cameras(tmp_path)) == [0, 1, 2]


def test_exif_data_separate_cameras(tmp_path):
    phone = {"Make": "Maker", "Model": "Phone", "FocalLengthIn35mmFilm": 28}
    write(tmp_path, "a.jpg", "sub/b.jpg", **phone)
    write(tmp_path, "zoomed.jpg", **phone | {"FocalLengthIn35mmFilm": 56})
    write(tmp_path, "other.jpg", **phone | {"Model": "Other"})
    write(tmp_path, "cropped.jpg", pixels=textured(60, 48), **phone)
    images = cameras(tmp_path)
    assert images["a.jpg"].camera_idx == images["sub/b.jpg"].camera_idx
    assert len(set(idxs(images))) == 4
    assert {image.camera.source for image in images.values()} == {"exif"}
    ratio = mean_focal_length(images["zoomed.jpg"].camera) / mean_focal_length(images["a.jpg"].camera)
    assert ratio == pytest.approx(2)


def test_landscape_and_portrait_images_share_a_camera_unless_pixels_were_rotated(tmp_path):
    """The EXIF orientation does not change the stored pixels. A COLMAP camera has one size."""
    phone = {"Make": "Maker", "Model": "Phone", "FocalLengthIn35mmFilm": 28}
    write(tmp_path, "level.jpg", **phone)
    write(tmp_path, "noted.jpg", orientation=6, **phone)
    write(tmp_path, "turned.jpg", pixels=UPRIGHT, **phone)
    images = cameras(tmp_path)
    assert images["noted.jpg"].camera == images["level.jpg"].camera
    assert images["noted.jpg"].camera_idx == images["level.jpg"].camera_idx != images["turned.jpg"].camera_idx
    focal_lengths = {mean_focal_length(image.camera) for image in images.values()}
    assert len(focal_lengths) == 1


@pytest.mark.parametrize("mode", ["auto", "single", "per-folder"])
def test_landscape_and_portrait_images_share_their_stored_intrinsics(tmp_path, mode):
    write(tmp_path, "a.png")
    write(tmp_path, "b.png", orientation=6)
    write(tmp_path, "c.png", pixels=UPRIGHT)
    assert idxs(cameras(tmp_path, mode=mode)) == [0, 0, 1]


def test_camera_modes(tmp_path):
    write(tmp_path, "a.png", "b.png", "other/c.png", "other/d.png")
    assert idxs(cameras(tmp_path, mode="single")) == [0, 0, 0, 0]
    assert idxs(cameras(tmp_path, mode="per-folder")) == [0, 0, 1, 1]
    assert idxs(cameras(tmp_path, mode="per-image")) == [0, 1, 2, 3]
    assert {image.camera.model for image in cameras(tmp_path, model="opencv").values()} == {"OPENCV"}


def test_one_camera_cannot_have_two_sizes(tmp_path):
    write(tmp_path, "a/1.png", "a/2.png")
    write(tmp_path, "b/3.png", pixels=textured(60, 48))
    assert idxs(cameras(tmp_path, mode="per-folder")) == [0, 0, 1]
    with pytest.raises(ConfigError, match=r"single: .*a/1\.png 64 x 48, b/3\.png 60 x 48\); try auto"):
        cameras(tmp_path, mode="single")
    write(tmp_path, "b/4.png")
    with pytest.raises(ConfigError, match="per-folder"):
        cameras(tmp_path, mode="per-folder")


def test_a_single_camera_takes_the_focal_length_of_any_image_that_has_one(tmp_path):
    write(tmp_path, "a.jpg")
    write(tmp_path, "b.jpg", FocalLengthIn35mmFilm=35)
    a, b = cameras(tmp_path, mode="single").values()
    assert a.camera == b.camera
    assert a.camera.source == "exif"


def test_given_intrinsics_apply_to_all_images(tmp_path):
    write(tmp_path, "a.jpg", "b.jpg", FocalLengthIn35mmFilm=35)
    for image in cameras(tmp_path, **PINHOLE).values():
        assert image.camera.params == (70, 71, 30, 20)
        assert image.camera.source == "given"


def test_given_intrinsics_apply_to_stored_pixels_of_any_orientation(tmp_path):
    write(tmp_path, "a.jpg")
    write(tmp_path, "b.jpg", orientation=6)
    write(tmp_path, "c.jpg", orientation=3)
    images = cameras(tmp_path, **PINHOLE)
    assert {image.camera.params for image in images.values()} == {(70, 71, 30, 20)}
    assert idxs(images) == [0, 0, 0]


def test_given_intrinsics_apply_to_stored_pixels_of_upside_down_images(tmp_path):
    write(tmp_path, "a.jpg", orientation=3)
    assert cameras(tmp_path, **PINHOLE)["a.jpg"].camera.params == (70, 71, 30, 20)


def test_given_intrinsics_are_rotated_for_images_of_one_upright_size(tmp_path):
    """The parameters apply to the upright images: 64 x 48 here, stored as 48 x 64 with orientation 6 or 8."""
    write(tmp_path, "a.jpg", "b.jpg")
    write(tmp_path, "clockwise.jpg", pixels=UPRIGHT, orientation=6)
    write(tmp_path, "counter.jpg", pixels=UPRIGHT, orientation=8)
    images = cameras(tmp_path, **PINHOLE)
    assert images["a.jpg"].camera.params == (70, 71, 30, 20)
    # Orientation 6: stored (x, y) is upright (64 - y, x), so the principal point (30, 20) is stored at (20, 34).
    assert images["clockwise.jpg"].camera.params == (71, 70, 20, 34)
    assert images["counter.jpg"].camera.params == (71, 70, 28, 30)
    assert calibration_matrix(images["counter.jpg"].camera)[0, 0] == 71


def test_given_intrinsics_apply_to_the_most_frequent_size(tmp_path, caplog):
    write(tmp_path, "b.png", "c.png")
    write(tmp_path, "a.png", pixels=textured(60, 48))
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        images = cameras(tmp_path, **PINHOLE)
    assert images["b.png"].camera.source == images["c.png"].camera.source == "given"
    assert images["a.png"].camera.source == "guessed"
    assert "64 x 48 pixels; 1 of another size (a.png" in caplog.text


def test_invalid_options_are_refused(tmp_path):
    write(tmp_path, "a.png")
    with pytest.raises(ConfigError, match="expected auto, single"):
        CameraConfig(mode="many")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="expected 4 parameters"):
        cameras(tmp_path, model="PINHOLE", params=(1, 2, 3))
    with pytest.raises(ConfigError, match="unknown; COLMAP has"):
        cameras(tmp_path, model="CYLINDER")
