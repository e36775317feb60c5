"""The message for a scene without a model names the cause, and options between backticks."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from sfm_lightglue.mapping.cached_models import ModelStatistics
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.verdict import Check
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.no_model import explain_no_model, explain_rejected
from sfm_lightglue.reconstruction.told_folds import SIGNS_CHECK
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import ImagePair
from tests.helpers.judged_models import STILL, TURNED, record, still_content, weighed_pairs

ROOT = Path("photos")
CONFIG = ReconstructConfig()
LIMITS = ChecksConfig()
PAIRS = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e")]


def explained(weighed: WeighedPairs, config: ReconstructConfig = CONFIG) -> str:
    return explain_no_model(ROOT, [800, 900, 1000, 1100, 1200], 10, weighed, config)


def options_of(text: str) -> list[str]:
    return re.findall(r"`([^`]*)`", text)


def assert_options_exist(text: str) -> None:
    tables = CONFIG.as_mapping()
    for option in options_of(text):
        table, name = option.split(".")
        assert table in tables
        assert name in tables[table] or option in {"pairs.path", "cameras.params", "cameras.model"}, option


def test_the_counts_come_first() -> None:
    kept = {PAIRS[0]: record(num_inliers=40), PAIRS[1]: record(num_inliers=90)}
    text = explained(weighed_pairs(kept, [PAIRS[2]]))
    assert text.startswith("photos: no model: 5 images with 1000 keypoints (median), 10 pairs matched, 3 of them with")
    assert "at best 90 inliers (b, c)" in text


CAUSES = {
    "turned": (weighed_pairs(dict.fromkeys(PAIRS, TURNED)), "The camera only turned"),
    "mostly turned": (weighed_pairs(dict.fromkeys(PAIRS[:3], TURNED) | {PAIRS[3]: record()}), "The camera only turned"),
    "still": (weighed_pairs(dict.fromkeys(PAIRS, STILL)), "did not move"),
    "background": (weighed_pairs({PAIRS[0]: TURNED}, still=still_content(8, 10)), "standing background"),
    "logo": (weighed_pairs(still=still_content(2, 10)), "a logo"),
    "contradicting": (weighed_pairs({PAIRS[0]: record()}, PAIRS[1:]), "look alike"),
    "nothing": (weighed_pairs(), "overlap by half"),
    "unknown": (weighed_pairs(dict.fromkeys(PAIRS, record())), "three images"),
}


@pytest.mark.parametrize("cause", CAUSES)
def test_each_cause_is_named(cause: str) -> None:
    weighed, words = CAUSES[cause]
    text = explained(weighed)
    assert words in text
    others = {other for name, (_, other) in CAUSES.items() if name != cause and other != words}
    allowed = {"background": {"a logo", "did not move"}, "logo": {"overlap by half"}}.get(cause, set())
    assert not [other for other in others - allowed if other in text]
    assert_options_exist(text)


def test_if_all_pairs_are_kept_apart_the_options_are_named() -> None:
    apart = {ImagePair(*names): record() for names in PAIRS}
    text = explained(replace(weighed_pairs(), apart=apart))
    assert "4 of these pairs were kept apart" in text
    assert "10 pairs matched, 4 of them with a common view" in text
    assert options_of(text) == ["lookalikes.trust_pairs", "lookalikes.mode"]
    assert_options_exist(text)


def test_nothing_matches_names_options() -> None:
    assert options_of(explained(CAUSES["nothing"][0])) == ["extractor.max_keypoints", "pairs.name"]
    assert options_of(explained(CAUSES["contradicting"][0])) == ["pairs.path"]


def test_given_intrinsics_are_questioned_and_unknown_ones_asked_for() -> None:
    weighed = CAUSES["unknown"][0]
    assert options_of(explained(weighed)) == ["cameras.params"]
    given = {"cameras": {"mode": "single", "model": "SIMPLE_PINHOLE", "params": [700, 400, 300]}}
    text = explained(weighed, ReconstructConfig.from_mapping(given))
    assert options_of(text) == []
    assert "camera parameters right" in text


def rejected(num_images: int = 9, **checks: Check) -> ModelStatistics:
    return ModelStatistics("rejected/0", num_images, 120, 3.0, 0.5, "rejected", checks)


FAILED = {
    "min_kept_images": (Check(0.2, 0.5, False), "80% of its images", "max_keypoints"),
    "min_points_per_image": (Check(4.0, 12, False), "median of 4 points", "max_keypoints"),
    "min_agreement": (Check(0.42, 0.7, False), "only 42% of the verified pairs", "look alike"),
    "min_triangulated": (Check(0.4, 0.55, False), "only 40% of the verified matches", "look alike"),
    "max_conflict": (Check(2.4, 0.3, False), "different places that look alike", "look alike"),
    "max_fold_signs": (Check(0.57, 0.5, False), "57% of its images have signs of a fold", "lookalikes.trust_pairs"),
    "max_static_pairs": (Check(0.97, 0.9, False), "97% of its verified pairs", "Move it sideways"),
    "min_triangulation_angle_deg": (Check(0.312, 1, False), "0.31 degrees", "Move it sideways"),
    "min_cheirality": (Check(0.6, 0.95, False), "only 60% of the observations", "Move it sideways"),
    "max_focal_ratio": (Check(20.3, 6, False), "20.3 times the longer side", "cameras.params"),
    "min_focal_ratio": (Check(0.07, 0.25, False), "0.07 times the longer side", "panoramas"),
    "max_focal_change": (Check(2.5, 1.6, False), "a factor of 2.50", "cameras.params"),
    "min_distortion_slope": (Check(0.0, 0.3, False), "folds the image", "OPENCV_FISHEYE"),
    "max_center_uncertainty": (Check(0.36, 0.1, False), "uncertain by 36% of the distance", "more parallax"),
    "max_focal_uncertainty": (Check(0.31, 0.1, False), "only to 31%", "flat scene"),
}


@pytest.mark.parametrize("name", FAILED)
def test_each_failed_check_is_told_in_words(name: str) -> None:
    check, words, advice = FAILED[name]
    passed = Check(1.0, 0.5, True)
    text = explain_rejected(
        ROOT, [rejected(**{name: check, "min_agreement" if name != "min_agreement" else "min_cheirality": passed})]
    )
    assert text.startswith("photos: 1 model was built")
    assert "rejected/" in text
    assert "9 images and 120 points" in text
    assert words in text
    assert advice in text
    assert_options_exist(text)
    assert name not in text, "a name of a check is no text for a user"


def test_the_images_with_signs_of_a_fold_are_named() -> None:
    model = rejected(max_fold_signs=FAILED["max_fold_signs"][0])
    text = explain_rejected(ROOT, [replace(model, maybe_folded=tuple(f"{number}.jpg" for number in range(12)))])
    assert "(0.jpg, 1.jpg, " in text
    assert "and 2 more; maybe_folded in run.json lists them" in text


def test_every_limit_has_a_text() -> None:
    """A check without a text would raise an error in place of the message."""
    of_images_and_pairs = {"max_rotation_error_deg", "min_support", "max_pair_error_px"}
    assert FAILED.keys() - {SIGNS_CHECK} == set(LIMITS.__dataclass_fields__) - of_images_and_pairs


def test_an_undetermined_focal_length_has_no_value() -> None:
    text = explain_rejected(ROOT, [rejected(max_focal_uncertainty=Check(None, 0.1, False))])
    assert "a focal length that the images do not determine." in text


def test_undetermined_positions_have_no_value() -> None:
    text = explain_rejected(ROOT, [rejected(max_center_uncertainty=Check(None, 0.1, False))])
    assert "camera positions that the images do not determine." in text


def test_several_models_and_several_reasons() -> None:
    checks = {name: FAILED[name][0] for name in ("min_agreement", "min_focal_ratio")}
    text = explain_rejected(ROOT, [rejected(9, **checks), rejected(3)])
    assert "2 models were built" in text
    assert "agree with it; a focal length" in text
