"""A scene that ends in two models, which new pairs between them make one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest

from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.extractors.sift import SiftExtractor
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.store.store import Store
from sfm_lightglue.synthetic import SyntheticScene
from sfm_lightglue.types import Features, Matches
from tests.helpers.reconstructions import one_thread


@pytest.fixture
def two_halves(small_scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual keypoints of the first three images do not match those of the others."""
    extractor = CachedExtractor(SiftExtractor(), Store(tmp_path / "keys"))
    paths = sorted((small_scene_dir / "images").iterdir())
    half = {extractor.key(Image.read(path).content_digest, 0): number // 3 for number, path in enumerate(paths)}
    original = NearestMatcher.match_batch

    def match_batch(self: NearestMatcher, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        found = original(self, pairs)
        halves = [tuple(half.get(one.digest) for one in pair) for pair in pairs]
        return [
            Matches.empty() if None not in sides and sides[0] != sides[1] else matches
            for sides, matches in zip(halves, found, strict=True)
        ]

    monkeypatch.setattr(NearestMatcher, "match_batch", match_batch)


@pytest.mark.usefixtures("two_halves")
def test_new_pairs_make_them_one_model_and_it_is_told(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = reconstruct(small_scene_dir, tmp_path / "out", one_thread())
    (model,) = [each for each in result.summary.models if each["verdict"] != "rejected"]
    assert model["num_registered"] == 6
    (note,) = [note for note in model["notes"] if "were merged by" in note]
    assert note in caplog.text
    assert "stay apart" not in caplog.text
    aligned = align_poses(poses_of_model(result.models[0]), small_scene.cam_from_world_from_name)
    assert aligned.max_rotation_error_deg < 0.5
    (tmp_path / "out" / "database.db").unlink()
    assert reconstruct(small_scene_dir, tmp_path / "out", one_thread()).summary.cache["misses"] == 0


@pytest.mark.usefixtures("two_halves")
def test_without_them_they_stay_apart_and_nothing_is_told_about_links(
    small_scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        result = reconstruct(
            small_scene_dir, tmp_path / "out", one_thread(second_chance={"max_pairs_between": 0, "max_images": 0})
        )
    published = [each for each in result.summary.models if each["verdict"] != "rejected"]
    assert [each["num_registered"] for each in published] == [3, 3]
    assert not any("stay apart" in note for each in published for note in each["notes"])
    assert "images stay apart" not in caplog.text, "nothing connects them: there is no reason to tell"
