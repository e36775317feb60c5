"""HardNet: a descriptor of patches, and the extraction of patches from images.

Source: Mishchuk, Mishkin, Radenović and Matas, Working hard to know your neighbor's margins: Local descriptor
learning loss, NIPS 2017 (section 3.3).
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.weights.strict import load_published

PATCH_PX = 32
"""Side of a patch in pixels."""
DESCRIPTOR_DIM = 128
"""Width D of a descriptor."""
_CHUNK = 512
"""Number of patches per run of the network: 32 channels of 32 x 32 pixels each are 64 MiB."""


class HardNet(nn.Module):
    """The network; its weights are named as in the files of the authors."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((1, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1)):
            layers += [
                nn.Conv2d(before, after, 3, stride, padding=1, bias=False),
                nn.BatchNorm2d(after, affine=False),
                nn.ReLU(),
            ]
        layers += [
            nn.Dropout(0.3),
            nn.Conv2d(128, DESCRIPTOR_DIM, PATCH_PX // 4, bias=False),
            nn.BatchNorm2d(DESCRIPTOR_DIM, affine=False),
        ]
        self.features = nn.Sequential(*layers)

    def forward(self, patches: Tensor) -> Tensor:
        """Describes patches, independent of their brightness and contrast.

        Args:
            patches: [N, 1, 32, 32] grey values in any range.

        Returns:
            [N, 128] of length 1.

        Raises:
            ValueError: the patches have another shape.
        """
        if patches.ndim != 4 or patches.shape[1:] != (1, PATCH_PX, PATCH_PX):
            raise ValueError(f"patches: expected [N, 1, {PATCH_PX}, {PATCH_PX}], got {list(patches.shape)}")
        if len(patches) == 0:
            return patches.new_zeros(0, DESCRIPTOR_DIM)
        return torch.cat([self._describe(patches[start : start + _CHUNK]) for start in range(0, len(patches), _CHUNK)])

    def _describe(self, patches: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(patches, dim=(1, 2, 3), keepdim=True)
        features = self.features((patches - mean) / (deviation + 1e-6))  # [N, 128, 1, 1]
        return F.normalize(features.flatten(1), dim=1)


def load_hardnet(path: str | Path, *, sha256: str | None = None) -> HardNet:
    """Reads `HardNet++.pth`, `checkpoint_liberty_with_aug.pth` or similar files of the authors.

    Args:
        path: of the file.
        sha256: expected hexadecimal digest; None skips the comparison.

    Raises:
        WeightsError: the file is missing, damaged, has another digest, or belongs to another network.
    """
    return load_published(HardNet, path, sha256=sha256)


def cut_patches(image: Tensor, centres: Tensor, radii_px: Tensor, angles_rad: Tensor) -> Tensor:
    """Rotated squares of an image as patches of 32 x 32 pixels.

    Larger squares are sampled from a smaller copy of the image, to avoid aliasing. Outside the image, its border
    pixels are repeated.

    Args:
        image: [H, W] grey.
        centres: [N, 2] (x, y) in pixels, with the centre of the first pixel at 0.
        radii_px: [N] half the sides of the squares.
        angles_rad: [N] from the x axis of the image to the x axis of the patch, clockwise on the screen.

    Returns:
        [N, 1, 32, 32].
    """
    cosine, sine = angles_rad.cos() * radii_px, angles_rad.sin() * radii_px
    axes = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)  # [N, 2, 2]
    steps = (torch.arange(PATCH_PX, device=image.device, dtype=image.dtype) * 2 + 1) / PATCH_PX - 1
    corners = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)  # [32, 32, 2] (x, y) in [-1, 1]
    positions = torch.einsum("nij,yxj->nyxi", axes, corners) + centres[:, None, None]
    size = positions.new_tensor([image.shape[1], image.shape[0]])
    grid = (positions * 2 + 1) / size - 1  # equal for all copies of the image, since a resize preserves its corners
    pyramid = _pyramid(image)
    finest = (2 * radii_px / PATCH_PX).log2().floor().clamp(0, len(pyramid) - 1).long()
    patches = image.new_zeros(len(centres), 1, PATCH_PX, PATCH_PX)
    for level, copy in enumerate(pyramid):
        rows = torch.nonzero(finest == level)[:, 0]
        if len(rows) > 0:
            wide = grid[rows].flatten(0, 1)[None]  # [1, N 32, 32, 2]
            cut = F.grid_sample(copy[None, None], wide, padding_mode="border", align_corners=False)
            patches[rows] = cut.view(-1, 1, PATCH_PX, PATCH_PX)
    return patches


def _pyramid(image: Tensor) -> list[Tensor]:
    """Copies of an image [H, W], each half the size of the previous one, down to the size of a patch."""
    binomial = image.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = torch.outer(binomial, binomial)[None, None]
    levels = [image]
    while min(levels[-1].shape) // 2 >= PATCH_PX:
        blurred = F.conv2d(F.pad(levels[-1][None, None], (2, 2, 2, 2), mode="reflect"), kernel)
        half = (levels[-1].shape[0] // 2, levels[-1].shape[1] // 2)
        levels.append(F.interpolate(blurred, half, mode="bilinear", align_corners=False)[0, 0])
    return levels
