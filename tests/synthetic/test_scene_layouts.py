"""Layouts of scenes: what they consist of, on which device, and that a seed decides all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sfm_lightglue.synthetic.photo_scenes.curved import Relief
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import SCENE_LAYOUTS, SceneLayout
from sfm_lightglue.synthetic.photo_scenes.textures import Photos
from tests.helpers.textured_photos import write_photos

NUM_SURFACES = {
    "street": (5, 45),
    "room": (10, 254),
    "table": (6, 70),
    "layers": (3, 6),
    "hills": (2, 32),
    "wall": (2, 28),
}
"""Smallest and largest number of surfaces."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def library(folder) -> PhotoLibrary:
    return PhotoLibrary.open(folder)


def built(library: PhotoLibrary, name: str, seed: int) -> SceneLayout:
    rng = np.random.default_rng(seed)
    (build,) = (layout for layout in SCENE_LAYOUTS if layout.__name__ == name)
    return build(Photos(library, library.names[:6], rng), rng)


def tensors(layout: SceneLayout) -> list[torch.Tensor]:
    found = [level for surface in layout.surfaces for level in surface.texture.levels]
    found += [surface.texture.alpha for surface in layout.surfaces if surface.texture.alpha is not None]
    return found + [surface.heights_m for surface in layout.surfaces if isinstance(surface, Relief)]


@pytest.mark.parametrize("name", NUM_SURFACES)
def test_layouts_have_surfaces_with_textures(library, name):
    fewest, most = NUM_SURFACES[name]
    for seed in range(4):
        layout = built(library, name, seed)
        assert fewest <= len(layout.surfaces) <= most
        assert all(tensor.is_contiguous() for tensor in tensors(layout))
        assert all(surface.texture.levels[0].dtype == torch.uint8 for surface in layout.surfaces)
        for alpha, pixels in ((s.texture.alpha, s.texture.levels[0]) for s in layout.surfaces):
            assert alpha is None or (alpha.dtype == torch.uint8 and alpha.shape == pixels.shape[:2])
        assert np.isfinite(layout.target).all() and layout.distance_m > 0


@pytest.mark.parametrize("name", NUM_SURFACES)
def test_the_same_seed_gives_the_same_layout(library, name):
    first, second, other = (built(library, name, seed) for seed in (5, 5, 6))
    assert all(map(torch.equal, tensors(first), tensors(second)))
    for surface, again in zip(first.surfaces, second.surfaces, strict=True):
        assert np.array_equal(surface.world_from_local.t, again.world_from_local.t)
        assert np.array_equal(surface.world_from_local.R, again.world_from_local.R)
    assert not all(map(torch.equal, tensors(first), tensors(other)))


def test_cameras_stay_above_the_hills(library):
    for seed in range(8):
        layout = built(library, "hills", seed)
        (relief,) = (surface for surface in layout.surfaces if isinstance(surface, Relief))
        heights = relief.heights_m
        assert heights.dtype == torch.float32
        assert heights.shape == (192, 192)
        assert heights.min() >= 0
        assert 0.2 < heights.max() < 2.3
        assert layout.low[2] == -np.inf or layout.low[2] == pytest.approx(float(heights.max()) + 0.5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", NUM_SURFACES)
def test_layouts_are_on_the_device_of_the_photographs(folder, name):
    assert all(tensor.is_cuda for tensor in tensors(built(PhotoLibrary.open(folder, "cuda"), name, 0)))
