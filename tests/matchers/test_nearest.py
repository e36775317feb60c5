"""Nearest neighbours, against a simple, slow reference."""

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.matchers import nearest
from sfm_lightglue.matchers.nearest import NearestConfig, NearestMatcher
from sfm_lightglue.types import Features


def make_features(descriptors):
    descriptors = np.asarray(descriptors, np.float32)
    n = len(descriptors)
    return Features(np.zeros((n, 2), np.float32), np.ones(n, np.float32), descriptors, (10, 10))


def random_features(seed, n=60, d=16, shared=30):
    """Half of the descriptors are noisy copies of common ones, in a different order for each seed."""
    common = np.random.default_rng(1234).normal(size=(shared, d))
    generator = np.random.default_rng(seed)
    copies = common + generator.normal(scale=0.15, size=common.shape)
    descriptors = np.concatenate([copies, generator.normal(size=(n - shared, d))])
    return make_features(generator.permutation(descriptors) * generator.uniform(0.5, 2, (n, 1)))


def reference(features0, features1, config):
    """The definition, one descriptor at a time: {idx0: (idx1, distance)}."""

    def unit(features):
        descriptors = features.descriptors.astype(np.float64)
        return descriptors / np.linalg.norm(descriptors, axis=1, keepdims=True)

    def choose(query, targets):
        distances = np.linalg.norm(targets - query, axis=1)
        best, *others = np.argsort(distances, kind="stable")
        passes = not others or config.ratio == 1 or distances[best] < config.ratio * distances[others[0]]
        return best, distances[best], passes

    unit0, unit1 = unit(features0), unit(features1)
    found = {}
    for idx0, query in enumerate(unit0):
        idx1, distance, passes = choose(query, unit1)
        if not passes or distance > config.max_distance:
            continue
        if config.mutual:
            back, _, passes = choose(unit1[idx1], unit0)
            if back != idx0 or not passes:
                continue
        found[idx0] = (int(idx1), distance)
    if not config.mutual:  # the closest of several with the same neighbour
        for idx0, (idx1, distance) in list(found.items()):
            if any(other == idx1 and d < distance for other, d in found.values()):
                del found[idx0]
    return found


@pytest.mark.parametrize("ratio", [0.7, 0.9, 1.0])
@pytest.mark.parametrize("mutual", [True, False])
@pytest.mark.parametrize("max_distance", [0.5, 2.0])
@pytest.mark.parametrize("sizes", [(60, 60), (60, 37), (31, 60)])
def test_matches_are_those_of_the_definition(ratio, mutual, max_distance, sizes):
    config = NearestConfig(ratio, mutual, max_distance)
    features0, features1 = random_features(0, sizes[0]), random_features(1, sizes[1])
    matches = NearestMatcher(config).match(features0, features1)
    expected = reference(features0, features1, config)
    assert len(expected) > 10
    assert {int(i): int(j) for i, j in matches.indices} == {i: j for i, (j, _) in expected.items()}
    distances = np.array([expected[int(i)][1] for i, _ in matches.indices])
    np.testing.assert_allclose(matches.scores, 1 - distances / 2, atol=1e-3)
    assert (np.diff(matches.indices[:, 0]) > 0).all()


def test_blocks_change_nothing(monkeypatch):
    whole = NearestMatcher().match(random_features(0), random_features(1))
    monkeypatch.setattr(nearest, "_ROWS_AT_A_TIME", 7)
    blocks = NearestMatcher().match(random_features(0), random_features(1))
    np.testing.assert_array_equal(blocks.indices, whole.indices)
    np.testing.assert_allclose(blocks.scores, whole.scores, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.8, 1.0])
def test_swapped_images_are_swapped_matches(ratio):
    matcher = NearestMatcher(NearestConfig(ratio))
    features0, features1 = random_features(0), random_features(1, 45)
    one, other = matcher.match(features0, features1), matcher.match(features1, features0).swapped()
    assert len(one) > 10
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_an_image_matches_itself():
    features = random_features(0)
    matches = NearestMatcher().match(features, features)
    np.testing.assert_array_equal(matches.indices, np.arange(60)[:, None].repeat(2, axis=1))
    np.testing.assert_array_equal(matches.scores, 1)


def test_duplicates_fail_the_ratio_test():
    """Two equal descriptors in one image: the match is ambiguous."""
    a, b, c = np.eye(3)
    features0, features1 = make_features([a, b]), make_features([a, a, b])
    for one, other in ((features0, features1), (features1, features0)):
        assert len(NearestMatcher().match(one, other)) == 1
    assert len(NearestMatcher(NearestConfig(ratio=1.0)).match(features0, features1)) == 2
    assert len(NearestMatcher().match(make_features([c]), make_features([a]))) == 0  # √2 apart


def test_empty_and_single():
    empty, one, many = make_features(np.zeros((0, 16))), random_features(0, 1, shared=1), random_features(1)
    for matcher in (NearestMatcher(), NearestMatcher(NearestConfig(mutual=False))):
        for pair in ((empty, many), (many, empty), (empty, empty)):
            matches = matcher.match(*pair)
            assert matches.indices.shape == (0, 2)
        # A single descriptor has no second nearest neighbour, so the ratio test does not apply.
        assert matcher.match(one, one).indices.tolist() == [[0, 0]]
        assert len(matcher.match(one, many)) <= 1
        assert len(matcher.match(many, one)) <= 1


def test_zero_descriptors_give_no_matches():
    zeros = make_features(np.zeros((5, 16)))
    assert len(NearestMatcher().match(zeros, random_features(0))) == 0
    assert len(NearestMatcher().match(random_features(0), zeros)) == 0


def test_other_descriptors_cannot_be_compared():
    with pytest.raises(ConfigError, match="16 and of 8 dimensions"):
        NearestMatcher().match(random_features(0), random_features(1, d=8))


def test_a_batch_equals_its_pairs():
    pairs = [(random_features(i), random_features(i + 1)) for i in range(3)]
    matcher = NearestMatcher()
    for batched, pair in zip(matcher.match_batch(pairs), pairs, strict=True):
        assert batched.digest == matcher.match(*pair).digest
    assert matcher.match_batch([]) == []


@pytest.mark.parametrize("options", [{"ratio": 0}, {"ratio": 1.1}, {"max_distance": 0}, {"max_distance": 3}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        NearestConfig(**options)
