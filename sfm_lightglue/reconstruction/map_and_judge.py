"""Map a scene, judge the models, and start again from other images where the verified pairs contradict a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sfm_lightglue.mapping.base import Mapper, MappingTask
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.incremental import adjustment_like
from sfm_lightglue.mapping.judgement import JudgedModel, judge_models
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import ImagePair

_MAX_ATTEMPTS = 4
"""Number of times that a scene is mapped at most."""


def map_and_judge(mapper: Mapper, task: MappingTask, weighed: WeighedPairs, checks: ChecksConfig) -> list[JudgedModel]:
    """Build and judge the models of a scene.

    A wrong start bends a whole model. If verified pairs contradict a model, the scene is mapped again from the pairs
    with the most evidence, and the attempt whose published models have the most images is kept.

    Args:
        mapper: builds the models.
        task: the scene.
        weighed: its verified pairs.
        checks: limits.

    Returns:
        The published models, accepted or reduced, the one with most images first; then the rejected ones.
    """
    best = _attempt(mapper, task, checks)
    starts = _starts(weighed)
    for number in range(1, _MAX_ATTEMPTS):
        doubtful = _contradicted_images(best)
        initial_pair = next((pair for pair in starts if {pair.name0, pair.name1} <= doubtful), None)
        if initial_pair is None:
            break
        starts.remove(initial_pair)
        work = task.work / f"attempt-{number}"
        work.mkdir()
        judged = _attempt(mapper, replace(task, work=work, initial_pair=initial_pair), checks)
        best = max(best, judged, key=num_published)
    return best


def _attempt(mapper: Mapper, task: MappingTask, checks: ChecksConfig) -> list[JudgedModel]:
    adjust = adjustment_like(mapper.config, task)
    return judge_models(mapper.map(task), task.database, checks, task.constant_camera_ids, adjust)


def _starts(weighed: WeighedPairs) -> list[ImagePair]:
    """Pairs with a translation, those with the most evidence first."""
    pairs = [pair for pair, record in weighed.kept.items() if record.kind != "pure_rotation"]
    return sorted(pairs, key=lambda pair: (-weighed.kept[pair].weight, pair))


def _contradicted_images(judged: Sequence[JudgedModel]) -> set[str]:
    """Images in no published model whose model the verified pairs contradict."""
    published: set[str] = set()
    doubtful: set[str] = set()
    for each in judged:
        images = each.verdict.images
        published |= {name for name, image in images.items() if image.status == "registered"}
        if any(image.reason == "contradicts" for image in images.values()) or "min_agreement" in each.verdict.failed:
            doubtful |= images.keys()
    return doubtful - published


def num_published(judged: Sequence[JudgedModel]) -> int:
    """Number of registered images in models that are not rejected."""
    return sum(image.status == "registered" for each in judged for image in each.verdict.images.values())
