"""What extractors that are networks do alike: weights, digest, device, and one picture at a time."""

from __future__ import annotations

import threading
from abc import abstractmethod
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar

import numpy as np

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.extractors.base import Detection, UprightExtractor
from sfm_lightglue.identity import Identity
from sfm_lightglue.weights.lookup import file_sha256, require_weights

if TYPE_CHECKING:
    import torch


class NetworkConfig(Protocol):
    """What the options of all such extractors, frozen dataclasses, have."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def weights(self) -> str:
        """Path or name of the weights, "" for the default ones."""

    @property
    def max_image_size(self) -> int:
        """Longer side in pixels to which larger pictures are shrunk."""


ConfigT = TypeVar("ConfigT", bound=NetworkConfig)
NetworkT = TypeVar("NetworkT", bound="torch.nn.Module")


class NetworkExtractor(UprightExtractor, Generic[ConfigT, NetworkT]):
    """An `Extractor` with weights from a file; they are loaded when the first image comes.

    Subclasses set `name`, `default_weights` and perhaps `version`, `needs_colour` and `not_in_identity`, and write
    `load` and `run`.

    Args:
        config: options.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: where the file is missing.
    """

    name: ClassVar[str]
    """As in the registry."""

    version: ClassVar[int] = 1
    """Raised whenever the code starts to compute something else."""

    not_in_identity: ClassVar[frozenset[str]] = frozenset({"weights"})
    """Options that change nothing which the digest of the weights does not tell."""

    default_weights: str
    """Name of the weights that are looked for where none are configured."""

    def __init__(self, config: ConfigT, device: str = "auto") -> None:
        self.config = config
        self.max_image_size = config.max_image_size
        self._path = require_weights(
            config.weights, f"extractor {self.name}", "--extractor-weights", self.default_weights
        )
        self._digest = file_sha256(self._path)
        self._device_name = device
        self._network: NetworkT | None = None
        self._lock = threading.Lock()

    @property
    def identity(self) -> Identity:
        """Name, options and the digest of the weights; where the file lies does not matter."""
        names = [field.name for field in fields(self.config) if field.name not in self.not_in_identity]
        options = tuple(getattr(self.config, name) for name in names)
        return Identity(self.name, self.version, options, self._digest)

    @abstractmethod
    def load(self, path: Path) -> NetworkT:
        """Read the network onto the CPU, in evaluation mode.

        Raises:
            WeightsError: where the file holds no such network.
        """

    @abstractmethod
    def run(self, network: NetworkT, picture: UInt8Array, device: torch.device) -> Detection:
        """Find features in an upright picture [H, W] or [H, W, 3]; called in inference mode, by one thread."""

    def detect(self, picture: UInt8Array) -> Detection:
        """Find features in an upright picture [H, W] or [H, W, 3]."""
        import torch

        from sfm_lightglue.execution.devices import resolve_device

        with self._lock, torch.inference_mode():  # torch spreads one picture over all cores
            device = resolve_device(self._device_name)
            if self._network is None:
                self._network = self.load(self._path).to(device)
            return self.run(self._network, picture, device)


def as_batch(picture: UInt8Array, device: torch.device) -> torch.Tensor:
    """A picture [H, W] or [H, W, C] as a batch of one [1, C, H, W] float32 in [0, 1]."""
    import torch

    channels = np.atleast_3d(picture).transpose(2, 0, 1).astype(np.float32) / 255  # [H, W, C] -> [C, H, W]
    return torch.from_numpy(np.ascontiguousarray(channels))[None].to(device)


def as_detection(keypoints: torch.Tensor, scores: torch.Tensor, descriptors: torch.Tensor) -> Detection:
    """The output of a network as numpy.

    Args:
        keypoints: [N, 2] (x, y) in pixels, the centre of the first pixel at 0; COLMAP has it at 0.5.
        scores: [N].
        descriptors: [N, D].
    """
    arrays = [tensor.float().cpu().numpy() for tensor in (keypoints, scores, descriptors)]
    return Detection(arrays[0] + np.float32(0.5), arrays[1], arrays[2])
