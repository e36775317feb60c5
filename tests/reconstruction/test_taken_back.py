"""Pairs that were left out after a fold are asked again if images are left, and stay left out if that does not help."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfm_lightglue.colmap.model_parts import copy_of_part
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.reconstruction.known_folds import has_known_fold, left_out_pairs
from tests.helpers.folded_models import street_model
from tests.reconstruction.test_folds import HOUSES, PAIRS, Filled, Scene, Weighed, checked

ALL = [*HOUSES[0], *HOUSES[1]]


class Losing(Scene):
    """A scene whose models lack images without the pairs that joined its places.

    Args:
        folder: of the scene.
        num_without: images of the model without these pairs, which is right.
        num_with: images of the right model with all pairs, weighed as in a scene with twins; 0 if it is folded.
    """

    def __init__(self, folder: Path, num_without: int, num_with: int) -> None:
        super().__init__(folder, unfolds=True)
        self.num_without, self.num_with = num_without, num_with

    def fill(self, path: Path) -> Filled:
        filled = super().fill(path)
        return Filled(filled.path, filled.left_out, Weighed(True, kept=tuple(PAIRS)))

    def map_filled(self, filled: Filled, work: Path, name: str, cuts: bool, suspects: bool) -> list[JudgedModel]:
        self.attempts.append((name, cuts))
        number = self.num_with if has_known_fold(self.store, "key") else self.num_without
        if number == 0 or not (filled.left_out or has_known_fold(self.store, "key")):
            return checked(street_model(True))
        return checked(copy_of_part(street_model(False), ALL[:number]))


def test_if_images_are_left_the_pairs_that_were_left_out_are_asked_again(tmp_path: Path) -> None:
    scene = Losing(tmp_path, 8, 12)
    filled, found = scene.run()
    assert [len(each.verdict.images) for each in found] == [12]
    assert filled.left_out == left_out_pairs(scene.store, "key") == frozenset()
    assert len(scene.attempts) == 3


@pytest.mark.parametrize("num_with", [8, 0])
def test_they_stay_left_out_if_no_more_images_are_in_models_then_or_these_are_folded(
    tmp_path: Path, num_with: int
) -> None:
    scene = Losing(tmp_path, 8, num_with)
    filled, found = scene.run()
    assert [len(each.verdict.images) for each in found] == [8]
    assert filled.left_out == left_out_pairs(scene.store, "key") != frozenset()
    assert not has_known_fold(scene.store, "key")
    assert filled.path.read_text() == str(len(filled.left_out))


def test_nothing_is_asked_again_if_all_images_are_in_models(tmp_path: Path) -> None:
    scene = Losing(tmp_path, 12, 12)
    scene.run()
    assert len(scene.attempts) == 2
