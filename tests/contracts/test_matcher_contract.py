"""What every matcher of the registry keeps, whoever wrote it."""

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images import Image
from sfm_lightglue.parallel import ordered_map
from sfm_lightglue.registry import MATCHERS
from sfm_lightglue.store import make_key
from sfm_lightglue.types import Features
from tests.contracts.components import build
from tests.photos import textured

SHIFT_PX = (24, 12)


def view(seed=0, shift=(0, 0)):
    """A window on a texture, of which another one sees a shifted part."""
    pixels = textured(320, 240, seed)[shift[1] : 180 + shift[1], shift[0] : 240 + shift[0]]
    return SiftExtractor(SiftConfig(max_keypoints=200)).extract(Image.from_array(np.ascontiguousarray(pixels)))


@pytest.fixture(scope="module", params=MATCHERS.names)
def matcher(request):
    built = build(MATCHERS, request.param)
    try:
        built.match(view(), view())
    except ConfigError as error:
        if "dimensions" not in str(error):
            raise
        pytest.skip(f"{request.param} does not match SIFT features: {error}")
    return built


@pytest.fixture(scope="module")
def pair():
    return view(), view(shift=SHIFT_PX)


@pytest.fixture(scope="module")
def matches(matcher, pair):
    return matcher.match(*pair)


def some(features, n):
    """The first n features alone."""
    return Features(
        features.keypoints[:n],
        features.scores[:n],
        features.descriptors[:n],
        features.image_size,
        features.scales[:n],
        features.orientations[:n],
    )


def test_what_moved_is_found_where_it_went(pair, matches):
    assert len(matches) > 40
    moved = pair[0].keypoints[matches.indices[:, 0]] - pair[1].keypoints[matches.indices[:, 1]]
    assert (np.linalg.norm(moved - SHIFT_PX, axis=1) < 2).mean() > 0.9


def test_matches_are_rows_of_both_in_the_order_of_the_first(pair, matches):
    for side in (0, 1):
        assert matches.indices[:, side].min() >= 0
        assert matches.indices[:, side].max() < len(pair[side])
    assert (np.diff(matches.indices[:, 0]) > 0).all()
    assert (matches.scores >= 0).all()
    assert (matches.scores <= 1).all()
    assert matches.stop_layer >= 0


def test_swapped_images_are_swapped_matches(matcher, pair, matches):
    swapped = matcher.match(*pair[::-1]).swapped()
    np.testing.assert_array_equal(swapped.indices, matches.indices)
    np.testing.assert_allclose(swapped.scores, matches.scores, atol=1e-4)


@pytest.mark.parametrize("sizes", [(0, 0), (0, 50), (50, 0)])
def test_of_nothing_nothing_is_matched(matcher, pair, sizes):
    matches = matcher.match(*(some(features, n) for features, n in zip(pair, sizes, strict=True)))
    assert matches.indices.shape == (0, 2)
    assert matches.scores.shape == (0,)


@pytest.mark.parametrize("sizes", [(1, 1), (1, 50), (50, 1), (2, 3)])
def test_few_features_do_no_harm(matcher, pair, sizes):
    matches = matcher.match(*(some(features, n) for features, n in zip(pair, sizes, strict=True)))
    assert len(matches) <= min(sizes)


def test_a_batch_is_its_pairs(matcher, pair):
    """In this order, whatever their sizes, an empty one among them."""
    first, second = pair
    pairs = [(first, second), (some(first, 20), second), (some(first, 0), second), (second, some(first, 90))]
    together = matcher.match_batch(pairs)
    assert len(together) == len(pairs)
    for batched, alone in zip(together, (matcher.match(*one) for one in pairs), strict=True):
        np.testing.assert_array_equal(batched.indices, alone.indices)
        np.testing.assert_allclose(batched.scores, alone.scores, atol=1e-4)
        assert batched.stop_layer == alone.stop_layer
    assert matcher.batch_size >= 1


def test_the_same_pair_gives_the_same_matches_on_any_thread(matcher, pair, matches):
    found = list(ordered_map(lambda pair: matcher.match(*pair), [pair, pair[::-1]] * 3, 3))
    assert {one.digest for one in found[::2]} == {matches.digest}
    assert len({one.digest for one in found[1::2]}) == 1


def test_descriptors_of_another_kind_are_refused(matcher, pair):
    first, second = pair
    other = Features(
        second.keypoints, second.scores, np.ascontiguousarray(second.descriptors[:, :77]), second.image_size
    )
    with pytest.raises(ConfigError, match="dimensions"):
        matcher.match(first, other)


def test_its_identity_can_be_part_of_a_key(matcher):
    assert len(make_key(matcher.identity)) == 64
    assert matcher.identity.name
