"""XFeat: keypoints and 64-d descriptors from a small network for the CPU.

Source: Potje, Cadar, Araujo, Martins and Nascimento, XFeat: Accelerated Features for Lightweight Image Matching,
CVPR 2024. The file follows section 3 of the paper from top to bottom.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.models.keypoints import Limits, Points, best_first, select_peaks
from sfm_lightglue.weights.strict import load_published

CELL = 8
"""Side of a cell in pixels, the resolution of all maps."""
STRIDE = 32
"""Side of the coarsest cells in pixels: images are resized to multiples of it."""
DESCRIPTOR_DIM = 64
"""Width D of a descriptor."""
XFEAT_LIMITS = Limits(score_threshold=0.05, nms_radius_px=2)
"""Threshold of the authors on the probability of a point, and their window of 5 pixels."""


class DenseMaps(NamedTuple):
    """Output of the network for every cell of 8 x 8 pixels."""

    descriptors: Tensor
    """[B, 64, H / 8, W / 8] float, unnormalised."""
    logits: Tensor
    """[B, 65, H / 8, W / 8] float: logits of the pixels of a cell in reading order, then of no point."""
    reliability: Tensor
    """[B, 1, H / 8, W / 8] float in [0, 1]: probability that the descriptor can be matched."""


class XFeat(nn.Module):
    """The network; its weights are named as in the file of the authors."""

    def __init__(self) -> None:
        super().__init__()
        self.skip1 = nn.Sequential(nn.AvgPool2d(4, 4), nn.Conv2d(1, 24, 1))
        self.block1 = nn.Sequential(_Layer(1, 4), _Layer(4, 8, stride=2), _Layer(8, 8), _Layer(8, 24, stride=2))
        self.block2 = nn.Sequential(_Layer(24, 24), _Layer(24, 24))
        self.block3 = nn.Sequential(_Layer(24, 64, stride=2), _Layer(64, 64), _Layer(64, 64, size=1))
        self.block4 = nn.Sequential(_Layer(64, 64, stride=2), _Layer(64, 64), _Layer(64, 64))
        self.block5 = nn.Sequential(
            _Layer(64, 128, stride=2), _Layer(128, 128), _Layer(128, 128), _Layer(128, 64, size=1)
        )
        self.block_fusion = nn.Sequential(_Layer(64, 64), _Layer(64, 64), nn.Conv2d(64, DESCRIPTOR_DIM, 1))
        self.heatmap_head = nn.Sequential(_Layer(64, 64, size=1), _Layer(64, 64, size=1), nn.Conv2d(64, 1, 1))
        self.keypoint_head = nn.Sequential(
            *(_Layer(CELL * CELL, 64, size=1) for _ in range(3)), nn.Conv2d(64, CELL * CELL + 1, 1)
        )

    def forward(self, images: Tensor, limits: Limits = XFEAT_LIMITS) -> list[Points]:
        """Detects and describes.

        Args:
            images: [B, C, H, W] in any range, of any size; they are resized to sides that are multiples of 32,
                rounded down, at least 32.
            limits: which points to keep; the threshold applies to the probability of a point, the score is the
                probability times the reliability.

        Returns:
            The points of each image, in pixels of the given images.

        Raises:
            ValueError: the images have another shape.
        """
        if images.ndim != 4 or 0 in images.shape[1:]:
            raise ValueError(f"images: expected [B, C, H, W], got {list(images.shape)}")
        height, width = images.shape[2:]
        seen = tuple(max(side // STRIDE, 1) * STRIDE for side in (height, width))
        if seen != (height, width):
            images = F.interpolate(images, seen, mode="bilinear", align_corners=False)
        if len(images) == 0:
            return []
        maps = self.maps(images)
        heat = self.heat(maps.logits)
        described = F.normalize(_full(maps.descriptors), dim=1)
        reliability = _full(maps.reliability)
        factors = images.new_tensor([width / seen[1], height / seen[0]])
        result = []
        for index, pixels in enumerate(select_peaks(heat, limits)):
            x, y = pixels.unbind(-1)
            reliable = sample(reliability[index], pixels, "bilinear")[:, 0]
            scores = heat[index, y, x] * reliable
            order = best_first(scores, limits)
            descriptors = sample(described[index], pixels[order], "bicubic")
            # A resize preserves corners; the corner of an image is half a pixel before the centre of the first pixel.
            keypoints = (pixels[order] + 0.5) * factors - 0.5
            result.append(Points(keypoints, scores[order], F.normalize(descriptors, dim=1)))
        return result

    def maps(self, images: Tensor) -> DenseMaps:
        """Images [B, C, H, W] with sides that are multiples of 32 -> all maps (section 3.1 and 3.2)."""
        grey = F.instance_norm(images.mean(dim=1, keepdim=True))
        x1 = self.block1(grey) + self.skip1(grey)  # [B, 24, H / 4, W / 4]
        x3 = self.block3(self.block2(x1))  # [B, 64, H / 8, W / 8]
        x4 = self.block4(x3)  # [B, 64, H / 16, W / 16]
        x5 = self.block5(x4)  # [B, 64, H / 32, W / 32]
        size = x3.shape[2:]
        pyramid = x3 + sum(F.interpolate(x, size, mode="bilinear", align_corners=False) for x in (x4, x5))
        descriptors = self.block_fusion(pyramid)
        # The logits depend only on the pixels of their cell, which become channels; all kernels are 1 x 1.
        logits = self.keypoint_head(F.pixel_unshuffle(grey, CELL))  # [B, 1, H, W] -> [B, 64, H / 8, W / 8]
        return DenseMaps(descriptors, logits, torch.sigmoid(self.heatmap_head(descriptors)))

    @staticmethod
    def heat(logits: Tensor) -> Tensor:
        """Logits [B, 65, H / 8, W / 8] -> probability of a point in every pixel [B, H, W]."""
        cells = torch.softmax(_full(logits), dim=1)[:, :-1]  # the 65th entry means no point
        return F.pixel_shuffle(cells, CELL).squeeze(1)


def sample(dense: Tensor, pixels: Tensor, mode: str) -> Tensor:
    """Interpolated values of a map at pixels.

    Args:
        dense: [D, h, w], one cell per 8 x 8 pixels.
        pixels: [N, 2] (x, y).
        mode: "bilinear" or "bicubic".

    Returns:
        [N, D].

    Source: the code of the authors, which shifts positions by up to half a pixel at the right and the bottom.
    Matchers were trained on these descriptors.
    """
    _, height, width = dense.shape
    last = pixels.new_tensor([width * CELL - 1, height * CELL - 1])
    grid = (pixels / last * 2 - 1).to(dense.dtype)  # [N, 2] in [-1, 1]
    sampled = F.grid_sample(dense[None], grid[None, None], mode=mode, align_corners=False)
    return sampled[0, :, 0].T  # [1, D, 1, N] -> [N, D]


def load_xfeat(path: str | Path, *, sha256: str | None = None) -> XFeat:
    """Reads `xfeat.pt` of the authors, also with the prefix `net.`.

    `fine_matcher`, the head of the semi-dense XFeat* that refines matches of cells, is ignored.

    Args:
        path: of the file.
        sha256: expected hexadecimal digest; None skips the comparison.

    Raises:
        WeightsError: the file is missing, damaged, has another digest, or belongs to another network.
    """
    return load_published(XFeat, path, prefixes=("", "net."), ignored=("fine_matcher.",), sha256=sha256)


class _Layer(nn.Module):
    """Convolution, normalisation over the batch without scale and shift, and ReLU."""

    def __init__(self, channels_in: int, channels_out: int, size: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False),
            nn.BatchNorm2d(channels_out, affine=False),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return y


def _full(x: Tensor) -> Tensor:
    """At least float32, in which exponentials and lengths are accurate enough."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
