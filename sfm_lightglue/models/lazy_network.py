"""A network that is read from its file at first use; importing this module does not import torch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from sfm_lightglue.execution.processor import may_have_cuda
from sfm_lightglue.weights.digest import file_sha256

if TYPE_CHECKING:
    import torch

NetworkT = TypeVar("NetworkT", bound="torch.nn.Module")


class LazyNetwork(Generic[NetworkT]):
    """A network on a device, read at first use. Safe to use from several threads.

    A run that finds all results in the store never reads the network.

    Args:
        path: file of weights.
        load: reads the network onto the CPU, in evaluation mode.
        device_name: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: the file cannot be read.
    """

    def __init__(self, path: Path, load: Callable[[Path], NetworkT], device_name: str) -> None:
        self.digest = file_sha256(path)
        self.device_name = device_name
        self._path, self._load = path, load
        self._network: NetworkT | None = None
        self._lock = threading.Lock()

    def device(self) -> torch.device:
        """The device of the network.

        Raises:
            ConfigError: the device is unknown or not available.
        """
        from sfm_lightglue.execution.devices import resolve_device

        return resolve_device(self.device_name)

    def is_on_cpu(self) -> bool:
        """Whether the device is the CPU. Torch is imported only if it may be another one.

        Raises:
            ConfigError: the device is unknown or not available.
        """
        name = self.device_name
        return name == "cpu" or (name == "auto" and not may_have_cuda()) or self.device().type == "cpu"

    def get(self) -> tuple[NetworkT, torch.device]:
        """The network and its device.

        Raises:
            ConfigError: the device is unknown or not available.
            WeightsError: the file does not contain this network.
        """
        device = self.device()
        with self._lock:
            if self._network is None:
                self._network = self._load(self._path).to(device)
            return self._network, device
