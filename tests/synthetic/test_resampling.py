"""Image operations in torch against OpenCV: what runs on a GPU gives what runs on the CPU, within rounding."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from sfm_lightglue.synthetic.photo_scenes import resampling
from sfm_lightglue.synthetic.photo_scenes.resampling import How

SMALLER = [(200, 150), (139, 100), (208, 150), (417, 301), (416, 75)]
OTHER = [(600, 500), (270, 500), (834, 602), (139, 301 * 2), (278, 430)]


def image(shape: tuple[int, ...] = (301, 417, 3)) -> torch.Tensor:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return torch.from_numpy(np.ascontiguousarray(cv2.GaussianBlur(pixels, (3, 3), 0.6)))


def differences(image0: torch.Tensor, image1: torch.Tensor) -> torch.Tensor:
    assert image0.dtype == image1.dtype
    assert image0.shape == image1.shape
    return (image0.float() - image1.float()).abs()


@pytest.mark.parametrize("how", ["area", "linear", "cubic"])
@pytest.mark.parametrize("size", SMALLER + OTHER)
def test_sizes_change_as_with_opencv(how: How, size):
    different = differences(resampling.resized(image(), size, how), resampling.torch_resized(image(), size, how))
    assert different.max() <= 1
    assert different.mean() < 0.15
    values = image()[..., 0].float() * 2 - 200
    assert differences(resampling.resized(values, size, how), resampling.torch_resized(values, size, how)).max() < 0.02


@pytest.mark.parametrize("shape", [(64, 48, 3), (63, 47, 3), (17, 300)])
def test_halved_images_are_means_over_areas(shape):
    half = resampling.halved(image(shape))
    assert half.shape == (shape[0] // 2, shape[1] // 2, *shape[2:])
    expected = cv2.resize(image(shape).numpy(), (shape[1] // 2, shape[0] // 2), interpolation=cv2.INTER_AREA)
    assert torch.equal(half, torch.from_numpy(expected))
    assert differences(half, resampling.torch_resized(image(shape), (shape[1] // 2, shape[0] // 2), "area")).max() <= 1


def test_a_constant_image_stays_constant():
    flat = torch.full((33, 50, 3), 77, dtype=torch.uint8)
    hows: tuple[How, ...] = ("area", "linear", "cubic")
    assert all((resampling.torch_resized(flat, size, how) == 77).all() for how in hows for size in [(20, 11), (99, 60)])


@pytest.mark.parametrize("sigma_px", [0.5, 2.2, 3.0])
def test_blur_is_that_of_opencv(sigma_px):
    values = image()[..., 0].float()
    blurred = resampling.gaussian_blurred(values, sigma_px)
    assert blurred.std() < values.std()
    assert differences(blurred, resampling.torch_gaussian_blurred(values, sigma_px)).max() < 1e-3


def test_arithmetic_is_that_of_opencv():
    pixels, other = image(), image().flip(0).contiguous()
    factors = torch.linspace(0.3, 2.5, 301 * 417).reshape(301, 417)
    for factor in (factors, 0.87, 1.1):
        different = differences(resampling.multiplied(pixels, factor), resampling.torch_multiplied(pixels, factor))
        assert different.max() <= 1
        assert different.mean() < 1e-3
    offsets = 40 * factors - 50
    for result, expected in (
        (resampling.multiplied(pixels, factors), pixels * factors[..., None]),
        (resampling.added(pixels, offsets), pixels + offsets[..., None]),
        (resampling.torch_added(pixels, offsets), pixels + offsets[..., None]),
        (resampling.blended(pixels, other, 0.3), pixels * 0.7 + other * 0.3),
        (resampling.torch_blended(pixels, other, 0.3), pixels * 0.7 + other * 0.3),
    ):
        assert (result - expected.clamp(0, 255)).abs().max() < 0.501


@pytest.mark.parametrize("axes", [(), (0,), (1,), (0, 1)])
def test_mirrored_images(axes):
    assert torch.equal(resampling.mirrored(image(), axes), image().flip(axes))


@pytest.mark.parametrize("quarter_turns", range(4))
def test_turned_images(quarter_turns):
    expected = np.rot90(image().numpy(), quarter_turns)
    assert np.array_equal(resampling.turned(image(), quarter_turns).numpy(), expected)


def test_grey_levels_are_those_of_opencv_bit_by_bit():
    levels = np.arange(256, dtype=np.uint8)
    for blue in range(0, 256, 5):
        colours = np.stack(np.broadcast_arrays(levels[:, None], levels, np.uint8(blue)), axis=-1)
        expected = torch.from_numpy(cv2.cvtColor(colours, cv2.COLOR_RGB2GRAY))
        assert torch.equal(resampling.torch_grey(torch.from_numpy(colours)), expected)
        assert torch.equal(resampling.grey(torch.from_numpy(colours)), expected)
    batch = torch.stack([image(), image().flip(0)])
    assert torch.equal(resampling.grey(batch)[1], resampling.grey(batch[1]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("how", ["area", "linear", "cubic"])
def test_cuda_gives_the_same_within_rounding(how: How):
    for size in SMALLER + OTHER:
        on_device = resampling.resized(image().cuda(), size, how)
        assert on_device.is_cuda
        assert differences(on_device.cpu(), resampling.resized(image(), size, how)).max() <= 1
