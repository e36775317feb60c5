"""What a worker of a Ray cluster computes, in this process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sfm_lightglue.execution import threads
from sfm_lightglue.reconstruction import ray_worker
from sfm_lightglue.reconstruction.config import DatabaseConfig
from sfm_lightglue.types import ImagePair


def test_a_task_uses_the_one_core_that_it_has_reserved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray runs as many tasks on a machine as it has cores."""
    seen: list[int] = []

    def look(*_: Any) -> list[None]:
        seen.append(threads.num_cores_of_this_thread())
        return [None]

    parts = DatabaseConfig(), None, SimpleNamespace(batch_size=1, match_batch=look)
    monkeypatch.setattr(threads, "num_usable_cores", lambda: 8)
    monkeypatch.setattr(ray_worker, "_components", lambda job: parts)
    monkeypatch.setattr(ray_worker, "_layers", look)
    monkeypatch.setattr(ray_worker, "estimate_two_view_geometry", look)
    job: Any = None
    image: Any = None
    ray_worker.extract_images(job, [image], [None], 0)
    cameras: Any = {"a": None, "b": None}
    ray_worker.match_and_verify(job, [ImagePair("a", "b")], cameras, ["a", "b"], image, image)
    assert seen == [1, 1, 1]
