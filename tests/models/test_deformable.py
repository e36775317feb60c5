"""Values and gradients of the deformable convolution against a plain loop."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import torch.nn.functional as F

from sfm_lightglue.models.deformable import DeformableConv2d, deformable_conv2d

pytestmark = pytest.mark.usefixtures("torch_seed")


def slow_conv(x, offsets, weight, bias, modulation, stride, padding, dilation):
    """Equation 1 of the paper, term by term; differentiable."""
    batch, channels, height, width = x.shape
    num_out, _, kernel_h, kernel_w = weight.shape
    out_h, out_w = offsets.shape[2:]

    def value(b, c, y, x_):
        """Bilinear between the four neighbouring pixels, which are 0 outside the image."""
        top, left = math.floor(y.item()), math.floor(x_.item())
        total = x.new_zeros(())
        for row, column in itertools.product((top, top + 1), (left, left + 1)):
            if 0 <= row < height and 0 <= column < width:
                total = total + x[b, c, row, column] * (1 - (y - row).abs()) * (1 - (x_ - column).abs())
        return total

    out = []
    for b, o, i, j in itertools.product(range(batch), range(num_out), range(out_h), range(out_w)):
        total = x.new_zeros(()) if bias is None else bias[o]
        for c, p, q in itertools.product(range(channels), range(kernel_h), range(kernel_w)):
            k = p * kernel_w + q
            y = i * stride - padding + p * dilation + offsets[b, 2 * k, i, j]
            x_ = j * stride - padding + q * dilation + offsets[b, 2 * k + 1, i, j]
            factor = 1 if modulation is None else modulation[b, k, i, j]
            total = total + weight[o, c, p, q] * factor * value(b, c, y, x_)
        out.append(total)
    return torch.stack(out).reshape(batch, num_out, out_h, out_w)


def inputs(kernel, stride, padding, dilation, modulated, size=(3, 4), spread=1.5):
    """Double-precision tensors with gradients; some samples are outside the image."""
    sides = zip(size, kernel, strict=True)
    out_h, out_w = ((side + 2 * padding - dilation * (k - 1) - 1) // stride + 1 for side, k in sides)
    k = kernel[0] * kernel[1]
    tensors = [
        torch.randn(2, 2, *size),
        torch.randn(2, 2 * k, out_h, out_w) * spread,
        torch.randn(3, 2, *kernel),
        torch.randn(3),
        torch.rand(2, k, out_h, out_w) if modulated else None,
    ]
    return [None if tensor is None else tensor.double().requires_grad_() for tensor in tensors]


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "modulated"),
    [
        ((3, 3), 1, 1, 1, False),
        ((3, 3), 1, 1, 1, True),
        ((3, 3), 2, 1, 1, True),
        ((3, 3), 1, 2, 2, False),
        ((2, 3), 1, 0, 1, True),
        ((1, 1), 1, 0, 1, False),
    ],
)
def test_values_and_gradients_are_those_of_the_loop(kernel, stride, padding, dilation, modulated):
    tensors = inputs(kernel, stride, padding, dilation, modulated)
    ours = deformable_conv2d(*tensors, stride=stride, padding=padding, dilation=dilation)
    slow = slow_conv(*tensors, stride, padding, dilation)
    torch.testing.assert_close(ours, slow, atol=1e-12, rtol=0)
    weights = torch.randn_like(ours)
    wanted = [tensor for tensor in tensors if tensor is not None]
    for one, other in zip(
        torch.autograd.grad((ours * weights).sum(), wanted),
        torch.autograd.grad((slow * weights).sum(), wanted),
        strict=True,
    ):
        assert float(other.abs().max()) > 0
        torch.testing.assert_close(one, other, atol=1e-11, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1)])
def test_images_of_one_row_or_column_are_supported(size):
    tensors = inputs((3, 3), 1, 1, 1, True, size, spread=0.4)
    ours = deformable_conv2d(*tensors, padding=1)
    torch.testing.assert_close(ours, slow_conv(*tensors, 1, 1, 1), atol=1e-12, rtol=0)


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 1, 1), (1, 2, 2), (3, 0, 1)])
def test_without_offsets_it_is_a_convolution(stride, padding, dilation):
    x, offsets, weight, bias, _ = (
        None if tensor is None else tensor.detach()
        for tensor in inputs((3, 3), stride, padding, dilation, False, (11, 14))
    )
    steps = {"stride": stride, "padding": padding, "dilation": dilation}
    ours = deformable_conv2d(x, torch.zeros_like(offsets), weight, bias, **steps)
    torch.testing.assert_close(ours, F.conv2d(x, weight, bias, **steps), atol=1e-12, rtol=0)


def test_offsets_are_down_then_right():
    """Equal offsets of all samples equal a shift of the image, which shows the order of the axes."""
    x, weight = torch.randn(1, 2, 9, 10).double(), torch.randn(3, 2, 3, 3).double()
    offsets = torch.tensor([1.0, 2.0]).double().repeat(9)[None, :, None, None].expand(1, 18, 7, 8)
    ours = deformable_conv2d(x, offsets, weight)
    torch.testing.assert_close(ours[..., :-1, :-2], F.conv2d(x, weight)[..., 1:, 2:], atol=1e-12, rtol=0)


def test_float32_is_accurate_in_a_wide_image():
    x, offsets, weight, bias, _ = (
        None if tensor is None else tensor.detach() for tensor in inputs((3, 3), 1, 1, 1, False, (40, 300))
    )
    exact = deformable_conv2d(x, offsets, weight, bias, padding=1)
    single = deformable_conv2d(x.float(), offsets.float(), weight.float(), bias.float(), padding=1)
    torch.testing.assert_close(single.double(), exact, atol=1e-3, rtol=0)


@pytest.mark.parametrize("modulated", [False, True])
def test_the_layer_limits_its_offsets_and_weights_its_samples(modulated):
    layer = DeformableConv2d(2, 3, bias=True, modulated=modulated).double()
    x = torch.randn(2, 2, 8, 12).double()
    with torch.no_grad():
        layer.offset_conv.weight.mul_(50)
    predicted = layer.offset_conv(x)
    offsets = predicted[:, :18].detach()
    assert float(offsets.abs().max()) > 3 > 0.5 > float(offsets.abs().min())
    expected = deformable_conv2d(
        x,
        offsets.clamp(-3, 3),  # a quarter of the longer side
        layer.regular_conv.weight,
        layer.regular_conv.bias,
        predicted[:, 18:].sigmoid() if modulated else None,
        padding=1,
    )
    torch.testing.assert_close(layer(x), expected, atol=0, rtol=0)
    assert layer.offset_conv.out_channels == (27 if modulated else 18)


def test_shapes_that_do_not_fit_are_refused():
    x, weight = torch.zeros(1, 2, 5, 5), torch.zeros(3, 2, 3, 3)
    with pytest.raises(ValueError, match="offsets: expected"):
        deformable_conv2d(x, torch.zeros(1, 18, 5, 5), weight)
    with pytest.raises(ValueError, match="weight: expected"):
        deformable_conv2d(x, torch.zeros(1, 18, 3, 3), torch.zeros(3, 4, 3, 3))
    with pytest.raises(ValueError, match="modulation: expected"):
        deformable_conv2d(x, torch.zeros(1, 18, 3, 3), weight, modulation=torch.zeros(1, 18, 3, 3))
