"""Options of where the work of a scene is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sfm_lightglue.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ExecutorConfig:
    """Which processes extract, match and verify. The results are the same."""

    name: Literal["threads", "folder", "ray"] = "threads"
    """"threads": this process alone. "folder": all processes that run the same command on the same output folder share
    the work, on one machine or on several that see the folder. "ray": the workers of a Ray cluster."""

    address: str = ""
    """Of the Ray cluster, such as "ray://head:10001", or "auto" on one of its machines. "" starts workers on this
    machine."""

    images_per_batch: int = 8
    """Images that a process or worker takes at a time."""

    pairs_per_batch: int = 64
    """Pairs that a process or worker takes at a time."""

    lease_s: float = 120.0
    """"folder": work of a process on another machine that gave no sign of life for this time, in seconds, is done by
    another one. On the same machine, a process that has ended is noticed at once."""

    max_tasks: int = 0
    """"ray": tasks that are given to the cluster at a time; 0 for two per core of the cluster."""

    gpus_per_task: float = 0.0
    """"ray": part of a GPU that a task reserves, such as 0.5. Set it where networks run on the GPUs of the cluster."""

    def __post_init__(self) -> None:
        for option in ("images_per_batch", "pairs_per_batch"):
            if getattr(self, option) < 1:
                raise ConfigError(f"`executor.{option}` must be at least 1, got {getattr(self, option)}")
        if not 1 <= self.lease_s <= 86_400:
            raise ConfigError(f"`executor.lease_s` must lie in [1, 86400] seconds, got {self.lease_s}")
        if self.max_tasks < 0:
            raise ConfigError(f"`executor.max_tasks` must not be negative, got {self.max_tasks}")
        if self.gpus_per_task < 0:
            raise ConfigError(f"`executor.gpus_per_task` must not be negative, got {self.gpus_per_task}")
        if self.address and self.name != "ray":
            raise ConfigError(f"`executor.address` {self.address!r} is for `executor.name` ray, not {self.name}")
