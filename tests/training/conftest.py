"""Fixtures of the tests of training: photographs for textures, shards in memory, one thread."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.rendered_scenes import write_photos
from tests.helpers.training_scenes import Shards, one_thread


@pytest.fixture(autouse=True)
def single_threaded() -> Iterator[None]:
    """Torch uses one thread, so that results are the same bits in each run."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def shards() -> Shards:
    """Four shards in memory; tests do not change them."""
    return Shards()


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images with many corners."""
    return write_photos(tmp_path_factory.mktemp("textures"))
