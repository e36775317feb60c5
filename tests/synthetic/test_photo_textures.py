"""Textures of training scenes: drawing of photographs, and textures made of them, against the reference in OpenCV."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.synthetic.photo_scenes import resampling, textures
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.synthetic.photo_scenes.textures import (
    Photos,
    blob_mask,
    disc_mask,
    draw_photos,
    family,
    fence_mask,
    normal_field,
    smooth_noise,
)
from tests.helpers import texture_reference
from tests.helpers.texture_reference import ReferencePhotos
from tests.helpers.textured_photos import write_photos

FACADES = [f"facade_{number:04d}{part}.jpg" for number in range(100) for part in ("", "_c0", "_c1")]
PLANTS = [f"plant{number}.jpg" for number in range(4)]

OF_DEVICES = ("resized", "gaussian_blurred", "multiplied", "added", "blended", "grey")
"""Functions that have another implementation on a GPU."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def library(folder) -> PhotoLibrary:
    return PhotoLibrary.open(folder)


def photos_of(library: PhotoLibrary, seed: int) -> Photos:
    return Photos(library, library.names[:5], np.random.default_rng(seed))


def reference_of(library: PhotoLibrary, seed: int) -> ReferencePhotos:
    return ReferencePhotos([library.photo(name).numpy() for name in library.names[:5]], np.random.default_rng(seed))


def test_rare_kinds_are_drawn_by_the_square_root_of_their_number():
    """100 facades with two crops each and 4 plants are drawn ten to two; crops do not count."""
    rng = np.random.default_rng(0)
    kinds = Counter(name[0] for _ in range(6000) for name in draw_photos(FACADES + PLANTS, 1, rng))
    assert kinds["p"] / kinds["f"] == pytest.approx(2 / 10, rel=0.1)


def test_photographs_of_one_kind_are_drawn_equally():
    rng = np.random.default_rng(0)
    drawn = Counter(name for _ in range(4000) for name in draw_photos(PLANTS, 1, rng))
    assert set(drawn) == set(PLANTS)
    assert min(drawn.values()) > 900


def test_drawn_photographs_differ():
    rng = np.random.default_rng(0)
    drawn = draw_photos(FACADES + PLANTS, 6, rng)
    assert len(set(drawn)) == 6
    assert sorted(draw_photos(PLANTS, 6, rng)) == PLANTS


def test_names_without_letters_are_one_kind():
    names = [f"{number}.jpg" for number in range(5)]
    assert sorted(draw_photos(names, 5, np.random.default_rng(0))) == names


def test_the_suffix_does_not_change_what_is_drawn():
    """An archive holds the same names with another suffix."""
    others = [Path(name).with_suffix(".webp").name for name in FACADES + PLANTS]
    drawn = [draw_photos(names, 6, np.random.default_rng(0)) for names in (FACADES + PLANTS, others)]
    assert [Path(name).stem for name in drawn[0]] == [Path(name).stem for name in drawn[1]]


def test_families_of_crops_are_those_of_their_photographs():
    assert {family(name) for name in FACADES} == {f"facade_{number:04d}" for number in range(100)}
    assert family("facade_0001_c0.webp") == family("facade_0001.jpg") == "facade_0001"


IMAGES: dict[str, Callable[[Photos], torch.Tensor]] = {
    "plain": lambda photos: photos.plain(2.0).levels[0],
    "ground": lambda photos: photos.ground(2.0).levels[0],
    "panorama": lambda photos: photos.panorama(2.0).levels[0],
    "tiled": Photos.tiled,
    "mosaic": Photos.mosaic,
    "wall": Photos.wall_pixels,
}


@pytest.mark.parametrize("name", IMAGES)
def test_textures_are_those_of_the_reference(library, name):
    for seed in range(6):
        image = IMAGES[name](photos_of(library, seed))
        assert image.is_contiguous()
        assert np.array_equal(image.numpy(), getattr(reference_of(library, seed), name)())


@pytest.mark.parametrize("name", IMAGES)
def test_textures_of_a_gpu_differ_by_rounding_only(library, name, monkeypatch):
    expected = [IMAGES[name](photos_of(library, seed)) for seed in range(4)]
    for function in OF_DEVICES:
        monkeypatch.setattr(textures, function, getattr(resampling, f"torch_{function}"))
    for seed in range(4):
        different = (IMAGES[name](photos_of(library, seed)).int() - expected[seed].int()).abs().float()
        assert different.max() <= 4
        assert different.mean() < 0.25


def test_crops_have_sides_in_the_range_that_can_be_halved_four_times(library):
    photos, sides = photos_of(library, 0), []
    for _ in range(300):
        height, width = photos.crop(0.4, 0.9).shape[:2]
        assert height % 16 == width % 16 == 0
        sides.append((height / 360, width / 480))
    low, mean, high = np.min(sides, 0), np.mean(sides, 0), np.max(sides, 0)
    assert np.abs(low - 0.4).max() < 0.03
    assert np.abs(high - 0.9).max() < 0.03
    assert np.abs(mean - 0.65).max() < 0.03


def test_tiny_photographs_are_used_whole(tmp_path):
    cv2.imwrite(str(tmp_path / "tiny.png"), np.full((9, 40, 3), 50, np.uint8))
    library = PhotoLibrary.open(tmp_path)
    assert Photos(library, library.names, np.random.default_rng(0)).crop(0.4, 0.9).shape == (9, 16, 3)


def test_bare_textures_have_the_colours_and_the_grain_of_the_reference(library):
    """Only the noise itself is drawn differently."""
    means, grains = [], []
    for seed in range(30):
        bare = photos_of(library, seed).bare(2.0).levels[0].numpy().astype(float)
        expected = reference_of(library, seed).bare().astype(float)
        assert bare.shape == expected.shape
        assert np.abs(bare.mean((0, 1)) - expected.mean((0, 1))).max() < 3
        means.append([image.mean() for image in (bare, expected)])
        grains.append([np.abs(np.diff(image, axis=0)).mean() for image in (bare, expected)])
    grain = np.array(grains)
    assert np.abs(grain[:, 0] / grain[:, 1] - 1).max() < 0.5
    assert grain[:, 0].mean() == pytest.approx(grain[:, 1].mean(), rel=0.1)


def test_bare_textures_have_little_contrast_but_some_grain(library):
    photos = photos_of(library, 0)
    for _ in range(20):
        bare, plain = (texture.levels[0].numpy().astype(float) for texture in (photos.bare(2.0), photos.plain(2.0)))
        coarse = cv2.resize(bare, None, fx=1 / 16, fy=1 / 16, interpolation=cv2.INTER_AREA)
        assert coarse.std((0, 1)).max() < 0.5 * plain.std((0, 1)).max()
        assert np.abs(np.diff(bare, axis=0)).mean() > 0.3
        assert photos.bare(2.0).size_m[0] == pytest.approx(2.0)


def test_textures_leave_the_photographs_as_they_are(library):
    before = [library.photo(name).clone() for name in library.names]
    photos = photos_of(library, 0)
    for _ in range(4):
        photos.wall(1.0), photos.bare(1.0), photos.ground(1.0)
    assert all(torch.equal(library.photo(name), old) for name, old in zip(library.names, before, strict=True))


@pytest.mark.parametrize("shape", [(120, 160), (160, 90), (50, 50, 3)])
def test_smooth_noise_and_masks_are_those_of_the_reference(shape):
    for seed in range(6):
        rng, other = np.random.default_rng(seed), np.random.default_rng(seed)
        assert np.array_equal(smooth_noise(rng, shape, 5).numpy(), texture_reference.smooth_noise(other, shape, 5))
        mask = blob_mask(rng, shape, 6, 0.4).numpy()
        assert (mask != texture_reference.blob_mask(other, shape, 6, 0.4)).mean() < 0.002
        assert np.array_equal(fence_mask(rng, shape).numpy(), texture_reference.fence_mask(other, shape))
        assert mask.dtype == np.uint8
        assert (mask > 0).mean() == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize("side", [24, 101])
def test_discs_fill_their_square(side):
    disc = disc_mask(side)
    assert np.array_equal(disc.numpy(), texture_reference.disc_mask(side))
    assert float((disc > 0).float().mean()) == pytest.approx(math.pi / 4, abs=0.02)


def test_fields_are_normal_and_depend_on_the_seed_only():
    field = normal_field(5, (200, 300), 2.0)
    assert torch.equal(field, normal_field(5, (200, 300), 2.0))
    assert not torch.equal(field, normal_field(6, (200, 300), 2.0))
    assert field.dtype == torch.float32
    assert float(field.std()) == pytest.approx(2.0, rel=0.02)
    assert abs(float(field.mean())) < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", IMAGES)
def test_cuda_gives_the_textures_of_the_cpu(folder, library, name):
    on_device = PhotoLibrary.open(folder, "cuda")
    for seed in range(4):
        image = IMAGES[name](photos_of(on_device, seed))
        assert image.is_cuda
        assert (image.cpu().int() - IMAGES[name](photos_of(library, seed)).int()).abs().max() <= 4
