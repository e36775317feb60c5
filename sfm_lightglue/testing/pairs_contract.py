"""What every pair selector keeps, whoever wrote it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.pairs.base import PairSelector
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.testing.photos import textured, write_photo
from sfm_lightglue.types import Scene


class PairSelectorContract:
    """Tests of a `PairSelector`; a subclass says how it is built."""

    @classmethod
    def build(cls) -> PairSelector:
        """The pair selector."""
        raise NotImplementedError(f"{cls.__name__} must define `build`")

    @pytest.fixture
    def scene(self, tmp_path: Path) -> Scene:
        """Twelve photos, each of which sees much of the one before it."""
        wide = textured(64 + 12 * 16, 48)
        for index in range(12):
            pixels = np.ascontiguousarray(wide[:, 16 * index : 16 * index + 64])
            write_photo(tmp_path / f"photo {index}.png", pixels)
        return load_scene(tmp_path)

    def test_pairs_are_of_the_scene_sorted_and_without_repetition(self, scene: Scene) -> None:
        """And there are some."""
        pairs = self.build().select(scene)
        assert isinstance(pairs, tuple)
        assert len(pairs) > 0
        assert {name for pair in pairs for name in (pair.name0, pair.name1)} <= set(scene.names)
        assert list(pairs) == sorted(set(pairs))

    def test_the_same_scene_gives_the_same_pairs(self, scene: Scene) -> None:
        """Whoever asks, however often."""
        assert self.build().select(scene) == self.build().select(scene)

    @pytest.mark.parametrize("num_images", [0, 1])
    def test_where_there_are_no_two_photos_there_is_no_pair(self, scene: Scene, num_images: int) -> None:
        """And no error."""
        assert self.build().select(Scene(scene.root, scene.images[:num_images])) == ()
