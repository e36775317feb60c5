"""Labelled keypoints from photographs: render a scene, extract SIFT features as at inference, label the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.synthetic.photo_scenes.textures import family
from sfm_lightglue.synthetic.photo_scenes.views import RenderedView, ViewConfig, render_views
from sfm_lightglue.synthetic.photo_scenes.visibility import DepthViews, overlaps
from sfm_lightglue.training.data.labelled_scenes import UNMATCHABLE, PairLabels, TrainingScene, TrainingView, quantised
from sfm_lightglue.training.data.labels import LabelConfig, SeenKeypoints, label_pairs
from sfm_lightglue.types import Features

VERSION = 2
"""Raise this if the same seed and configuration give other scenes; it is part of the key of the shards."""


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """How training scenes are made."""

    views: ViewConfig = field(default_factory=ViewConfig)
    """Which views are rendered."""

    sift: SiftConfig = field(default_factory=lambda: SiftConfig(max_keypoints=768))
    """The detector; its `max_keypoints` is the number of keypoints kept per view."""

    labels: LabelConfig = field(default_factory=LabelConfig)
    """When two keypoints show the same point of the scene."""

    unrelated_share: float = 0.08
    """Fraction of pairs whose images show different scenes: some scenes get one view of another scene."""

    min_overlap: float = 0.04
    """Pairs of one scene with less overlap are left out, because repeated textures may give wrong labels."""

    def __post_init__(self) -> None:
        if self.views.num_views < 2:
            raise ConfigError("scenes: views.num_views must be at least 2 to make pairs")
        most = 2 / self.views.num_views
        if not (0 <= self.unrelated_share <= most and 0 <= self.min_overlap < 1):
            raise ConfigError(f"scenes: unrelated_share must be in [0, {most:.2f}], min_overlap in [0, 1)")


def make_scene(photo_paths: Sequence[Path], seed: int, config: SceneConfig | None = None) -> TrainingScene:
    """Render views of a scene, and extract and label their keypoints.

    Args:
        photo_paths: photographs for textures; some are drawn. `x_c0.jpg` is treated as a part of `x.jpg`.
        seed: the same seed, paths and configuration give the same scene on one machine.
        config: how the scene is made.

    Raises:
        ValueError: if there is no photograph.
        DataError: if a photograph cannot be read.
    """
    if len(photo_paths) == 0:
        raise ValueError("make_scene: needs at least one photograph")
    config = config or SceneConfig()
    rng = np.random.default_rng([seed, 2])
    own, other = split_photos(photo_paths, rng)
    num_views = config.views.num_views
    # With one unrelated view of n, n - 1 of n (n - 1) / 2 pairs are unrelated.
    has_unrelated = len(other) > 0 and rng.random() < config.unrelated_share * num_views / 2
    related = render_views(own, seed, replace(config.views, num_views=num_views - has_unrelated))
    unrelated = render_views(other, seed + 2**40, replace(config.views, num_views=1)) if has_unrelated else ()
    extractor = SiftExtractor(config.sift)
    rendered = (*related, *unrelated)
    features = [extractor.extract(Image.from_array(view.image)) for view in rendered]
    pairs = [_unrelated_pair(features, idx, num_views - 1) for idx in range(num_views - 1) if has_unrelated]
    pairs.extend(_related_pairs(related, features, config))
    return TrainingScene(tuple(_training_view(each) for each in features), tuple(pairs))


def split_photos(photo_paths: Sequence[Path], rng: np.random.Generator) -> tuple[list[Path], list[Path]]:
    """Photographs for a scene, and others for an unrelated view; parts of one photograph stay in one set."""
    names = sorted({family(path) for path in photo_paths})
    if len(names) < 2:
        return list(photo_paths), []
    draws = rng.random(len(names))
    other_names = {name for name, draw in zip(names, draws, strict=True) if draw <= np.median(draws)}
    own = [path for path in photo_paths if family(path) not in other_names]
    return own, [path for path in photo_paths if family(path) in other_names]


def _related_pairs(
    views: Sequence[RenderedView], features: Sequence[Features], config: SceneConfig
) -> list[PairLabels]:
    most = max(len(each) for each in features)
    keypoints, scales = np.zeros((len(views), most, 2), np.float32), np.zeros((len(views), most), np.float32)
    for k in range(len(views)):
        assert features[k].scales is not None
        keypoints[k, : len(features[k])], scales[k, : len(features[k])] = features[k].keypoints, features[k].scales
    depths = DepthViews.of([torch.as_tensor(view.depth) for view in views], [view.camera for view in views])
    pairs = torch.combinations(torch.arange(len(views)))
    shares = overlaps(depths, pairs)
    pairs, shares = pairs[shares >= config.min_overlap], shares[shares >= config.min_overlap]
    counts = torch.tensor([len(each) for each in features[: len(views)]])
    seen = SeenKeypoints(depths, torch.from_numpy(keypoints), counts, torch.from_numpy(scales))
    found = label_pairs(seen, pairs, config.labels)
    labels = []
    for k, (idx0, idx1) in enumerate(pairs.tolist()):
        partners = found.partners[k].numpy()
        rows = np.flatnonzero(partners >= 0)
        matches = np.stack([rows, partners[rows]], 1).astype(np.int32)
        states = [found.states[k, side, : counts[idx]].numpy() for side, idx in enumerate((idx0, idx1))]
        labels.append(PairLabels(idx0, idx1, matches, states[0], states[1], float(shares[k])))
    return labels


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
