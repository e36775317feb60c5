"""Memory that SIFT uses again: what an earlier image left there changes nothing, and no result stays in it."""

from dataclasses import fields

import numpy as np
import pytest

from sfm_lightglue.execution.blocks import blocks_kept
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from tests.helpers.photos import textured
from tests.helpers.poisoned_blocks import num_different, poison_blocks

SIZES = ((320, 240), (161, 123), (320, 240))
EXTRACTOR = SiftExtractor(SiftConfig(max_keypoints=200))


@pytest.fixture(scope="module")
def images():
    return [Image.from_array(textured(*size, seed=number)) for number, size in enumerate(SIZES)]


def arrays_of(image):
    """All arrays of the features alone, and of both layers."""
    layers = EXTRACTOR.extract(image), *EXTRACTOR.extract_dense(image, 800)
    values = [getattr(layer, one.name) for layer in layers for one in fields(layer)]
    return [value for value in values if isinstance(value, np.ndarray)]


@pytest.fixture
def expected(images, each_implementation):
    found = [arrays_of(image) for image in images]
    assert all(len(arrays) == 13 and len(arrays[0]) > 50 for arrays in found)
    return found


@pytest.mark.parametrize("num_threads", [1, 2])
def test_features_are_those_of_fresh_memory_and_share_none_with_it(images, expected, num_threads, monkeypatch):
    blocks = poison_blocks(monkeypatch)
    with blocks_kept():
        found = list(ordered_map(arrays_of, images, num_threads))
    assert len(blocks) == 2 * len(images)
    assert num_different(blocks) <= 2 * num_threads - 1  # a small block may be replaced by a large one
    for arrays, others in zip(found, expected, strict=True):
        assert [array.tobytes() for array in arrays] == [array.tobytes() for array in others]
        assert not any(np.may_share_memory(array, block) for array in arrays for block in blocks)
