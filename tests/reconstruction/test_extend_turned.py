"""A photo that is stored turned comes into a model, by a matcher for upright images."""

import numpy as np
import PIL.Image
import pytest

from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.reconstruction import extend_matching
from sfm_lightglue.reconstruction.extend import extend
from sfm_lightglue.two_view.still_matches import StillMap
from sfm_lightglue.types import Matches
from tests.helpers.reconstructions import one_thread, tree
from tests.helpers.sparse_maps import EXTRACTOR

CONFIG = one_thread(extractor=EXTRACTOR, density={"level": "sparse"}, refine={"mode": "off"})
ADDED = "view_04.jpg"
TURNS = 3
"""Clockwise quarter turns that make the stored photo upright."""


@pytest.fixture
def turned_photo(own_scene, small_scene_dir, monkeypatch):
    """The scene with a portrait that is stored turned; no match of it is found unless it is turned back."""
    with PIL.Image.open(small_scene_dir / "images" / ADDED) as image:
        pixels = np.rot90(np.asarray(image.convert("RGB")), -1)
    PIL.Image.fromarray(pixels).save(own_scene / "images" / ADDED, quality=97)
    original = NearestMatcher.match_batch

    def match_batch(self, pairs):
        is_upright = [
            all(one.image_size[0] > one.image_size[1] or one.quarter_turns == TURNS for one in pair) for pair in pairs
        ]
        found = original(self, pairs)
        return [matches if one else Matches.empty() for matches, one in zip(found, is_upright, strict=True)]

    monkeypatch.setattr(NearestMatcher, "match_batch", match_batch)
    return own_scene


def test_it_is_turned_registered_and_told(turned_photo, caplog):
    result = extend(turned_photo, config=CONFIG)
    assert result.summary.images[ADDED]["status"] == "registered"
    assert f"{ADDED}: matches other images only if it is turned by {90 * TURNS} degrees" in caplog.text
    found = read_database(turned_photo / "reconstruction" / "database.db")
    width, height = found.camera_from_name[ADDED].size
    assert width < height
    partners = {pair for pair in found.matches_from_pair if ADDED in (pair.name0, pair.name1)}
    assert sum(len(found.matches_from_pair[pair].indices) > 50 for pair in partners) >= 2


def test_another_photo_comes_in_after_it(turned_photo, small_scene_dir):
    extend(turned_photo, config=CONFIG)
    other = "view_05.jpg"
    (turned_photo / "images" / other).write_bytes((small_scene_dir / "images" / other).read_bytes())
    result = extend(turned_photo, config=CONFIG)
    assert result.summary.num_registered == 6
    before = tree(turned_photo)
    extend(turned_photo, config=CONFIG)
    assert tree(turned_photo) == before


def test_pairs_that_are_matched_again_count_once(turned_photo, monkeypatch):
    """What was found for the stored orientation is dropped."""
    added, weighed = [], []
    original_add, original_weigh = StillMap.add, extend_matching.weigh_scene

    def add(self, pair, *arguments):
        added.append((self, pair))
        original_add(self, pair, *arguments)

    def weigh_scene(counts, *arguments):
        weighed.append(counts)
        return original_weigh(counts, *arguments)

    monkeypatch.setattr(StillMap, "add", add)
    monkeypatch.setattr(extend_matching, "weigh_scene", weigh_scene)
    extend(turned_photo, config=CONFIG)
    (counts,) = weighed
    pairs = [pair for still, pair in added if still is counts.still]
    assert sum(ADDED in (pair.name0, pair.name1) for pair in pairs) >= 2
    assert len(pairs) == len(set(pairs))
    assert set(counts.verified) <= set(pairs)
