"""Decorators that keep the results of components in the store; they have the type of what they wrap."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence

import numpy as np

from sfm_lightglue.extractors.base import DENSE_VERSION, Extractor
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.store.encoding import (
    arrays_from_dense,
    arrays_from_features,
    arrays_from_geometry,
    arrays_from_matches,
    dense_from_arrays,
    features_from_arrays,
    geometry_from_arrays,
    matches_from_arrays,
)
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.verification import estimate_two_view_geometry, verification_identity
from sfm_lightglue.types import Camera, DenseFeatures, Features, ImagePair, Matches, Rejected, TwoViewGeometry


class CachedExtractor:
    """An `Extractor` that computes each image once.

    Args:
        extractor: computes what the store does not hold.
        store: keeps the results.
    """

    def __init__(self, extractor: Extractor, store: Store) -> None:
        self.extractor = extractor
        self.store = store

    @property
    def identity(self) -> Identity:
        """That of the wrapped extractor."""
        return self.extractor.identity

    def key(self, digest: str, quarter_turns: int) -> str:
        """Key of the features of an image.

        Args:
            digest: of its file and of its mask, see `SceneImage.content_digest`.
            quarter_turns: clockwise turns that make it upright.
        """
        return make_key("features", self.identity, digest, quarter_turns)

    def has(self, key: str) -> bool:
        """Whether the store has an entry of this key. It is not counted."""
        return self.store.has("features", key)

    def read(self, key: str) -> Features | None:
        """Features of a key; None if the store has no undamaged entry. It is not counted."""
        return self.store.read_as("features", key, lambda arrays: features_from_arrays(arrays, key))

    def extract(self, image: Image) -> Features:
        """Features of an image, from the store if it has them."""
        features = self.read(self.key(image.content_digest, image.quarter_turns))
        if features is None:
            return self.compute(image)
        self.store.count("features", hit=True)
        return features

    def compute(self, image: Image) -> Features:
        """Features of an image, computed and saved whatever the store has; counted as a miss if it succeeds."""
        return self._save(image, _within_mask(self.extractor.extract(image), image))

    def dense_key(self, digest: str, quarter_turns: int, max_keypoints: int) -> str:
        """Key of the dense features of an image; the arguments are as in `key` and `compute_dense`."""
        return make_key("dense_features", DENSE_VERSION, max_keypoints, self.key(digest, quarter_turns))

    def has_dense(self, key: str) -> bool:
        """Whether the store has an entry of dense features of this key. It is not counted."""
        return self.store.has("dense_features", key)

    def read_dense(self, key: str) -> DenseFeatures | None:
        """Dense features of a key; None if the store has no undamaged entry. It is not counted."""
        return self.store.read_as("dense_features", key, lambda arrays: dense_from_arrays(arrays, key))

    def compute_dense(self, image: Image, max_keypoints: int) -> tuple[Features, DenseFeatures]:
        """Both layers of an image in one pass.

        The dense layer is computed and saved whatever the store has. The sparse one is that of the store, and is
        saved only if the store lacks it: the dense layer starts with its rows, also if another device found them.

        Args:
            image: to decode.
            max_keypoints: largest number of keypoints of the dense layer. An extractor that has none gives its
                features alone.
        """
        digest, turns = image.content_digest, image.quarter_turns
        features, dense = self._both_layers(image, max_keypoints)
        dense = dataclasses.replace(dense, key=self.dense_key(digest, turns, max_keypoints))
        self.store.count("dense_features", hit=False)
        self.store.save("dense_features", dense.key, arrays_from_dense(dense))
        return features, dense

    def extract_dense(self, image: Image, max_keypoints: int) -> tuple[Features, DenseFeatures]:
        """Both layers of an image, from the store if it has them; see `compute_dense`."""
        digest, turns = image.content_digest, image.quarter_turns
        features = self.read(self.key(digest, turns))
        dense = None if features is None else self.read_dense(self.dense_key(digest, turns, max_keypoints))
        if features is None or dense is None or not dense.starts_with(features):
            return self.compute_dense(image, max_keypoints)
        for kind in ("features", "dense_features"):
            self.store.count(kind, hit=True)
        return features, dense

    def _both_layers(self, image: Image, max_keypoints: int) -> tuple[Features, DenseFeatures]:
        stored = self.read(self.key(image.content_digest, image.quarter_turns))
        if stored is not None:
            self.store.count("features", hit=True)
        extract_dense = getattr(self.extractor, "extract_dense", None)
        if extract_dense is None:
            features = self.compute(image) if stored is None else stored
            return features, DenseFeatures.from_features(features)
        found: tuple[Features, DenseFeatures] = extract_dense(image, max_keypoints)
        features = self._save(image, _within_mask(found[0], image)) if stored is None else stored
        dense = _dense_within_mask(found[1], image)
        return features, dense if dense.starts_with(features) else _joined(features, dense)

    def _save(self, image: Image, features: Features) -> Features:
        features = dataclasses.replace(features, key=self.key(image.content_digest, image.quarter_turns))
        self.store.count("features", hit=False)
        self.store.save("features", features.key, arrays_from_features(features))
        return features


def _within_mask(features: Features, image: Image) -> Features:
    """The features at allowed pixels: extractors of plug-ins need not know masks."""
    if image.mask is None:
        return features
    return features.rows(image.mask.allows(features.keypoints, image.size))


def _dense_within_mask(dense: DenseFeatures, image: Image) -> DenseFeatures:
    if image.mask is None:
        return dense
    allowed = image.mask.allows(dense.keypoints, image.size)
    return dataclasses.replace(dense.rows(allowed), num_sparse=int(allowed[: dense.num_sparse].sum()))


def _joined(features: Features, dense: DenseFeatures) -> DenseFeatures:
    """The rows of the features, then the additional ones of the dense layer at other pixels."""
    taken = {tuple(pixel) for pixel in np.floor(features.keypoints).tolist()}
    pixels = np.floor(dense.keypoints).tolist()
    rows = [row for row in range(dense.num_sparse, len(dense)) if tuple(pixels[row]) not in taken]
    others = dense.rows(np.array(rows, np.int64))
    have_scales = features.scales is not None and others.scales is not None
    joined = Features(
        np.concatenate([features.keypoints, others.keypoints]),
        np.zeros(len(features) + len(others), np.float32),
        np.concatenate([features.descriptors, others.unit_descriptors()]),
        features.image_size,
        np.concatenate([features.scales, others.scales]) if have_scales else None,
        shrink_factor=dense.shrink_factor,
    )
    return DenseFeatures.from_features(joined, len(features))


class CachedMatcher:
    """A `Matcher` that computes each pair once.

    Args:
        matcher: computes what the store does not hold.
        store: keeps the results.
    """

    def __init__(self, matcher: Matcher, store: Store) -> None:
        self.matcher = matcher
        self.store = store

    @property
    def identity(self) -> Identity:
        """That of the wrapped matcher."""
        return self.matcher.identity

    @property
    def batch_size(self) -> int:
        """That of the wrapped matcher."""
        return self.matcher.batch_size

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches of two images, from the store if it has them."""
        return self.match_batch([(features0, features1)])[0]

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs; only those that the store does not hold are computed."""
        keys = [make_key("matches", self.identity, f0.digest, f1.digest) for f0, f1 in pairs]
        found = [self._load(key, pair) for key, pair in zip(keys, pairs, strict=True)]
        missing = [i for i, matches in enumerate(found) if matches is None]
        computed = (
            dict(zip(missing, self.matcher.match_batch([pairs[i] for i in missing]), strict=True)) if missing else {}
        )
        result = []
        for i, (key, matches) in enumerate(zip(keys, found, strict=True)):
            if matches is None:
                matches = dataclasses.replace(computed[i], key=key)
                self.store.save("matches", key, arrays_from_matches(matches))
            result.append(matches)
        return result

    def _load(self, key: str, pair: tuple[Features, Features]) -> Matches | None:
        return self.store.load_as("matches", key, lambda arrays: matches_from_arrays(arrays, key, pair))


class CachedVerifier:
    """Two-view geometry of each pair, computed once.

    Args:
        config: thresholds.
        seed: of the run; the seed of each pair is derived from it and the two names.
        store: keeps the results.
    """

    def __init__(self, config: TwoViewConfig, seed: int, store: Store) -> None:
        self.config = config
        self.seed = seed
        self.store = store

    def verify(
        self,
        pair: ImagePair,
        features: tuple[Features, Features],
        matches: Matches,
        cameras: tuple[Camera, Camera],
    ) -> TwoViewGeometry | Rejected:
        """The geometry of a pair, from the store if it has it."""
        seed = pair_seed(self.seed, pair)
        upstream = (matches.digest, [one.digest for one in features], cameras)
        key = make_key("two_view", *verification_identity(self.config), seed, *upstream)
        stored = self.store.load_as("two_view", key, lambda arrays: geometry_from_arrays(arrays, len(matches)))
        if stored is not None:
            return stored
        geometry = estimate_two_view_geometry(*features, matches, *cameras, self.config, seed)
        self.store.save("two_view", key, arrays_from_geometry(geometry))
        return geometry


def pair_seed(seed: int, pair: ImagePair) -> int:
    """A seed of 31 bits for one pair, independent of the order of the pairs and of the number of workers."""
    text = json.dumps([seed, pair.name0, pair.name1])
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) & 0x7FFFFFFF
