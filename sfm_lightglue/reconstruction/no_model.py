"""Why no model of a scene is published, and what to try."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from sfm_lightglue.mapping.cached_models import ModelStatistics
from sfm_lightglue.mapping.verdict import Check
from sfm_lightglue.messages import shortened
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.image_status import STILL_FRACTION
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.store.output_folder import RESULTS_MARKER

_MOST = 0.7
"""Fraction of the verified pairs from which a property of the pairs is the cause."""


def explain_no_model(
    root: Path,
    num_keypoints: Sequence[int],
    num_pairs: int,
    weighed: WeighedPairs,
    config: ReconstructConfig,
) -> str:
    """The message for a scene without a model: the counts, the cause, and what to try.

    Args:
        root: folder of the images.
        num_keypoints: of each image.
        num_pairs: that were matched.
        weighed: the verified pairs.
        config: of the run.
    """
    median = sorted(num_keypoints)[len(num_keypoints) // 2]
    text = (
        f"{root}: no model: {len(num_keypoints)} images with {median} keypoints (median), {num_pairs} pairs"
        f" matched, {len(weighed.kept) + len(weighed.contradicted) + len(weighed.apart)} of them with a common view"
    )
    return f"{text}{_best(weighed)}. {_cause(weighed, config)}"


def explain_rejected(root: Path, models: Sequence[ModelStatistics]) -> str:
    """The message for a scene whose models were all rejected: what is wrong with the largest, and what to try.

    Args:
        root: folder of the images.
        models: the rejected models, the largest first.
    """
    model = models[0]
    number = "1 model was" if len(models) == 1 else f"{len(models)} models were"
    failed = {name: check for name, check in model.checks.items() if not check.passed}
    if model.num_points == 0 and "max_static_pairs" in failed:
        failed = {"max_static_pairs": failed["max_static_pairs"]}  # the cause of all others
    reasons = "; ".join(_CHECK_TEXTS[name](_with_number(name, check)) for name, check in failed.items())
    return (
        f"{root}: {number} built, but none is sure enough to be published (kept in rejected/). The largest, of"
        f" {model.num_registered} images and {model.num_points} points: {reasons}. {_advice(model)}"
    )


def _with_number(name: str, check: Check) -> Check:
    """A check whose value is a number, infinite if it is not finite."""
    if check.value is not None or name == "max_focal_uncertainty":
        return check
    return Check(-math.inf if name.startswith("min_") else math.inf, check.limit, check.passed)


def _best(weighed: WeighedPairs) -> str:
    if not weighed.kept:
        return ""
    pair = max(sorted(weighed.kept), key=lambda each: weighed.kept[each].num_inliers)
    return f", at best {weighed.kept[pair].num_inliers} inliers ({pair.name0}, {pair.name1})"


def _cause(weighed: WeighedPairs, config: ReconstructConfig) -> str:
    content = weighed.still_content
    records = list(weighed.kept.values())
    if not records and len(weighed.apart) > len(weighed.contradicted):
        return (
            f"{len(weighed.apart)} of these pairs were kept apart, because their images may show different places that"
            " look alike. If they show the same place, name pairs in a file as `lookalikes.trust_pairs`, or set"
            " `lookalikes.mode` to off"
        )
    if content is not None and content.num_dominated >= _MOST * content.num_pairs:
        return (
            f"In {content.num_dominated} of {content.num_pairs} pairs most matches lie at the same pixel of both:"
            " a standing background, a logo or a frame, while little else matches; or the camera did not move. Mask"
            " or crop the content that stands still, or photograph the object before a plain background"
        )
    if content is not None and not records and not weighed.contradicted:
        return (
            "Matches at the same pixel of several images were taken out: a logo, a time stamp or a frame. Nothing else"
            " matches: do neighbouring images overlap by half?"
        )
    if not records and not weighed.contradicted:
        return (
            "Do neighbouring images overlap by half? Try a larger `extractor.max_keypoints`, or `pairs.name` exhaustive"
        )
    static = [record for record in records if record.kind == "pure_rotation"]
    if records and len(static) >= _MOST * len(records):
        still = [record for record in static if record.still_fraction >= STILL_FRACTION]
        if len(still) > len(static) / 2:
            return (
                "The camera did not move: nearly all matches lie at the same pixel. Move the camera between the images"
            )
        return (
            "The camera only turned: a rotation explains nearly all pairs, and without a change of place there is no"
            " depth. Move the camera sideways between the images, by a tenth of the distance to the scene or more"
        )
    if len(weighed.contradicted) > len(records):
        return (
            f"{len(weighed.contradicted)} of these pairs contradict the others: the scene has parts that look alike."
            " Take more images between the views, or give the true pairs in a file as `pairs.path`"
        )
    hint = "Are the camera parameters right" if config.cameras.params else "Try `cameras.params` if they are known"
    return (
        "Was the camera moved sideways between the images, not only turned? Do at least three images show the same"
        f" part of the scene? {hint} (COLMAP's order and pixel convention)"
    )


def _advice(model: ModelStatistics) -> str:
    failed = {name for name, check in model.checks.items() if not check.passed}
    if "max_focal_uncertainty" in failed:
        return (
            "A flat scene seen from straight above, or a small motion, does not determine an unknown focal length: give"
            " it as `cameras.params`, use images with EXIF data, or add oblique views"
        )
    if failed & {"max_focal_ratio", "min_focal_ratio", "max_focal_change", "min_distortion_slope"}:
        return (
            "Give the intrinsics as `cameras.params` if they are known. Fisheye lenses need `cameras.model`"
            " OPENCV_FISHEYE; panoramas must be cut into perspective views first"
        )
    if failed == {"max_fold_signs"}:
        return (
            f"Compare the images with signs ({shortened(model.maybe_folded)}; maybe_folded in {RESULTS_MARKER} lists"
            " them). If they show several places, list all true pairs in a file (only these are matched), and give it"
            " as `pairs.path`. If they show one place, the model is right: list pairs of these images in a file, at"
            " least one for each group of images, and give it as `lookalikes.trust_pairs`, or set `lookalikes.mode` to"
            " off"
        )
    if failed & {"max_static_pairs", "min_triangulation_angle_deg", "min_cheirality"}:
        return (
            "The camera only turned, or hardly moved: without a change of place there is no depth. Move it sideways"
            " between the images, by a tenth of the distance to the scene or more"
        )
    if failed == {"max_center_uncertainty"}:
        return (
            "A few images with little parallax or few points do not determine the camera positions: take more images"
            " around them, with more parallax and more overlap, or give the intrinsics as `cameras.params`"
        )
    if failed & {"min_kept_images", "min_points_per_image"}:
        return (
            "Did the camera only turn? Otherwise take images that overlap more, or try a larger"
            " `extractor.max_keypoints`"
        )
    return (
        "The scene may have parts that look alike: take more images between the views, or give the true pairs in a file"
        " as `pairs.path`"
    )


_CHECK_TEXTS: dict[str, Callable[[Check], str]] = {
    "min_kept_images": lambda check: (
        f"{1 - (check.value or 0):.0%} of its images have too few points or contradict verified pairs"
    ),
    "min_points_per_image": lambda check: f"a median of {check.value:.0f} points per image (limit {check.limit:.0f})",
    "min_agreement": lambda check: f"only {check.value:.0%} of the verified pairs, weighted by inliers, agree with it",
    "min_triangulated": lambda check: f"only {check.value:.0%} of the verified matches with parallax fit its poses",
    "max_conflict": lambda check: "its images show different places that look alike and lie on top of each other",
    "max_fold_signs": lambda check: (
        f"{check.value:.0%} of its images have signs of a fold: they may show different places that look alike"
    ),
    "max_static_pairs": lambda check: (
        f"in {check.value:.0%} of its verified pairs, weighted by inliers, the camera only turned or stood still"
    ),
    "min_triangulation_angle_deg": lambda check: f"a median triangulation angle of {check.value:.2f} degrees",
    "min_cheirality": lambda check: f"only {check.value:.0%} of the observations lie in front of their cameras",
    "max_focal_ratio": lambda check: f"a focal length of {check.value:.1f} times the longer side of the image",
    "min_focal_ratio": lambda check: f"a focal length of {check.value:.2f} times the longer side of the image",
    "max_focal_change": lambda check: (
        f"a focal length that differs from the EXIF data by a factor of {check.value:.2f}"
    ),
    "min_distortion_slope": lambda check: "a lens distortion that folds the image",
    "max_center_uncertainty": lambda check: (
        f"camera positions that are uncertain by {check.value:.0%} of the distance between the farthest two"
        if check.value is not None and math.isfinite(check.value)
        else "camera positions that the images do not determine"
    ),
    "max_focal_uncertainty": lambda check: (
        "a focal length that the images do not determine"
        if check.value is None
        else f"a focal length that the images determine only to {check.value:.0%}"
    ),
}
