"""What every extractor of the registry keeps, whoever wrote it."""

import json

import numpy as np
import pytest

from sfm_lightglue.errors import DataError, WeightsError
from sfm_lightglue.images import Image, quarter_turned
from sfm_lightglue.parallel import ordered_map
from sfm_lightglue.registry import EXTRACTORS
from sfm_lightglue.store import make_key
from tests.contracts.components import build
from tests.photos import textured, write_photo

SIZE = (240, 180)


@pytest.fixture(scope="module", params=EXTRACTORS.names)
def extractor(request):
    built = build(EXTRACTORS, request.param)
    try:
        built.extract(Image.from_array(textured(64, 64)))
    except WeightsError as error:  # some load them when they are first needed
        pytest.skip(f"{request.param} needs weights that are not here: {error}")
    return built


@pytest.fixture(scope="module")
def features(extractor):
    found = extractor.extract(Image.from_array(textured(*SIZE)))
    assert len(found) > 50
    return found


def test_keypoints_lie_within_the_image(features):
    assert features.image_size == SIZE
    assert (features.keypoints >= 0).all()
    assert (features.keypoints <= SIZE).all()
    # They are all over the picture, so neither mirrored axes nor another unit would pass.
    assert (features.keypoints.max(axis=0) > 0.8 * np.array(SIZE)).all()
    assert (features.keypoints.min(axis=0) < 0.2 * np.array(SIZE)).all()


def test_every_number_is_finite_and_descriptors_have_length_one(features):
    for array in (features.keypoints, features.scores, features.scales, features.orientations):
        assert array is None or np.isfinite(array).all()
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-4)


def test_the_limit_is_kept_and_best_come_first(features):
    assert len(features) <= 256
    assert (np.diff(features.scores) <= 0).all()


def test_no_two_keypoints_share_a_pixel(features):
    assert len(np.unique(np.floor(features.keypoints), axis=0)) == len(features)


def test_the_same_image_gives_the_same_features_on_any_thread(extractor, features):
    images = [Image.from_array(textured(*SIZE, seed=seed)) for seed in (0, 1, 0, 1, 0)]
    found = list(ordered_map(extractor.extract, images, 3))
    assert found[0].digest == found[2].digest == found[4].digest == features.digest
    assert found[1].digest == found[3].digest != features.digest


@pytest.mark.parametrize("size", [(120, 90), (16, 16), (300, 16), (17, 240)])
def test_a_flat_image_gives_features_of_the_right_shape(extractor, features, size):
    found = extractor.extract(Image.from_array(np.full(size[::-1], 90, np.uint8)))
    n = len(found)
    assert n <= 256
    assert found.keypoints.shape == (n, 2)
    assert found.descriptors.shape == (n, features.descriptors.shape[1])
    for name in ("scales", "orientations"):
        assert (getattr(found, name) is None) == (getattr(features, name) is None)


@pytest.mark.parametrize("size", [(241, 179), (40, 300), (101, 64)])
def test_any_size_will_do(extractor, size):
    found = extractor.extract(Image.from_array(textured(*size)))
    assert found.image_size == size
    assert len(found) > 0


@pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 1), (8, 3)])
def test_a_photo_noted_as_turned_has_the_features_of_the_upright_one(extractor, features, tmp_path, orientation, turns):
    stored = quarter_turned(textured(*SIZE), -turns)
    found = extractor.extract(Image.read(write_photo(tmp_path / "photo.png", stored, orientation)))
    assert found.quarter_turns == turns
    assert found.image_size == (stored.shape[1], stored.shape[0])
    np.testing.assert_array_equal(found.descriptors, features.descriptors)
    np.testing.assert_array_equal(found.scores, features.scores)
    x, y = features.keypoints.T
    # Where upright (x, y) is stored: at (y, W - x) when one clockwise turn stands it upright, and so on.
    expected = {1: (y, SIZE[0] - x), 2: (SIZE[0] - x, SIZE[1] - y), 3: (SIZE[1] - y, x)}[turns]
    np.testing.assert_allclose(found.keypoints, np.stack(expected, axis=1), atol=1e-3)


def test_colours_are_welcome(extractor, features):
    found = extractor.extract(Image.from_array(np.repeat(textured(*SIZE)[..., None], 3, axis=2)))
    np.testing.assert_allclose(found.keypoints, features.keypoints, atol=0.01)


def test_a_damaged_photo_is_a_data_error(extractor, tmp_path):
    path = write_photo(tmp_path / "cut.jpg", textured(*SIZE))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"cut\.jpg"):
        extractor.extract(Image.read(path))


def test_its_identity_can_be_part_of_a_key(extractor):
    assert len(make_key(extractor.identity)) == 64
    assert extractor.identity.name
    assert json.dumps(extractor.identity.weights)
