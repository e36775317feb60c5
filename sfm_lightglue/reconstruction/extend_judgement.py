"""Judge an extended model beside the model before: images that came in may go again, the others may not."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.colmap.model_parts import take_out_images
from sfm_lightglue.lookalikes.model_check import check_fold
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.database_pairs import matched_pairs
from sfm_lightglue.mapping.judgement import JudgedModel, judge_models
from sfm_lightglue.mapping.verdict import ImageVerdict
from sfm_lightglue.reconstruction.densified_summary import problem_of_change, summary_of_models
from sfm_lightglue.reconstruction.folds import MAX_CHECKED_IMAGES
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    import pycolmap

_TWINS_NOTE = (
    "places of this scene look alike, and pairs of images that were added later were not compared with that in mind:"
    " such an image may lie at the wrong one of these places; mapping all images anew compares all pairs"
)


@dataclass(frozen=True, eq=False, slots=True)
class ExtensionJudge:
    """Limits and pairs by which models are judged.

    Args:
        database: with the verified pairs; not the one that is published.
        checks: limits.
        constant_camera_ids: cameras whose intrinsics were not refined.
        guessed_camera_ids: cameras whose focal length is not known from EXIF data.
        probability: as for `judge_models`: in a scene with twins, pairs that the run of the model before hardly
            believed count little again. It is not known of new pairs, and the inliers of pairs that took no part are
            not recorded. So no image is outweighed by them; a note tells that.
        against: as for `judge_models`: a model that was published by it can be extended.
        trusted: pairs that the user named; they join no different places.
        looks_for_folds: whether signs of places that look alike are looked for.
    """

    database: Path
    checks: ChecksConfig
    constant_camera_ids: frozenset[int]
    guessed_camera_ids: frozenset[int]
    probability: Mapping[ImagePair, float] = field(default_factory=dict)
    against: Mapping[ImagePair, float] = field(default_factory=dict)
    trusted: frozenset[ImagePair] = frozenset()
    looks_for_folds: bool = True

    def judge(self, model: pycolmap.Reconstruction, has_checks: bool = True) -> JudgedModel:
        """The verdict of a model, which is not changed; `has_checks` is that of `judge_models`."""
        (judged,) = judge_models(
            [copy.deepcopy(model)],
            self.database,
            self.checks,
            self.constant_camera_ids,
            guessed_camera_ids=self.guessed_camera_ids,
            has_checks=has_checks,
            probability=self.probability,
            against=self.against,
        )
        return judged

    def without_doubtful(
        self, model: pycolmap.Reconstruction, added: Collection[str], has_checks: bool = True
    ) -> tuple[JudgedModel, dict[str, ImageVerdict]]:
        """Take doubtful images that came in out of a model.

        Args:
            model: changed in place.
            added: names of the images that came in.
            has_checks: whether the verdict has the checks of the whole model.

        Returns:
            The model with its verdict, and the verdicts of the images that were taken out.
        """
        taken: dict[str, ImageVerdict] = {}
        while True:  # each round takes out at least one image
            judged = self.judge(model, has_checks)
            doubtful = _doubtful(judged)
            found = {name: verdict for name, verdict in doubtful.items() if name in added and name not in taken}
            if not found:
                return JudgedModel(model, judged.verdict), taken
            taken |= found
            take_out_images(model, found)

    def problem(self, before: pycolmap.Reconstruction, after: JudgedModel) -> str | None:
        """Why an extended model is worse than the model before; None if it is not."""
        if after.verdict.outcome == "rejected":
            return f"it fails its checks ({', '.join(after.verdict.failed) or 'support of its images'})"
        doubtful = _doubtful(after).keys()
        lost = sorted(doubtful - _doubtful(self.judge(before, has_checks=False)).keys()) if doubtful else ()
        if lost:
            return f"images of the model before become doubtful ({lost[0]})"
        return problem_of_change(*summary_of_models(before, after.model))

    def with_signs(self, before: pycolmap.Reconstruction, after: JudgedModel) -> JudgedModel:
        """An extended model with the images that may show places that look alike, but those of the model before.

        In a scene with twins, it has a note that added images can be at the wrong place.
        """
        if self.probability:
            notes = tuple(dict.fromkeys([*after.verdict.notes, _TWINS_NOTE]))
            after = replace(after, verdict=replace(after.verdict, notes=notes))
        if not self.looks_for_folds or after.model.num_reg_images() > MAX_CHECKED_IMAGES:
            return after
        signs = set(self._signs(after.model))
        if signs:
            signs -= set(self._signs(before))
        return replace(after, verdict=replace(after.verdict, maybe_folded=tuple(sorted(signs))))

    def _signs(self, model: pycolmap.Reconstruction) -> tuple[str, ...]:
        """The images of groups that contradict each other, and those with more alone points than is usual."""
        attempted = matched_pairs(self.database)
        found = check_fold(model, attempted, self.probability, self.trusted, bool(self.probability))
        numbers = {number for each in found.conflicts for number in each.groups}
        is_folded = found.conflict > self.checks.max_conflict
        names = {name for number in numbers if is_folded for name in found.groups[number]}
        return tuple(sorted(names | set(found.doubted)))


def _doubtful(judged: JudgedModel) -> dict[str, ImageVerdict]:
    return {
        name: image
        for name, image in judged.verdict.images.items()
        if image.status != "registered" and image.reason != "model_rejected"
    }


def as_registered(judged: JudgedModel, notes: tuple[str, ...], maybe_folded: tuple[str, ...] = ()) -> JudgedModel:
    """The verdict of an extended model, in which all images of the model count as registered.

    Args:
        judged: the extended model.
        notes: of the model before; those of the extended model follow.
        maybe_folded: of the model before: what was not sure stays so.
    """
    names = {judged.model.images[image_id].name for image_id in judged.model.reg_image_ids()}
    images = {
        name: replace(image, status="registered", reason=None)
        for name, image in judged.verdict.images.items()
        if name in names
    }
    folded = tuple(sorted({*maybe_folded, *judged.verdict.maybe_folded}))
    notes = tuple(dict.fromkeys([*notes, *judged.verdict.notes]))
    verdict = replace(judged.verdict, images=images, notes=notes, maybe_folded=folded)
    return JudgedModel(judged.model, verdict)
