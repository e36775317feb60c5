"""Decorators that keep the results of components in the store; they have the type of what they wrap."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from sfm_lightglue.extractors.base import DENSE_VERSION, Extractor
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.stages.keypoints import HasKeypoints
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
from sfm_lightglue.store.store import KeyPrefix, Store, canonical_json, make_key
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
        features = features_within_mask(self.extractor, image)
        return self.save(features, self.key(image.content_digest, image.quarter_turns))

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
            max_keypoints: about the number of places of the dense layer. An extractor that has none gives its
                features alone.
        """
        key = self.key(image.content_digest, image.quarter_turns)
        stored = self.read(key)
        if stored is not None:
            self.store.count("features", hit=True)
        features, dense = both_layers(self.extractor, image, max_keypoints, stored)
        if stored is None:
            features = self.save(features, key)
        dense_key = self.dense_key(image.content_digest, image.quarter_turns, max_keypoints)
        return features, self.save_dense(dense, dense_key)

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

    def save(self, features: Features, key: str) -> Features:
        """Save features that were computed, counted as a miss; returns them with their key."""
        features = dataclasses.replace(features, key=key)
        self.store.count("features", hit=False)
        self.store.save("features", key, arrays_from_features(features))
        return features

    def save_dense(self, dense: DenseFeatures, key: str) -> DenseFeatures:
        """Save dense features that were computed, counted as a miss; returns them with their key."""
        dense = dataclasses.replace(dense, key=key)
        self.store.count("dense_features", hit=False)
        self.store.save("dense_features", key, arrays_from_dense(dense))
        return dense


def features_within_mask(extractor: Extractor, image: Image) -> Features:
    """Features of an image at its allowed pixels."""
    return _within_mask(extractor.extract(image), image)


def both_layers(
    extractor: Extractor, image: Image, max_keypoints: int, stored: Features | None
) -> tuple[Features, DenseFeatures]:
    """Both layers of an image in one pass.

    Args:
        extractor: one that has no dense layer gives its features alone.
        image: to decode.
        max_keypoints: about the number of places of the dense layer.
        stored: features of the image that are known already, which the dense layer starts with; None if there are none.
    """
    extract_dense = getattr(extractor, "extract_dense", None)
    if extract_dense is None:
        features = features_within_mask(extractor, image) if stored is None else stored
        return features, DenseFeatures.from_features(features)
    found: tuple[Features, DenseFeatures] = extract_dense(image, max_keypoints)
    features = _within_mask(found[0], image) if stored is None else stored
    dense = _dense_within_mask(found[1], image)
    return features, dense if dense.starts_with(features) else _joined(features, dense)


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

    def prepare(self) -> None:
        """Load what the wrapped matcher would load at its first pair, see `PreparedMatcher`."""
        prepare = getattr(self.matcher, "prepare", None)
        if callable(prepare):
            prepare()

    def key(self, digest0: str, digest1: str) -> str:
        """Key of the matches of two images, from the digests of their features."""
        return self._key_prefix.key(canonical_json(digest0), canonical_json(digest1))

    @cached_property
    def _key_prefix(self) -> KeyPrefix:
        return KeyPrefix("matches", self.identity)

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches of two images, from the store if it has them."""
        return self.match_batch([(features0, features1)])[0]

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs; only those that the store does not hold are computed."""
        found = [self.load(*pair) for pair in pairs]
        missing = (pair for pair, matches in zip(pairs, found, strict=True) if matches is None)
        computed = iter(self.compute([*missing]))
        return [next(computed) if matches is None else matches for matches in found]

    def load(self, keypoints0: HasKeypoints, keypoints1: HasKeypoints) -> Matches | None:
        """Matches of two images that the store has; None, counted as a miss, if it has none."""
        key = self.key(keypoints0.digest, keypoints1.digest)
        both = keypoints0, keypoints1
        return self.store.load_as("matches", key, lambda arrays: matches_from_arrays(arrays, key, both))

    def read(self, keypoints0: HasKeypoints, keypoints1: HasKeypoints) -> Matches | None:
        """Matches of two images that the store has, None if it has none. It is not counted."""
        key, both = self.key(keypoints0.digest, keypoints1.digest), (keypoints0, keypoints1)
        return self.store.read_as("matches", key, lambda arrays: matches_from_arrays(arrays, key, both))

    def compute(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs, computed and saved whatever the store has."""
        found = self.matcher.match_batch(pairs) if pairs else []
        keys = [self.key(features0.digest, features1.digest) for features0, features1 in pairs]
        return [self.save(matches, key) for matches, key in zip(found, keys, strict=True)]

    def has(self, key: str) -> bool:
        """Whether the store has an entry of this key. It is not counted."""
        return self.store.has("matches", key)

    def save(self, matches: Matches, key: str) -> Matches:
        """Save matches that were computed; returns them with their key."""
        matches = dataclasses.replace(matches, key=key)
        self.store.save("matches", key, arrays_from_matches(matches))
        return matches


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
        self._text_from_camera: dict[int, tuple[Camera, str]] = {}

    def key(
        self, pair: ImagePair, digests: tuple[str, str], matches_digest: str, cameras: tuple[Camera, Camera]
    ) -> str:
        """Key of the geometry of a pair.

        Args:
            pair: of images.
            digests: of the features of both.
            matches_digest: of the matches.
            cameras: of both images.
        """
        text0, text1 = map(self._text_of, cameras)
        matches, digest0, digest1 = map(canonical_json, (matches_digest, *digests))
        seed = str(pair_seed(self.seed, pair))
        return self._key_prefix.key(seed, matches, f"[{digest0},{digest1}]", f"[{text0},{text1}]")

    @cached_property
    def _key_prefix(self) -> KeyPrefix:
        return KeyPrefix("two_view", *verification_identity(self.config))

    def _text_of(self, camera: Camera) -> str:
        """The text of a camera in keys. It is kept by the object: cameras that are equal can have unequal texts."""
        known = self._text_from_camera.get(id(camera))
        if known is None:
            known = self._text_from_camera[id(camera)] = (camera, canonical_json(camera))
        return known[1]

    def verify(
        self,
        pair: ImagePair,
        features: tuple[Features, Features],
        matches: Matches,
        cameras: tuple[Camera, Camera],
    ) -> TwoViewGeometry | Rejected:
        """The geometry of a pair, from the store if it has it."""
        stored = self.load(pair, features, matches, cameras)
        return self.compute(pair, features, matches, cameras) if stored is None else stored

    def load(
        self,
        pair: ImagePair,
        keypoints: tuple[HasKeypoints, HasKeypoints],
        matches: Matches,
        cameras: tuple[Camera, Camera],
    ) -> TwoViewGeometry | Rejected | None:
        """The geometry of a pair that the store has; None, counted as a miss, if it has none."""
        key = self.key(pair, (keypoints[0].digest, keypoints[1].digest), matches.digest, cameras)
        return self.store.load_as("two_view", key, lambda arrays: geometry_from_arrays(arrays, len(matches)))

    def compute(
        self,
        pair: ImagePair,
        features: tuple[Features, Features],
        matches: Matches,
        cameras: tuple[Camera, Camera],
    ) -> TwoViewGeometry | Rejected:
        """The geometry of a pair, computed and saved whatever the store has."""
        geometry = estimate_two_view_geometry(*features, matches, *cameras, self.config, pair_seed(self.seed, pair))
        self.save(geometry, self.key(pair, (features[0].digest, features[1].digest), matches.digest, cameras))
        return geometry

    def has(self, key: str) -> bool:
        """Whether the store has an entry of this key. It is not counted."""
        return self.store.has("two_view", key)

    def save(self, geometry: TwoViewGeometry | Rejected, key: str) -> None:
        """Save a geometry that was computed."""
        self.store.save("two_view", key, arrays_from_geometry(geometry))


def pair_seed(seed: int, pair: ImagePair) -> int:
    """A seed of 31 bits for one pair, independent of the order of the pairs and of the number of workers."""
    text = f"[{seed}, {json.dumps(pair.name0)}, {json.dumps(pair.name1)}]"
    return int(hashlib.sha256(text.encode()).hexdigest(), 16) & 0x7FFFFFFF
