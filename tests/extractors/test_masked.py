"""No keypoint lies on a black pixel of a mask, and the limit of keypoints is spent on the other pixels."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image as PilImage

from sfm_lightglue.extractors.base import Detection, UprightExtractor
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.mask import Mask
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.store.store import Store
from tests.helpers.photos import textured, write_photo

PIXELS = textured(480, 360)
RIGHT = np.repeat(np.arange(480)[None] >= 360, 360, axis=0)
"""A quarter of the image, at its right."""


def masked(allowed, turns=0):
    return replace(Image.from_array(PIXELS, quarter_turns=turns), mask=Mask(allowed), mask_digest="of the mask")


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("max_size", [480, 300])
def test_keypoints_of_sift_lie_on_allowed_pixels(turns, max_size):
    extractor = SiftExtractor(SiftConfig(max_keypoints=200, max_image_size=max_size))
    image = masked(RIGHT, turns)
    found = extractor.extract(image)
    assert len(found) >= 195  # as many as without a mask: what the mask leaves has enough; few lie on its edge
    columns = np.floor(found.keypoints[:, 0]).astype(int)
    assert RIGHT[0, np.clip(columns, 0, 479)].all()
    assert found.descriptors.shape == (len(found), 128)
    assert len(found.scales) == len(found.orientations) == len(found.scores) == len(found)


def test_a_white_mask_changes_nothing():
    extractor = SiftExtractor(SiftConfig(max_keypoints=150))
    plain, white = extractor.extract(Image.from_array(PIXELS)), extractor.extract(masked(np.ones_like(RIGHT)))
    np.testing.assert_array_equal(plain.keypoints, white.keypoints)
    np.testing.assert_array_equal(plain.descriptors, white.descriptors)


def test_a_black_mask_leaves_nothing():
    assert len(SiftExtractor().extract(masked(np.zeros_like(RIGHT)))) == 0


class Corners(UprightExtractor):
    """Finds a grid of points, and knows nothing of masks."""

    max_image_size = 240
    identity = Identity("corners", 1, None)  # type: ignore[assignment]

    def detect(self, pixels):
        keypoints = np.mgrid[:240:10, :180:10].reshape(2, -1).T.astype(np.float32) + 0.5
        ones = np.ones(len(keypoints), np.float32)
        return Detection(keypoints, ones, np.tile(ones[:, None], 4))


class OfAPlugin:
    """An extractor that is not made of a detector."""

    identity = Corners.identity

    def extract(self, image):
        return Corners().extract(replace(image, mask=None))


@pytest.mark.parametrize("extractor", [Corners(), OfAPlugin()])
def test_masks_hold_for_extractors_that_do_not_know_them(tmp_path, extractor):
    cached = CachedExtractor(extractor, Store(tmp_path))
    everything = cached.extract(Image.from_array(PIXELS))
    assert len(everything) == 24 * 18
    found = cached.extract(masked(RIGHT))
    assert found.keypoints[:, 0].min() >= 360
    assert len(found) == 6 * 18
    assert found.key != everything.key
    again = cached.extract(masked(RIGHT))
    np.testing.assert_array_equal(found.keypoints, again.keypoints)
    assert cached.key("digest", 0) == CachedExtractor(OfAPlugin(), Store(tmp_path)).key("digest", 0)


def test_features_are_kept_under_the_mask_that_was_used(tmp_path):
    """A mask that is changed between the scan and the extraction."""
    write_photo(tmp_path / "a.png", PIXELS)
    (tmp_path / "masks").mkdir()
    PilImage.fromarray(RIGHT).save(tmp_path / "masks" / "a.png.png")
    scene = load_scene(tmp_path)
    extractor = CachedExtractor(SiftExtractor(SiftConfig(max_keypoints=50)), Store(tmp_path / "store"))
    of_old_mask = extractor.key(scene.images[0].content_digest, 0)
    PilImage.fromarray(~RIGHT).save(tmp_path / "masks" / "a.png.png")
    features = SceneFeatures(scene, extractor)
    features.extract()
    assert (features["a.png"].keypoints[:, 0] < 360).all()
    assert not extractor.has(of_old_mask)
    assert extractor.has(extractor.key(load_scene(tmp_path).images[0].content_digest, 0))
