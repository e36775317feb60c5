"""Pairs are matched more thoroughly if the models of a scene may be folded, incomplete or missing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.mapped_models import MAPPED_KIND
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.matchers.lightglue import LightGlueMatcher
from sfm_lightglue.reconstruction.components import Components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.folds import is_folded
from sfm_lightglue.reconstruction.piece_merging import registered_names
from sfm_lightglue.reconstruction.turns import turns_key
from sfm_lightglue.registry.matching_steps import thorough_limits
from sfm_lightglue.stages.cached import CachedMatcher
from sfm_lightglue.stages.thorough_matcher import ThoroughMatcher
from sfm_lightglue.stages.turned_images import decode_turns, encode_turns
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    from sfm_lightglue.reconstruction.job import Job

logger = logging.getLogger(__name__)

THOROUGH_VERSION = 2
"""Number to raise when a change of the code matches other scenes thoroughly, or with other limits."""

_MOST_IMAGES = 200
"""Scenes with more images are not matched again: that takes long."""


def thorough_matcher(config: ReconstructConfig, matcher: Matcher, store: Store) -> ThoroughMatcher | None:
    """A matcher that matches more pairs with more than their first keypoints; None if there is none.

    Args:
        config: of the run.
        matcher: of the first attempt.
        store: has its matches, which are taken over where they stay the same.
    """
    limits = thorough_limits(config.matcher)
    if limits is None or not isinstance(matcher, LightGlueMatcher):
        return None
    return ThoroughMatcher(matcher.with_limits(*limits), CachedMatcher(matcher, store))


def with_thorough_matcher(components: Components, config: ReconstructConfig, store: Store) -> Components:
    """Components for few images that come into a model: there is no second attempt, so the first one is thorough."""
    return replace(components, matcher=thorough_matcher(config, components.matcher, store) or components.matcher)


def thorough_job(job: Job) -> Job | None:
    """The job with a `thorough_matcher` and keys of its own; None if there is none."""
    matcher = thorough_matcher(job.config, job.components.matcher, job.store)
    if matcher is None:
        return None
    keys = replace(job.keys, mapped=make_key("thorough", job.keys.mapped))
    return replace(job, components=replace(job.components, matcher=matcher), keys=keys)


def job_of_models(job: Job) -> Job:
    """The job that made the models of a finished run: that of the second attempt, if there was one."""
    thorough = thorough_job(job)
    return thorough if thorough is not None and was_thorough(job) else job


def was_thorough(job: Job) -> bool:
    """Whether an earlier run of a job asked for more matches, so that its first attempt is not needed."""
    return job.store.read_as(MAPPED_KIND, _key(job), lambda arrays: bool(arrays["asks"])) or False


def asks_for_more(job: Job, thorough: Job, weighed: WeighedPairs, judged: Sequence[JudgedModel]) -> bool:
    """Whether a scene is in doubt, so that it is matched more thoroughly; a "yes" is kept in the store.

    Args:
        job: of the first attempt.
        thorough: of the second one, which turns the same images.
        weighed: the verified pairs of the first attempt.
        judged: its models, before anything is done about folds.
    """
    if not _may_change(job) or len(job.features) > _MOST_IMAGES or not is_in_doubt(weighed, judged):
        return False
    logger.info(
        "the first matches leave doubts: pairs are matched more thoroughly, and the scene is mapped anew; what was told"
        " about its models so far is void"
    )
    turns = job.store.read_as(MAPPED_KIND, turns_key(job), decode_turns) or {}
    job.store.save(MAPPED_KIND, turns_key(thorough), encode_turns(turns))
    job.store.save(MAPPED_KIND, _key(job), {"asks": np.array(True)})
    return True


def tell_doubt(job: Job, weighed: WeighedPairs, judged: Sequence[JudgedModel]) -> None:
    """Warn about doubts of a scene that is too large to be matched again.

    Args:
        job: of the only attempt.
        weighed: the verified pairs.
        judged: the models.
    """
    limits, is_large = thorough_limits(job.config.matcher), len(job.features) > _MOST_IMAGES
    if limits is not None and is_large and _may_change(job) and is_in_doubt(weighed, judged):
        logger.warning(
            "the matches leave doubts about this scene, which is too large to be matched anew: with"
            " `matcher.enough_matches` %g and `matcher.min_best_score` %g, more keypoints are compared, in more time",
            *limits,
        )


def with_thorough(chosen: str, job: Job) -> str:
    """Which pairs were matched and why, and that there was a second attempt with more of their keypoints."""
    is_thorough = isinstance(job.components.matcher, ThoroughMatcher)
    return f"{chosen}; matched thoroughly, because the first matches left doubts" if is_thorough else chosen


def is_in_doubt(weighed: WeighedPairs, judged: Sequence[JudgedModel]) -> bool:
    """Whether more matches may make a scene whole or remove a doubt.

    This is so if a model is or may be folded, if none is published, or if pairs that take no part because they may show
    places that look alike join images that are in no common model. Then the matches between those places decide, and
    few of them tell little: points that were not compared seem to be missing.

    Args:
        weighed: the verified pairs.
        judged: the models.
    """
    published = [each for each in judged if each.verdict.outcome != "rejected"]
    if not published or any(is_folded(each) or each.verdict.maybe_folded for each in judged):
        return True
    names = [frozenset(registered_names(each)) for each in published]
    left_out = {ImagePair.from_names(*both) for each in judged for both in each.verdict.left_out}
    return any(not any({pair.name0, pair.name1} <= known for known in names) for pair in {*weighed.apart, *left_out})


def _may_change(job: Job) -> bool:
    """Whether a second attempt may give other models: pairs of few keypoints were matched with all of them."""
    limit = getattr(job.config.matcher.config, "first_keypoints", None) or 0
    num_longer = sum(job.features.num_keypoints_from_name[name] > limit for name in job.features)
    return num_longer >= 2 and not job.scene.known_poses


def _key(job: Job) -> str:
    return make_key("asks for more matches", job.keys.mapped)
