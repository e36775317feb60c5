"""Tests that every extractor must pass."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.mask import Mask
from sfm_lightglue.images.orientation import quarter_turned
from sfm_lightglue.store.store import make_key
from sfm_lightglue.testing.photos import textured, write_photo
from sfm_lightglue.types import DenseFeatures, Features

SIZE = (240, 180)


class ExtractorContract:
    """Tests of an `Extractor`. A subclass defines how it is built."""

    max_keypoints = 256
    """The maximum number of keypoints that `build` sets."""

    @classmethod
    def build(cls) -> Extractor:
        """Build the extractor with at most `max_keypoints` keypoints."""
        raise NotImplementedError(f"{cls.__name__} must define `build`")

    @pytest.fixture(scope="class")
    @classmethod
    def extractor(cls) -> Extractor:
        """The extractor under test."""
        return cls.build()

    @pytest.fixture(scope="class")
    @classmethod
    def features(cls, extractor: Extractor) -> Features:
        """Features of a textured image."""
        found = extractor.extract(Image.from_array(textured(*SIZE)))
        assert len(found) > 50
        return found

    def test_keypoints_lie_within_the_image(self, features: Features) -> None:
        """They cover the image, so mirrored axes or another unit would fail."""
        assert features.image_size == SIZE
        assert (features.keypoints >= 0).all()
        assert (features.keypoints <= SIZE).all()
        assert (features.keypoints.max(axis=0) > 0.8 * np.array(SIZE)).all()
        assert (features.keypoints.min(axis=0) < 0.2 * np.array(SIZE)).all()

    def test_values_are_finite_and_descriptors_have_length_one(self, features: Features) -> None:
        """Matchers compare descriptors by their dot product."""
        for array in (features.keypoints, features.scores, features.scales, features.orientations):
            assert array is None or np.isfinite(array).all()
        np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-4)

    def test_the_number_is_limited_and_scores_descend(self, features: Features) -> None:
        """The first features have the highest scores."""
        assert len(features) <= self.max_keypoints
        assert (np.diff(features.scores) <= 0).all()

    def test_no_two_keypoints_share_a_pixel(self, features: Features) -> None:
        """Two features at one position would be ambiguous for matchers."""
        assert len(np.unique(np.floor(features.keypoints), axis=0)) == len(features)

    def test_the_same_image_gives_the_same_features_on_any_thread(
        self, extractor: Extractor, features: Features
    ) -> None:
        """Another image gives other features."""
        images = [Image.from_array(textured(*SIZE, seed=seed)) for seed in (0, 1, 0, 1, 0)]
        found = list(ordered_map(extractor.extract, images, 3))
        assert found[0].digest == found[2].digest == found[4].digest == features.digest
        assert found[1].digest == found[3].digest != features.digest

    @pytest.mark.parametrize("size", [(120, 90), (16, 16), (300, 16), (17, 240)])
    def test_a_flat_image_gives_features_of_the_right_shape(
        self, extractor: Extractor, features: Features, size: tuple[int, int]
    ) -> None:
        """There are few or none, with descriptors of the usual length."""
        found = extractor.extract(Image.from_array(np.full(size[::-1], 90, np.uint8)))
        n = len(found)
        assert n <= self.max_keypoints
        assert found.keypoints.shape == (n, 2)
        assert found.descriptors.shape == (n, features.descriptors.shape[1])
        for name in ("scales", "orientations"):
            assert (getattr(found, name) is None) == (getattr(features, name) is None)

    @pytest.mark.parametrize("size", [(241, 179), (40, 300), (101, 64)])
    def test_images_of_any_size_are_supported(self, extractor: Extractor, size: tuple[int, int]) -> None:
        """Also sizes that are not multiples of the stride of a network."""
        found = extractor.extract(Image.from_array(textured(*size)))
        assert found.image_size == size
        assert len(found) > 0

    @pytest.mark.parametrize(("orientation", "turns"), [(3, 2), (6, 1), (8, 3)])
    def test_an_image_with_exif_orientation_has_the_features_of_the_upright_image(
        self, extractor: Extractor, features: Features, tmp_path: Path, orientation: int, turns: int
    ) -> None:
        """Keypoints are in stored pixels."""
        stored = np.ascontiguousarray(quarter_turned(textured(*SIZE), -turns))
        found = extractor.extract(Image.read(write_photo(tmp_path / "photo.png", stored, orientation)))
        assert found.quarter_turns == turns
        assert found.image_size == (stored.shape[1], stored.shape[0])
        np.testing.assert_array_equal(found.descriptors, features.descriptors)
        np.testing.assert_array_equal(found.scores, features.scores)
        x, y = features.keypoints.T
        # Position of upright (x, y) in the stored image: (y, W - x) if one clockwise turn makes it upright, and so on.
        expected = {1: (y, SIZE[0] - x), 2: (SIZE[0] - x, SIZE[1] - y), 3: (SIZE[1] - y, x)}[turns]
        np.testing.assert_allclose(found.keypoints, np.stack(expected, axis=1), atol=1e-3)

    def test_colour_images_are_supported(self, extractor: Extractor, features: Features) -> None:
        """A grey image with three channels has the features of the grey image."""
        found = extractor.extract(Image.from_array(np.repeat(textured(*SIZE)[..., None], 3, axis=2)))
        np.testing.assert_allclose(found.keypoints, features.keypoints, atol=0.01)

    def test_a_damaged_image_is_a_data_error(self, extractor: Extractor, tmp_path: Path) -> None:
        """The message names the file."""
        path = write_photo(tmp_path / "cut.jpg", textured(*SIZE))
        path.write_bytes(path.read_bytes()[:3000])
        with pytest.raises(DataError, match=r"cut\.jpg"):
            extractor.extract(Image.read(path))

    def test_the_dense_layer_starts_with_the_features(self, extractor: Extractor, features: Features) -> None:
        """It is optional. Its descriptors are those of the features, rounded to bytes."""
        found, dense = extract_dense(extractor, Image.from_array(textured(*SIZE)), 4 * self.max_keypoints)
        assert found.digest == features.digest
        assert dense.starts_with(features)
        assert len(np.unique(dense.keypoints, axis=0)) <= 1.5 * 4 * self.max_keypoints  # SIFT keeps whole levels
        assert len(np.unique(np.floor(dense.keypoints), axis=0)) == len(np.unique(dense.keypoints, axis=0))
        assert len(dense) <= 2 * 1.5 * 4 * self.max_keypoints  # a place may have two orientations
        assert (dense.image_size, dense.shrink_factor) == (SIZE, features.shrink_factor)
        assert (dense.scales is None) == (features.scales is None)
        if dense.scales is not None and features.scales is not None:
            np.testing.assert_array_equal(dense.scales[: len(features)], features.scales)
        descriptors = dense.unit_descriptors()
        np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-4)
        assert (descriptors[: len(features)] * features.descriptors).sum(axis=1).min() > 0.999

    @pytest.mark.parametrize("limit", [1, 256])
    def test_a_dense_layer_that_is_not_larger_has_the_features_alone(
        self, extractor: Extractor, features: Features, limit: int
    ) -> None:
        """The limit of the features counts."""
        found, dense = extract_dense(
            extractor, Image.from_array(textured(*SIZE)), min(limit, self.max_keypoints, len(features))
        )
        assert found.digest == features.digest
        assert len(dense) == dense.num_sparse == len(features)

    def test_masks_and_turns_apply_to_both_layers(self, extractor: Extractor) -> None:
        """Keypoints of the dense layer lie on allowed pixels of the stored image."""
        stored = np.ascontiguousarray(quarter_turned(textured(*SIZE), -1))
        allowed = np.zeros(stored.shape, np.bool_)
        allowed[:, :70] = True
        image = replace(Image.from_array(stored, quarter_turns=1), mask=Mask(allowed), mask_digest="of the mask")
        features, dense = extract_dense(extractor, image, 4 * self.max_keypoints)
        assert features.digest == extractor.extract(image).digest
        assert dense.starts_with(features)
        assert (dense.keypoints[:, 0] <= 70).all()
        assert dense.image_size == image.size

    def test_its_identity_can_be_part_of_a_key(self, extractor: Extractor) -> None:
        """So the store never returns features of another configuration."""
        assert len(make_key(extractor.identity)) == 64
        assert extractor.identity.name
        assert json.dumps(extractor.identity.weights)


def extract_dense(extractor: Extractor, image: Image, max_keypoints: int) -> tuple[Features, DenseFeatures]:
    """Both layers of an image; skips the test of an extractor without a dense layer."""
    method = getattr(extractor, "extract_dense", None)
    if method is None:
        pytest.skip("the extractor has no dense layer")
    found: tuple[Features, DenseFeatures] = method(image, max_keypoints)
    return found
