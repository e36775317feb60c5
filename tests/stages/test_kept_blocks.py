"""The memory of SIFT is used again for the next images, whoever extracts them, and is freed after the stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.execution.executor import SERIAL
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.reconstruction import ray_worker
from sfm_lightglue.reconstruction.config import DatabaseConfig
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.folder_executor import FolderExecutor
from sfm_lightglue.store.leases import FOLDER_NAME, Leases
from sfm_lightglue.store.store import Store
from sfm_lightglue.testing.photos import textured, write_photo
from sfm_lightglue.types import Scene
from tests.helpers.poisoned_blocks import num_different, poison_blocks

EXTRACTOR = SiftExtractor(SiftConfig(max_keypoints=50))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    (tmp_path / "images").mkdir()
    for number in range(3):
        write_photo(tmp_path / "images" / f"{number}.png", textured(160, 120, seed=number))
    return load_scene(tmp_path, num_threads=1)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_stage_uses_one_block_and_frees_it(
    scene: Scene, is_shared: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an executor that fills the store, too."""
    borrowed = poison_blocks(monkeypatch)
    kept: list[Float32Array] = []
    monkeypatch.setattr("sfm_lightglue.execution.blocks._free", kept)
    store = Store(tmp_path / "store")
    leases = Leases(tmp_path / "store" / FOLDER_NAME, 60.0)
    executor = FolderExecutor(1, store, leases, 1, 1) if is_shared else SERIAL
    SceneFeatures(scene, CachedExtractor(EXTRACTOR, store)).extract(executor)
    assert (len(borrowed), num_different(borrowed)) == (3, 1)
    assert kept == []


def test_a_task_of_a_cluster_uses_one_block(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    borrowed = poison_blocks(monkeypatch)
    monkeypatch.setattr(ray_worker, "_components", lambda job: (DatabaseConfig(), EXTRACTOR, None))
    job: Any = None
    found = ray_worker.extract_images(job, scene.images, [None] * 3, 0)
    assert all(layers is not None and len(layers[0]) > 0 for layers in found)
    assert (len(borrowed), num_different(borrowed)) == (3, 1)
