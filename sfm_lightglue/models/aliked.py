"""ALIKED: sub-pixel keypoints, and descriptors with deformable support.

Source: Zhao et al., ALIKED: A Lighter Keypoint and Descriptor Extraction Network via Deformable
Transformation, IEEE Transactions on Instrumentation and Measurement, 2023. The file follows section III of
the paper from top to bottom. The weights are named as in the files of the authors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.models.deformable import DeformableConv2d
from sfm_lightglue.models.keypoints import Limits, Points, local_maxima, suppress_neighbours
from sfm_lightglue.weights.state_dict import read_weights
from sfm_lightglue.weights.strict import fill_strictly

STRIDE = 32
"""Side of a cell of the coarsest features in pixels: poolings by 2, 4 and 4."""


@dataclass(frozen=True, slots=True)
class AlikedArchitecture:
    """Sizes of the weights; the defaults are those of n16.

    Raises:
        ValueError: no such network has these sizes.
    """

    channels: tuple[int, int, int, int] = (16, 32, 64, 128)
    """Channels of the four blocks of the encoder."""
    descriptor_dim: int = 128
    """Width D of a descriptor, and number of channels of the features, a quarter from each block."""
    patch_size: int = 3
    """Side in pixels of the patch from which the sample positions of a descriptor are predicted."""
    num_positions: int = 16
    """Number M of sample positions of a descriptor."""

    def __post_init__(self) -> None:
        if len(self.channels) != 4:
            raise ValueError(f"AlikedArchitecture: expected 4 blocks, got {len(self.channels)}")
        if min(*self.channels, self.descriptor_dim, self.patch_size, self.num_positions) < 1:
            raise ValueError("AlikedArchitecture: all sizes must be positive")
        if self.descriptor_dim % 4 or self.patch_size % 2 == 0:
            raise ValueError("AlikedArchitecture: descriptor_dim must divide by 4, patch_size must be odd")
        object.__setattr__(self, "channels", tuple(self.channels))


ARCHITECTURES: Mapping[str, AlikedArchitecture] = {
    "t16": AlikedArchitecture((8, 16, 32, 64), descriptor_dim=64),
    "n16": AlikedArchitecture(),
    "n16rot": AlikedArchitecture(),
    "n32": AlikedArchitecture(num_positions=32),
}
"""The published networks (table II); n16rot is n16 trained on rotated images too."""


ALIKED_LIMITS = Limits(score_threshold=0.2, nms_radius_px=2)
"""Threshold of the authors on a peak, and their window of 5 pixels, also used for the refinement."""


class Aliked(nn.Module):
    """The network.

    Args:
        architecture: sizes; the defaults are those of n16.
    """

    def __init__(self, architecture: AlikedArchitecture | None = None) -> None:
        super().__init__()
        self.architecture = arch = architecture or AlikedArchitecture()
        c1, c2, c3, c4 = arch.channels
        quarter = arch.descriptor_dim // 4
        self.block1 = _ConvBlock(3, c1)
        self.block2 = _ResBlock(c1, c2)
        self.block3 = _ResBlock(c2, c3, deformable=True)
        self.block4 = _ResBlock(c3, c4, deformable=True)
        self.conv1, self.conv2, self.conv3, self.conv4 = (nn.Conv2d(c, quarter, 1, bias=False) for c in arch.channels)
        self.score_head = nn.Sequential(
            nn.Conv2d(arch.descriptor_dim, 8, 1, bias=False),
            nn.SELU(),
            nn.Conv2d(8, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 4, 3, padding=1, bias=False),
            nn.SELU(),
            nn.Conv2d(4, 1, 3, padding=1, bias=False),
        )
        self.desc_head = _DescriptorHead(arch.descriptor_dim, arch.patch_size, arch.num_positions)

    def forward(self, images: Tensor, limits: Limits = ALIKED_LIMITS) -> list[Points]:
        """Detects and describes.

        Args:
            images: [B, 3, H, W] RGB in [0, 1], of any size.
            limits: which points to keep.

        Returns:
            The points of each image.

        Raises:
            ValueError: the images have another shape, or the radius is 0.
        """
        points = []
        for features, scores in zip(*self.encode(images), strict=True):
            keypoints, values = detect_keypoints(scores, limits)
            points.append(Points(keypoints, values, self.desc_head(features, keypoints)))
        return points

    def encode(self, images: Tensor) -> tuple[list[FeatureMap], Tensor]:
        """Images [B, 3, H, W] -> the features of each, and scores in [0, 1] [B, H, W] (III-A).

        Raises:
            ValueError: the images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise ValueError(f"images: expected [B, 3, H, W], got {list(images.shape)}")
        height, width = images.shape[2:]
        down, right = -height % STRIDE, -width % STRIDE
        top, left = down // 2, right // 2
        padded = F.pad(images, (left, right - left, top, down - top), mode="replicate")
        # Features are read pixel by pixel, which is faster if the channels of a pixel are adjacent in memory.
        x1 = self.block1(padded.contiguous(memory_format=torch.channels_last))
        x2 = self.block2(F.avg_pool2d(x1, 2))
        x3 = self.block3(F.avg_pool2d(x2, 4))
        x4 = self.block4(F.avg_pool2d(x3, 4))
        convs = (self.conv1, self.conv2, self.conv3, self.conv4)
        levels = [F.selu(conv(x)) for conv, x in zip(convs, (x1, x2, x3, x4), strict=True)]
        scores = self._score(levels)[:, top : top + height, left : left + width]
        levels = [_at_least_float32(level) for level in levels]
        maps = [FeatureMap([level[i] for level in levels], (top, left), (height, width)) for i in range(len(images))]
        return maps, scores

    def _score(self, levels: list[Tensor]) -> Tensor:
        """The four levels [B, D / 4, h, w] -> scores [B, H, W] of the padded image.

        The head begins with a 1 x 1 convolution, which commutes with the enlargement. So it is applied before, and
        the features of all pixels (half a gigabyte for a megapixel) are never stored.
        """
        size = levels[0].shape[2:]
        first, *rest = self.score_head
        assert isinstance(first, nn.Conv2d)
        weights = torch.chunk(first.weight, 4, dim=1)
        x, *others = (F.conv2d(level, weight) for level, weight in zip(levels, weights, strict=True))
        for other in others:
            x = x + F.interpolate(other, size, mode="bilinear", align_corners=True)
        for layer in rest:
            x = layer(x)
        return torch.sigmoid(_at_least_float32(x))[:, 0]


class FeatureMap:
    """Features of length 1 for each pixel of an image, computed only at the requested positions.

    Args:
        levels: four maps [D / 4, h, w] of the padded image; the first has its full size.
        corner: (top, left) of the image in the padded one, in pixels.
        size: (height, width) of the image in pixels.
    """

    def __init__(self, levels: list[Tensor], corner: tuple[int, int], size: tuple[int, int]) -> None:
        self.size = size
        self._levels, self._corner = levels, corner

    def at(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Features [..., D] at pixels [...] of the image."""
        rows, columns = rows + self._corner[0], columns + self._corner[1]
        height, width = self._levels[0].shape[1:]
        parts = [_look_up(self._levels[0], rows, columns)]
        for level in self._levels[1:]:  # the centres of the corner pixels coincide at all levels
            scale_y, scale_x = (level.shape[1] - 1) / (height - 1), (level.shape[2] - 1) / (width - 1)
            parts.append(_interpolated(level, rows.to(level.dtype) * scale_y, columns.to(level.dtype) * scale_x))
        return F.normalize(torch.cat(parts, dim=-1), dim=-1)

    def between(self, points: Tensor) -> Tensor:
        """Bilinear features [..., D] at (x, y) [..., 2], 0 outside the image; the first pixel's centre is at 0."""
        height, width = self.size
        first = points.detach().floor()

        def contribution(right: int, down: int) -> Tensor:
            """Weighted features of one of the four neighbouring pixels."""
            pixels = first + first.new_tensor([right, down])
            column, row = pixels.long().unbind(-1)
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            weights = (1 - (points - pixels).abs()).prod(dim=-1) * inside
            return self.at(row.clamp(0, height - 1), column.clamp(0, width - 1)) * weights[..., None]

        return contribution(0, 0) + contribution(1, 0) + contribution(0, 1) + contribution(1, 1)


def _look_up(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Values [..., C] at pixels [...] of a map [C, h, w]; without a copy if channels are adjacent in memory."""
    return F.embedding(rows * x.shape[2] + columns, x.permute(1, 2, 0).reshape(-1, x.shape[0]))


def _interpolated(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear values [..., C] of a map [C, h, w] at positions [...] inside it."""
    top, left = rows.detach().long(), columns.detach().long()
    below, right = (top + 1).clamp(max=x.shape[1] - 1), (left + 1).clamp(max=x.shape[2] - 1)
    across, down = (columns - left)[..., None], (rows - top)[..., None]
    upper = torch.lerp(_look_up(x, top, left), _look_up(x, top, right), across)
    lower = torch.lerp(_look_up(x, below, left), _look_up(x, below, right), across)
    return torch.lerp(upper, lower, down)


class _ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = F.selu(self.bn1(self.conv1(x)))
        return F.selu(self.bn2(self.conv2(x)))


class _ResBlock(nn.Module):
    """Two 3 x 3 convolutions, deformable at coarse levels, with a 1 x 1 convolution as the shortcut."""

    def __init__(self, c_in: int, c_out: int, deformable: bool = False) -> None:
        super().__init__()
        kind = DeformableConv2d if deformable else nn.Conv2d
        self.conv1 = kind(c_in, c_out, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = kind(c_out, c_out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.downsample = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.selu(self.bn1(self.conv1(x)))
        return F.selu(self.bn2(self.conv2(y)) + self.downsample(x))


def detect_keypoints(scores: Tensor, limits: Limits) -> tuple[Tensor, Tensor]:
    """Differentiable keypoint detection: peaks, refined by the soft maximum of their window (III-B).

    Args:
        scores: [H, W] in [0, 1].
        limits: which points to keep.

    Returns:
        Keypoints [N, 2] (x, y), with the centre of the first pixel at 0, and their scores [N]; highest score first,
        one keypoint per pixel.

    Raises:
        ValueError: the radius is 0.
    """
    radius = limits.nms_radius_px
    if radius < 1:
        raise ValueError(f"nms_radius_px: must be at least 1, since peaks are refined within this window; got {radius}")
    height, width = scores.shape
    kept = suppress_neighbours(scores.detach()[None], radius)
    peaks = (local_maxima(kept, radius) & (kept > limits.score_threshold))[
        0
    ]  # the first of equal neighbours in reading order
    inside = torch.zeros_like(peaks)
    inside[radius : max(height - radius, 0), radius : max(width - radius, 0)] = True
    rows, columns = torch.nonzero(peaks & inside, as_tuple=True)
    steps = torch.arange(-radius, radius + 1, device=scores.device)
    window = scores[(rows[:, None] + steps)[:, :, None], (columns[:, None] + steps)[:, None, :]]  # [N, k, k]
    is_peak = window.amax(dim=(1, 2)) > window.amin(dim=(1, 2))  # constant windows have no peak
    window, rows, columns = window[is_peak], rows[is_peak], columns[is_peak]
    weights = torch.softmax(window.flatten(1) / _TEMPERATURE, dim=1).view_as(window)
    x = columns + (weights.sum(dim=1) * steps).sum(dim=1)  # equation 3: the mean position of the window
    y = rows + (weights.sum(dim=2) * steps).sum(dim=1)
    keypoints = torch.stack([x, y], dim=1)
    values = _interpolated(scores[None], keypoints[:, 1], keypoints[:, 0])[:, 0]
    order = torch.argsort(values.detach(), descending=True, stable=True)
    order = order[_first_of_each_pixel(keypoints.detach()[order], width)][: limits.max_num_keypoints]
    return keypoints[order], values[order]


_TEMPERATURE = 0.1
"""Temperature of the softmax over scores; a lower value gives the highest score more weight."""


def _first_of_each_pixel(keypoints: Tensor, width: int) -> Tensor:
    """Ascending indices of the keypoints [N, 2] that are the first in their pixel."""
    column, row = (keypoints + 0.5).floor().long().unbind(1)
    order = torch.argsort(row * width + column, stable=True)
    pixels = (row * width + column)[order]
    changes = torch.ones_like(pixels, dtype=torch.bool)
    changes[1:] = pixels[1:] != pixels[:-1]
    return order[changes].sort().values


class _DescriptorHead(nn.Module):
    """Sparse deformable descriptors: each keypoint predicts the positions at which it is sampled (III-C).

    Args:
        dim: channels of the features, and of a descriptor.
        patch_size: side of the patch around a keypoint from which the positions are predicted.
        num_positions: number of positions.
    """

    def __init__(self, dim: int, patch_size: int, num_positions: int) -> None:
        super().__init__()
        self.patch_size, self.num_positions = patch_size, num_positions
        self.offset_conv = nn.Sequential(
            nn.Conv2d(dim, 2 * num_positions, patch_size),
            nn.SELU(),
            nn.Conv2d(2 * num_positions, 2 * num_positions, 1),
        )
        self.sf_conv = nn.Conv2d(dim, dim, 1, bias=False)
        self.agg_weights = nn.Parameter(torch.randn(num_positions, dim, dim) / (num_positions * dim) ** 0.5)

    def forward(self, features: FeatureMap, keypoints: Tensor) -> Tensor:
        """Keypoints [N, 2], with the centre of the first pixel at 0 -> descriptors of length 1 [N, D]."""
        farthest_px = max(features.size) / 4
        offsets = self.offset_conv(self._patches(features, keypoints)).clamp(-farthest_px, farthest_px)
        offsets = offsets.reshape(-1, 2, self.num_positions).transpose(1, 2)  # all x, then all y -> [N, M, 2]
        values = F.linear(features.between(keypoints[:, None] + offsets), self.sf_conv.weight[:, :, 0, 0])  # [N, M, D]
        descriptors = F.selu(values).flatten(1) @ self.agg_weights.flatten(0, 1)  # equation 7: [N, M D] [M D, D]
        return F.normalize(_at_least_float32(descriptors), dim=1)

    def _patches(self, features: FeatureMap, keypoints: Tensor) -> Tensor:
        """Features [N, D, k, k] of the pixels around the keypoints.

        As in the code of the authors, with which the weights were trained, no patch contains the last row or column.
        """
        height, width = features.size
        corners = (keypoints.detach().long() - self.patch_size / 2 + 1).long()
        steps = torch.arange(self.patch_size, device=keypoints.device)
        columns = corners[:, 0].clamp(0, max(width - 1 - self.patch_size, 0))[:, None] + steps  # [N, k]
        rows = corners[:, 1].clamp(0, max(height - 1 - self.patch_size, 0))[:, None] + steps
        each = (-1, self.patch_size, self.patch_size)
        patches = features.at(rows[:, :, None].expand(each), columns[:, None, :].expand(each))
        return patches.permute(0, 3, 1, 2)  # [N, k, k, D] -> [N, D, k, k]


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def load_aliked(path: str | Path, *, sha256: str | None = None) -> Aliked:
    """Reads an ALIKED in the layout of the authors; its sizes are inferred from the weights.

    Args:
        path: of a .pth or .safetensors file; the suffix does not matter.
        sha256: expected hexadecimal digest; None skips the comparison.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: the file is missing, damaged, has another digest, or belongs to another network.
    """
    return aliked_from_state_dict(read_weights(path, sha256).state, str(path))


def aliked_from_state_dict(state: Mapping[str, Tensor], source: str = "state dict") -> Aliked:
    """An ALIKED with weights in the layout of the authors; its sizes are inferred from them.

    Raises:
        WeightsError: with the missing, unexpected, wrongly shaped and unusable keys.
    """
    try:
        with torch.device("meta"):
            network = Aliked(_architecture(state))
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise WeightsError(f"{source}: not the weights of an ALIKED: its sizes cannot be inferred ({error})") from error
    return fill_strictly(network, state, source)


def _architecture(state: Mapping[str, Tensor]) -> AlikedArchitecture:
    first = [f"block{i}.conv1.{'weight' if i < 3 else 'regular_conv.weight'}" for i in (1, 2, 3, 4)]
    c1, c2, c3, c4 = (int(state[key].shape[0]) for key in first)
    num_positions, _, dim = state["desc_head.agg_weights"].shape
    patch_size = state["desc_head.offset_conv.0.weight"].shape[-1]
    return AlikedArchitecture((c1, c2, c3, c4), int(dim), int(patch_size), int(num_positions))
