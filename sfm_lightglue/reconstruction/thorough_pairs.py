"""Pairs are matched more thoroughly if a scene has places that look alike and is not whole."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.mapped_models import MAPPED_KIND
from sfm_lightglue.matchers.lightglue import LightGlueMatcher
from sfm_lightglue.reconstruction.piece_merging import registered_names
from sfm_lightglue.reconstruction.turns import turns_key
from sfm_lightglue.registry.builtin import MATCHERS
from sfm_lightglue.registry.matching_steps import thorough_of
from sfm_lightglue.stages.cached import CachedMatcher
from sfm_lightglue.stages.thorough_matcher import ThoroughMatcher
from sfm_lightglue.stages.turned_images import decode_turns, encode_turns
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.store.store import make_key
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    from sfm_lightglue.reconstruction.job import Job

logger = logging.getLogger(__name__)

_MOST_IMAGES = 200
"""Scenes with more images are not matched again: that takes long."""


def thorough_job(job: Job) -> Job | None:
    """The job with a matcher that matches more pairs with more than their first keypoints; None if there is none.

    It has its own keys of models. What the first attempt found is read from the store where it stays the same.
    """
    choice = thorough_of(job.config.matcher)
    is_thorough = choice is None or isinstance(job.components.matcher, ThoroughMatcher)
    if choice is None or is_thorough or len(job.features) > _MOST_IMAGES:
        return None
    more = MATCHERS.build(choice, job.config.device)
    if not isinstance(more, LightGlueMatcher):
        return None
    matcher = ThoroughMatcher(more, CachedMatcher(job.components.matcher, job.store))
    keys = replace(job.keys, mapped=make_key("thorough", matcher.identity, job.keys.mapped))
    return replace(job, components=replace(job.components, matcher=matcher), keys=keys)


def was_thorough(job: Job) -> bool:
    """Whether an earlier run of a job asked for more matches, so that its first attempt is not needed."""
    return job.store.read_as(MAPPED_KIND, _key(job), lambda arrays: bool(arrays["asks"])) or False


def asks_for_more(job: Job, thorough: Job, weighed: WeighedPairs, judged: Sequence[JudgedModel]) -> bool:
    """Whether a scene is in doubt, so that it is matched more thoroughly; kept in the store.

    Args:
        job: of the first attempt.
        thorough: of the second one, which turns the same images.
        weighed: the verified pairs of the first attempt.
        judged: its models.
    """
    if not is_in_doubt(weighed, judged):
        return False
    logger.info("pairs are matched more thoroughly, because places that look alike leave doubts")
    turns = job.store.read_as(MAPPED_KIND, turns_key(job), decode_turns) or {}
    job.store.save(MAPPED_KIND, turns_key(thorough), encode_turns(turns))
    job.store.save(MAPPED_KIND, _key(job), {"asks": np.array(True)})
    return True


def is_in_doubt(weighed: WeighedPairs, judged: Sequence[JudgedModel]) -> bool:
    """Whether more matches may make a scene whole or remove a doubt.

    This is so if a model may be folded, or if pairs that take no part because they may show places that look alike join
    images that are in no common model. Then the matches between those places decide, and few of them tell little.

    Args:
        weighed: the verified pairs.
        judged: the models.
    """
    published = [each for each in judged if each.verdict.outcome != "rejected"]
    names = [frozenset(registered_names(each)) for each in published]
    left_out = {ImagePair.from_names(*both) for each in judged for both in each.verdict.left_out}
    return any(each.verdict.maybe_folded for each in published) or any(
        not any({pair.name0, pair.name1} <= known for known in names) for pair in {*weighed.apart, *left_out}
    )


def _key(job: Job) -> str:
    return make_key("asks for more matches", job.keys.mapped)
