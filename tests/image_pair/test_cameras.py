"""Which images count as taken by one camera, and what follows for a focal length that nobody told."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PilImage

import sfm_lightglue
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import relative_pose_error_deg


def enlarged(pixels, factor=1.5):
    """The middle of a picture in the size of the whole: another focal length, and nothing shows it."""
    height, width = pixels.shape[:2]
    large = PilImage.fromarray(pixels).resize((int(factor * width), int(factor * height)), PilImage.Resampling.BICUBIC)
    x, y = (large.width - width) // 2, (large.height - height) // 2
    return np.asarray(large.crop((x, y, x + width, y + height)))


def test_two_unknown_focal_lengths_of_pixels_are_guessed_each_on_its_own(pair):
    """Of equal size, without EXIF data, and truly 1.5 times apart: no estimate is claimed, and the radius is wide."""
    second = enlarged(pair.pixels[1])
    found = sfm_lightglue.estimate_relative_pose(pair.pixels[0], second, matcher="nearest")
    assert found.focal_sources == ("guessed", "guessed")
    assert found.cameras[0].params == found.cameras[1].params
    rotation_deg, direction_deg = relative_pose_error_deg(found.cam1_from_cam0, pair.truth)
    assert rotation_deg < found.uncertainty.rotation_deg
    assert direction_deg < 1.5 * found.uncertainty.direction_deg  # so far off, it is no longer linear
    wrong = sfm_lightglue.estimate_relative_pose(pair.pixels[0], second, matcher="nearest", same_camera=True)
    assert wrong.uncertainty.rotation_deg < found.uncertainty.rotation_deg  # what a user vouches for is believed


def test_one_unknown_focal_length_is_estimated_where_the_caller_says_that_it_is_one(pair):
    found = sfm_lightglue.estimate_relative_pose(*pair.pixels, matcher="nearest", same_camera=True)
    assert found.focal_sources == ("estimated", "estimated")
    assert found.cameras[0].params == found.cameras[1].params
    assert found.cameras[0].params[0] == pytest.approx(pair.scene.camera.params[0], rel=0.08)
    alone = sfm_lightglue.estimate_relative_pose(*pair.pixels, matcher="nearest")
    assert alone.focal_sources == ("guessed", "guessed")


def test_a_camera_given_for_pixels_holds_for_them_alone(pair):
    focal, cx, cy = pair.scene.camera.params[:3]
    K = np.array([[focal, 0, cx], [0, focal, cy], [0, 0, 1]])
    for second, factor in ((pair.pixels[1], 1.0), (enlarged(pair.pixels[1]), 1.5)):
        found = sfm_lightglue.estimate_relative_pose(pair.pixels[0], second, K, matcher="nearest")
        assert found.focal_sources == ("given", "estimated")
        assert found.cameras[1].params[0] == pytest.approx(factor * focal, rel=0.1)
    shared = sfm_lightglue.estimate_relative_pose(*pair.pixels, K, matcher="nearest", same_camera=True)
    assert shared.focal_sources == ("given", "given")
    assert shared.cameras[0] == shared.cameras[1]


def test_exif_data_of_one_photo_hold_for_the_other_only_where_that_is_stated(pair):
    images = pair.paths[0], pair.pixels[1]
    alone = sfm_lightglue.estimate_relative_pose(*images, matcher="nearest")
    assert alone.focal_sources[0] == "exif" != alone.focal_sources[1]
    shared = sfm_lightglue.estimate_relative_pose(*images, matcher="nearest", same_camera=True)
    assert shared.focal_sources == ("exif", "exif")
    given = replace(pair.scene.camera, source="given")
    apart = sfm_lightglue.estimate_relative_pose(*pair.paths, given, matcher="nearest", same_camera=False)
    assert apart.focal_sources == ("given", "exif")


def test_one_camera_has_one_size(pair):
    with pytest.raises(ConfigError, match="480 x 360 and 400 x 360"):
        sfm_lightglue.estimate_relative_pose(pair.pixels[0], pair.pixels[1][:, :400], same_camera=True)
