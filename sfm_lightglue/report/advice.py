"""What a run has to tell people: warnings in plain words, each with what to try.

Texts name options between backticks; the commands replace them by their flags.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["bad", "warning", "note"]

_CLOSER_LOOKS = ("transitive.closer_look", "pairs.closer_look")
"""Options that leave pairs out before they are matched; the line about the choice of pairs names those that did."""

REASON_TEXTS: dict[str, tuple[str, str]] = {
    "no_matches": (
        "no common view with another image",
        "Take images that fill the gap, or raise `extractor.max_keypoints`.",
    ),
    "pure_rotation": (
        "the camera only turned between this image and the others",
        "Move the camera sideways between two images: without a change of place there is no depth.",
    ),
    "still": (
        "the camera did not move, or something stands still in all images",
        "Move the camera. Mask or crop logos, frames and time stamps.",
    ),
    "contradicts": (
        "its matches contradict those of the other images",
        "Parts of the scene may look alike: take images between the views, or list the true pairs with `pairs.path`.",
    ),
    "blurred": ("hardly any keypoints: blurred, dark or empty", "Take the image again, with more light."),
    "few_points": (
        "too few points of the model are seen in it",
        "Take at least three images of each part of the scene, or raise `extractor.max_keypoints`.",
    ),
    "intrinsics": (
        "its focal length or distortion is implausible",
        "State the intrinsics with `cameras.params`, or use `cameras.mode` single if one camera took all images.",
    ),
    "not_connected": (
        "too weakly connected with the rest",
        "Take at least three images of each part of the scene, or raise `extractor.max_keypoints`.",
    ),
    "kept_apart": (
        "its pairs were kept apart: it may show another place that looks alike",
        "If it shows the same place, name pairs with it in a file, and give that as `lookalikes.trust_pairs`.",
    ),
    "model_rejected": ("its model failed a check", "See the checks of the models below."),
    "panorama": ("it is a panorama", "Cut panoramas into perspective views that overlap."),
    "unreadable": ("the file cannot be read, or is no usable image", "Open the file with another program."),
}
"""Text and advice for each reason of an image without a pose; see `mapping.verdict.ImageReason`."""

CHECK_TEXTS: dict[str, tuple[str, str]] = {
    "min_kept_images": (
        "too many images of the model are doubtful",
        "Take images that overlap more, or raise `extractor.max_keypoints`.",
    ),
    "min_points_per_image": (
        "the images see too few points",
        "Take images with more overlap, or use `extractor.max_keypoints` 4096.",
    ),
    "min_agreement": (
        "too many pairs of images disagree with the model",
        "Parts of the scene may look alike: take images between the views, or list the true pairs with `pairs.path`.",
    ),
    "min_triangulated": (
        "too many verified matches do not fit the model",
        "The model may be bent or folded: take images between the views.",
    ),
    "max_conflict": (
        "different places that look alike lie on top of each other",
        "Take images between the places, or list the true pairs with `pairs.path`.",
    ),
    "max_fold_signs": (
        "most images have signs of a fold: they may show different places that look alike",
        "Compare them. List the true pairs with `pairs.path`; if they show one place, list pairs of them, at least one"
        " for each group of images, with `lookalikes.trust_pairs`.",
    ),
    "max_static_pairs": ("the camera hardly moved", "Move the camera sideways between images."),
    "min_triangulation_angle_deg": (
        "the rays of the points are almost parallel",
        "Move the camera farther between images.",
    ),
    "min_cheirality": ("points lie behind cameras", "The model is wrong: do not use it."),
    "max_focal_ratio": ("the focal length is implausibly long", "State the intrinsics with `cameras.params`."),
    "min_focal_ratio": (
        "the focal length is implausibly short",
        "State the intrinsics with `cameras.params`; cut panoramas into views.",
    ),
    "max_focal_change": (
        "the focal length differs from that of the EXIF data",
        "The images may be cropped, scaled or zoomed: use `cameras.mode` per-image, or `cameras.params`.",
    ),
    "min_distortion_slope": (
        "the lens distortion is implausible",
        "Use `cameras.model` OPENCV_FISHEYE for fisheye lenses, or `cameras.params`.",
    ),
    "max_center_uncertainty": (
        "the images hardly determine the camera positions",
        "Take images with more parallax and more overlap, or give the intrinsics with `cameras.params`.",
    ),
    "max_focal_uncertainty": (
        "the images do not determine the focal length",
        "State it with `cameras.params`, use images with EXIF data, or add oblique views.",
    ),
}
"""Text and advice for each failed check; see `[checks]` in the configuration."""

CLOSE_TO_LIMIT = 0.05
"""A passed check is mentioned if its value is within this fraction of its limit."""

WEAK_SUPPORT = 0.7
"""A registered image is doubtful if a smaller share of its verified pairs agrees with the model."""

FEW_POINTS = 0.2
"""A registered image is doubtful if it sees fewer points than this fraction of the median."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a person should know.

    Args:
        level: "bad" if results must not be used as they are, "warning" for what may be wrong, else "note".
        text: what was found.
        advice: what to try; "" if there is nothing to do.
        names: of the images that it concerns, sorted.
    """

    level: Level
    text: str
    advice: str = ""
    names: tuple[str, ...] = ()


def findings(summary: Mapping[str, Any], shown: str = "") -> tuple[Finding, ...]:
    """What the summary of a run has to tell, the worst first.

    Args:
        summary: of `run.json`; missing entries tell nothing.
        shown: path of the model that is shown, as the summary names it; by default the largest one.
    """
    order: dict[Level, int] = {"bad": 0, "warning": 1, "note": 2}
    found = [
        *_of_models(summary.get("models", ()), shown),
        *_of_images(summary.get("images", {}), summary.get("skipped", ())),
        *_of_scene(summary),
    ]
    return tuple(sorted(found, key=lambda finding: order[finding.level]))


def _of_models(models: Sequence[Mapping[str, Any]], shown: str) -> Iterator[Finding]:
    published = [model for model in models if model.get("verdict") != "rejected"]
    if models and not published:
        yield Finding("bad", "No model passed its checks. What is shown was rejected: do not use its poses.")
    elif not models:
        yield Finding("bad", "No model was built.", "See the reason of each image.")
    if len(published) > 1:
        largest = published[0]["path"]
        shown = shown or largest
        others = [f"{one['path']} ({_images(one['num_registered'])})" for one in published if one["path"] != shown]
        which = "the largest one" if shown == largest else shown
        text = f"The images do not form one model. Beside {which}, which is shown, there are: {', '.join(others)}."
        yield Finding("warning", text, "The command report with the path of a model shows it.")
    yield from _of_models_alike(models)
    for model in models:
        yield from _of_checks(model, "bad" if not published else "warning")
        if model.get("maybe_folded") and model.get("verdict") != "rejected":
            yield _of_fold(model)
        if model.get("uncertain") and model.get("verdict") != "rejected":
            text = f"{model['path']} may be wrong: its few images hardly determine the camera positions."
            yield Finding("warning", text, CHECK_TEXTS["max_center_uncertainty"][1])
        if model.get("verdict") == "reduced":
            text = f"{model['path']}: doubtful images were taken out; the rest passed all checks."
            yield Finding("warning", text, "If they matter, take more images around them.")
        for note in model.get("notes", ()):
            yield Finding("note", f"{model['path']}: {note}")


def _of_fold(model: Mapping[str, Any]) -> Finding:
    """That a published model may have several places as one, and what to do in both cases."""
    names = tuple(model["maybe_folded"])
    text = (
        f"{model['path']} may be wrong (folded): {len(names)} of its images match others of it, but there are signs"
        " that they show different places that look alike, or that things were moved between the photos."
    )
    advice = (
        "Compare these images. If they show several places, list all true pairs with `pairs.path` (only these are"
        " matched). If they show one place, the model is right: pairs of these images in `lookalikes.trust_pairs` end"
        " the warning."
    )
    return Finding("warning", text, advice, names)


def _of_models_alike(models: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    alike = {index for model in models for index in model.get("maybe_same_as") or ()}
    alike |= {index for index, model in enumerate(models) if model.get("maybe_same_as")}
    if alike:
        paths = ", ".join(str(models[index]["path"]) for index in sorted(alike) if index < len(models))
        text = f"Models that look alike were kept apart, because they may show different places: {paths}."
        yield Finding("warning", text, "If they show one place, list true pairs with `lookalikes.trust_pairs`.")


def _of_checks(model: Mapping[str, Any], level: Level) -> Iterator[Finding]:
    """The failed checks of a model in one finding, and those that it passed narrowly."""
    texts, advice, names = [], [], ()
    for name, check in sorted(model.get("checks", {}).items()):
        text, what_to_do = CHECK_TEXTS.get(name, (f"the check {name} is not passed", ""))
        if not check["passed"]:
            texts.append(f"{text} ({_numbers(check)})")
            advice.append(what_to_do)
            names = tuple(model.get("maybe_folded", ())) if name == "max_fold_signs" else names
        elif model.get("verdict") != "rejected" and _is_close(check):
            yield Finding("note", f"{model['path']} passed {name} narrowly ({_numbers(check)}).", what_to_do)
    if texts:
        yield Finding(
            level, f"{model['path']} failed: {'; '.join(texts)}.", " ".join(dict.fromkeys(filter(None, advice))), names
        )


def _of_images(images: Mapping[str, Mapping[str, Any]], skipped: Sequence[Mapping[str, str]]) -> Iterator[Finding]:
    names_from_reason: dict[str, list[str]] = {}
    for name, image in sorted(images.items()):
        if image.get("reason"):
            names_from_reason.setdefault(image["reason"], []).append(name)
    for reason, names in sorted(names_from_reason.items()):
        text, advice = REASON_TEXTS.get(reason, (reason.replace("_", " "), ""))
        yield Finding("warning", f"{_images(len(names))} without a pose: {text}.", advice, tuple(names))
    texts: dict[str, list[str]] = {}
    for one in skipped:
        texts.setdefault(one.get("reason", ""), []).append(one.get("name", ""))
    for text, names in sorted(texts.items()):
        yield Finding("warning", f"{_images(len(names))} left out: {text}.", "", tuple(sorted(names)))
    doubtful = doubtful_names(images)
    if doubtful:
        text = f"{_images(len(doubtful))} with a pose, but with weak support: few points, or pairs that disagree."
        advice = "Look at them in the model before you rely on them; more overlap helps."
        yield Finding("note", text, advice, doubtful)


def doubtful_names(images: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Names of the registered images that few points or few pairs support, sorted."""
    registered = {name: one for name, one in images.items() if one.get("status") in {"registered", "other_model"}}
    points = sorted(one.get("num_points", 0) for one in registered.values())
    fewest = FEW_POINTS * points[len(points) // 2] if points else 0
    return tuple(
        name
        for name, one in sorted(registered.items())
        if one.get("num_points", 0) < fewest or (one.get("support") is not None and one["support"] < WEAK_SUPPORT)
    )


def _of_scene(summary: Mapping[str, Any]) -> Iterator[Finding]:
    components = [number for number in summary.get("components", ()) if number > 1]
    if len(components) > 1:
        sizes = ", ".join(map(str, components))
        text = f"The verified pairs connect the images in {len(components)} separate groups ({sizes} images)."
        options = [f"`{name}=false` or " for name in _CLOSER_LOOKS if name in summary.get("pairs", "")]
        advice = f"Take images between the parts, or match more pairs ({''.join(options)}`pairs.name` exhaustive)."
        if any(model.get("maybe_same_as") for model in summary.get("models", ())):
            text = f"{text[:-1]}, because pairs that look alike were left out."
            advice = "More pairs do not help: see the models that look alike."
        yield Finding("warning", text, advice)
    apart = summary.get("num_pairs_kept_apart", 0)
    if apart:
        text = f"{apart} pairs were not used: their images look alike, but may show different places."
        yield Finding("note", text, "List true pairs with `lookalikes.trust_pairs`.")
    length = summary.get("mean_track_length", 0)
    if summary.get("num_points", 0) and length < 2.5:
        text = f"A point is seen in {length:.2f} images on average: errors are hardly noticed in so short tracks."
        yield Finding("note", text, "Take images that overlap more.")


def _numbers(check: Mapping[str, Any]) -> str:
    value = check.get("value")
    shown = "unknown" if value is None else f"{value:.3g}"
    return f"{shown}, limit {check.get('limit', 0):.3g}"


def _is_close(check: Mapping[str, Any]) -> bool:
    value, limit = check.get("value"), check.get("limit", 0)
    return value is not None and limit != 0 and abs(value - limit) < CLOSE_TO_LIMIT * abs(limit)


def _images(number: int) -> str:
    return f"{number} image{'s' * (number != 1)}"
