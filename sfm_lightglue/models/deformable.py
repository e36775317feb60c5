"""Deformable convolution in plain torch.

Source: Zhu et al., Deformable ConvNets v2: More Deformable, Better Results, CVPR 2019, equation 1; without
modulation it is that of Dai et al., Deformable Convolutional Networks, ICCV 2017.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def deformable_conv2d(
    x: Tensor,
    offsets: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    modulation: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Tensor:
    """Correlates an image with a kernel whose samples are displaced by offsets.

    The image is interpolated bilinearly between pixels, and 0 outside.

    Args:
        x: [B, C, H, W].
        offsets: [B, 2 K, h, w] in pixels of x: (down, right) for each of the K = kh kw samples in reading order.
        weight: [O, C, kh, kw].
        bias: [O].
        modulation: [B, K, h, w], a factor for each sample.
        stride: distance of neighbouring outputs in pixels of x, along both axes.
        padding: number of zero pixels at each side of x.
        dilation: distance of neighbouring samples in pixels, without offsets.

    Returns:
        [B, O, h, w], of the same size as the result of an ordinary convolution.

    Raises:
        ValueError: the shapes do not fit.
    """
    batch, channels, height, width = x.shape
    num_out, num_in, kernel_h, kernel_w = weight.shape
    num_samples = kernel_h * kernel_w
    out_h = (height + 2 * padding - dilation * (kernel_h - 1) - 1) // stride + 1
    out_w = (width + 2 * padding - dilation * (kernel_w - 1) - 1) // stride + 1
    if num_in != channels:
        raise ValueError(f"weight: expected [O, {channels}, kh, kw], got {list(weight.shape)}")
    _check("offsets", offsets, (batch, 2 * num_samples, out_h, out_w))
    if modulation is not None:
        _check("modulation", modulation, (batch, num_samples, out_h, out_w))

    def steps(count: int, step: int) -> Tensor:
        return torch.arange(count, device=x.device, dtype=offsets.dtype) * step

    # Positions of the samples without offsets: position of the output plus position in the kernel, along each axis.
    rows = steps(kernel_h, dilation)[:, None, None, None] + steps(out_h, stride)[:, None] - padding  # [kh, 1, h, 1]
    columns = steps(kernel_w, dilation)[:, None, None] + steps(out_w, stride) - padding  # [kw, 1, w]
    moves = offsets.reshape(batch, kernel_h, kernel_w, 2, out_h, out_w)
    y = moves[:, :, :, 0] + rows  # [B, kh, kw, h, w]
    x_ = moves[:, :, :, 1] + columns
    # The outer edges are at -1 and 1, half a pixel beyond the outer centres; a single row causes no division by 0.
    grid = torch.stack([(2 * x_ + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1).to(x.dtype)
    samples = F.grid_sample(
        x, grid.reshape(batch, num_samples * out_h, out_w, 2), mode="bilinear", align_corners=False
    ).reshape(batch, channels, num_samples, out_h * out_w)
    if modulation is not None:
        samples = samples * modulation.reshape(batch, 1, num_samples, out_h * out_w)
    out = weight.reshape(num_out, -1) @ samples.reshape(batch, channels * num_samples, out_h * out_w)  # [B, O, h w]
    if bias is not None:
        out = out + bias[:, None]
    return out.reshape(batch, num_out, out_h, out_w)


class DeformableConv2d(nn.Module):
    """A deformable convolution that predicts its own offsets from its input.

    Args:
        in_channels: number of channels of the input.
        out_channels: number of channels of the output.
        kernel_size: side of the square kernel.
        stride: distance of neighbouring outputs in pixels.
        padding: number of zero pixels at each side of the input.
        dilation: distance of neighbouring samples in pixels.
        bias: whether the output has a bias; the offsets always have one.
        modulated: whether every sample has a predicted weight (version 2).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
        bias: bool = False,
        modulated: bool = False,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.num_samples = kernel_size**2
        channels = (3 if modulated else 2) * self.num_samples
        self.offset_conv = nn.Conv2d(in_channels, channels, kernel_size, stride, padding, dilation)
        self.regular_conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolves [B, C, H, W]; offsets are limited to a quarter of the longer side."""
        predicted = self.offset_conv(x)
        farthest_px = max(x.shape[2:]) / 4
        offsets = predicted[:, : 2 * self.num_samples].clamp(-farthest_px, farthest_px)
        modulation = predicted[:, 2 * self.num_samples :].sigmoid() if predicted.shape[1] > offsets.shape[1] else None
        return deformable_conv2d(
            x,
            offsets,
            self.regular_conv.weight,
            self.regular_conv.bias,
            modulation,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
        )


def _check(name: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name}: expected {list(shape)}, got {list(tensor.shape)}")
