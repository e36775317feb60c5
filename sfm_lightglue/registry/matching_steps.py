"""In how many steps a LightGlue matches the pairs of a job, and how thoroughly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sfm_lightglue.matchers.first_keypoints import ENOUGH_MATCHES, MIN_BEST_SCORE
from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig
from sfm_lightglue.registry.registry import Choice

_FIRST_KEYPOINTS = 640
"""Of the 1,536 of SIFT. On 41 drone photographs, two thirds of the pairs without a common view end with them, at a
quarter of the time; fewer keypoints lose weak pairs."""

_QUICK_ENOUGH, _QUICK_MIN_BEST = 40.0, 0.6
"""Limits of a first attempt: with them, pairs of eight scenes take .60 to .81 of the time, those of a ninth, which all
match well, as long as before; 11 of 925 verified pairs are lost."""


def with_first_keypoints(matcher: Choice) -> Choice:
    """Match in two steps, unless the configuration says how many keypoints are matched first.

    Args:
        matcher: any matcher; one that is not a LightGlue is returned unchanged.
    """
    config = matcher.config
    if not isinstance(config, LightGlueMatcherConfig) or config.first_keypoints is not None:
        return matcher
    return Choice(matcher.name, replace(config, first_keypoints=_FIRST_KEYPOINTS))


def quick_first(matcher: Choice) -> Choice:
    """Match in two steps, and with the limits of a first attempt where the configuration gives none.

    Args:
        matcher: any matcher; one that is not a LightGlue is returned unchanged.
    """
    matcher = with_first_keypoints(matcher)
    config = matcher.config
    if not isinstance(config, LightGlueMatcherConfig) or not config.first_keypoints:
        return matcher
    enough = _QUICK_ENOUGH if config.enough_matches is None else config.enough_matches
    min_best = _QUICK_MIN_BEST if config.min_best_score is None else config.min_best_score
    return Choice(matcher.name, replace(config, enough_matches=enough, min_best_score=min_best))


def thorough_limits(matcher: Choice) -> tuple[float, float] | None:
    """The limits of a second attempt, with which more pairs are matched with more than their first keypoints.

    Args:
        matcher: of the first attempt.

    Returns:
        `enough_matches` and `min_best_score`; None if there is no second attempt, because all keypoints are matched at
        once, or the limits are not those of `quick_first`.
    """
    config = matcher.config
    if not isinstance(config, LightGlueMatcherConfig) or not config.first_keypoints:
        return None
    is_quick = (config.enough_matches, config.min_best_score) == (_QUICK_ENOUGH, _QUICK_MIN_BEST)
    return (ENOUGH_MATCHES, MIN_BEST_SCORE) if is_quick else None


def without_quick_limits(table: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a matcher of a reconstruction for other jobs, which have no second attempt."""
    quick = {"enough_matches": _QUICK_ENOUGH, "min_best_score": _QUICK_MIN_BEST}
    is_quick = all(table.get(name) == value for name, value in quick.items())
    return {name: value for name, value in table.items() if not is_quick or name not in quick}
