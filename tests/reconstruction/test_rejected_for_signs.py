"""A model that is rejected for signs of a fold is not published by a later step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sfm_lightglue.colmap.model import read_model
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.camera_groups import CameraGroup
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.verdict import FoldSigns, ImageVerdict, ModelVerdict
from sfm_lightglue.reconstruction import job
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.reconstruction.second_mapping import map_with_added
from sfm_lightglue.reconstruction.told_folds import SIGNS_CHECK
from sfm_lightglue.synthetic import SyntheticScene
from tests.helpers.folded_models import street_model
from tests.helpers.reconstructions import one_thread

JOB = "sfm_lightglue.reconstruction.job."
NO_SIGNS = FoldSigns()
SECOND = "sfm_lightglue.reconstruction.second_mapping."


def all_rejected(judged: Sequence[JudgedModel]) -> list[JudgedModel]:
    return [replace(each, verdict=each.verdict.as_rejected()) for each in judged]


def test_a_rejected_model_is_not_mapped_with_other_cameras(
    small_scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, searches = job.map_unfolded, []

    def rejected(*arguments: Any) -> tuple[Any, list[JudgedModel]]:
        filled, judged = plain(*arguments)
        return filled, all_rejected(judged)

    monkeypatch.setattr(JOB + "map_unfolded", rejected)
    monkeypatch.setattr(JOB + "find_camera_groups", lambda *arguments: searches.append(arguments))
    with pytest.raises(ReconstructionError):
        reconstruct(small_scene_dir, tmp_path / "out", one_thread(second_chance={"max_images": 0}))
    assert searches == []


def test_models_with_other_cameras_are_rejected_for_signs_too(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = tuple(sorted(small_scene.cam_from_world_from_name))[:3]
    group = CameraGroup(names, replace(small_scene.camera, source="estimated"))
    monkeypatch.setattr(JOB + "find_camera_groups", lambda *arguments: (group,))
    monkeypatch.setattr(JOB + "without_many_signs", all_rejected)
    result = reconstruct(small_scene_dir, tmp_path / "out", one_thread())
    assert result.summary.num_registered == 6
    assert len(read_model(result.output).cameras) == 1, "those before stay"


def published(num_images: int, signs: FoldSigns = NO_SIGNS) -> JudgedModel:
    names = [f"{house}-{number}.jpg" for house in range(2) for number in range(6)][:num_images]
    verdict = ModelVerdict("accepted", {}, {name: ImageVerdict("registered") for name in names}, signs=signs)
    return JudgedModel(street_model(False), verdict)


@pytest.mark.parametrize("is_folded", [False, True])
def test_a_second_look_does_not_publish_what_is_surely_folded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_folded: bool
) -> None:
    against = tuple((f"0-{number}.jpg", f"1-{number}.jpg") for number in range(5))
    again = [published(12, FoldSigns(doubted=against, num_known=5) if is_folded else NO_SIGNS)]
    monkeypatch.setattr(SECOND + "Judging", lambda *arguments: SimpleNamespace(merged=lambda judged: again))
    monkeypatch.setattr(SECOND + "_extended", lambda judging, judged, excluded: list(judged))
    for name in ("remove_geometries", "probabilities_of", "against_of"):
        monkeypatch.setattr(SECOND + name, lambda *arguments: {})
    weighed = SimpleNamespace(kept={}, apart={}, has_twins=False, joined=frozenset())
    task = MappingTask(tmp_path / "database.db", tmp_path, 12)
    config = one_thread(lookalikes={"mode": "off"})
    found = map_with_added(None, task, weighed, config, frozenset(), [published(11)], ())  # type: ignore[arg-type]
    assert (found is None) == is_folded
    assert found is None or SIGNS_CHECK not in found[0].verdict.failed
