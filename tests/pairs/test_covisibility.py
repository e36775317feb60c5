"""Pairs of images that share points of an existing model."""

from __future__ import annotations

from pathlib import Path

import pycolmap
import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.covisibility import CovisibilityConfig, CovisibilityPairs
from sfm_lightglue.pairs.pair_sets import AllPairs, IndexedPairs
from sfm_lightglue.types import Camera, ImagePair, Scene, SceneImage

CAMERA = Camera("SIMPLE_PINHOLE", 64, 48, (70, 32, 24))


@pytest.fixture(scope="module")
def model() -> pycolmap.Reconstruction:
    pycolmap.set_random_seed(1)
    return pycolmap.synthesize_dataset(
        pycolmap.SyntheticDatasetOptions(num_rigs=1, num_frames_per_rig=12, num_points3D=200, track_length=4)
    )


def scene_of(names: list[str]) -> Scene:
    return Scene(Path("photos"), tuple(SceneImage(name, Path(), CAMERA, 0, "") for name in sorted(names)))


def names_of(model: pycolmap.Reconstruction) -> list[str]:
    return [image.name for image in model.images.values()]


def common_points(model: pycolmap.Reconstruction) -> dict[ImagePair, int]:
    seen = {
        image.name: {point.point3D_id for point in image.points2D if point.has_point3D()}
        for image in model.images.values()
    }
    return {pair: len(seen[pair.name0] & seen[pair.name1]) for pair in AllPairs(seen)}


def select(model: pycolmap.Reconstruction, scene: Scene, **options: int) -> IndexedPairs:
    return CovisibilityPairs(CovisibilityConfig(**options)).select(PairContext(scene, model=model))  # type: ignore[arg-type]


def test_all_images_that_share_enough_points_are_paired(model: pycolmap.Reconstruction) -> None:
    numbers = common_points(model)
    enough = sorted(numbers.values())[len(numbers) // 2]
    pairs = select(model, scene_of(names_of(model)), num_neighbors=50, min_common_points=enough)
    assert list(pairs) == sorted(pair for pair, number in numbers.items() if number >= enough)
    assert 0 < len(pairs) < len(numbers)


def test_each_image_keeps_those_that_share_the_most(model: pycolmap.Reconstruction) -> None:
    numbers = common_points(model)
    pairs = select(model, scene_of(names_of(model)), num_neighbors=2, min_common_points=1)
    for name in names_of(model):
        best = sorted((number for pair, number in numbers.items() if name in (pair.name0, pair.name1)), reverse=True)
        kept = [numbers[pair] for pair in pairs if name in (pair.name0, pair.name1)]
        assert sorted(kept, reverse=True)[:2] == best[:2]
    assert len(pairs) <= CovisibilityPairs(CovisibilityConfig(num_neighbors=2)).num_pairs(scene_of(names_of(model)))


def test_a_model_in_a_folder_gives_the_same_pairs(model: pycolmap.Reconstruction, tmp_path: Path) -> None:
    (tmp_path / "sparse" / "0").mkdir(parents=True)
    model.write(tmp_path / "sparse" / "0")
    selector, scene = CovisibilityPairs(CovisibilityConfig(str(tmp_path), 3, 5)), scene_of(names_of(model))
    selector.check(scene)
    found = selector.select(PairContext(scene))
    assert len(found) > 0
    assert found == select(model, scene, num_neighbors=3, min_common_points=5)


def test_images_that_the_model_lacks_are_named(
    model: pycolmap.Reconstruction, caplog: pytest.LogCaptureFixture
) -> None:
    scene = scene_of([*names_of(model)[:6], "z.jpg"])
    pairs = select(model, scene, min_common_points=1)
    assert pairs.names == scene.names
    assert all(pair.name1 != "z.jpg" for pair in pairs) and len(pairs) > 0
    assert "1 images are not in the model, so they get no pair by it: z.jpg" in caplog.text


def test_a_model_that_is_not_named_of_other_images_or_missing_is_told(
    model: pycolmap.Reconstruction, tmp_path: Path
) -> None:
    scene = scene_of(["a.jpg", "b.jpg"])
    with pytest.raises(ConfigError, match=r"`pairs\.model` is missing"):
        CovisibilityPairs().check(scene)
    with pytest.raises(ConfigError, match=r"`pairs\.model` is missing"):
        CovisibilityPairs().select(PairContext(scene))
    with pytest.raises(DataError, match="the model: none of its 12 images is an image of photos"):
        select(model, scene)
    with pytest.raises(DataError, match="no COLMAP model here"):
        CovisibilityPairs(CovisibilityConfig(str(tmp_path))).check(scene)


@pytest.mark.parametrize("option", ["num_neighbors", "min_common_points"])
def test_impossible_options_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=rf"`pairs\.{option}` must be at least 1, got 0"):
        CovisibilityConfig(**{option: 0})  # type: ignore[arg-type]
