"""SIFT features: positions, selection, and invariance to rotation and shrinking of the image."""

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor, one_per_pixel, root_sift
from sfm_lightglue.features import best_spread
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.orientation import quarter_turned
from tests.helpers.photos import textured, write_photo

pytestmark = pytest.mark.usefixtures("each_implementation")


def blob(x, y, sigma=4.0, size=(160, 120)):
    """A dark blob on grey with its centre at (x, y), COLMAP convention."""
    rows, columns = np.mgrid[: size[1], : size[0]] + 0.5
    weight = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))
    return np.round(180 - 120 * weight).astype(np.uint8)


def extract(pixels, config=None, quarter_turns=0):
    return SiftExtractor(config).extract(Image.from_array(pixels, quarter_turns=quarter_turns))


def nearest_distances(keypoints, others):
    """[N] distances in pixels from each keypoint to the nearest of the others."""
    return np.linalg.norm(keypoints[:, None] - others[None], axis=2).min(axis=1)


@pytest.mark.parametrize("center", [(80.0, 60.0), (80.5, 60.5), (71.3, 47.8), (40.25, 90.6)])
def test_a_blob_is_found_at_its_centre(center):
    """In COLMAP's convention; fails without the conversion by half a pixel from OpenCV."""
    features = extract(blob(*center))
    assert len(features) > 0
    assert nearest_distances(np.array([center]), features.keypoints)[0] < 0.1


def test_a_blob_of_a_shrunk_image_is_found_at_its_centre_in_the_full_image():
    center = (401.7, 263.2)
    features = extract(blob(*center, sigma=20, size=(800, 600)), SiftConfig(max_image_size=300))
    assert features.image_size == (800, 600)
    assert nearest_distances(np.array([center]), features.keypoints)[0] < 0.5
    # The diameter is in pixels of the shrunk image.
    assert features.shrink_factor == pytest.approx(800 / 300)
    best = np.argmin(nearest_distances(features.keypoints, np.array([center])))
    unshrunk = extract(blob(*center, sigma=20, size=(800, 600)))
    assert unshrunk.shrink_factor == 1
    full = np.argmin(nearest_distances(unshrunk.keypoints, np.array([center])))
    assert unshrunk.scales[full] / features.scales[best] == pytest.approx(800 / 300, rel=0.1)


def test_scales_grow_with_blobs():
    def scale(sigma):
        features = extract(blob(80, 60, sigma))
        return features.scales[np.argmin(nearest_distances(features.keypoints, np.array([[80, 60]])))]

    assert scale(8) / scale(4) == pytest.approx(2, rel=0.1)


def test_orientations_rotate_with_the_image():
    """A quarter turn clockwise adds a quarter turn, since angles are measured from x to y."""
    pixels = textured(160, 120)
    features, turned = extract(pixels), extract(quarter_turned(pixels, 1))
    x, y = features.keypoints.T
    expected = np.stack([120 - y, x], axis=1)
    index = np.linalg.norm(turned.keypoints[None] - expected[:, None], axis=2)
    close = index.min(axis=1) < 0.1
    assert close.mean() > 0.8
    difference = turned.orientations[index.argmin(axis=1)] - features.orientations - np.pi / 2
    aligned = np.abs((difference + np.pi) % (2 * np.pi) - np.pi) < 0.05
    assert aligned[close].mean() > 0.85  # the others use another of several equally good angles


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 1), (8, 3)])
def test_an_image_with_exif_orientation_has_the_features_of_the_upright_image(tmp_path, orientation, turns):
    upright = textured(200, 140)
    stored = quarter_turned(upright, -turns)
    photo = Image.read(write_photo(tmp_path / "photo.png", stored, orientation))
    extractor = SiftExtractor()
    found, expected = extractor.extract(photo), extractor.extract(Image.from_array(upright))
    assert found.quarter_turns == turns
    assert found.image_size == (stored.shape[1], stored.shape[0])
    np.testing.assert_array_equal(found.descriptors, expected.descriptors)
    np.testing.assert_array_equal(found.scales, expected.scales)
    # Stored vectors are the upright ones, rotated by -turns × 90° around the centre of the image.
    angle = -turns * np.pi / 2
    R = np.round([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centred = expected.keypoints - np.array([100, 70])
    np.testing.assert_allclose(found.keypoints, centred @ R.T + np.array(found.image_size) / 2, atol=1e-4)
    directions = np.stack([np.cos(expected.orientations), np.sin(expected.orientations)], axis=1) @ R.T
    np.testing.assert_allclose(
        np.stack([np.cos(found.orientations), np.sin(found.orientations)], axis=1), directions, atol=1e-5
    )
    assert ((found.orientations >= 0) & (found.orientations < 2 * np.pi + 1e-6)).all()


def test_an_image_may_be_rotated_and_shrunk(tmp_path):
    upright = textured(200, 140)
    photo = Image.read(write_photo(tmp_path / "photo.png", quarter_turned(upright, -1), 6))
    config = SiftConfig(max_image_size=100)
    found, expected = SiftExtractor(config).extract(photo), extract(upright, config)
    x, y = expected.keypoints.T
    # Upright (x, y) is stored at (y, 200 - x).
    distances = nearest_distances(np.stack([y, 200 - x], axis=1), found.keypoints)
    assert np.median(distances) < 0.05
    assert (distances < 1).mean() > 0.9


def test_shrinking_keeps_positions_in_the_full_image():
    pixels = textured(640, 480)
    full, small = extract(pixels), extract(pixels, SiftConfig(max_image_size=400))
    large = small.scales > 8
    assert large.sum() > 20
    assert np.median(nearest_distances(small.keypoints[large], full.keypoints)) < 0.5
    assert small.keypoints[:, 0].max() > 600  # no coordinates of the shrunk image


def test_one_keypoint_per_pixel_and_all_inside_the_image():
    features = extract(textured(320, 240))
    assert len(features) > 300
    assert len(np.unique(np.floor(features.keypoints), axis=0)) == len(features)
    assert (features.keypoints >= 0).all()
    assert (features.keypoints <= (320, 240)).all()


def test_of_several_keypoints_of_a_pixel_the_highest_score_stays():
    keypoints = np.array([[1.2, 1.7], [1.9, 1.1], [1.5, 1.5], [2.1, 1.5], [5, 5], [5.9, 5.9]], np.float32)
    scores = np.array([1, 2, 3, 1, 3, 4], np.float32)
    assert one_per_pixel(keypoints, scores).tolist() == [2, 3, 5]
    assert one_per_pixel(keypoints[:0], scores[:0]).tolist() == []


def test_descriptors_are_unit_and_nonnegative():
    features = extract(textured(320, 240))
    assert features.descriptors.shape == (len(features), 128)
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)
    assert (features.descriptors >= 0).all()
    assert not root_sift(np.zeros((2, 128), np.float32)).any()


@pytest.mark.parametrize("limit", [1, 10, 100])
def test_the_limit_keeps_good_keypoints_of_the_whole_image(limit):
    pixels = textured(640, 480)
    every, kept = extract(pixels, SiftConfig(max_keypoints=10**6)), extract(pixels, SiftConfig(max_keypoints=limit))
    assert len(every) > 1000
    assert len(kept) == limit
    assert nearest_distances(kept.keypoints, every.keypoints).max() == 0
    assert kept.scores[0] == every.scores.max()
    assert (np.diff(kept.scores) <= 0).all()


def test_the_best_of_each_cell_stay_even_if_weak():
    """Weak points beside strong ones: half of the limit is distributed over the grid."""
    generator = np.random.default_rng(0)
    strong = generator.uniform([0, 0], [200, 400], (3000, 2))
    faint = generator.uniform([200, 0], [400, 400], (3000, 2))
    keypoints = np.concatenate([strong, faint]).astype(np.float32)
    scores = np.concatenate([generator.uniform(10, 20, 3000), generator.uniform(0, 1, 3000)]).astype(np.float32)
    chosen = best_spread(keypoints, scores, 640, (400, 400))
    assert len(chosen) == len(set(chosen.tolist())) == 640
    cells = np.floor(keypoints[chosen] / 50).astype(int)
    counts = np.zeros((8, 8), int)
    np.add.at(counts, (cells[:, 0], cells[:, 1]), 1)
    assert counts.min() >= 5  # 320 keypoints for 64 cells
    assert (chosen < 3000).sum() >= 320 + 160
    assert (np.diff(scores[chosen]) <= 0).all()
    everything = best_spread(keypoints, scores, 10_000, (400, 400))
    assert sorted(everything.tolist()) == list(range(6000))


@pytest.mark.parametrize("pixels", [np.full((120, 160), 128, np.uint8), np.zeros((16, 16), np.uint8)])
def test_a_constant_image_has_no_features(pixels):
    features = extract(pixels)
    assert features.keypoints.shape == (0, 2)
    assert features.descriptors.shape == (0, 128)
    assert features.scales.shape == features.orientations.shape == features.scores.shape == (0,)


def test_threads_and_repetitions_change_nothing():
    extractor = SiftExtractor(SiftConfig(max_keypoints=200))
    images = [Image.from_array(textured(200, 150, seed)) for seed in range(6)]
    alone = [extractor.extract(image).digest for image in images]
    together = [features.digest for features in ordered_map(extractor.extract, images, 3)]
    assert together == alone
    assert len(set(alone)) == 6


def test_colour_images_are_converted_to_grey():
    grey = textured(160, 120)
    assert extract(np.repeat(grey[..., None], 3, axis=2)).digest == extract(grey).digest


def test_a_damaged_file_is_named(tmp_path):
    path = write_photo(tmp_path / "cut.jpg", textured(160, 120))
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match=r"cut\.jpg: damaged"):
        SiftExtractor().extract(Image.read(path))


@pytest.mark.parametrize(
    "options",
    [{"max_keypoints": 0}, {"max_image_size": 0}, {"contrast_threshold": -0.1}, {"edge_threshold": 0}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        SiftConfig(**options)


def test_every_option_and_the_version_of_opencv_are_part_of_the_identity():
    assert "opencv" in SiftExtractor().identity.name
    assert SiftExtractor(SiftConfig(edge_threshold=9.0)).identity != SiftExtractor().identity
