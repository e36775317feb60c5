"""What is said of each image at the end of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest

from sfm_lightglue.images.panorama import PANORAMA_REASONS
from sfm_lightglue.mapping.cached_models import MapStatistics
from sfm_lightglue.mapping.verdict import ImageReason, ImageVerdict
from sfm_lightglue.reconstruction.image_status import image_verdicts, skipped_verdicts, static_reason
from sfm_lightglue.reconstruction.publish import REASON_TEXTS
from sfm_lightglue.reconstruction.run_record import Summary
from sfm_lightglue.types import ImagePair, SkippedImage
from tests.helpers.judged_models import STILL, TURNED, judged_model, record, weighed_pairs

NAMES = ("a", "b", "c", "d")
KEYPOINTS = dict.fromkeys(NAMES, 1000)
REGISTERED = ImageVerdict("registered", None, None, 50, 0.9)
CONTRADICTS = ImageVerdict("doubtful", "contradicts", None, 30, 0.2)


def verdict_of(name: str, keypoints: dict[str, int] = KEYPOINTS, **pairs: object) -> ImageVerdict:
    return image_verdicts(keypoints, [], weighed_pairs(**pairs))[name]  # type: ignore[arg-type]


def test_an_image_without_a_verified_pair_has_no_matches() -> None:
    assert verdict_of("d", kept={("a", "b"): record()}) == ImageVerdict("left_out", "no_matches")


@pytest.mark.parametrize(("num", "reason"), [(90, "blurred"), (110, "no_matches")])
def test_an_image_with_far_fewer_keypoints_is_blurred(num: int, reason: str) -> None:
    assert verdict_of("d", KEYPOINTS | {"d": num}).reason == reason
    assert verdict_of("d", KEYPOINTS | {"d": num}, contradicted=[("c", "d")]).reason == "contradicts"


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([TURNED], "pure_rotation"),
        ([STILL], "still"),
        ([STILL, TURNED], "pure_rotation"),
        ([TURNED, record()], "not_connected"),
        ([record("planar")], "not_connected"),
    ],
)
def test_the_reason_of_an_image_with_verified_pairs(records: list, reason: str) -> None:
    kept = {(other, "d"): each for other, each in zip("abc", records, strict=False)}
    assert verdict_of("d", kept=kept | {("a", "b"): record()}) == ImageVerdict("left_out", reason)  # type: ignore[arg-type]
    assert static_reason(records) == (None if reason == "not_connected" else reason)


def test_no_records_have_no_static_reason() -> None:
    assert static_reason([]) is None


def test_an_image_whose_pairs_were_all_taken_out_contradicts() -> None:
    assert verdict_of("d", contradicted=[("c", "d")]) == ImageVerdict("left_out", "contradicts")
    assert verdict_of("d", contradicted=[("c", "d")], kept={("b", "d"): TURNED}).reason == "pure_rotation"


def test_an_image_whose_pairs_were_all_kept_apart_says_so() -> None:
    apart = {ImagePair("c", "d"): record()}
    weighed = replace(weighed_pairs({("a", "b"): record()}), apart=apart)
    assert image_verdicts(KEYPOINTS, [], weighed)["d"] == ImageVerdict("left_out", "kept_apart")
    assert REASON_TEXTS.keys() == set(get_args(ImageReason)) - {"panorama", "unreadable"}


def test_registered_images_have_their_model_and_support() -> None:
    models = [judged_model({"a": REGISTERED, "b": REGISTERED}), judged_model({"c": REGISTERED})]
    verdicts = image_verdicts(KEYPOINTS, models, weighed_pairs())
    assert verdicts["a"] == ImageVerdict("registered", None, 0, 50, 0.9)
    assert verdicts["c"] == ImageVerdict("other_model", None, 1, 50, 0.9)
    assert verdicts["d"] == ImageVerdict("left_out", "no_matches")
    assert verdicts.keys() == set(NAMES)


def test_an_image_in_two_models_belongs_to_the_larger() -> None:
    other = ImageVerdict("registered", None, None, 20, 0.7)
    models = [judged_model({"a": REGISTERED}), judged_model({"a": other, "b": other})]
    verdicts = image_verdicts(KEYPOINTS, models, weighed_pairs())
    assert verdicts["a"] == ImageVerdict("registered", None, 0, 50, 0.9)
    assert verdicts["b"].status == "other_model"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_pose_counts_more_than_a_doubt(order: tuple[int, int]) -> None:
    models = [judged_model({"a": CONTRADICTS, "b": REGISTERED}), judged_model({"a": REGISTERED})]
    verdicts = image_verdicts(KEYPOINTS, [models[idx] for idx in order], weighed_pairs())
    assert verdicts["a"].model == order.index(1)
    assert verdicts["a"].reason is None


def test_doubtful_images_name_their_model() -> None:
    rejected = ImageVerdict("doubtful", "model_rejected", None, 8, 0.4)
    models = [judged_model({"a": REGISTERED, "b": CONTRADICTS}), judged_model({"b": rejected, "c": rejected})]
    verdicts = image_verdicts(KEYPOINTS, models, weighed_pairs())
    assert verdicts["b"] == ImageVerdict("doubtful", "contradicts", 0, 30, 0.2)
    assert verdicts["c"] == ImageVerdict("doubtful", "model_rejected", 1, 8, 0.4)


def test_a_doubtful_image_whose_camera_only_turned_says_so() -> None:
    rejected = ImageVerdict("doubtful", "few_points", None, 3, None)
    models = [judged_model({"a": rejected, "b": rejected}, "rejected")]
    verdicts = image_verdicts(KEYPOINTS, models, weighed_pairs({("a", "c"): TURNED, ("b", "c"): record()}))
    assert verdicts["a"] == ImageVerdict("doubtful", "pure_rotation", 0, 3, None)
    assert verdicts["b"] == ImageVerdict("doubtful", "few_points", 0, 3, None)


def test_panoramas_and_damaged_files() -> None:
    skipped = [SkippedImage(f"{idx}.jpg", reason) for idx, reason in enumerate(PANORAMA_REASONS.values())]
    assert skipped, "there are no reasons of panoramas"
    verdicts = skipped_verdicts([*skipped, SkippedImage("broken.jpg", "cannot be decoded (image file is truncated)")])
    assert verdicts.pop("broken.jpg") == ImageVerdict("unreadable", "unreadable")
    assert set(verdicts.values()) == {ImageVerdict("left_out", "panorama")}
    assert len(verdicts) == len(skipped)


def test_the_summary_holds_all_images() -> None:
    images = {
        "a": ImageVerdict("registered", None, 0, 50, 0.9),
        "b": ImageVerdict("other_model", None, 1, 20, 1.0),
        "c": ImageVerdict("doubtful", "contradicts", 0, 30, 0.2),
        "d": ImageVerdict("left_out", "no_matches"),
    }
    statistics = MapStatistics((), images)
    skipped = [SkippedImage("broken.jpg", "cannot be decoded")]
    summary = Summary.from_statistics(statistics, skipped, {"total": 1.0}, {}, None)
    assert summary.unregistered == ("c", "d"), "an image of another model is registered"
    assert (summary.num_images, summary.num_skipped, summary.num_registered) == (4, 1, 0)
    assert summary.as_dict()["images"]["b"] == {
        "status": "other_model",
        "reason": None,
        "model": 1,
        "num_points": 20,
        "support": 1.0,
        "tried": [],
    }
    assert summary.images["broken.jpg"]["status"] == "unreadable"
    assert list(summary.images) == ["a", "b", "broken.jpg", "c", "d"]
