"""The dense layer of extractors: its options, and that the sparse layer does not know of it."""

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.registry.builtin import EXTRACTORS
from sfm_lightglue.store.store import make_key
from tests.contracts.components import build
from tests.helpers.photos import textured

KEYS = {
    "aliked": "b0adb204977b41aeaac37e1a7243e2d1ab3c790c1f93b2593128f9da7c9533fa",
    "disk": "84a96a722bb4f79f08f835c24dc025802e4b8f0ae4432fec2b1235946a086364",
    "doghardnet": "e4eb26733bebcd264769461e125c7dec5f9a69a729269c0deabbf71ce0ec64db",
    "sift": "a047dc4b3eda3bc36564db57cf5104b4d895b40f4890918afb1f2374915b2a83",
    "superpoint": "f81c1bb9fe6112b2a6b5dc2de26d976fb5049a8eb5ff85588a0a9afeb20c4de1",
    "xfeat": "92ca9c79f138384950162d9788fbd59efbab1f7c7c3d2cbbd173f4c2c4fdd748",
}
"""Keys of features in stores without a dense layer; without weights, with OpenCV 5.0.0. A new one loses all entries."""


def key_of(extractor):
    identity = replace(extractor.identity, weights="")
    if identity.name.startswith("sift"):
        identity = replace(identity, name="sift-opencv-5.0.0")
    if identity.name == "doghardnet":
        identity = replace(identity, config=(*identity.config[:-2], "sift-opencv-5.0.0", identity.config[-1]))
    return make_key("features", identity, "digest", 1)


@pytest.mark.parametrize("name", EXTRACTORS.builtin_names)
def test_features_of_stores_without_a_dense_layer_are_found(name):
    """Stores of earlier versions, and those of runs with another number of dense keypoints."""
    extractor = build(EXTRACTORS, name)
    assert key_of(extractor) == KEYS[name]
    other = replace(extractor.config, max_keypoints_dense=0)
    assert type(extractor)(other).identity == extractor.identity


@pytest.mark.parametrize("name", EXTRACTORS.builtin_names)
def test_the_number_of_dense_keypoints_is_an_option_of_every_extractor(name):
    config = EXTRACTORS.choose(name, {}).config
    assert config.max_keypoints_dense == 8192
    assert EXTRACTORS.choose(name, {"max_keypoints_dense": 0}).config.max_keypoints_dense == 0
    with pytest.raises(ConfigError, match=r"`extractor\.max_keypoints_dense` must not be negative, got -1"):
        EXTRACTORS.choose(name, {"max_keypoints_dense": -1})


def test_the_dense_layer_of_sift_has_fainter_blobs_where_the_image_has_few():
    pixels = (128 + (textured(480, 360).astype(np.float64) - 128) / 8).astype(np.uint8)
    extractor = SiftExtractor(SiftConfig(max_keypoints=300))
    features, dense = extractor.extract_dense(Image.from_array(pixels), 8192)
    assert 0 < len(features) < 300
    assert len(dense) > 1.2 * len(features)


def places(dense):
    """Places (x, y, scale) of the keypoints; one with two orientations has two keypoints."""
    return {(*place, scale) for place, scale in zip(dense.keypoints.tolist(), dense.scales.tolist(), strict=True)}


def test_whole_levels_of_the_scale_space_stay_the_coarsest_first():
    extractor = SiftExtractor(SiftConfig(max_keypoints=100))
    image = Image.from_array(textured(480, 360))
    every, many, few = (extractor.extract_dense(image, limit)[1] for limit in (10**5, 600, 400))
    assert places(few) < places(many) < places(every)
    assert 600 < len(places(many)) < 1.5 * 600  # the level that reaches the limit is whole
    finest = many.scales[many.num_sparse :].min()
    assert {place for place in places(every) if place[2] > 1.3 * finest} <= places(many)
    assert len(places(few)) == 1.5 * 400  # it is too large
