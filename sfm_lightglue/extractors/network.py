"""Common code of extractors that are networks: weights, digest, device, one image at a time."""

from __future__ import annotations

import threading
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from sfm_lightglue.arrays import BoolArray, UInt8Array
from sfm_lightglue.extractors.base import Detection, UprightExtractor, options_of_identity
from sfm_lightglue.identity import Identity
from sfm_lightglue.models.lazy_network import LazyNetwork
from sfm_lightglue.weights.lookup import require_weights

if TYPE_CHECKING:
    import torch


class NetworkConfig(Protocol):
    """Options that every such extractor has; the configurations are frozen dataclasses."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def weights(self) -> str:
        """Path or name of the weights; "" for the default weights."""

    @property
    def max_image_size(self) -> int:
        """Longer side in pixels to which larger images are shrunk."""


class PeakConfig(NetworkConfig, Protocol):
    """Options of extractors whose keypoints are peaks of a map of scores."""

    @property
    def max_keypoints(self) -> int:
        """Largest number of keypoints per image."""

    @property
    def detection_threshold(self) -> float:
        """Lowest score of a keypoint."""

    @property
    def nms_radius_px(self) -> int:
        """Radius of non-maximum suppression."""


ConfigT = TypeVar("ConfigT", bound=NetworkConfig)
PeakConfigT = TypeVar("PeakConfigT", bound=PeakConfig)
NetworkT = TypeVar("NetworkT", bound="torch.nn.Module")


class NetworkExtractor(UprightExtractor, Generic[ConfigT, NetworkT]):
    """An `Extractor` with weights from a file, which are loaded at the first image.

    Subclasses set `name` and `default_weights`, may set `version`, `needs_colour` and `not_in_identity`, and
    implement `load` and `run`.

    Args:
        config: options.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: the file is missing.
    """

    name: ClassVar[str]
    """Name in the registry."""

    version: ClassVar[int] = 1
    """Number to raise whenever the results of the code change."""

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"weights"})
    """Options whose effect is covered by the digest of the weights."""

    default_weights: str
    """Name of the weights to use if none are configured."""

    def __init__(self, config: ConfigT, device: str = "auto") -> None:
        self.config = config
        self.max_image_size = config.max_image_size
        path = require_weights(config.weights, f"extractor {self.name}", "extractor.weights", self.default_weights)
        self._network = LazyNetwork(path, self.load, device)
        self._running = threading.Lock()

    @property
    def identity(self) -> Identity:
        """Name, options and the digest of the weights, but not the path of the file."""
        options = tuple(options_of_identity(self.config, self.not_in_identity).values())
        return Identity(self.name, self.version, options, self._network.digest)

    @abstractmethod
    def load(self, path: Path) -> NetworkT:
        """Reads the network onto the CPU, in evaluation mode.

        Raises:
            WeightsError: the file does not contain this network.
        """

    @abstractmethod
    def run(
        self, network: NetworkT, pixels: UInt8Array, device: torch.device, max_keypoints: int
    ) -> tuple[Detection, int]:
        """Finds features in an upright image [H, W] or [H, W, 3]; called in inference mode, by one thread.

        Returns:
            As `detect_layers`.
        """

    def detect(self, pixels: UInt8Array) -> Detection:
        """Finds features in an upright image [H, W] or [H, W, 3]."""
        return self.detect_layers(pixels, None, 0)[0]

    def detect_layers(self, pixels: UInt8Array, allowed: BoolArray | None, max_keypoints: int) -> tuple[Detection, int]:
        """Finds the features of both layers in an upright image; the mask is applied afterwards."""
        import torch

        with self._running, torch.inference_mode():  # torch uses all cores for one image
            network, device = self._network.get()
            return self.run(network, pixels, device, max_keypoints)


class PeakExtractor(NetworkExtractor[PeakConfigT, NetworkT]):
    """A `NetworkExtractor` whose network takes `Limits` and returns `Points` for each image."""

    def run(
        self, network: NetworkT, pixels: UInt8Array, device: torch.device, max_keypoints: int
    ) -> tuple[Detection, int]:
        """Finds features in an upright image [H, W] or [H, W, 3]."""
        limit = self.config.max_keypoints
        (found,) = self._run_batch(network, as_batch(pixels, device), max(limit, max_keypoints))
        return found, min(len(found.keypoints), limit)

    def detect_batch(self, images: torch.Tensor) -> list[Detection]:
        """Finds features in several upright images of one size, which are not shrunk.

        Args:
            images: [B, H, W, C] uint8 on any device.
        """
        import torch

        with self._running, torch.inference_mode():
            network, device = self._network.get()
            batch = images.to(device).permute(0, 3, 1, 2).float() / 255
            return self._run_batch(network, batch, self.config.max_keypoints)

    def _run_batch(self, network: NetworkT, batch: torch.Tensor, max_keypoints: int) -> list[Detection]:
        from sfm_lightglue.models.keypoints import Limits

        config = self.config
        limits = Limits(config.detection_threshold, config.nms_radius_px, max_keypoints)
        found = network(batch, limits)
        return [as_detection(points.keypoints, points.scores, points.descriptors) for points in found]


def as_batch(pixels: UInt8Array, device: torch.device) -> torch.Tensor:
    """An image [H, W] or [H, W, C] as a batch of one [1, C, H, W] float32 in [0, 1]."""
    import torch

    channels = np.atleast_3d(pixels).transpose(2, 0, 1).astype(np.float32) / 255  # [H, W, C] -> [C, H, W]
    return torch.from_numpy(np.ascontiguousarray(channels))[None].to(device)


def as_detection(keypoints: torch.Tensor, scores: torch.Tensor, descriptors: torch.Tensor) -> Detection:
    """The output of a network as numpy arrays.

    Args:
        keypoints: [N, 2] (x, y) in pixels, with the centre of the first pixel at 0 (COLMAP: 0.5).
        scores: [N].
        descriptors: [N, D].
    """
    arrays = [tensor.float().cpu().numpy() for tensor in (keypoints, scores, descriptors)]
    return Detection(arrays[0] + np.float32(0.5), arrays[1], arrays[2])
