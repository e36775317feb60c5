"""Fixtures of several tests: scenes, a reconstruction, a random seed, and an environment without weights."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.kernels import library
from sfm_lightglue.synthetic import SyntheticScene, render_scene, write_scene


@pytest.fixture(scope="session", autouse=True)
def own_weights_only(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests do not download weights and do not use weights on the machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SFM_LIGHTGLUE_OFFLINE", "1")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("SFM_LIGHTGLUE_WEIGHTS", raising=False)
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Processes of pytest-xdist send reports as UTF-8, which has no lone surrogates (in names of files)."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture(params=["compiled", "numpy"])
def each_implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test runs with the compiled kernels and without them."""
    if request.param == "numpy":
        monkeypatch.setattr(library, "load_kernels", lambda: library.LoadedKernels(None, "switched off"))
    elif library.compiled() is None:
        pytest.skip(f"no compiled kernels: {library.load_kernels().reason}")


@pytest.fixture
def torch_seed() -> Iterator[None]:
    """Set torch's random seed for a test and restore the state afterwards."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def small_scene() -> SyntheticScene:
    """A scene of six small images with ground truth."""
    return render_scene(num_images=6, size=(480, 360))


@pytest.fixture(scope="session")
def small_scene_dir(small_scene: SyntheticScene, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small scene on disk. Tests must copy files before they change them."""
    root = tmp_path_factory.mktemp("small_scene")
    write_scene(small_scene, root)
    return root


@dataclass(frozen=True)
class PhotoPair:
    """Two images as files with EXIF data of one camera, and as pixels without EXIF data."""

    paths: tuple[Path, Path]
    pixels: tuple[UInt8Array, UInt8Array]
    truth: Rigid3
    scene: SyntheticScene


@pytest.fixture(scope="session")
def pair(small_scene: SyntheticScene, small_scene_dir: Path) -> PhotoPair:
    """Two images of the small scene, and their true relative pose (second from first)."""
    first, second = "view_00.jpg", "view_02.jpg"
    folder, poses = small_scene_dir / "images", small_scene.cam_from_world_from_name
    return PhotoPair(
        (folder / first, folder / second),
        (small_scene.images[first], small_scene.images[second]),
        poses[second] @ poses[first].inverse(),
        small_scene,
    )


@pytest.fixture(scope="session")
def finished(small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished reconstruction of the small scene. Tests must copy files before they change them."""
    from sfm_lightglue.reconstruction.run import reconstruct
    from tests.helpers.reconstructions import one_thread

    output = tmp_path_factory.mktemp("finished") / "out"
    reconstruct(small_scene_dir, output, one_thread())
    return output


@pytest.fixture(scope="session")
def sparse_scene(small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scene folder of four images with a sparse reconstruction. Tests must copy it before they change files."""
    from tests.helpers.sparse_maps import sparse_map

    return sparse_map(small_scene_dir, tmp_path_factory.mktemp("sparse_scene") / "scene")


@pytest.fixture
def own_scene(sparse_scene: Path, tmp_path: Path) -> Path:
    """A copy of the sparse scene that a test may change."""
    shutil.copytree(sparse_scene, tmp_path / "scene")
    return tmp_path / "scene"
