"""Scenes that several tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfm_lightglue.synthetic import SyntheticScene, render_scene, write_scene


@pytest.fixture(scope="session")
def small_scene() -> SyntheticScene:
    """Six small pictures, with truth."""
    return render_scene(num_images=6, size=(480, 360))


@pytest.fixture(scope="session")
def small_scene_dir(small_scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small scene on the disk; tests copy what they change."""
    root = tmp_path_factory.mktemp("small_scene")
    write_scene(small_scene, root)
    return root
