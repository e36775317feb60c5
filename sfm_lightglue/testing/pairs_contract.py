"""Tests that every pair selector must pass."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.pairs.base import CountsPairs, PairContext, PairSelector, needs_features
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.store.store import Store
from sfm_lightglue.testing.photos import textured, write_photo
from sfm_lightglue.types import Scene


class PairSelectorContract:
    """Tests of a `PairSelector`. A subclass defines how it is built."""

    @classmethod
    def build(cls) -> PairSelector:
        """Build the pair selector."""
        raise NotImplementedError(f"{cls.__name__} must define `build`")

    def context(self, scene: Scene) -> PairContext:
        """What the selector is given; a selector without pairs where no features are known adds them."""
        return PairContext(scene)

    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        """Twelve images; each overlaps with the one before it."""
        wide = textured(64 + 12 * 16, 48)
        for index in range(12):
            pixels = np.ascontiguousarray(wide[:, 16 * index : 16 * index + 64])
            write_photo(tmp_path / f"photo {index}.png", pixels)
        return load_scene(tmp_path)

    def test_pairs_are_of_the_scene_sorted_and_without_repetition(self, scene: Scene) -> None:
        """There is at least one pair."""
        pairs = self.build().select(self.context(scene))
        assert isinstance(pairs, Sequence)
        assert len(pairs) > 0
        assert {name for pair in pairs for name in (pair.name0, pair.name1)} <= set(scene.names)
        assert list(pairs) == sorted(set(pairs))

    def test_a_number_that_is_told_before_the_extraction_is_an_upper_bound(self, scene: Scene) -> None:
        """For selectors with `num_pairs`, see `CountsPairs`."""
        selector = self.build()
        if isinstance(selector, CountsPairs):
            assert len(selector.select(self.context(scene))) <= selector.num_pairs(scene)

    def test_pairs_that_need_no_features_are_the_same_without_them(self, scene: Scene) -> None:
        """For selectors with `needs_features`, see `SelectsEarly`: a run selects their pairs before it extracts."""
        selector = self.build()
        if not needs_features(selector, scene):
            extractor = SiftExtractor(SiftConfig(max_keypoints=50))
            features = {image.name: extractor.extract(Image.read(image.path)) for image in scene.images}
            assert selector.select(PairContext(scene)) == selector.select(PairContext(scene, features))

    def test_a_good_scene_passes_the_check(self, scene: Scene) -> None:
        """`check` is called before the features are extracted, and raises nothing."""
        self.build().check(scene)

    def test_features_are_looked_up_by_name(self, scene: Scene) -> None:
        """The context of a real run has features and a store; they may be used or not."""
        extractor = SiftExtractor(SiftConfig(max_keypoints=50))
        features = {image.name: extractor.extract(Image.read(image.path)) for image in scene.images}
        with tempfile.TemporaryDirectory() as folder, Store(Path(folder)) as store:
            context = PairContext(scene, features, store)
            pairs = self.build().select(context)
        assert len(pairs) > 0
        assert list(pairs) == sorted(set(pairs))

    def test_the_same_scene_gives_the_same_pairs(self, scene: Scene) -> None:
        """Also for another instance of the selector."""
        assert self.build().select(self.context(scene)) == self.build().select(self.context(scene))

    @pytest.mark.parametrize("num_images", [0, 1])
    def test_fewer_than_two_images_give_no_pair(self, scene: Scene, num_images: int) -> None:
        """The result is empty, and not an error."""
        assert len(self.build().select(PairContext(Scene(scene.root, scene.images[:num_images])))) == 0
