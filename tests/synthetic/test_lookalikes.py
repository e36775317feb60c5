"""Scenes with look-alikes: twins have the same texture, true overlaps are known, and names hide the order."""

from __future__ import annotations

import numpy as np
import pytest

from sfm_lightglue.synthetic.lookalikes import (
    KINDS,
    LookalikeScene,
    connected_groups,
    overlap_matrix,
    render_lookalikes,
)
from sfm_lightglue.synthetic.lookalikes.layout import Layout, Request

SIZE = (96, 72)
MAX_IMAGES = 25


def layout_of(kind: str, seed: int = 0, difference=False, dense=True, revisit=False) -> Layout:
    return KINDS[kind].build(Request(6.0, np.random.default_rng(seed), difference, dense, revisit))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_has_few_images_and_more_of_them_if_dense(kind):
    numbers = {
        (dense, revisit): len(layout_of(kind, dense=dense, revisit=revisit).poses)
        for dense in (False, True)
        for revisit in (False, True)
    }
    assert max(numbers.values()) <= MAX_IMAGES
    assert numbers[False, False] < numbers[True, False]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_difference_adds_things_and_moves_nothing_else(kind):
    equal, different = layout_of(kind), layout_of(kind, difference=True)
    assert len(different.solids) > len(equal.solids)


def test_the_four_sides_of_the_house_have_the_same_bytes():
    painters = layout_of("house").solids[0].painters
    sides = [painters[patch]((8.0, 5.0), np.random.default_rng(patch)) for patch in range(4)]
    assert all(np.array_equal(side, sides[0]) for side in sides)
    assert sides[0].std() > 10


def test_images_of_opposite_sides_of_the_house_show_no_common_surface_of_it():
    scene = render_lookalikes(LookalikeScene("house", "house", False, False, True, seed=3), SIZE)
    overlaps = overlap_matrix(scene)
    num = len(scene.names)
    assert np.array_equal(np.diag(overlaps), np.ones(num))
    next_ones = [overlaps[idx, (idx + 1) % num] for idx in range(num)]
    opposite = [overlaps[idx, (idx + num // 2) % num] for idx in range(num)]
    assert min(next_ones) > 0.3
    assert max(opposite) < 0.15
    assert connected_groups(scene.names, overlaps) == [list(scene.names)]


def test_two_rooms_that_no_image_connects_are_two_groups():
    scene = render_lookalikes(LookalikeScene("rooms", "rooms", False, False, True, seed=3), SIZE)
    groups = connected_groups(scene.names, overlap_matrix(scene))
    assert groups == [list(scene.names[:8]), list(scene.names[8:])]


def test_random_names_hide_the_order_and_change_no_image():
    ordered = render_lookalikes(LookalikeScene("fence", "fence", True, False, True, seed=2), SIZE)
    shuffled = render_lookalikes(LookalikeScene("fence", "fence", True, False, False, seed=2), SIZE)
    walk = [pose.center[0] for pose in ordered.cam_from_world_from_name.values()]
    hidden = [pose.center[0] for pose in shuffled.cam_from_world_from_name.values()]
    assert hidden != walk
    assert sorted(hidden) == sorted(walk)
    assert ordered.names == shuffled.names


def test_the_same_scene_has_the_same_bytes_and_another_seed_others():
    scene = LookalikeScene("table", "table", True, False, False, seed=1)
    first, second = (render_lookalikes(scene, SIZE) for _ in range(2))
    assert all(np.array_equal(first.images[name], second.images[name]) for name in first.names)
    other = render_lookalikes(LookalikeScene("table", "table", True, False, False, seed=2), SIZE)
    assert not np.array_equal(first.images[first.names[0]], other.images[first.names[0]])


def test_an_unknown_kind_is_the_callers_mistake():
    with pytest.raises(ValueError, match="unknown kind 'castle'; known are cars, corridor"):
        render_lookalikes(LookalikeScene("x", "castle", False, False, True), SIZE)
