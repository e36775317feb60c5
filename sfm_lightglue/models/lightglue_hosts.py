"""LightGlue with the inputs and outputs that other programs expect of an ONNX file.

Each layout is a module whose arguments and results are those of the file, in its order. All take one pair of images.

Sources: OpenCV 5.0, modules/features/src/feature2d_lightglue.cpp; COLMAP 4.2, src/colmap/feature/onnx_matchers.cc.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from sfm_lightglue.models.lightglue import LightGlue, normalize_keypoints
from sfm_lightglue.models.lightglue_graph import LightGlueGraph

_SIFT_SIZE_PX = 1600
"""Longer side in pixels to which SIFT shrinks images: the scales that the weights know are those of this image."""

_NUM_TRACED = (48, 40)
"""Numbers of points of the two images with which a graph is traced; they are dynamic afterwards."""

_MAX_NORMALIZED = 1.001
"""Coordinates of OpenCV that are all smaller are normalised ones: no image has all keypoints in its first pixel."""


class HostLayout(nn.Module):
    """A LightGlue with the inputs and outputs of another program.

    Args:
        network: whose weights are used.
        filter_threshold: matches with a lower score are left out.
    """

    name: ClassVar[str]
    """Of the layout, for commands."""
    inputs: ClassVar[tuple[str, ...]]
    """Names of the inputs of one image: keypoints, descriptors, size, scales, orientations."""
    output_names: ClassVar[tuple[str, ...]]
    """Of the results of `forward`."""

    def __init__(self, network: LightGlue, filter_threshold: float) -> None:
        super().__init__()
        self.architecture = network.architecture
        self.matching = LightGlueGraph(network, filter_threshold)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Of the arguments of `forward`; scales and orientations only where the weights use them."""
        names = self.inputs if self.architecture.use_scale_orientation else self.inputs[:3]
        return tuple(f"{name}{side}" for name in names for side in (0, 1))

    def example(self) -> tuple[Tensor, ...]:
        """Arguments of `forward` with which the graph is traced; only their shapes matter."""
        has_scales = self.architecture.use_scale_orientation
        keypoints = [torch.ones(1, number, 2) for number in _NUM_TRACED]
        descriptors = [torch.ones(1, number, self.architecture.input_dim) for number in _NUM_TRACED]
        sizes = [torch.tensor([[640.0, 480.0]]) for _ in _NUM_TRACED]
        scales = [torch.ones(1, number) for number in _NUM_TRACED * 2] if has_scales else []
        return *keypoints, *descriptors, *sizes, *scales

    def dynamic_axes(self) -> tuple[dict[int, str], ...]:
        """For each argument, the axes whose size is dynamic, and the name of the size; sizes of images have none."""
        return tuple({} if idx in (4, 5) else {1: f"num_keypoints{idx % 2}"} for idx in range(len(self.input_names)))


class PlainLayout(HostLayout):
    """All results, for any program: keypoints in pixels, the centre of the first pixel at (0.5, 0.5).

    Inputs of each image: keypoints [1, N, 2]; descriptors [1, N, D]; image size [1, 2] (width, height); with SIFT also
    scales [1, N], the diameters in pixels of an image of at most 1600 px, and orientations [1, N] in radians. Outputs:
    matches [1, N] (index or -1) and scores [1, N] of both images.
    """

    name = "plain"
    inputs = ("keypoints", "descriptors", "image_size", "scales", "orientations")
    output_names = ("matches0", "matches1", "scores0", "scores1")

    def forward(
        self,
        keypoints0: Tensor,
        keypoints1: Tensor,
        descriptors0: Tensor,
        descriptors1: Tensor,
        image_size0: Tensor,
        image_size1: Tensor,
        scales0: Tensor | None = None,
        scales1: Tensor | None = None,
        orientations0: Tensor | None = None,
        orientations1: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Match a pair."""
        positions0 = _positions(keypoints0, image_size0, scales0, orientations0)
        positions1 = _positions(keypoints1, image_size1, scales1, orientations1)
        found: tuple[Tensor, Tensor, Tensor, Tensor] = self.matching(positions0, positions1, descriptors0, descriptors1)
        return found


class ColmapLayout(HostLayout):
    """The layout of COLMAP's `SIFT_LIGHTGLUE` and `ALIKED_LIGHTGLUE`.

    COLMAP gives pixels with the centre of the first one at 0, the scale of SIFT as a standard deviation, and takes the
    square roots of descriptors whose entries are square roots already: all three are undone here.
    """

    name = "colmap"
    inputs = ("kpts", "desc", "image_size", "scales", "oris")
    output_names = ("matches0", "mscores0")

    def forward(
        self,
        kpts0: Tensor,
        kpts1: Tensor,
        desc0: Tensor,
        desc1: Tensor,
        image_size0: Tensor,
        image_size1: Tensor,
        scales0: Tensor | None = None,
        scales1: Tensor | None = None,
        oris0: Tensor | None = None,
        oris1: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Matches [N0] of the first image, -1 without, and their scores [N0]."""
        sides = (kpts0, desc0, image_size0, scales0, oris0), (kpts1, desc1, image_size1, scales1, oris1)
        (positions0, descriptors0), (positions1, descriptors1) = (self._inputs(*side) for side in sides)
        matches0, _, scores0, _ = self.matching(positions0, positions1, descriptors0, descriptors1)
        return matches0[0], scores0[0]

    def _inputs(
        self, keypoints: Tensor, descriptors: Tensor, size: Tensor, sigmas: Tensor | None, orientations: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Positions and descriptors of one image."""
        if sigmas is None:
            return _positions(keypoints + 0.5, size, None, None), descriptors
        positions = _positions(keypoints + 0.5, size, 2 * sigmas / _shrink_factor(size), orientations)
        return positions, nn.functional.normalize(descriptors.square(), dim=-1)


class OpenCVLayout(HostLayout):
    """The layout of OpenCV's `cv2.LightGlueMatcher`, which has no inputs but keypoints and descriptors.

    So each descriptor is followed by further entries: for SIFT `size` and `angle` of its `cv2.KeyPoint`, and for all
    features width and height of the image. SIFT's descriptors are those of `cv2.SIFT`; the square root is taken here.
    Keypoints are in pixels, the centre of the first one at 0. If image sizes are given to `setPairInfo`, OpenCV
    normalises the keypoints, which is noticed.
    """

    name = "opencv"
    inputs = ("kpts", "desc")
    output_names = ("matches0", "mscores0")

    @property
    def num_columns(self) -> int:
        """Number of entries of a descriptor with those that follow it."""
        return self.architecture.input_dim + (4 if self.architecture.use_scale_orientation else 2)

    def example(self) -> tuple[Tensor, ...]:
        """Arguments of `forward` with which the graph is traced."""
        keypoints = super().example()[:2]
        described = []
        for each in keypoints:
            values = torch.ones(1, each.shape[1], self.num_columns - 2)
            described.append(torch.cat([values, torch.full_like(each, 640.0)], dim=2))
        return *keypoints, *described

    def forward(self, kpts0: Tensor, kpts1: Tensor, desc0: Tensor, desc1: Tensor) -> tuple[Tensor, Tensor]:
        """Rows [N0, 2] (index, matched index or -1) of the first image, and their scores [N0]."""
        (positions0, descriptors0), (positions1, descriptors1) = self._inputs(kpts0, desc0), self._inputs(kpts1, desc1)
        matches0, _, scores0, _ = self.matching(positions0, positions1, descriptors0, descriptors1)
        rows = torch.arange(matches0.shape[1], device=matches0.device)
        return torch.stack([rows, matches0[0]], dim=1), scores0[0]

    def _inputs(self, keypoints: Tensor, described: Tensor) -> tuple[Tensor, Tensor]:
        """Positions and descriptors of one image."""
        width = self.architecture.input_dim
        descriptors, size = described[:, :, :width], described[:, 0, self.num_columns - 2 :]
        is_normalized = keypoints.abs().amax(dim=(1, 2), keepdim=True) <= _MAX_NORMALIZED
        pixels = torch.where(is_normalized, (keypoints + 1) / 2 * size[:, None], keypoints) + 0.5
        if not self.architecture.use_scale_orientation:
            return _positions(pixels, size, None, None), descriptors
        scales, radians = described[:, :, width] / _shrink_factor(size), described[:, :, width + 1] * (math.pi / 180)
        return _positions(pixels, size, scales, radians), nn.functional.normalize(
            descriptors.clamp(min=0).sqrt(), dim=-1
        )


LAYOUTS: dict[str, type[HostLayout]] = {each.name: each for each in (PlainLayout, ColmapLayout, OpenCVLayout)}
"""The layouts by their names."""


def _positions(keypoints: Tensor, size: Tensor, scales: Tensor | None, orientations: Tensor | None) -> Tensor:
    """Input [1, N, 2 or 4] of the network.

    Args:
        keypoints: [1, N, 2], the centre of the first pixel at (0.5, 0.5).
        size: [1, 2] (width, height).
        scales: [1, N] diameters in pixels; None if the weights do not use them.
        orientations: [1, N] in radians.
    """
    centred = normalize_keypoints(keypoints, size)
    if scales is None or orientations is None:
        return centred
    turns = torch.floor(orientations / (2 * math.pi))
    return torch.cat([centred, scales[..., None], (orientations - turns * (2 * math.pi))[..., None]], dim=-1)


def _shrink_factor(size: Tensor) -> Tensor:
    """[1, 1] by how much larger an image is than the one that SIFT sees; at least 1."""
    return (size.amax(dim=-1, keepdim=True) / _SIFT_SIZE_PX).clamp(min=1.0)
