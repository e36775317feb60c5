"""Map a scene, judge the models, and start again from other images where the verified pairs contradict a model."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from sfm_lightglue.colmap.model_parts import copy_of_part
from sfm_lightglue.lookalikes.probability import overlap_probabilities
from sfm_lightglue.mapping.base import Mapper, MappingTask
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.incremental import adjustment_like, adjustment_of_merged_like
from sfm_lightglue.mapping.judgement import JudgedModel, judge_models
from sfm_lightglue.mapping.merging import merge_models
from sfm_lightglue.mapping.merging_by_points import MergedPieces, PieceMerging, is_of_models_apart, is_of_pieces
from sfm_lightglue.mapping.pair_agreement import read_stored_pairs
from sfm_lightglue.mapping.point_links import MIN_PROBABILITY
from sfm_lightglue.mapping.snapshots import show_mapped
from sfm_lightglue.reconstruction.agreeing_parts import MIN_PART, agreeing_parts, has_parts
from sfm_lightglue.reconstruction.folds import Folds, FoldSearch, is_folded
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.store.store import make_key
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    import pycolmap

logger = logging.getLogger(__name__)

_MAX_ATTEMPTS = 4
"""Number of times that a scene is mapped at most."""

_MIN_CONTRADICTED = 0.1
"""Fraction of the images of a model that pairs must contradict so that the scene is mapped again."""

_MAX_LOST = 0.05
"""Fraction of the images of two models that a merged model may lose when it is judged. With more, the verified pairs
contradict it, and the models stay apart."""


def map_and_judge(
    mapper: Mapper,
    task: MappingTask,
    weighed: WeighedPairs,
    checks: ChecksConfig,
    guessed_camera_ids: frozenset[int] = frozenset(),
    search: FoldSearch | None = None,
) -> list[JudgedModel]:
    """Build and judge the models of a scene.

    A model in which places that look alike lie on top of each other is rejected; `map_unfolded` maps the scene again.
    A wrong start bends a whole model. If verified pairs contradict a model, the scene is mapped again from the pairs
    with the most evidence. The attempt whose published models have the most images is kept, with those models of the
    other attempts that show other images. Published models that share at least three images are merged. The notes of
    the mapper are kept with its models.

    Args:
        mapper: builds the models.
        task: the scene.
        weighed: its verified pairs.
        checks: limits.
        guessed_camera_ids: cameras whose focal length is not known from EXIF data, beside those that the database
            marks.
        search: what is done about places that look alike; None does nothing.

    Returns:
        The published models, accepted or reduced, the one with most images first; then the rejected ones.
    """
    folds = None
    if search is not None:
        folds = Folds.of_database(task.database, weighed, checks.max_conflict, search)
    trusted = frozenset() if search is None else frozenset(search.trusted)
    probability, against = probabilities_of(weighed, trusted), against_of(weighed, trusted)
    options = checks, guessed_camera_ids, probability, folds, against
    judging = Judging(mapper.config, task, *options, joining=weighed.joined | trusted)
    first = judging.mapped(mapper, task)
    best = judging.merged(first)
    if folds is not None and search is not None and any(is_folded(each) for each in best):
        return folds.cut(best, judging.judged) if search.cuts else best
    looks_for_parts = folds is not None and (folds.has_twins or bool(against))
    starts = _starts(weighed)
    taken_out = _contradicted_images(first) if looks_for_parts else set()
    fewest = max(MIN_PART, _MIN_CONTRADICTED * len({name for each in first for name in each.verdict.images}))
    for number in range(1, _MAX_ATTEMPTS):
        left_over = taken_out - _registered(best)
        doubtful = _contradicted_images(best) | (left_over if len(left_over) >= fewest else set())
        initial_pair = next((pair for pair in starts if {pair.name0, pair.name1} <= doubtful), None)
        if initial_pair is None:
            break
        starts.remove(initial_pair)
        judged = judging.mapped_again(mapper, f"attempt-{number}", initial_pair)
        if looks_for_parts:
            judged = _combined(judged, judging.parts(judged))
        best = max(judging.merged(_combined(best, judged)), judged, key=num_published)
    if looks_for_parts:
        best = _combined(best, judging.parts(best))
    return best


def tell_notes(judged: Sequence[JudgedModel], told: Collection[str] = ()) -> None:
    """Log the notes of published models that were not told yet, each once."""
    for note in _notes([each for each in judged if each.verdict.outcome != "rejected"]):
        if note not in told and not is_of_pieces(note):  # the latter at the end: a second look may change them
            logger.warning("%s", note)


def _notes(judged: Sequence[JudgedModel]) -> tuple[str, ...]:
    """The notes of models, each once."""
    return tuple(dict.fromkeys(note for each in judged for note in each.verdict.notes))


def _combined(first: list[JudgedModel], second: list[JudgedModel]) -> list[JudgedModel]:
    """The models of an attempt, with those published models of another one most of whose images are new."""
    published = [each for each in first if each.verdict.outcome != "rejected"]
    covered = _registered(published)
    added = [
        each
        for each in second
        if each.verdict.outcome != "rejected" and 2 * len(_registered([each]) - covered) > len(each.verdict.images)
    ]
    if not added:
        return first
    published = sorted(published + added, key=lambda each: -each.model.num_reg_images())
    covered |= _registered(added)
    rejected = [each for each in first if each.verdict.outcome == "rejected"]
    return published + [each for each in rejected if not each.verdict.images.keys() <= covered]


def _registered(judged: Sequence[JudgedModel]) -> set[str]:
    """Images that are registered in models that are not rejected."""
    return {name for each in judged for name, image in each.verdict.images.items() if image.status == "registered"}


def probabilities_of(weighed: WeighedPairs, trusted: Collection[ImagePair]) -> dict[ImagePair, float]:
    """The probabilities of pairs that the user does not trust: a trusted pair is not doubtful."""
    return {pair: overlap.probability for pair, overlap in weighed.overlaps.items() if pair not in trusted}


def linking_probabilities(
    probability: Mapping[ImagePair, float] | None, joining: Collection[ImagePair]
) -> Mapping[ImagePair, float] | None:
    """The probabilities by which pairs connect models: those that join parts of the scene do so as in mapping.

    Args:
        probability: of pairs; None if it is not known.
        joining: doubtful pairs that join parts of the scene.
    """
    if probability is None:
        return None
    return {pair: max(value, MIN_PROBABILITY) if pair in joining else value for pair, value in probability.items()}


def weights_of(weighed: WeighedPairs, trusted: Collection[ImagePair]) -> dict[ImagePair, float]:
    """The probabilities that weigh pairs when models are judged: none in a scene without twins."""
    return probabilities_of(weighed, trusted) if weighed.has_twins else {}


def against_of(weighed: WeighedPairs, trusted: Collection[ImagePair]) -> dict[ImagePair, float]:
    """The probabilities by their own cues of the pairs of a scene with places that look alike, but without twins.

    Tracks over wrong pairs confirm other wrong ones. So a pair that contradicts a model counts by what it shows itself.
    """
    if weighed.has_twins or not weighed.apart:
        return {}
    pairs = sorted(weighed.overlaps)
    own = overlap_probabilities([weighed.overlaps[pair].cues for pair in pairs])
    return {pair: value for pair, value in zip(pairs, own.tolist(), strict=True) if pair not in trusted}


def doubtful_pairs(weighed: WeighedPairs, trusted: Collection[ImagePair], limit: float) -> frozenset[ImagePair]:
    """The pairs that take part in mapping although they are less probable by their own cues than a limit."""
    own = against_of(weighed, trusted)
    return frozenset(pair for pair in weighed.kept if own.get(pair, 1.0) < limit)


@dataclass(frozen=True, slots=True)
class Judging:
    """Judges and merges the models of a task.

    Args:
        mapper_config: of the mapper that built them.
        task: the scene.
        checks: limits.
        guessed_camera_ids: as for `map_and_judge`.
        probability: that a pair shows the same place, by pair; None if it is not known. Only in scenes with twins it
            weighs pairs when models are judged.
        folds: looks for folds; None does not.
        against: as for `judge_models`.
        is_after_split: whether models are not merged if places that look alike stand out in the merged one.
        joining: doubtful pairs that join parts of the scene in mapping. So they may connect models, too; they are no
            evidence for the poses that follow from them. Pairs that the user trusts connect models as they do.
    """

    mapper_config: Any
    task: MappingTask
    checks: ChecksConfig
    guessed_camera_ids: frozenset[int]
    probability: Mapping[ImagePair, float] | None = None
    folds: Folds | None = None
    against: Mapping[ImagePair, float] = field(default_factory=dict)
    is_after_split: bool = False
    joining: frozenset[ImagePair] = frozenset()

    def mapped(self, mapper: Mapper, task: MappingTask) -> list[JudgedModel]:
        """The models of a mapper, with its notes."""
        models = mapper.map(task)
        show_mapped(models, task.growth)
        judged = self.judged(models)
        return [
            replace(each, verdict=replace(each.verdict, notes=tuple(dict.fromkeys([*task.notes, *each.verdict.notes]))))
            for each in judged
        ]

    def judged(self, models: Sequence[pycolmap.Reconstruction]) -> list[JudgedModel]:
        """Judge models; see `judge_models`."""
        adjust = adjustment_like(self.mapper_config, self.task)
        constant = self.task.constant_camera_ids
        cameras, database = self.guessed_camera_ids, self.task.database
        options = self.checks, constant, adjust, cameras
        has_twins = self.folds is not None and self.folds.has_twins
        probability = self.probability if has_twins else None
        doubtful = self.folds.doubtful_inliers if self.folds is not None and has_twins else None
        found = judge_models(
            models,
            database,
            *options,
            probability=probability,
            against=self.against,
            doubtful_inliers=doubtful,
            has_known_poses=bool(self.task.known_poses),
        )
        return found if self.folds is None else self.folds.checked(found)

    def mapped_again(self, mapper: Mapper, name: str, initial_pair: ImagePair | None = None) -> list[JudgedModel]:
        """The merged models of another attempt.

        Args:
            mapper: builds the models.
            name: of the attempt.
            initial_pair: with which the first model should start; None leaves the choice to the mapper.
        """
        work = self.task.work / name
        work.mkdir()
        key = make_key("initial pair", initial_pair) if initial_pair is not None else name
        snapshots = self.task.snapshots / key if self.task.snapshots is not None else None
        again = replace(self.task, work=work, initial_pair=initial_pair, snapshots=snapshots, notes=[])
        return self.merged(self.mapped(mapper, again))

    def parts(self, judged: Sequence[JudgedModel]) -> list[JudgedModel]:
        """The published parts of models that are rejected because pairs contradict them; each is adjusted again."""
        rejected = [each for each in judged if has_parts(each)]
        if not rejected:
            return []
        adjust = adjustment_like(self.mapper_config, self.task)
        pairs, parts = read_stored_pairs(self.task.database), []
        for each in rejected:
            for names in agreeing_parts(each, pairs, self.checks, self.probability or {}):
                parts.append(copy_of_part(each.model, names))
                adjust(parts[-1])
        found = self.judged(parts)
        if self.folds is not None:
            found = self.folds.cut(found, self.judged)
        return [each for each in found if each.verdict.outcome != "rejected"]

    def merged(self, judged: Sequence[JudgedModel]) -> list[JudgedModel]:
        """Merge published models, unless the merged one is judged worse."""
        judged_from_id = {id(each.model): each for each in judged}

        def is_as_good(merged: pycolmap.Reconstruction, *parts: pycolmap.Reconstruction) -> bool:
            (found,) = self.judged([merged])
            of_parts = [judged_from_id[id(part)] for part in parts]
            judged_from_id[id(merged)] = replace(
                found, verdict=replace(found.verdict, notes=_notes([*of_parts, found]))
            )
            if self.is_after_split and found.verdict.suspected and not any(part.verdict.suspected for part in of_parts):
                return False
            before = _registered(of_parts)
            return len(_registered([found]) & before) >= (1 - _MAX_LOST) * len(before)

        published = [each.model for each in judged if each.verdict.outcome != "rejected"]
        rejected = [each for each in judged if each.verdict.outcome == "rejected"]
        adjust = adjustment_of_merged_like(self.mapper_config, self.task)
        models = merge_models(published, adjust, is_as_good)
        if len(models) < 2:
            return [judged_from_id[id(model)] for model in models] + rejected
        pairs, seed = read_stored_pairs(self.task.database), self.task.seed
        linking = linking_probabilities(self.probability, self.joining)
        pieces = PieceMerging(pairs, adjust, is_as_good, seed, linking, self.joining).merge(models)
        found = [judged_from_id[id(model)] for model in pieces.models]
        return _with_notes(found, pieces) + rejected


def _with_notes(judged: Sequence[JudgedModel], pieces: MergedPieces) -> list[JudgedModel]:
    """The models with the notes of their merging; why models stay apart is told with the largest one."""
    found: list[JudgedModel] = []
    for each in judged:
        notes = [note for note in each.verdict.notes if not is_of_models_apart(note)] + pieces.notes_of(each.model)
        notes += pieces.apart if not found else []
        found.append(replace(each, verdict=replace(each.verdict, notes=tuple(dict.fromkeys(notes)))))
    return found


def _starts(weighed: WeighedPairs) -> list[ImagePair]:
    """Pairs with a translation, those with the most evidence first."""
    pairs = [pair for pair, record in weighed.kept.items() if record.kind != "pure_rotation"]
    return sorted(pairs, key=lambda pair: (-weighed.kept[pair].weight, pair))


def _contradicted_images(judged: Sequence[JudgedModel]) -> set[str]:
    """Images whose model the verified pairs contradict, without those of accepted models.

    Those of a reduced model count: if its start was wrong, other images were taken out than those that are wrong.
    """
    doubtful: set[str] = set()
    for each in judged:
        images = each.verdict.images
        failed = set(each.verdict.failed)
        has_few_points = "min_points_per_image" in failed  # then few matches are points, also in a right model
        is_bent = "min_agreement" in failed or ("min_triangulated" in failed and not has_few_points)
        num_contradicted = sum(image.reason == "contradicts" for image in images.values())
        if is_bent or num_contradicted >= max(1, _MIN_CONTRADICTED * len(images)):
            doubtful |= images.keys()
    return doubtful - _registered([each for each in judged if each.verdict.outcome == "accepted"])


def num_published(judged: Sequence[JudgedModel]) -> int:
    """Number of images that are registered in models that are not rejected."""
    return len(_registered(judged))


def quality(judged: Sequence[JudgedModel]) -> tuple[int, int]:
    """Number of images in published models, and number of points of the first model."""
    return num_published(judged), judged[0].model.num_points3D() if judged else 0
