"""Signs of a fold in most images of a model show that a scene has twins."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import pytest

from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.types import ImagePair
from tests.helpers.folded_models import street_model
from tests.reconstruction.test_folds import HOUSES, JOINING, Filled, Scene, checked


def test_many_signs_of_a_fold_show_that_a_scene_has_twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the model is divided into places, pairs are weighed as in a scene with twins."""
    scene = Scene(tmp_path, unfolds=False, has_twins=False)
    names = tuple(sorted(name for house in HOUSES for name in house))

    def with_signs(filled: Filled, work: Path, name: str, cuts: bool, suspects: bool) -> list[JudgedModel]:
        scene.attempts.append((name, cuts))
        (found,) = checked(street_model(False))
        is_sure = filled.weighed.has_twins
        return [found if is_sure else replace(found, verdict=replace(found.verdict, maybe_folded=names))]

    def between(models: Collection[JudgedModel], pairs: Collection[ImagePair]) -> frozenset[ImagePair]:
        return frozenset(JOINING) if any(each.verdict.maybe_folded for each in models) else frozenset()

    monkeypatch.setattr(scene, "map_filled", with_signs)
    monkeypatch.setattr("sfm_lightglue.reconstruction.unfolding.pairs_between_places", between)
    filled, found = scene.run()
    assert [len(each.verdict.images) for each in found] == [12]
    assert not found[0].verdict.maybe_folded
    assert filled.weighed.has_twins and filled.left_out == frozenset()
    assert len(scene.attempts) == 2
