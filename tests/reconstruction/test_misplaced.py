"""Images at a wrong place are told by pairs that contradict the model, if they are much more probable."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any, cast

import pytest

from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.reconstruction.misplaced import misplaced_images, with_misplaced_told
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import ImagePair
from tests.helpers.folded_models import street_model
from tests.reconstruction.test_folds import judged


def pair(names: str) -> ImagePair:
    return ImagePair.from_names(*names)


def told(used: dict[str, float], against: dict[str, float], names: str = "abcdef") -> str:
    pairs = [{pair(both): value for both, value in each.items()} for each in (used, against)]
    return "".join(sorted(misplaced_images(names, pairs[0], pairs[1], pairs[0] | pairs[1])))


@pytest.mark.parametrize(
    ("weak", "strong", "expected"),
    [
        (0.8, 0.9999, "ef"),  # odds of 4 and of 10,000
        (0.8, 0.98, ""),  # odds of 49
        (0.999, 0.99999, "ef"),
        (0.9999999, 1.0, ""),  # both are as good as sure
    ],
)
def test_a_single_image_is_told_by_a_much_more_probable_pair(weak: float, strong: float, expected: str) -> None:
    walk = dict.fromkeys(("ab", "bc", "cd", "de"), 0.99999999)
    assert told({**walk, "af": weak, "bf": weak}, {"ef": strong}) == expected


def test_the_best_way_between_the_images_counts() -> None:
    walk = dict.fromkeys(("ab", "bc", "cd", "de", "cf"), 0.9999999)
    assert told({**walk, "af": 0.5}, {"ef": 0.99999}) == ""


def test_a_small_part_is_told_as_a_whole() -> None:
    walk = dict.fromkeys(("ab", "bc", "cd", "ef"), 0.99999)
    assert told({**walk, "ae": 0.7, "bf": 0.8}, {"de": 0.9999}) == "def"


def test_pairs_with_images_of_no_model_and_without_probability_tell_nothing() -> None:
    used = {**dict.fromkeys(("ab", "bc"), 0.9999), "cd": 0.5}
    assert told(used, {"dx": 0.99999}, "abcd") == ""
    pairs = [pair(both) for both in used]
    assert misplaced_images("abcd", pairs, [pair("ad")], {}) == set()


def weighed_street(model: JudgedModel, against: ImagePair) -> WeighedPairs:
    """Pairs of neighbours, as sure as possible but for those of the last image; `against` contradicts them."""
    names = sorted(model.verdict.images)
    chain = [ImagePair.from_names(*both) for both in pairwise(names)]
    probabilities = {**dict.fromkeys(chain, 0.999999), chain[-1]: 0.7, against: 0.9999}
    overlaps = {each: SimpleNamespace(probability=value) for each, value in probabilities.items()}
    kept, contradicted = dict.fromkeys(chain), {against: None}
    return cast(WeighedPairs, cast(Any, SimpleNamespace(kept=kept, contradicted=contradicted, overlaps=overlaps)))


def test_the_model_stays_published_and_trusted_pairs_are_believed() -> None:
    right = judged(street_model(False))
    names = sorted(right.verdict.images)
    last = ImagePair.from_names(*names[-2:])
    weighed = weighed_street(right, ImagePair.from_names(names[0], names[-1]))
    (found,) = with_misplaced_told([right], weighed, [])
    assert found.verdict.maybe_folded == (names[0], names[-1])
    assert found.verdict.outcome == right.verdict.outcome
    (trusted,) = with_misplaced_told([right], weighed, [last])
    assert trusted.verdict.maybe_folded == ()
