"""The record of the verified pairs of a run: how probable it is that each is a true overlap, and what was done."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.probability import calibrated_probabilities
from sfm_lightglue.mapping.cached_models import PairStatistics
from sfm_lightglue.messages import shortened
from sfm_lightglue.pairs.pair_sets import IndexedPairs
from sfm_lightglue.pairs.transitive import connected_images
from sfm_lightglue.reconstruction.map_and_judge import against_of
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.types import ImagePair

logger = logging.getLogger(__name__)

_DOUBTFUL = 0.9
"""The cues of pairs with a smaller probability are recorded."""

_MAX_DOUBTFUL = 2000
"""Number of pairs whose cues are recorded at most: the least probable ones."""


def pair_statistics(names: tuple[str, ...], chosen: str, num_pairs: int, weighed: WeighedPairs) -> PairStatistics:
    """The numbers of the pairs of a scene.

    Args:
        names: of the images with features, sorted.
        chosen: which pairs were matched and why.
        num_pairs: that were matched.
        weighed: the verified ones.
    """
    sizes = np.bincount(connected_images(IndexedPairs.from_pairs(names, weighed.kept)), minlength=1)
    components = tuple(sorted((int(size) for size in sizes if size > 1), reverse=True))
    num_verified = len(weighed.kept) + len(weighed.contradicted) + len(weighed.apart)
    evidence = pair_evidence(weighed) if weighed.overlaps else None
    return PairStatistics(chosen, num_pairs, num_verified, components, pairs_apart(weighed), evidence)


def with_left_out(chosen: str, num_left_out: int) -> str:
    """Which pairs were matched and why, with the number of suggested pairs that were not; see `PairCounts`."""
    if num_left_out == 0:
        return chosen
    return (
        f"{chosen}; {num_left_out} suggested pairs are left out, because few of their keypoints match"
        " (`transitive.closer_look`)"
    )


def pairs_apart(weighed: WeighedPairs) -> tuple[tuple[str, str], ...]:
    """Names of the pairs that took no part in mapping, because they may show places that look alike."""
    return tuple((pair.name0, pair.name1) for pair in sorted(weighed.apart))


def tell_unverified(trusted: Sequence[ImagePair], weighed: WeighedPairs) -> None:
    """Log the pairs that the user named and that have no geometry, so that they cannot take part in mapping."""
    missing = [f"{pair.name0} - {pair.name1}" for pair in trusted if pair not in weighed.kept]
    if missing:
        logger.warning(
            "%d of the %d pairs of `lookalikes.trust_pairs` take no part, because they have no verified geometry: %s",
            len(missing),
            len(trusted),
            shortened(missing),
        )


def pair_evidence(weighed: WeighedPairs) -> dict[str, Any]:
    """Plain values of the probabilities and cues of all verified pairs.

    Args:
        weighed: the pairs.

    Returns:
        "has_twins": whether places match as completely as one place does. "images": names. "pairs": for each pair the
        indices of its images, its probability to be a true overlap on the scale of the rules (None if it was left out
        after a fold, before probabilities were estimated), and "used", "apart" or "contradicted". "cues": names of
        cues. "doubtful": index of a pair, and its cues (None if not known), for the doubtful pairs. "own", only if
        these weigh pairs when a model is judged: the probability of each pair by its own cues. "calibrated", only in a
        scene without known twins: the calibrated probability of each pair by its own cues.
    """
    own = against_of(weighed, ())
    pairs = sorted(weighed.overlaps.keys() | weighed.apart.keys())
    names = sorted({name for pair in pairs for name in (pair.name0, pair.name1)})
    row_from_name = {name: row for row, name in enumerate(names)}
    known = [pair in weighed.overlaps for pair in pairs]
    probabilities = np.array(
        [weighed.overlaps[pair].probability if pair in weighed.overlaps else 1.0 for pair in pairs]
    )
    doubtful = [idx for idx in np.argsort(probabilities, kind="stable").tolist() if probabilities[idx] < _DOUBTFUL]
    found: dict[str, Any] = {
        "has_twins": weighed.has_twins,
        "images": names,
        "pairs": [
            [
                row_from_name[pair.name0],
                row_from_name[pair.name1],
                round(probability, 4) if is_known else None,
                _status(pair, weighed),
            ]
            for pair, probability, is_known in zip(pairs, probabilities.tolist(), known, strict=True)
        ],
        "cues": list(PairCues.FIELDS),
        "doubtful": [[idx, *_rounded(weighed.overlaps[pairs[idx]].cues)] for idx in sorted(doubtful[:_MAX_DOUBTFUL])],
    }
    for name, values in (("own", own), ("calibrated", {} if weighed.has_twins else _calibrated(weighed))):
        if values:
            found[name] = [round(values[pair], 4) if pair in values else None for pair in pairs]
    return found


def _calibrated(weighed: WeighedPairs) -> dict[ImagePair, float]:
    pairs = sorted(weighed.overlaps)
    probabilities = calibrated_probabilities([weighed.overlaps[pair].cues for pair in pairs])
    return dict(zip(pairs, probabilities.tolist(), strict=True))


def probabilities_of_evidence(
    evidence: Mapping[str, Any] | None, trusted: Collection[ImagePair] = ()
) -> dict[ImagePair, float]:
    """The known probabilities of the pairs of a record that weigh them when a model is judged.

    They do so in scenes with twins only. Trusted pairs are not doubtful. A record of an earlier version does not tell
    whether its scene has twins: then all pairs count alike.

    Args:
        evidence: as `pair_evidence` returns it; None without.
        trusted: pairs that the user named.
    """
    if evidence is None or not evidence.get("has_twins", False):
        return {}
    return _known(evidence, [probability for _, _, probability, _ in evidence["pairs"]], trusted)


def own_probabilities_of_evidence(
    evidence: Mapping[str, Any] | None, trusted: Collection[ImagePair] = ()
) -> dict[ImagePair, float]:
    """The probabilities by their own cues of the pairs of a record that weigh them when a model is judged.

    Args:
        evidence: as `pair_evidence` returns it; None without.
        trusted: pairs that the user named.
    """
    return {} if evidence is None or "own" not in evidence else _known(evidence, evidence["own"], trusted)


def _known(
    evidence: Mapping[str, Any], values: Sequence[float | None], trusted: Collection[ImagePair]
) -> dict[ImagePair, float]:
    """The known values of the pairs of a record that are not trusted."""
    names, certain = evidence["images"], set(trusted)
    pairs = [ImagePair.from_names(names[row0], names[row1]) for row0, row1, *_ in evidence["pairs"]]
    known = zip(pairs, values, strict=True)
    return {pair: float(value) for pair, value in known if value is not None and pair not in certain}


def _status(pair: ImagePair, weighed: WeighedPairs) -> str:
    if pair in weighed.apart:
        return "apart"
    return "used" if pair in weighed.kept else "contradicted"


def _rounded(cues: PairCues) -> list[float | None]:
    return [round(value, 4) if np.isfinite(value) else None for value in cues.as_vector().tolist()]
