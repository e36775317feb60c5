"""SuperPoint: interest points and their descriptors from one grey image.

Source: DeTone, Malisiewicz and Rabinovich, SuperPoint: Self-Supervised Interest Point Detection and
Description, CVPR workshops 2018. The file follows the paper's section 3 from top to bottom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfm_lightglue.models.keypoints import suppress_neighbours

CELL = 8
"""Side of a cell in pixels of the map of scores; with four stages, which pool three times, also of the image."""


@dataclass(frozen=True, slots=True)
class SuperPointArchitecture:
    """Sizes of the weights.

    Raises:
        ValueError: there are fewer than two stages.
    """

    encoder_channels: tuple[int, ...] = (64, 64, 128, 128)
    """Channels of the stages of the encoder; each but the last halves the resolution. The paper has four."""
    decoder_channels: int = 256
    """Channels of the hidden layer of both decoders."""
    descriptor_dim: int = 256
    """Width D of a descriptor."""

    def __post_init__(self) -> None:
        if len(self.encoder_channels) < 2:
            raise ValueError(f"SuperPointArchitecture: expected 2 stages or more, got {len(self.encoder_channels)}")
        object.__setattr__(self, "encoder_channels", tuple(self.encoder_channels))

    @property
    def cell_px(self) -> int:
        """Side of a cell in pixels of the image; 8 with four stages."""
        return int(2 ** (len(self.encoder_channels) - 1))


@dataclass(frozen=True, slots=True)
class SuperPointThresholds:
    """Which points to keep; independent of the weights.

    Raises:
        ValueError: a negative number.
    """

    score_threshold: float = 0.005
    """Points have a score above this."""
    nms_radius_px: int = 4
    """Any two points differ by more than this along at least one axis, in pixels of the map of scores."""
    border_px: int = 4
    """Points nearer to the border of the image are removed; 0 keeps all."""
    max_num_keypoints: int | None = None
    """Number of best points to keep; None keeps all."""

    def __post_init__(self) -> None:
        for name in ("score_threshold", "nms_radius_px", "border_px", "max_num_keypoints"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"SuperPointThresholds: {name} must not be negative, got {value}")


class SuperPointOutput(NamedTuple):
    """Points of a batch of images, highest score first; padding is 0."""

    keypoints: Tensor
    """[B, N, 2] float: (x, y) in pixels of the network's input, **the centre of the first pixel at 0**."""
    scores: Tensor
    """[B, N] float in [0, 1]."""
    descriptors: Tensor
    """[B, N, D] float of length 1."""
    mask: Tensor
    """[B, N] bool, True on points."""


class SuperPoint(nn.Module):
    """The network; its weights are named as in the file of the authors.

    Args:
        architecture: channels; the defaults are those of the paper.
    """

    def __init__(self, architecture: SuperPointArchitecture | None = None) -> None:
        super().__init__()
        self.architecture = arch = architecture or SuperPointArchitecture()
        for stage, (before, channels) in enumerate(
            zip((1, *arch.encoder_channels), arch.encoder_channels, strict=False)
        ):
            for half, width in zip("ab", (before, channels), strict=True):
                self.add_module(f"conv{stage + 1}{half}", nn.Conv2d(width, channels, 3, padding=1))
        last = arch.encoder_channels[-1]
        self.convPa = nn.Conv2d(last, arch.decoder_channels, 3, padding=1)
        self.convPb = nn.Conv2d(arch.decoder_channels, CELL * CELL + 1, 1)
        self.convDa = nn.Conv2d(last, arch.decoder_channels, 3, padding=1)
        self.convDb = nn.Conv2d(arch.decoder_channels, arch.descriptor_dim, 1)

    def forward(self, images: Tensor, thresholds: SuperPointThresholds | None = None) -> SuperPointOutput:
        """Detects and describes.

        Args:
            images: [B, 1, H, W] grey values in [0, 1]. If H or W is not a multiple of 8, the last rows or
                columns (at most 7) belong to no cell and have no points.
            thresholds: which points to keep.

        Returns:
            Points in pixels, with the centre of the first pixel at 0; add 0.5 for COLMAP's convention.

        Raises:
            ValueError: the images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 1:
            raise ValueError(f"images: expected [B, 1, H, W], got {list(images.shape)}")
        thresholds = thresholds or SuperPointThresholds()
        batch, _, height, width = images.shape
        if min(height, width) < self.architecture.cell_px or batch == 0:
            return self._empty(images)
        features = self.encode(images)
        pixel = self.architecture.cell_px / CELL  # of the map of scores, in pixels of the image
        scores = remove_borders(
            suppress_neighbours(self.score(features), thresholds.nms_radius_px),
            round(thresholds.border_px / pixel),
            round(height / pixel),
            round(width / pixel),
        )
        descriptor_map = self.describe(features)
        found = [select_keypoints(each, thresholds) for each in scores]
        described = [sample_descriptors(keypoints, descriptor_map[index]) for index, (keypoints, _) in enumerate(found)]
        if pixel != 1:
            found = [((keypoints + 0.5) * pixel - 0.5, values) for keypoints, values in found]
        return SuperPointOutput(
            keypoints=nn.utils.rnn.pad_sequence([keypoints for keypoints, _ in found], batch_first=True),
            scores=nn.utils.rnn.pad_sequence([values for _, values in found], batch_first=True),
            descriptors=nn.utils.rnn.pad_sequence(described, batch_first=True),
            mask=nn.utils.rnn.pad_sequence(
                [torch.ones_like(values, dtype=torch.bool) for _, values in found], batch_first=True
            ),
        )

    def encode(self, images: Tensor) -> Tensor:
        """Images [B, 1, H, W] -> features [B, C, H / 8, W / 8] with four stages (section 3.1)."""
        return self.stages(images)[-1]

    def stages(self, images: Tensor) -> list[Tensor]:
        """Images [B, 1, H, W] -> feature maps of all stages, after the pooling of all but the last."""
        result, last = [images], len(self.architecture.encoder_channels)
        for stage in range(1, last + 1):
            x = result[-1]
            for half in "ab":
                x = F.relu(self.get_submodule(f"conv{stage}{half}")(x))
            result.append(F.max_pool2d(x, 2) if stage < last else x)
        return result[1:]

    def score(self, features: Tensor) -> Tensor:
        """Features [B, C, H / 8, W / 8] -> probability of a point in every pixel [B, H, W] (section 3.2)."""
        logits = self.convPb(F.relu(self.convPa(features)))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        cells = torch.softmax(logits, dim=1)[:, :-1]  # 64 pixels of a cell; the 65th entry means no point
        return F.pixel_shuffle(cells, CELL).squeeze(1)  # [B, 64, H / 8, W / 8] -> [B, H, W]

    def describe(self, features: Tensor) -> Tensor:
        """Features [B, C, H / 8, W / 8] -> descriptors of length 1 [B, D, H / 8, W / 8] (section 3.3)."""
        descriptors = self.convDb(F.relu(self.convDa(features)))
        return F.normalize(descriptors.to(torch.promote_types(descriptors.dtype, torch.float32)), dim=1)

    def _empty(self, images: Tensor) -> SuperPointOutput:
        batch = len(images)
        return SuperPointOutput(
            keypoints=images.new_zeros(batch, 0, 2),
            scores=images.new_zeros(batch, 0),
            descriptors=images.new_zeros(batch, 0, self.architecture.descriptor_dim),
            mask=images.new_zeros(batch, 0, dtype=torch.bool),
        )


def remove_borders(scores: Tensor, border_px: int, height: int, width: int) -> Tensor:
    """Sets scores [B, h, w] near the border of an image of `height` by `width` pixels to 0.

    The map may be up to 7 pixels smaller than the image at its right and lower sides.
    """
    kept = torch.zeros_like(scores, dtype=torch.bool)
    kept[:, border_px : max(height - border_px, 0), border_px : max(width - border_px, 0)] = True
    return scores.masked_fill(~kept, 0.0)


def select_keypoints(scores: Tensor, thresholds: SuperPointThresholds) -> tuple[Tensor, Tensor]:
    """Scores [H, W] -> keypoints [N, 2] (x, y), and scores [N], highest first; the first pixel's centre is at 0.

    Equal scores keep the reading order.
    """
    rows, columns = torch.nonzero(scores > thresholds.score_threshold, as_tuple=True)
    values, order = torch.sort(scores[rows, columns], descending=True, stable=True)
    order, values = order[: thresholds.max_num_keypoints], values[: thresholds.max_num_keypoints]
    return torch.stack([columns[order], rows[order]], dim=-1).to(scores.dtype), values


def sample_descriptors(keypoints: Tensor, descriptor_map: Tensor) -> Tensor:
    """Descriptors at keypoints, by bilinear interpolation between cells (section 3.3).

    Args:
        keypoints: [N, 2] (x, y) in pixels, with the centre of the first pixel at 0.
        descriptor_map: [D, h, w], one descriptor for each cell.

    Returns:
        [N, D] of length 1.

    Source: the code of the authors, whose scale is slightly smaller than that of the centres of the cells. Matchers
    were trained on these descriptors.
    """
    _, height, width = descriptor_map.shape
    size = keypoints.new_tensor([width, height]) * CELL
    grid = (keypoints - CELL / 2 + 0.5) / (size - CELL / 2 - 0.5) * 2 - 1  # [N, 2] in [-1, 1]
    sampled = F.grid_sample(descriptor_map[None], grid[None, None], mode="bilinear", align_corners=True)
    return F.normalize(sampled[0, :, 0].T, dim=1)  # [1, D, 1, N] -> [N, D]
