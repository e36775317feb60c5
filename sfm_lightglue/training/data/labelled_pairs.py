"""From photographs to labelled keypoints: render a scene, find SIFT features as at inference, label the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.synthetic.photo_scenes.textures import family
from sfm_lightglue.synthetic.photo_scenes.views import RenderedView, ViewConfig, render_views
from sfm_lightglue.synthetic.photo_scenes.visibility import shared_view
from sfm_lightglue.training.data.labelled_scenes import PairLabels, TrainingScene, TrainingView, quantised
from sfm_lightglue.training.data.labels import UNMATCHABLE, LabelConfig, SeenKeypoints, label_pair
from sfm_lightglue.types import Features

VERSION = 2
"""Raised whenever the same seed and configuration give other scenes: a part of the shards' key."""


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """How training scenes are made."""

    views: ViewConfig = field(default_factory=ViewConfig)
    """What is rendered."""

    sift: SiftConfig = field(default_factory=lambda: SiftConfig(max_keypoints=768))
    """The detector, with as many keypoints a view as are to be kept."""

    labels: LabelConfig = field(default_factory=LabelConfig)
    """When two keypoints show the same place."""

    unrelated_share: float = 0.08
    """Share of pairs whose pictures show different scenes; reached by one strange view in some scenes."""

    min_overlap: float = 0.04
    """Pairs of one scene that have less in common are left out: copies of one texture may mislead them."""

    def __post_init__(self) -> None:
        if self.views.num_views < 2:
            raise ConfigError("scenes: views.num_views must be at least 2 to make pairs")
        most = 2 / self.views.num_views
        if not (0 <= self.unrelated_share <= most and 0 <= self.min_overlap < 1):
            raise ConfigError(f"scenes: unrelated_share must be in [0, {most:.2f}], min_overlap in [0, 1)")


def make_scene(photo_paths: Sequence[Path], seed: int, config: SceneConfig | None = None) -> TrainingScene:
    """Render views of a scene, and find and label their keypoints.

    Args:
        photo_paths: textures; some are drawn. Photographs `x_c0.jpg` count as parts of `x.jpg`.
        seed: the same seed, paths and configuration give the same scene on one machine.
        config: how it is made.

    Raises:
        ValueError: where there is no photograph.
        DataError: where a photograph cannot be read.
    """
    if len(photo_paths) == 0:
        raise ValueError("make_scene: needs at least one photograph")
    config = config or SceneConfig()
    rng = np.random.default_rng([seed, 2])
    own, strange = split_photos(photo_paths, rng)
    num_views = config.views.num_views
    # One strange view of n spoils n - 1 of n (n - 1) / 2 pairs.
    has_stranger = len(strange) > 0 and rng.random() < config.unrelated_share * num_views / 2
    related = render_views(own, seed, replace(config.views, num_views=num_views - has_stranger))
    strangers = render_views(strange, seed + 2**40, replace(config.views, num_views=1)) if has_stranger else ()
    extractor = SiftExtractor(config.sift)
    rendered = (*related, *strangers)
    features = [extractor.extract(Image.from_array(view.image)) for view in rendered]
    pairs = [_unrelated_pair(features, idx, num_views - 1) for idx in range(num_views - 1) if has_stranger]
    for view0, view1 in combinations(range(len(related)), 2):
        pair = _related_pair(rendered, features, view0, view1, config)
        if pair.overlap >= config.min_overlap:
            pairs.append(pair)
    return TrainingScene(tuple(_training_view(found) for found in features), tuple(pairs))


def split_photos(photo_paths: Sequence[Path], rng: np.random.Generator) -> tuple[list[Path], list[Path]]:
    """Photographs for a scene, and such for a strange view: none shows what one of the other set shows."""
    names = sorted({family(path) for path in photo_paths})
    if len(names) < 2:
        return list(photo_paths), []
    draws = rng.random(len(names))
    strange_names = {name for name, draw in zip(names, draws, strict=True) if draw <= np.median(draws)}
    own = [path for path in photo_paths if family(path) not in strange_names]
    return own, [path for path in photo_paths if family(path) in strange_names]


def _seen(view: RenderedView, features: Features) -> SeenKeypoints:
    assert features.scales is not None
    return SeenKeypoints(features.keypoints, features.scales, view.depth, view.camera)


def _related_pair(
    views: Sequence[RenderedView], features: Sequence[Features], idx0: int, idx1: int, config: SceneConfig
) -> PairLabels:
    view0, view1 = views[idx0], views[idx1]
    overlap = shared_view(view0.depth, view0.camera, view1.depth, view1.camera)
    seen0, seen1 = _seen(view0, features[idx0]), _seen(view1, features[idx1])
    matches, state0, state1 = label_pair(seen0, seen1, config.labels)
    return PairLabels(idx0, idx1, matches, state0, state1, overlap)


def _unrelated_pair(features: Sequence[Features], idx0: int, idx1: int) -> PairLabels:
    states = [np.full(len(features[idx]), UNMATCHABLE, np.int8) for idx in (idx0, idx1)]
    return PairLabels(idx0, idx1, np.zeros((0, 2), np.int32), states[0], states[1], 0.0)


def _training_view(features: Features) -> TrainingView:
    assert features.scales is not None and features.orientations is not None
    return TrainingView(
        features.keypoints,
        features.scales,
        features.orientations,
        features.scores,
        quantised(features.descriptors),
        features.image_size,
    )
