"""DISK: keypoints and descriptors from one U-Net on colour images, trained by policy gradients.

Source: Tyszkiewicz, Fua and Trulls, DISK: Learning local features with policy gradient, NeurIPS 2020 (section 3
and figure 2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.models.keypoints import Limits, Points, best_first, select_peaks
from sfm_lightglue.weights.strict import load_published

DISK_LIMITS = Limits(score_threshold=0.0, nms_radius_px=2)
"""Threshold of the authors on the logit of a point, and their window of 5 pixels."""


@dataclass(frozen=True, slots=True)
class DiskArchitecture:
    """Sizes of the weights; the defaults are those of the published files.

    Raises:
        ValueError: the numbers of stages do not fit together.
    """

    down_channels: tuple[int, ...] = (16, 32, 64, 64, 64)
    """Channels after each stage of the contracting path; all stages except the first halve the resolution."""
    up_channels: tuple[int, ...] = (64, 64, 64)
    """Channels after each stage of the expanding path, without the last stage, which gives descriptor and score."""
    descriptor_dim: int = 128
    """Width D of a descriptor."""
    kernel_px: int = 5
    """Side of the kernel of every convolution."""

    def __post_init__(self) -> None:
        if len(self.down_channels) != len(self.up_channels) + 2:
            raise ValueError(
                f"DiskArchitecture: {len(self.down_channels)} stages down need {len(self.down_channels) - 2} "
                f"stages up, got {len(self.up_channels)}"
            )

    @property
    def stride(self) -> int:
        """Side of the coarsest cell in pixels."""
        return 1 << (len(self.down_channels) - 1)


class Disk(nn.Module):
    """The network; its weights are named as in the file of the authors.

    Args:
        architecture: channels; the defaults are those of the published files.
    """

    def __init__(self, architecture: DiskArchitecture | None = None) -> None:
        super().__init__()
        self.architecture = architecture or DiskArchitecture()
        self.unet = _UNet(self.architecture)

    def forward(self, images: Tensor, limits: Limits = DISK_LIMITS) -> list[Points]:
        """Detects and describes.

        Args:
            images: [B, 3, H, W] RGB in [0, 1]; black rows and columns are added at the right and the bottom if H
                or W is not a multiple of 16.
            limits: which points to keep; scores are logits.

        Returns:
            The points of each image.

        Raises:
            ValueError: the images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise ValueError(f"images: expected [B, 3, H, W], got {list(images.shape)}")
        if len(images) == 0:
            return []
        scores, descriptors = self.maps(images)
        result = []
        for index, pixels in enumerate(select_peaks(scores, limits)):
            x, y = pixels.unbind(-1)
            values = scores[index, y, x]
            order = best_first(values, limits)
            described = F.normalize(descriptors[index, :, y[order], x[order]].T, dim=1)  # [D, N] -> [N, D]
            result.append(Points(pixels[order].to(values.dtype), values[order], described))
        return result

    def maps(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images [B, 3, H, W] -> logits of a point [B, H, W] and unnormalised descriptors [B, D, H, W]."""
        height, width = images.shape[2:]
        stride = self.architecture.stride
        down, right = -height % stride, -width % stride
        if height + down == width + right == stride:
            right += stride  # a single coarsest cell has no variance for the normalisation
        output = self.unet(F.pad(images, (0, right, 0, down)))[..., :height, :width]
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        return output[:, -1], output[:, :-1]


def load_disk(path: str | Path, *, sha256: str | None = None) -> Disk:
    """Reads `depth-save.pth` or `epipolar-save.pth` of the authors, or their state dicts.

    Args:
        path: of the file; its weights may be nested under `extractor`.
        sha256: expected hexadecimal digest; None skips the comparison.

    Raises:
        WeightsError: the file is missing, damaged, has another digest, or belongs to another network.
    """
    return load_published(Disk, path, prefixes=("", "extractor."), sha256=sha256)


class _Stage(nn.Sequential):
    """Instance normalisation, PReLU with one slope per channel, and a convolution.

    The third module is empty: it was dropout, and the names in the published files count it.
    """

    def __init__(self, channels_in: int, channels_out: int, kernel_px: int, gated: bool = True) -> None:
        super().__init__(
            nn.InstanceNorm2d(channels_in) if gated else nn.Identity(),
            nn.PReLU(channels_in) if gated else nn.Identity(),
            nn.Identity(),
            nn.Conv2d(channels_in, channels_out, kernel_px, padding="same"),
        )


class _Up(nn.Module):
    """Doubles the resolution, and concatenates the features of the contracting path."""

    def __init__(self, below: int, beside: int, channels_out: int, kernel_px: int) -> None:
        super().__init__()
        self.conv = _Stage(below + beside, channels_out, kernel_px)

    def forward(self, below: Tensor, beside: Tensor) -> Tensor:
        larger = F.interpolate(below, scale_factor=2, mode="bilinear", align_corners=False)
        joined: Tensor = self.conv(torch.cat([larger, beside], dim=1))
        return joined


class _UNet(nn.Module):
    def __init__(self, architecture: DiskArchitecture) -> None:
        super().__init__()
        size = architecture.kernel_px
        downs: Sequence[int] = (3, *architecture.down_channels)
        self.path_down = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d(2) if index else nn.Identity(), _Stage(before, after, size, gated=index > 0))
            for index, (before, after) in enumerate(pairwise(downs))
        )
        ups = (downs[-1], *architecture.up_channels, architecture.descriptor_dim + 1)
        self.path_up = nn.ModuleList(
            _Up(below, beside, after, size) for below, beside, after in zip(ups, downs[-2:0:-1], ups[1:], strict=False)
        )

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] with sides that are multiples of the stride -> [B, D + 1, H, W]."""
        x, levels = images, []
        for down in self.path_down:
            x = down(x)
            levels.append(x)
        for up, beside in zip(self.path_up, levels[-2::-1], strict=True):
            x = up(x, beside)
        return x
