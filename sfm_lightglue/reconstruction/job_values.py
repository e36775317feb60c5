"""Values that the steps of a reconstruction hand over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sfm_lightglue.stages.weighed_pairs import WeighedPairs


@dataclass(frozen=True, slots=True)
class ModelKeys:
    """Keys of the models of a run in the store.

    Args:
        mapped: of the judged models of the mapping.
        finished: of the models after densifying and refining, which are published.
    """

    mapped: str
    finished: str


@dataclass(frozen=True, eq=False, slots=True)
class FilledDatabase:
    """What was written into a database, the cameras that are not refined, and those of unknown focal length."""

    path: Path
    num_pairs: int
    weighed: WeighedPairs
    constant_camera_ids: frozenset[int]
    guessed_camera_ids: frozenset[int]
    num_left_out: int
