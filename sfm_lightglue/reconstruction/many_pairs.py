"""A question, or a warning, before a job that would match very many pairs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import duration
from sfm_lightglue.pairs.base import CountsPairs, PairSelector
from sfm_lightglue.types import Scene

logger = logging.getLogger(__name__)

Confirm = Callable[[str], bool]
"""Asks the user; the answer is whether to go on."""

MANY_PAIRS = 100_000
"""Number of pairs from which the user is asked or warned: some hours of work."""


def confirm_pairs(
    selector: PairSelector, scene: Scene, confirm: Confirm | None, seconds_per_pair: Callable[[], float]
) -> None:
    """Ask or warn before very many pairs are matched; nothing happens if their number is small or not known yet.

    Args:
        selector: of the job.
        scene: its images.
        confirm: asks the user; None logs a warning instead.
        seconds_per_pair: measures how long a pair takes on this machine, with all workers; called if there are very
            many.

    Raises:
        ConfigError: if the user does not want to go on.
    """
    if not isinstance(selector, CountsPairs):
        return
    num_pairs = selector.num_pairs(scene)
    if num_pairs < MANY_PAIRS:
        return
    pair_s = seconds_per_pair()
    cost = (
        f"{num_pairs:,} pairs of {len(scene.images):,} images will be matched; at {pair_s:.2g} s a pair, as measured on"
        f" this machine, this takes {duration(pair_s * num_pairs)}, less what an earlier run has finished"
    )
    advice = "`pairs.name` auto chooses the pairs that are worth it, sequential the neighbours of a video"
    if confirm is None:
        logger.warning("%s. %s", cost, advice)
    elif not confirm(f"{cost}. {advice}."):
        raise ConfigError(f"stopped before the work began: {num_pairs:,} pairs; {advice}")
