"""The judgement of a model: whether it is published, and how well each image is supported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

Outcome = Literal["accepted", "reduced", "rejected"]
"""accepted: published as it was built. reduced: published without its doubtful images. rejected: not published."""

ImageStatus = Literal["registered", "doubtful", "other_model", "left_out", "unreadable"]
"""registered: in the largest model. other_model: in a smaller one. doubtful: it was registered, but its pose has too
little support, so it was taken out, or its model was rejected. left_out: it has no pose. unreadable: no usable image
file."""

ImageReason = Literal[
    "no_matches",
    "pure_rotation",
    "still",
    "contradicts",
    "blurred",
    "few_points",
    "intrinsics",
    "not_connected",
    "kept_apart",
    "model_rejected",
    "panorama",
    "unreadable",
]
"""Why an image is not registered. no_matches: no pair with another image was verified. pure_rotation, still: in all of
its verified pairs, the camera only rotated or did not move. contradicts: the verified pairs contradict its pose, or
contradict each other. blurred: it has far fewer keypoints than the other images. few_points: too few points of the
model are observed in it. intrinsics: the refined intrinsics of its camera fail a check. not_connected: its verified
pairs do not suffice for a pose, or do not connect it with the largest part of the model. kept_apart: its verified
pairs took no part, because they may show places that look alike. model_rejected: its model failed a check. panorama: a
panorama is no image of a pinhole camera."""


CENTERS_CHECK = "max_center_uncertainty"
"""Name of the check of the standard deviation of the camera centres of a small model."""

_UNCERTAIN_CENTERS = 0.016
"""Uncertainty of the camera centres from which a published model is told as uncertain. Of random parts of a quick walk
(hololens), 16 of 21 wrong models have more, and 12 of 73 right ones; of four sets of photographs, none of 186 right
ones has."""


@dataclass(frozen=True, slots=True)
class Check:
    """One number of a model beside its limit.

    Args:
        value: of the model; None if it is not finite or cannot be determined.
        limit: as in the configuration; the name of the check tells whether larger or smaller values pass.
        passed: whether the value is on the right side.
    """

    value: float | None
    limit: float
    passed: bool

    @classmethod
    def at_least(cls, value: float, limit: float) -> Check:
        """Passed by values that are not below the limit."""
        return cls(value if math.isfinite(value) else None, limit, value >= limit)

    @classmethod
    def at_most(cls, value: float, limit: float) -> Check:
        """Passed by values that are not above the limit."""
        return cls(value if math.isfinite(value) else None, limit, value <= limit)

    def is_worse_than(self, other: Check, is_minimum: bool) -> bool:
        """Whether the value is farther on the wrong side than that of another check of the same name."""
        if self.value is None or other.value is None:
            return self.value is None
        return self.value < other.value if is_minimum else self.value > other.value


def is_uncertain(checks: Mapping[str, Check]) -> bool:
    """Whether the images of a small model hardly determine its camera centres, by the checks of its verdict."""
    check = checks.get(CENTERS_CHECK)
    return check is not None and (check.value is None or check.value > _UNCERTAIN_CENTERS)


@dataclass(frozen=True, slots=True)
class ImageVerdict:
    """What is known about one image at the end of a run; an entry of `images` in the summary.

    Args:
        status: see `ImageStatus`.
        reason: why it is not registered, see `ImageReason`; None for registered images.
        model: index of its model in `models` of the summary; None without a model.
        num_points: number of points of the model that are observed in it.
        support: weighted fraction of its verified pairs that agree with the model, 0 to 1; None without a pose.
        tried: how it was matched once more because it was left over, in order; empty if it was not.
    """

    status: ImageStatus
    reason: ImageReason | None = None
    model: int | None = None
    num_points: int = 0
    support: float | None = None
    tried: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "tried", tuple(self.tried))  # JSON has lists


@dataclass(frozen=True, slots=True)
class FoldSigns:
    """Pairs of images of a model that seem to show different places, by kind of sign; the names of both images.

    Args:
        doubted: pairs with more points than is usual that only one of both images observes.
        joined_again: pairs that were left out after a fold, and whose images are at one place again.
        unlike: images from nearly one place with unlike surroundings.
        num_known: number of pairs of images of whose points something is known.
    """

    doubted: tuple[tuple[str, str], ...] = ()
    joined_again: tuple[tuple[str, str], ...] = ()
    unlike: tuple[tuple[str, str], ...] = ()
    num_known: int = 0

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """All these pairs."""
        return frozenset({*self.doubted, *self.joined_again, *self.unlike})


@dataclass(frozen=True, slots=True)
class ModelVerdict:
    """The judgement of one model.

    Args:
        outcome: accepted, reduced or rejected.
        checks: by name.
        images: by name, of every image that the mapper registered: registered or doubtful.
        notes: what users should know about how it was built.
        left_out: names of verified pairs with an image of the model that took no part in mapping, because they joined
            places that look alike.
        maybe_folded: images that may show places that look alike and lie on top of each other, sorted; nothing tells
            for certain. Empty if there is no sign of it.
        suspected: names of the pairs that join the places of a model that may be folded, if these stand out; until the
            scene was mapped without them.
        signs: of a fold, for what may be done about them; empty if nothing is to be done, as with known poses.
    """

    outcome: Outcome
    checks: Mapping[str, Check]
    images: Mapping[str, ImageVerdict]
    notes: tuple[str, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    maybe_folded: tuple[str, ...] = ()
    suspected: tuple[tuple[str, str], ...] = ()
    signs: FoldSigns = FoldSigns()

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that were not passed."""
        return tuple(name for name, check in self.checks.items() if not check.passed)

    def as_rejected(self) -> ModelVerdict:
        """The verdict of a model that fails a check: none of its images has a pose any more."""
        images = {
            name: image if image.status == "doubtful" else replace(image, status="doubtful", reason="model_rejected")
            for name, image in self.images.items()
        }
        return replace(self, outcome="rejected", images=images)
