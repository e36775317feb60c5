"""Doubt about the verified pairs of a scene: whether they show the same place, or places that look alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.lookalikes.config import LookalikesConfig
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.probability import scene_probabilities
from sfm_lightglue.lookalikes.selection import Selection, select_pairs
from sfm_lightglue.lookalikes.tracks import PairTracks
from sfm_lightglue.stages.cached import CachedMatcher
from sfm_lightglue.stages.into_database import VerifiedPairRecord
from sfm_lightglue.stages.kept_cues import kept_scene_cues
from sfm_lightglue.stages.pair_cues import SceneViews, scene_views
from sfm_lightglue.types import Camera, Features, ImagePair

_TRUSTED_WEIGHT = 10.0
"""Weight of a pair that the user named, as a multiple of the largest one of a scene."""


_TWIN_WEIGHT = 0.01
"""Factor on the weight of a pair that may show twins. These pairs are many, and agree with each other. The factor of a
pair that takes part is larger, by how sure it is: some that are hardly probable must not outvote a sure one."""

_SURE_POWER = 4
"""This power of twice the probability, less one, is the factor of a pair that takes part in mapping among twins."""

_CONFIRMED = 0.8
"""Smallest probability of a pair that tracks over true pairs confirm."""


@dataclass(frozen=True, slots=True)
class PairOverlap:
    """How probable it is that both images of a verified pair show the same place.

    Args:
        probability: of a true overlap, by the cues and by tracks over true pairs.
        cues: that it was computed from.
    """

    probability: float
    cues: PairCues


class DoubtSources(Protocol):
    """What the doubt about pairs is computed from, see `PairSources`."""

    @property
    def features(self) -> Mapping[str, Features]:
        """By name of image."""

    @property
    def camera_from_name(self) -> Mapping[str, Camera]:
        """Intrinsics by name of image."""

    @property
    def matcher(self) -> CachedMatcher:
        """With the store."""

    @property
    def position_m_from_name(self) -> Mapping[str, Float64Array]:
        """Known positions [3] of images in metres."""


@dataclass(frozen=True, eq=False, slots=True)
class PairDoubt:
    """The probabilities of the verified pairs of a scene, and what follows from them.

    Args:
        config: what is done with doubtful pairs.
        pairs: all verified pairs, sorted.
        trusted: verified pairs that the user named.
        views: what the probabilities were computed from; None if nothing is done about look-alikes.
        overlaps: by pair; empty if nothing is done about look-alikes.
        has_twins: whether places match as completely as one place does.
        unlike: pairs that may show twins that nothing tells apart, see `unlike_surroundings`.
        joining: verified pairs that joined places that look alike in a model.
    """

    config: LookalikesConfig
    pairs: Sequence[ImagePair]
    trusted: frozenset[ImagePair]
    views: SceneViews | None = None
    overlaps: Mapping[ImagePair, PairOverlap] = field(default_factory=dict)
    has_twins: bool = False
    unlike: frozenset[ImagePair] = frozenset()
    joining: frozenset[ImagePair] = frozenset()

    @classmethod
    def of_scene(
        cls,
        verified: Mapping[ImagePair, VerifiedPairRecord],
        sources: DoubtSources,
        trusted: Collection[ImagePair],
        config: LookalikesConfig,
        limit_deg: float,
        joining: Collection[ImagePair] = (),
        has_fold: bool = False,
    ) -> PairDoubt:
        """The doubt about all verified pairs of a scene.

        Args:
            verified: by pair; with inliers, unless nothing is done about look-alikes.
            sources: of the pairs.
            trusted: pairs that the user named.
            config: what is done with doubtful pairs.
            limit_deg: rotations of three images that differ by at most this angle close.
            joining: pairs that joined places that look alike in a model.
            has_fold: see `scene_probabilities`.
        """
        pairs, known = ImagePair.in_order(verified), frozenset(trusted) & verified.keys()
        if config.mode == "off" or not pairs:
            return cls(config, pairs, known)
        positions, cameras = sources.position_m_from_name, sources.camera_from_name
        views = scene_views(verified, sources.features, positions, cameras)
        cues = kept_scene_cues(views, limit_deg, sources.matcher.store)
        is_wrong = np.array([pair in joining for pair in pairs], np.bool_)
        is_trusted = np.array([pair in known for pair in pairs], np.bool_)
        tracks = PairTracks(views.images, views.pairs)
        judged = scene_probabilities(tracks, cues, is_wrong, is_trusted, has_fold=has_fold)
        overlaps = {
            pair: PairOverlap(1.0 if pair in known else probability, each)
            for pair, probability, each in zip(pairs, judged.probabilities.tolist(), cues, strict=True)
        }
        unlike = {pair for pair, is_unlike in zip(pairs, judged.is_unlike.tolist(), strict=True) if is_unlike} - known
        left_out = frozenset(joining) & verified.keys()
        doubt = cls(config, pairs, known, views, overlaps, judged.has_twins, frozenset(unlike), left_out)
        return doubt._with_confirmed()

    def _with_confirmed(self) -> PairDoubt:
        """This doubt without that about pairs that tracks over true pairs confirm."""
        selection = self._selected(self.pairs)
        if selection is None:
            return self
        overlaps = {
            pair: replace(overlap, probability=max(overlap.probability, _CONFIRMED)) if is_confirmed else overlap
            for (pair, overlap), is_confirmed in zip(
                self.overlaps.items(), selection.is_confirmed.tolist(), strict=True
            )
        }
        return replace(self, overlaps=overlaps)

    def weights(self, weights: Float64Array) -> Float64Array:
        """The weights [P] of the pairs as evidence: less for doubtful ones, most for those that the user named.

        Args:
            weights: without doubt.
        """
        is_trusted = np.array([pair in self.trusted for pair in self.pairs], np.bool_)
        selection = self._selected(self.pairs)
        if selection is not None and selection.has_look_alikes:
            probabilities = np.array([self.overlaps[pair].probability for pair in self.pairs])
            if self.has_twins:
                sure = np.clip(2 * probabilities - 1, 0, 1) ** _SURE_POWER
                weights = weights * np.where(
                    selection.is_used, np.maximum(sure, _TWIN_WEIGHT), _TWIN_WEIGHT * probabilities
                )
            else:
                weights = np.where(selection.is_used, weights, weights * probabilities)
        if is_trusted.any():
            weights = np.where(is_trusted, _TRUSTED_WEIGHT * weights.max(), weights)
        return weights

    def doubtful_inliers(self) -> dict[ImagePair, AnyArray]:
        """Keypoints [K, 2] of the inliers of the pairs that are less probable than `min_probability`, by pair."""
        views = () if self.views is None else self.views.pairs
        return {
            pair: view.rows
            for pair, view in zip(self.pairs, views, strict=self.views is not None)
            if self.overlaps[pair].probability < self.config.min_probability
        }

    def kept_apart(self, candidates: Sequence[ImagePair]) -> set[ImagePair]:
        """The pairs that take no part in mapping because they may show places that look alike.

        Args:
            candidates: the verified pairs that do not contradict each other. The others are evidence only.
        """
        return self.kept_apart_and_joined(candidates)[0]

    def kept_apart_and_joined(self, candidates: Sequence[ImagePair]) -> tuple[set[ImagePair], set[ImagePair]]:
        """The pairs that take no part, and the doubtful ones that join parts of the scene.

        Args:
            candidates: as for `kept_apart`.
        """
        selection = self._selected(candidates)
        if selection is None:
            return set(), set()
        chosen = zip(self.pairs, selection.is_used.tolist(), selection.is_joined.tolist(), strict=True)
        states = {pair: (is_used, is_joined) for pair, is_used, is_joined in chosen}
        return {pair for pair in candidates if not states[pair][0]}, {pair for pair in candidates if states[pair][1]}

    def _selected(self, candidates: Sequence[ImagePair]) -> Selection | None:
        """Which of some pairs take part, against all others; None if nothing is done about look-alikes."""
        if self.views is None or not candidates:
            return None
        asked = {*candidates}
        return select_pairs(
            self.views.images,
            self.views.pairs,
            np.array([self.overlaps[pair].probability for pair in self.pairs]),
            np.array([pair in self.trusted and pair in asked for pair in self.pairs], np.bool_),
            self.config,
            self.has_twins,
            np.array([pair not in asked for pair in self.pairs], np.bool_),
            np.array([pair in self.joining for pair in self.pairs], np.bool_),
        )
