"""Features of altered copies lie at the same places of the image as ordinary ones."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.extractors.altered import AlteredExtractor
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.alteration import Alteration
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.mask import Mask
from tests.conftest import PhotoPair

EXTRACTOR = SiftExtractor(SiftConfig(max_keypoints=400))


@pytest.mark.parametrize(
    "alteration", [Alteration(angle_deg=45), Alteration(angle_deg=300), Alteration(equalised=True)]
)
def test_many_keypoints_are_those_of_the_image(pair: PhotoPair, alteration: Alteration) -> None:
    image = Image.from_array(pair.pixels[0])
    altered = AlteredExtractor(EXTRACTOR, alteration)
    seen = altered.extract(image)
    stored = altered.in_stored_pixels(seen, image.size, 0)
    assert stored.image_size == image.size
    ordinary = EXTRACTOR.extract(image).keypoints
    distances = np.linalg.norm(stored.keypoints[:, None] - ordinary[None], axis=2).min(axis=1)
    assert (distances < 1.5).mean() > 0.4
    assert np.array_equal(stored.descriptors, seen.descriptors)


def test_a_smaller_copy_tells_how_much_smaller_it_is(pair: PhotoPair) -> None:
    image = Image.from_array(pair.pixels[0])
    altered = AlteredExtractor(EXTRACTOR, Alteration(scale=0.5))
    stored = altered.in_stored_pixels(altered.extract(image), image.size, 0)
    assert stored.shrink_factor == pytest.approx(2.0, rel=0.01)
    assert stored.keypoints.max() > 0.8 * max(image.size)


def test_no_keypoint_lies_at_the_made_up_edge_or_outside_of_the_mask(pair: PhotoPair) -> None:
    allowed = np.zeros(pair.pixels[0].shape[:2], np.bool_)
    allowed[:, : allowed.shape[1] // 2] = True
    mask = Mask(allowed)
    altered = AlteredExtractor(EXTRACTOR, Alteration(angle_deg=45))
    for image in (Image.from_array(pair.pixels[0]), Image("masked", pair.pixels[0], 0, mask, "digest")):
        stored = altered.in_stored_pixels(altered.extract(image), image.size, 0).keypoints
        assert (stored > 3).all()
        assert (stored < np.array(image.size) - 3).all()
        if image.mask is not None:
            assert stored[:, 0].max() <= image.size[0] // 2 + 1


def test_each_alteration_has_an_identity_of_its_own() -> None:
    ways = [Alteration(), Alteration(0.5), Alteration(angle_deg=45), Alteration(equalised=True)]
    found = {repr(AlteredExtractor(EXTRACTOR, way).identity) for way in ways}
    assert len(found | {repr(EXTRACTOR.identity)}) == 5
