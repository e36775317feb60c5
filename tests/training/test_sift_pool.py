"""The processes for SIFT find the same keypoints as at inference, and their end is an error, never a hang."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.extractors.aliked import AlikedConfig, AlikedExtractor
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.training.data.describers import InlineDescriber, build_extractor, extractor_config
from sfm_lightglue.training.data.labelled_scenes import TrainingView, quantised
from sfm_lightglue.training.data.sift_pool import SiftPool
from tests.helpers.checkout import ROOT
from tests.helpers.processes import is_running
from tests.helpers.textured_photos import pattern
from tests.helpers.untrained import write_aliked

CONFIG = SiftConfig(max_keypoints=40)


def image(seed: int, size: tuple[int, int] = (160, 120)) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pattern(seed)[: size[1], : size[0]]))


IMAGES = [image(0), image(1, (120, 160)), torch.zeros(120, 160, 3, dtype=torch.uint8), image(2, (90, 60)), image(3)]


def numbers(view: TrainingView) -> list[np.ndarray]:
    return [view.keypoints, view.scales, view.orientations, view.scores, view.descriptors, np.array(view.image_size)]


def assert_same(found: list[TrainingView], expected: list[TrainingView]) -> None:
    assert len(found) == len(expected)
    for view0, view1 in zip(found, expected, strict=True):
        assert all(map(np.array_equal, numbers(view0), numbers(view1)))


def inline(images: list[Tensor]) -> list[TrainingView]:
    describer = InlineDescriber(build_extractor(CONFIG, "cpu"))
    return describer.result(describer.submit(images))


@pytest.fixture(scope="module")
def pool() -> Iterator[SiftPool]:
    with SiftPool(CONFIG, 2, 160 * 120, max_images=3) as pool:
        yield pool


def test_features_are_those_of_inference():
    for view, pixels in zip(inline(IMAGES), IMAGES, strict=True):
        features = SiftExtractor(CONFIG).extract(Image.from_array(pixels.numpy()))
        assert np.array_equal(view.keypoints, features.keypoints) and np.array_equal(view.scores, features.scores)
        assert np.array_equal(view.scales, features.scales) and view.image_size == features.image_size
        assert np.array_equal(view.orientations, features.orientations)
        assert np.array_equal(view.descriptors, quantised(features.descriptors))


def test_the_pool_finds_the_same_bits(pool):
    """More images than slots, of several sizes, with and without keypoints; results are fetched in any order."""
    first, second, none = pool.submit(IMAGES), pool.submit(IMAGES[::-1]), pool.submit([])
    assert pool.result(none) == []
    expected = inline(IMAGES)
    assert [len(view) for view in expected][2] == 0 and max(map(len, expected)) == 40
    assert_same(pool.result(second), expected[::-1])
    assert_same(pool.result(first), expected)
    with pytest.raises(KeyError):
        pool.result(first)


def test_the_shared_memory_has_no_name_while_the_processes_work(pool):
    pool.result(pool.submit(IMAGES))
    deadline = time.monotonic() + 20
    while named_memory(os.getpid()) and time.monotonic() < deadline:  # until both processes have started
        pool.result(pool.submit(IMAGES[:1]))
    assert not named_memory(os.getpid())


def named_memory(pid: int) -> list[Path]:
    """Shared memory of a process that has a name in the file system."""
    maps = Path(f"/proc/{pid}/maps")
    lines = maps.read_text().splitlines() if maps.is_file() else []
    return [path for line in lines if "/psm_" in line and (path := Path(line.split()[5])).exists()]


@pytest.mark.parametrize("num_processes", [1, 2])
def test_a_killed_process_is_an_error(num_processes):
    before = set(multiprocessing.active_children())
    with SiftPool(CONFIG, num_processes, 160 * 120) as pool:
        ticket = pool.submit(IMAGES * 20)
        victim = (set(multiprocessing.active_children()) - before).pop()
        assert victim.pid is not None
        os.kill(victim.pid, signal.SIGKILL)
        for _ in range(2):
            with pytest.raises(DataError, match=r"process for SIFT has ended \(exit code -9\)"):
                pool.result(ticket)
        with pytest.raises(DataError, match=r"has ended \(exit code -9\)"):
            while True:
                pool.submit(IMAGES)
    assert set(multiprocessing.active_children()) == before
    assert not named_memory(os.getpid())


def test_the_death_of_all_processes_is_an_error_of_the_next_image():
    before = set(multiprocessing.active_children())
    with SiftPool(CONFIG, 1, 160 * 120) as pool:
        (victim,) = set(multiprocessing.active_children()) - before
        victim.kill()
        victim.join()
        with pytest.raises(DataError, match=r"has ended \(exit code -9\)"):
            pool.submit(IMAGES)


def test_an_image_that_fails_is_an_error():
    with SiftPool(CONFIG, 1, 160 * 120) as pool:
        with pytest.raises(DataError, match=r"SIFT of a rendered image failed \(\w"):
            pool.result(pool.submit([torch.zeros(0, 160, dtype=torch.uint8)]))
        with pytest.raises(ValueError, match="19201 pixels"):
            pool.submit([torch.zeros(1, 19201, dtype=torch.uint8)])


def test_nothing_remains_of_a_killed_program():
    code = (
        "import multiprocessing, torch\n"
        "from sfm_lightglue.extractors.sift import SiftConfig\n"
        "from sfm_lightglue.training.data.sift_pool import SiftPool\n"
        "if __name__ == '__main__':\n"
        "    pool = SiftPool(SiftConfig(), 2, 100 * 100)\n"
        "    print(*(process.pid for process in multiprocessing.active_children()), flush=True)\n"
        "    pool.submit([torch.zeros(100, 100, dtype=torch.uint8)] * 100)\n"
        "    input()\n"
    )
    program = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert program.stdout is not None
    pids = [int(word) for word in program.stdout.readline().split()]
    memory = named_memory(program.pid)
    program.kill()
    program.communicate()
    deadline = time.monotonic() + 20
    while (any(map(is_running, pids)) or any(map(Path.exists, memory))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2 and not any(map(is_running, pids)) and not any(map(Path.exists, memory))


def test_little_shared_memory_gives_fewer_slots_or_an_error(monkeypatch):
    sizes = SimpleNamespace(free=400_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: sizes)
    if not Path("/dev/shm").is_dir():
        pytest.skip("this system has no folder of shared memory")
    with SiftPool(CONFIG, 1, 160 * 120) as pool:
        assert_same(pool.result(pool.submit(IMAGES * 2)), inline(IMAGES) * 2)
    sizes.free = 10_000
    with pytest.raises(DataError, match="too few for images of processes for SIFT"):
        SiftPool(CONFIG, 1, 160 * 120)


def test_a_worker_does_not_load_torch():
    code = "import sys, sfm_lightglue.training.data.sift_worker\nprint('torch' in sys.modules, 'scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_networks_describe_batches_as_single_images(tmp_path):
    config = AlikedConfig(str(write_aliked(tmp_path / "aliked.pth")), max_keypoints=100, detection_threshold=0.0)
    images = [image(k, size) for k, size in enumerate([(160, 120), (96, 128), (160, 120), (160, 120)])]
    describer = InlineDescriber(build_extractor(config, "cpu"))
    views = describer.result(describer.submit(images))
    extractor = AlikedExtractor(config, "cpu")
    for view, pixels in zip(views, images, strict=True):
        features = extractor.extract(Image.from_array(pixels.numpy()))
        assert view.image_size == features.image_size and len(view) == len(features) > 50
        np.testing.assert_allclose(view.keypoints, features.keypoints, atol=1e-3)
        np.testing.assert_allclose(view.descriptors, features.descriptors, atol=1e-3)
        assert view.descriptors.dtype == np.float16 and not view.scales.any() and not view.orientations.any()


def test_unknown_extractors_and_options_are_refused():
    assert extractor_config("sift", 99, (("edge_threshold", 11.0),)) == SiftConfig(99, edge_threshold=11.0)
    for name, options in (("superpoint", ()), ("sift", (("threshold", 1),)), ("aliked", (("model", "n8"),))):
        with pytest.raises(ConfigError):
            extractor_config(name, 99, options)
