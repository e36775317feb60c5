"""HardNet: a descriptor of a patch, and the patches that it describes.

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
"""Side of a patch."""
DESCRIPTOR_DIM = 128
"""Width D of a descriptor."""
_CHUNK = 512
"""Patches that go through the network together: 32 channels of 32 x 32 pixels each are 64 MiB."""


class HardNet(nn.Module):
    """The network; its weights have the names of the authors' files."""

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
        """Describes patches; their brightness and contrast do not matter.

        Args:
            patches: [N, 1, 32, 32] grey values in any range.

        Returns:
            [N, 128] of length 1.

        Raises:
            ValueError: on patches of another shape.
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
    """Reads the authors' `HardNet++.pth`, `checkpoint_liberty_with_aug.pth` and their like.

    Args:
        path: of the file.
        sha256: hexadecimal digest that the file must have.

    Raises:
        WeightsError: where the file is missing, damaged, other than promised, or of another network.
    """
    return load_published(HardNet, path, sha256=sha256)


def cut_patches(image: Tensor, centres: Tensor, radii_px: Tensor, angles_rad: Tensor) -> Tensor:
    """Turned squares of a picture as patches of 32 x 32.

    Larger squares are cut out of a smaller copy of the picture, so that no pixel is left out; beyond its sides
    its last pixels go on.

    Args:
        image: [H, W] grey.
        centres: [N, 2] (x, y) in pixels, the centre of the first pixel at 0.
        radii_px: [N] half the sides of the squares.
        angles_rad: [N] from the picture's x axis, clockwise on the screen, to that of the patch.

    Returns:
        [N, 1, 32, 32].
    """
    cosine, sine = angles_rad.cos() * radii_px, angles_rad.sin() * radii_px
    axes = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)  # [N, 2, 2]
    steps = (torch.arange(PATCH_PX, device=image.device, dtype=image.dtype) * 2 + 1) / PATCH_PX - 1
    corners = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)  # [32, 32, 2] (x, y) in [-1, 1]
    places = torch.einsum("nij,yxj->nyxi", axes, corners) + centres[:, None, None]
    size = places.new_tensor([image.shape[1], image.shape[0]])
    grid = (places * 2 + 1) / size - 1  # the same for all copies of the picture: a resize keeps corners
    pyramid = _pyramid(image)
    finest = (2 * radii_px / PATCH_PX).log2().floor().clamp(0, len(pyramid) - 1).long()
    patches = image.new_zeros(len(centres), 1, PATCH_PX, PATCH_PX)
    for level, picture in enumerate(pyramid):
        rows = torch.nonzero(finest == level)[:, 0]
        if len(rows) > 0:
            wide = grid[rows].flatten(0, 1)[None]  # [1, N 32, 32, 2]
            cut = F.grid_sample(picture[None, None], wide, padding_mode="border", align_corners=False)
            patches[rows] = cut.view(-1, 1, PATCH_PX, PATCH_PX)
    return patches


def _pyramid(image: Tensor) -> list[Tensor]:
    """Copies of a picture [H, W], each of half the size of the one before, as long as a patch has room in it."""
    binomial = image.new_tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = torch.outer(binomial, binomial)[None, None]
    levels = [image]
    while min(levels[-1].shape) // 2 >= PATCH_PX:
        blurred = F.conv2d(F.pad(levels[-1][None, None], (2, 2, 2, 2), mode="reflect"), kernel)
        half = (levels[-1].shape[0] // 2, levels[-1].shape[1] // 2)
        levels.append(F.interpolate(blurred, half, mode="bilinear", align_corners=False)[0, 0])
    return levels
