"""Photometric effects: the reference in OpenCV, the same in torch, and the distribution of the effects."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.synthetic.photo_scenes import photometry_torch
from sfm_lightglue.synthetic.photo_scenes.augmentation import draw_photometry, photographed
from sfm_lightglue.synthetic.photo_scenes.jpeg_in_torch import jpeg_compressed
from sfm_lightglue.synthetic.photo_scenes.photometry import GaussianBlur, MotionBlur, Photometry
from sfm_lightglue.synthetic.photo_scenes.photometry_opencv import compressed
from sfm_lightglue.synthetic.photo_scenes.resampling import grey
from tests.helpers.photometry_reference import lit_and_blurred
from tests.helpers.textured_photos import pattern

SIZE = (240, 161)


def photo(seed: int = 0, size: tuple[int, int] = SIZE) -> torch.Tensor:
    """A smoothed pattern uint8 [H, W, 3] with a mean near that which the exposure aims at."""
    image = cv2.GaussianBlur(cv2.resize(pattern(seed), size, interpolation=cv2.INTER_AREA), (0, 0), 0.8)
    return torch.from_numpy(cv2.convertScaleAbs(image, alpha=0.42 * 255 / image.mean()))


def drawn(seed: int, hardness: float = 1.0) -> Photometry:
    return draw_photometry(np.random.default_rng(seed), hardness, SIZE)


def rms(image0: torch.Tensor, image1: torch.Tensor) -> float:
    return float((image0.float() - image1.float()).square().mean().sqrt())


def without_noise(effects: Photometry) -> Photometry:
    return replace(effects, noise_sigma=0.0, jpeg_quality=None)


def test_light_tone_and_blur_are_those_of_the_reference():
    """Equal random numbers give equal pixels, for all kinds of blur, by day and by night."""
    blurs = set()
    for seed in range(60):
        hardness = 0.25 + 0.75 * (seed % 4) / 3
        expected, noise_sigma = lit_and_blurred(photo(seed % 3).numpy(), np.random.default_rng(seed), hardness)
        effects = drawn(seed, hardness)
        (result,) = photographed([photo(seed % 3)], [without_noise(effects)])
        assert torch.equal(result, torch.from_numpy(expected))
        assert effects.noise_sigma == noise_sigma
        blurs.add((type(effects.blur), isinstance(effects.blur, GaussianBlur) and effects.blur.side_px == 3))
    assert len(blurs) == 3


def test_a_batch_in_torch_equals_single_images_with_opencv():
    images = [photo(seed) for seed in range(24)]
    effects = [drawn(seed) for seed in range(24)]
    assert {type(effect.blur) for effect in effects} == {GaussianBlur, MotionBlur}
    plain = [replace(effect, jpeg_quality=None) for effect in effects]
    for single, batched in zip(photographed(images, plain), photometry_torch.with_effects(images, plain), strict=True):
        assert batched.dtype == torch.uint8
        assert (single.int() - batched.int()).abs().max() <= 2
        assert rms(single, batched) < 0.3
    whole = photometry_torch.with_effects(images, effects)
    for single, batched in zip(photographed(images, effects), whole, strict=True):
        assert rms(single, batched) < 3
        assert rms(grey(single), grey(batched.contiguous())) < 1.5


def test_images_of_a_batch_do_not_depend_on_the_others():
    images = [photo(seed) for seed in range(3)]
    effects = [drawn(seed) for seed in range(3)]
    together = photometry_torch.with_effects(images, effects)
    alone = torch.cat(
        [photometry_torch.with_effects([image], [effect]) for image, effect in zip(images, effects, strict=True)]
    )
    assert (together.int() - alone.int()).abs().float().mean() < 0.01


@pytest.mark.parametrize("quality", [35, 45, 50, 62, 75, 85, 90, 96])
def test_jpeg_in_torch_is_that_of_libjpeg(quality):
    """Also where neither side is a multiple of the blocks. The error is small compared with that of JPEG itself."""
    for size in ((240, 160), (237, 161), (240, 157)):
        noise = np.random.default_rng(0).normal(0, 3, (size[1], size[0], 3))
        image = torch.from_numpy(np.clip(photo(1, size).numpy() + noise, 0, 255).astype(np.uint8))
        expected = torch.from_numpy(compressed(image.numpy(), quality))
        values = jpeg_compressed(image.permute(2, 0, 1)[None].float(), [quality])
        result = values[0].permute(1, 2, 0).to(torch.uint8).contiguous()
        assert rms(result, expected) < min(1.6, 0.35 * rms(image, expected))
        assert rms(grey(result), grey(expected)) < 1.0


def test_lower_qualities_lose_more():
    image = photo().permute(2, 0, 1)[None].float()
    losses = [rms(jpeg_compressed(image, [quality]), image) for quality in (35, 60, 85, 96)]
    assert losses == sorted(losses, reverse=True)
    both = jpeg_compressed(torch.cat([image, image]), [35, 96])
    assert [rms(one[None], image) for one in both] == pytest.approx([losses[0], losses[3]], rel=1e-3)


def test_noise_has_the_stated_strength_and_is_grey():
    flat = torch.full((SIZE[1], SIZE[0], 3), 107, dtype=torch.uint8)
    effects = replace(drawn(0, 0.0), jpeg_quality=None)
    clean, noisy = photographed([flat, flat], [without_noise(effects), replace(effects, noise_sigma=6.0)])
    difference = noisy.float() - clean.float()
    assert difference.std() == pytest.approx(6.0, rel=0.05)
    assert abs(difference.mean()) < 0.3
    assert torch.equal(difference[..., 0], difference[..., 2])
    (other,) = photographed([flat], [replace(effects, noise_sigma=6.0, noise_seed=effects.noise_seed + 1)])
    assert rms(other, noisy) > 6


def test_the_same_effects_give_the_same_bytes():
    images, effects = [photo(), photo(1)], [drawn(0), drawn(1)]
    first, second = photographed(images, effects), photographed(images, [drawn(0), drawn(1)])
    assert all(map(torch.equal, first, second))
    assert photographed([], []) == []


def test_the_exposure_adapts_to_the_brightness():
    effects = without_noise(drawn(0, 0.0))
    dark, bright = photographed([photo() // 3, photo()], [effects, effects])
    assert float(dark.float().mean()) == pytest.approx(0.42 * 255, rel=0.1)
    assert float(bright.float().mean()) == pytest.approx(0.42 * 255, rel=0.1)


def test_hardness_zero_changes_little():
    (gentle,) = photographed([photo()], [drawn(0, 0.0)])
    assert (gentle.float() - photo().float()).abs().mean() < 8
    hard = photographed([photo()] * 10, [drawn(seed) for seed in range(10)])
    assert np.mean([float((image.float() - photo().float()).abs().mean()) for image in hard]) > 20


def test_effects_have_the_stated_frequencies():
    effects = [drawn(seed) for seed in range(600)]
    is_night = np.array([effect.tone.aim == 0.2 for effect in effects])
    assert is_night.mean() == pytest.approx(0.3, abs=0.06)
    assert np.mean([isinstance(effect.blur, MotionBlur) for effect in effects]) == pytest.approx(0.18, abs=0.05)
    qualities = [effect.jpeg_quality for effect in effects if effect.jpeg_quality is not None]
    assert len(qualities) / len(effects) == pytest.approx(0.8, abs=0.05)
    assert min(qualities) in range(35, 38)
    assert max(qualities) in range(94, 97)
    sigmas = np.array([effect.noise_sigma for effect in effects])
    assert 0.5 <= sigmas.min() < sigmas[~is_night].max() < 10 < sigmas[is_night].max() < 16
    assert all(effect.gains.shape == (SIZE[1] // 8, SIZE[0] // 8) for effect in effects)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_differs_by_rounding_only():
    images, effects = [photo(seed) for seed in range(8)], [without_noise(drawn(seed)) for seed in range(8)]
    on_device = photographed([image.cuda() for image in images], effects)
    for single, other in zip(photographed(images, effects), on_device, strict=True):
        assert other.is_cuda
        assert rms(single, other.cpu()) < 0.5
