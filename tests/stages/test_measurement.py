"""The times of one worker are measured with the cores that a worker has."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image as PillowImage

from sfm_lightglue.execution import threads
from sfm_lightglue.stages.measurement import measure_steps


class CountsCores:
    """An extractor and a matcher that note how many cores they may use."""

    def __init__(self) -> None:
        self.found: list[int] = []

    def extract(self, image: object) -> object:
        self.found.append(threads.num_cores_of_this_thread())
        return image

    def match(self, first: object, second: object) -> None:
        self.found.append(threads.num_cores_of_this_thread())


@pytest.mark.parametrize(("num_workers", "cores"), [(8, 1), (2, 4), (1, 8)])
def test_a_step_has_the_cores_of_a_worker(
    num_workers: int, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "num_usable_cores", lambda: 8)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        PillowImage.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path)
    steps = CountsCores()
    times = measure_steps(paths, cast(Any, steps), cast(Any, steps), num_workers)
    assert times.num_images == 3
    assert set(steps.found) == {cores} and len(steps.found) == 4 + 3
