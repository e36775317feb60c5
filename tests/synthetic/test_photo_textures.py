"""Textures of training scenes: drawing of photographs, and textures made of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from sfm_lightglue.synthetic.photo_scenes.textures import Photos, draw_photos, family
from tests.helpers.rendered_scenes import pattern

FACADES = [Path(f"facade_{number:04d}{part}.jpg") for number in range(100) for part in ("", "_c0", "_c1")]
PLANTS = [Path(f"plant{number}.jpg") for number in range(4)]


def test_rare_kinds_are_drawn_by_the_square_root_of_their_number():
    """100 facades with two crops each and 4 plants are drawn ten to two; crops do not count."""
    rng = np.random.default_rng(0)
    kinds = Counter(path.stem[0] for _ in range(6000) for path in draw_photos(FACADES + PLANTS, 1, rng))
    assert kinds["p"] / kinds["f"] == pytest.approx(2 / 10, rel=0.1)


def test_photographs_of_one_kind_are_drawn_equally():
    rng = np.random.default_rng(0)
    drawn = Counter(path for _ in range(4000) for path in draw_photos(PLANTS, 1, rng))
    assert set(drawn) == set(PLANTS)
    assert min(drawn.values()) > 900


def test_drawn_photographs_differ():
    rng = np.random.default_rng(0)
    drawn = draw_photos(FACADES + PLANTS, 6, rng)
    assert len(set(drawn)) == 6
    assert sorted(draw_photos(PLANTS, 6, rng)) == PLANTS


def test_names_without_letters_are_one_kind():
    paths = [Path(f"{number}.jpg") for number in range(5)]
    assert sorted(draw_photos(paths, 5, np.random.default_rng(0))) == paths


def test_bare_textures_have_little_contrast_but_some_grain(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), pattern(0))
    photos = Photos([path], np.random.default_rng(0))
    for _ in range(20):
        bare, plain = (texture.levels[0].astype(float) for texture in (photos.bare(2.0), photos.plain(2.0)))
        coarse = cv2.resize(bare, None, fx=1 / 16, fy=1 / 16, interpolation=cv2.INTER_AREA)
        assert coarse.std((0, 1)).max() < 0.5 * plain.std((0, 1)).max()
        assert np.abs(np.diff(bare, axis=0)).mean() > 0.3
        assert photos.bare(2.0).size_m[0] == 2.0


def test_families_of_crops_are_those_of_their_photographs():
    assert {family(path) for path in FACADES} == {f"facade_{number:04d}" for number in range(100)}
