"""Mapping goes on with pairs that were added: images come into the models, and models are merged."""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.database_pairs import remove_geometries
from sfm_lightglue.mapping.incremental import adjustment_like, options_like
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.mapper_run import register_left_out
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.folds import Folds, FoldSearch, still_told
from sfm_lightglue.reconstruction.map_and_judge import Judging, against_of, num_published, probabilities_of
from sfm_lightglue.reconstruction.told_folds import without_many_signs
from sfm_lightglue.stages.added_pairs import AddedPairs
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.types import ImagePair


def map_with_added(
    mapper_config: Any,
    task: MappingTask,
    weighed: WeighedPairs,
    config: ReconstructConfig,
    guessed_camera_ids: frozenset[int],
    judged: Sequence[JudgedModel],
    added: Collection[ImagePair],
    trusted: Collection[ImagePair] = (),
    taken_back: frozenset[ImagePair] = frozenset(),
) -> list[JudgedModel] | None:
    """Register images in published models by the pairs that were added, and merge the models.

    Images that are in a model keep it; they can be taken out of it only by the judgement.

    Args:
        mapper_config: of the mapper that built the models.
        task: the scene, with the added pairs.
        weighed: its verified pairs.
        config: of the run.
        guessed_camera_ids: cameras whose focal length is not known from EXIF data, beside those that the database
            marks.
        judged: the models before; not changed.
        added: the pairs that were added.
        trusted: pairs that the user named.
        taken_back: pairs that had been left out after a fold: models are judged by them here, too.

    Returns:
        The models; None if they have fewer images than before, or none has more.
    """
    left_out = {ImagePair.from_names(*names) for each in judged for names in each.verdict.left_out}
    remove_geometries(task.database, sorted(left_out))  # they join places that look alike
    folds = None
    if config.lookalikes.mode != "off":
        search = FoldSearch(frozenset(trusted), left_out=frozenset(left_out), taken_back=taken_back)
        folds = Folds.of_database(task.database, weighed, config.checks.max_conflict, search)
    probability = probabilities_of(weighed, trusted)
    against = against_of(weighed, trusted)
    options = probability, folds, against, bool(left_out), weighed.joined | frozenset(trusted)
    judging = Judging(mapper_config, task, config.checks, guessed_camera_ids, *options)
    again = judging.merged(_extended(judging, judged, doubtful_without(judged, set(added) & weighed.kept.keys())))
    again = still_told(without_many_signs(again), judged)
    return again if _is_better(again, judged) else None


def with_joining_note(judged: Sequence[JudgedModel], added: AddedPairs) -> list[JudgedModel]:
    """The models; those that doubtful pairs joined tell it.

    Args:
        judged: the models after mapping went on.
        added: the pairs that were added.
    """
    found = []
    for each in judged:
        images = each.verdict.images
        registered = {name for name, image in images.items() if image.status == "registered"}
        if added.joining_note and any({pair.name0, pair.name1} <= registered for pair in added.joining):
            notes = dict.fromkeys((*each.verdict.notes, added.joining_note))
            each = replace(each, verdict=replace(each.verdict, notes=tuple(notes)))
        found.append(each)
    return found


def doubtful_without(judged: Sequence[JudgedModel], added: Collection[ImagePair]) -> set[str]:
    """The doubtful images of published models that have no added pair: nothing new is known about them."""
    published = [each for each in judged if each.verdict.outcome != "rejected"]
    doubtful = {name for each in published for name, image in each.verdict.images.items() if image.status == "doubtful"}
    return doubtful - {name for pair in added for name in (pair.name0, pair.name1)}


def _extended(judging: Judging, judged: Sequence[JudgedModel], excluded: Collection[str]) -> list[JudgedModel]:
    """The published models with the images that come into them, judged again; then the rejected ones."""
    task, mapper_config = judging.task, judging.mapper_config
    published = [each for each in judged if each.verdict.outcome != "rejected"]
    rejected = [each for each in judged if each.verdict.outcome == "rejected"]
    models = [each.model for each in published]
    adjust = adjustment_like(mapper_config, task)
    for number, before in enumerate(published):
        folder = task.work / f"going-on-{number}"
        with store_errors(folder):
            folder.mkdir()
        others = [model for k, model in enumerate(models) if k != number]
        options = options_like(mapper_config, task)
        extended = register_left_out([before.model, *others], task, folder, options, excluded)[0]
        if extended.num_reg_images() > before.model.num_reg_images():
            adjust(extended)
            models[number] = extended
        else:
            models[number] = copy.deepcopy(before.model)
    known = {id(model): each.verdict for model, each in zip(models, published, strict=True)}
    found = []
    for each in judging.judged(models):
        earlier = known[id(each.model)]
        found.append(replace(each, verdict=replace(each.verdict, notes=earlier.notes, left_out=earlier.left_out)))
    return found + rejected


def _is_better(again: Sequence[JudgedModel], before: Sequence[JudgedModel]) -> bool:
    num_again, num_before = num_published(again), num_published(before)
    if num_again < num_before:
        return False
    return num_again > num_before or _largest(again) > _largest(before)


def _largest(judged: Sequence[JudgedModel]) -> int:
    return max((int(each.model.num_reg_images()) for each in judged if each.verdict.outcome != "rejected"), default=0)
