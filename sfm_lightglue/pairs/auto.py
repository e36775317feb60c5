"""The selection of pairs that fits a scene: by the number of images, positions, names and likeness."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.arrays import Int32Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.pair_sets import AllPairs, IndexedPairs
from sfm_lightglue.pairs.sequential import SequentialConfig, SequentialPairs
from sfm_lightglue.scene.natural_order import natural_order
from sfm_lightglue.types import ImagePair, Scene

_LIKE_STEPS = 2
"""Steps in a video between images that see the same."""

_LIKE_SHARE = 0.8
"""Fraction of the images that must look like their neighbours in a video."""

_WEAK_FRACTION = 0.25
"""A frame that has less than this fraction of the usual matches with each neighbour may need its far pairs."""


if TYPE_CHECKING:
    from sfm_lightglue.retrieval.similar_images import SimilarImages


@dataclass(frozen=True, slots=True)
class AutoConfig:
    """Options of the automatic choice."""

    exhaustive_up_to: int = 30
    """Up to this number of images, all pairs are matched."""

    num_neighbors: int = 10
    """In larger scenes, each image is matched with this many similar images, and with this many of the nearest ones if
    positions are known."""

    window: int = 10
    """In a video, each frame is matched with this many of the frames that follow it."""

    closer_look: bool = True
    """In a video, pairs beyond the window are left out if their keypoints have no more matches than those of different
    places. The most similar place that each frame may come back to is always matched, and so are all pairs of frames
    that have few matches with their neighbours."""

    def __post_init__(self) -> None:
        for name, least in (("exhaustive_up_to", 0), ("num_neighbors", 1), ("window", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"`pairs.{name}` must be at least {least}, got {getattr(self, name)}")


class AutoPairs:
    """All pairs of few images; else by position, as a video, or by likeness, and it says which and why.

    Only the selectors that are used are imported: they need libraries that small scenes do not.
    """

    def __init__(self, config: AutoConfig | None = None) -> None:
        self.config = config or AutoConfig()
        self._explanation = ""

    @property
    def explanation(self) -> str:
        """What was chosen and why, after `select`."""
        return self._explanation

    def check(self, scene: Scene) -> None:
        """Every scene can be used."""

    def num_pairs(self, scene: Scene) -> int:
        """An upper bound: which images look like their neighbours is not known yet."""
        num = len(scene.images)
        num_all = num * (num - 1) // 2
        if num <= self.config.exhaustive_up_to:
            return num_all
        from sfm_lightglue.pairs.spatial import tell_apart

        most = num * self.config.num_neighbors * (2 if tell_apart(scene) else 1)
        if _looks_numbered(scene):
            most = max(most, SequentialPairs(SequentialConfig(self.config.window, loops=True)).num_pairs(scene))
        return min(num_all, most)

    def needs_features(self, scene: Scene) -> bool:
        """Yes, unless all pairs are matched."""
        return len(scene.images) > self.config.exhaustive_up_to

    def select(self, context: PairContext) -> Sequence[ImagePair]:
        """The pairs, sorted."""
        scene = context.scene
        if len(scene.images) <= self.config.exhaustive_up_to:
            self._explanation = f"exhaustive: {len(scene.images)} images are few enough for all pairs"
            return AllPairs(scene.names)
        from sfm_lightglue.pairs.spatial import SpatialConfig, pairs_by_position, tell_apart

        spread = tell_apart(scene)
        if spread:
            self._explanation = f"spatial+retrieval: {spread}"
            by_position = pairs_by_position(scene.images, SpatialConfig(self.config.num_neighbors))
            return by_position.union(self._similar(context))
        reason = "the images have neither positions that tell them apart nor the names of a video"
        if _looks_numbered(scene):
            from sfm_lightglue.pairs.loops import share_like_neighbors, similar_images

            similar, frames = similar_images(context), sorted(scene.names, key=natural_order)
            share = share_like_neighbors(similar, frames)
            if share >= _LIKE_SHARE:
                self._explanation = (
                    f"sequential with loops: {share:.0%} of the images look most like those before or after"
                )
                pairs, num_left_out = self._as_video(context, similar, frames)
                if num_left_out > 0:
                    self._explanation += (
                        f"; {num_left_out} pairs beyond the window are left out, because few of their keypoints match"
                        " (`pairs.closer_look`)"
                    )
                return pairs
            reason = f"the names are numbered, but only {share:.0%} of the images look most like those before or after"
        self._explanation = f"retrieval: {reason}"
        return self._similar(context)

    def _as_video(
        self, context: PairContext, similar: SimilarImages, frames: Sequence[str]
    ) -> tuple[IndexedPairs, int]:
        """Pairs within the window, and farther ones if their keypoints match as if they showed the same.

        Returns:
            The pairs, and the number of farther ones that are left out.
        """
        from sfm_lightglue.pairs.loops import loop_pairs

        config = SequentialConfig(self.config.window)
        near = SequentialPairs(SequentialConfig(self.config.window, quadratic=False)).select(context)
        far = SequentialPairs(config).select(context)
        far = far.union(loop_pairs(similar, frames, config.window, config.num_loops)).without(near)
        if not self.config.closer_look or not context.features:
            return near.union(far), 0
        certain = loop_pairs(similar, frames, config.window, 1)
        kept = _likely_far_pairs(context, far, certain)
        return near.union(kept), len(far) - len(kept)

    def _similar(self, context: PairContext) -> IndexedPairs:
        from sfm_lightglue.pairs.retrieval import RetrievalConfig, RetrievalPairs

        selected = RetrievalPairs(RetrievalConfig(num_neighbors=self.config.num_neighbors)).select(context)
        return IndexedPairs.from_pairs(context.scene.names, selected)


def _likely_far_pairs(context: PairContext, far: IndexedPairs, certain: IndexedPairs) -> IndexedPairs:
    """Far pairs of a video without those that probably show nothing in common.

    Args:
        context: with the features; pairs of images without features are left to later stages.
        far: the pairs.
        certain: those of them that are kept whatever their keypoints say.
    """
    from sfm_lightglue.retrieval.closer_look import CloserLook

    look = CloserLook(context.features, context.store, context.executor, context.progress)
    usual = SequentialPairs(SequentialConfig(_LIKE_STEPS, quadratic=False)).select(context)
    usual = usual.among_names([name for name in usual.names if name in context.features])
    doubtful = far.among_names([name for name in far.names if name in context.features]).without(certain)
    weak = _weakly_matched(usual, look.num_matches(usual))
    is_weak = np.array([name in weak for name in doubtful.names], np.bool_)
    doubtful = IndexedPairs(doubtful.names, doubtful.rows[~is_weak[doubtful.rows].any(axis=1)])
    is_likely = look.likely(doubtful, usual)
    return far.without(IndexedPairs(doubtful.names, doubtful.rows[~is_likely]))


def _weakly_matched(usual: IndexedPairs, num_matches: Int32Array) -> set[str]:
    """Frames that have few matches with each of their neighbours, beside what is usual in the video."""
    if len(usual) == 0:
        return set()
    most = np.zeros(len(usual.names), np.int64)
    np.maximum.at(most, usual.rows, num_matches[:, None])
    few = _WEAK_FRACTION * float(np.median(num_matches))
    return {name for name, num in zip(usual.names, most.tolist(), strict=True) if num < few}


def _looks_numbered(scene: Scene) -> bool:
    """Whether the names of each folder differ by numbers only, and its images are of one camera."""
    kind_from_folder: dict[str, tuple[str, int]] = {}
    for image in scene.images:
        folder, _, name = image.name.rpartition("/")
        pattern, num_numbers = re.subn(r"\d+", "#", name)
        kind = (pattern, image.camera_idx)
        if num_numbers == 0 or kind_from_folder.setdefault(folder, kind) != kind:
            return False
    return True
