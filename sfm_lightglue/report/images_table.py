"""What a report tells about each image, and about the pairs that are doubtful."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sfm_lightglue.colmap.model_table import ModelTable
from sfm_lightglue.colmap.pair_counts import DatabaseCounts, PairCount
from sfm_lightglue.report.advice import REASON_TEXTS, doubtful_names

MIN_MATCHES_OF_DOUBTFUL_PAIR = 30
"""A pair without a geometry is listed as doubtful if it has at least as many matches."""

MAX_DOUBTFUL_PAIRS = 40
"""Doubtful pairs that are listed, and whose matches can be drawn: those with the most matches."""

MIN_SCORE = 0.5
"""A pair that was used is listed as doubtful if its score is lower."""

STATUS_TEXTS = {
    "registered": "registered",
    "other_model": "in another model",
    "doubtful": "doubtful, taken out",
    "left_out": "no pose",
    "unreadable": "unreadable",
}


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image in the table.

    Args:
        name: of the image.
        status: as in the summary.
        status_text: the same in words.
        reason: why it has no pose, in words; "" if it has one.
        num_keypoints: of both layers; None if it is not known.
        num_points: of the model that it observes.
        num_pairs: number of its verified pairs.
        num_inliers: of all of them.
        median_px: median residual of its observations in pixels; None without observations.
        high_px: 90 % of its residuals are smaller, in pixels.
        support: share of its verified pairs that agree with the model; None if it is not known.
        is_doubtful: whether it has a pose, but weak support.
    """

    name: str
    status: str
    status_text: str
    reason: str
    num_keypoints: int | None
    num_points: int
    num_pairs: int
    num_inliers: int
    median_px: float | None
    high_px: float | None
    support: float | None
    is_doubtful: bool

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def image_rows(summary: Mapping[str, Any], table: ModelTable | None, counts: DatabaseCounts) -> tuple[ImageRow, ...]:
    """All images that the summary, the model or the database names, sorted."""
    known: Mapping[str, Mapping[str, Any]] = summary.get("images", {})
    model_names = () if table is None else table.names
    names = sorted({*known, *model_names, *counts.num_keypoints_from_name})
    residuals = {} if table is None else _residuals_from_name(table)
    pairs: dict[str, list[PairCount]] = {}
    for pair in counts.pairs:
        if pair.num_inliers:
            for name in pair.names:
                pairs.setdefault(name, []).append(pair)
    doubtful = set(doubtful_names(known))
    rows = []
    for name in names:
        image = known.get(name) or {"status": "registered" if name in residuals else "left_out"}
        own = residuals.get(name, np.zeros(0))
        median, high = np.quantile(own, [0.5, 0.9]).tolist() if len(own) else (None, None)
        reason = image.get("reason") or ""
        rows.append(
            ImageRow(
                name,
                image["status"],
                STATUS_TEXTS.get(image["status"], image["status"]),
                REASON_TEXTS.get(reason, (reason,))[0],
                counts.num_keypoints_from_name.get(name),
                len(own) or image.get("num_points", 0),
                len(pairs.get(name, ())),
                sum(pair.num_inliers for pair in pairs.get(name, ())),
                median,
                high,
                image.get("support"),
                name in doubtful,
            )
        )
    return tuple(rows)


def _residuals_from_name(table: ModelTable) -> dict[str, Any]:
    """Finite residuals of each image of a model."""
    starts = np.searchsorted(table.image_idx, np.arange(len(table.names) + 1))
    parts = (table.residuals_px[start:stop] for start, stop in itertools.pairwise(starts))
    return {name: own[np.isfinite(own)] for name, own in zip(table.names, parts, strict=True)}


@dataclass(frozen=True, slots=True)
class DoubtfulPair:
    """A pair that was matched, but not used, or whose images may only look alike.

    Args:
        names: of both images.
        num_matches: of the matcher.
        num_inliers: of the geometry; 0 without one.
        why: in words.
        score: how likely it shows the same place, 0 to 1; for doubtful pairs, smaller than the calibrated probability.
            None if it was not estimated.
    """

    names: tuple[str, str]
    num_matches: int
    num_inliers: int
    why: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class RecordedPair:
    """What the record of a run says of a verified pair.

    Args:
        score: how likely it is a true overlap, 0 to 1; None for a pair that was left out after a fold.
        status: "used", "apart" or "contradicted".
    """

    score: float | None
    status: str


_TEXT_FROM_STATUS = {
    "apart": "kept apart: the images look alike, but may show different places",
    "contradicted": "contradicts the other pairs",
    "used": "used, but the images may only look alike",
}


def doubtful_pairs(
    counts: DatabaseCounts, recorded: Mapping[tuple[str, str], RecordedPair], limit: int = MAX_DOUBTFUL_PAIRS
) -> tuple[DoubtfulPair, ...]:
    """Pairs that look as if they matched and were not used, and improbable ones; those with the most matches first.

    Args:
        counts: of the database.
        recorded: verified pairs by sorted names; may be empty.
        limit: number of pairs.
    """
    found = []
    for pair in counts.pairs:
        known = recorded.get(pair.names)
        if known is not None:
            if known.status == "used" and (known.score or 0.0) >= MIN_SCORE:
                continue
            why = _TEXT_FROM_STATUS.get(known.status, known.status)
        elif pair.kind == "" and pair.num_matches >= MIN_MATCHES_OF_DOUBTFUL_PAIR:
            why = "many matches, but no geometry: chance would match as many, or other pairs contradict it"
        else:
            continue
        score = None if known is None else known.score
        found.append(DoubtfulPair(pair.names, pair.num_matches, pair.num_inliers, why, score))
    return tuple(sorted(found, key=lambda pair: (-pair.num_matches, pair.names))[:limit])


def recorded_pairs(record: Mapping[str, Any]) -> dict[tuple[str, str], RecordedPair]:
    """The verified pairs of `pairs` in a record, by sorted names; empty if the record has none."""
    evidence = record.get("pairs")
    if not isinstance(evidence, dict) or not {"images", "pairs"} <= evidence.keys():
        return {}
    names = evidence["images"]
    return {
        (min(names[idx0], names[idx1]), max(names[idx0], names[idx1])): RecordedPair(
            None if score is None else float(score), str(status)
        )
        for idx0, idx1, score, status in evidence["pairs"]
    }
