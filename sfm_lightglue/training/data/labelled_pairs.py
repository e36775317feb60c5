"""Labelled keypoints from photographs: render scenes, extract features as at inference, label the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig
from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
from sfm_lightglue.synthetic.photo_scenes.textures import family
from sfm_lightglue.synthetic.photo_scenes.views import RenderedView, SceneRequest, ViewConfig, render_scenes
from sfm_lightglue.synthetic.photo_scenes.visibility import DepthViews, overlaps
from sfm_lightglue.training.data.describers import Describer, ExtractorConfig, extractor_config
from sfm_lightglue.training.data.labelled_scenes import UNMATCHABLE, PairLabels, TrainingScene, TrainingView
from sfm_lightglue.training.data.labels import LabelConfig, SeenKeypoints, label_pairs

VERSION = 3
"""Raise this if the same seed and configuration give other scenes; it is part of the key of the shards."""

_UNRELATED_SEED = 2**40


@dataclass(frozen=True, slots=True)
class SceneConfig:
    """How training scenes are made."""

    views: ViewConfig = field(default_factory=ViewConfig)
    """Which views are rendered."""

    extractor: str = "sift"
    """The features: "sift", "aliked" or "xfeat"."""

    extractor_options: tuple[tuple[str, Any], ...] = ()
    """Names and values of options of the extractor other than `max_keypoints`."""

    max_keypoints: int = 768
    """Number of keypoints kept per view."""

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
        if max(self.views.image_size) > self.features.max_image_size:
            raise ConfigError(
                f"scenes: images of {max(self.views.image_size)} pixels are larger than those of {self.extractor} "
                f"({self.features.max_image_size})"
            )

    @property
    def features(self) -> ExtractorConfig:
        """The configuration of the extractor.

        Raises:
            ConfigError: if the extractor or an option is unknown or wrong.
        """
        return extractor_config(self.extractor, self.max_keypoints, self.extractor_options)


@dataclass(frozen=True, slots=True, eq=False)
class PendingScenes:
    """Rendered scenes whose images are being described.

    Args:
        config: of the scenes.
        related: the views of each scene.
        has_unrelated: whether a view of another scene follows them, for each scene.
        ticket: of the describer; all views in the order of the scenes.
    """

    config: SceneConfig
    related: tuple[tuple[RenderedView, ...], ...]
    has_unrelated: tuple[bool, ...]
    ticket: int


def make_scenes(
    library: PhotoLibrary, seeds: Sequence[int], config: SceneConfig, describer: Describer
) -> list[TrainingScene]:
    """Render views of scenes, and extract and label their keypoints.

    Args:
        library: photographs for textures; some are drawn for each scene. `x_c0.jpg` is treated as a part of `x.jpg`.
        seeds: of the scenes; the same seed, photographs and configuration give the same scene on one machine.
        config: how the scenes are made.
        describer: for the extractor of the configuration.

    Raises:
        DataError: if a photograph cannot be read, or a process that describes images has ended or failed.
    """
    return finish_scenes(begin_scenes(library, seeds, config, describer), describer)


def begin_scenes(
    library: PhotoLibrary, seeds: Sequence[int], config: SceneConfig, describer: Describer
) -> PendingScenes:
    """Render views of scenes, and hand their images to a describer; `finish_scenes` does the rest of `make_scenes`."""
    requests, has_unrelated = [], []
    num_views = config.views.num_views
    for seed in seeds:
        rng = np.random.default_rng([seed, 2])
        own, other = split_photos(library.names, rng)
        # With one unrelated view of n, n - 1 of n (n - 1) / 2 pairs are unrelated.
        has_unrelated.append(len(other) > 0 and bool(rng.random() < config.unrelated_share * num_views / 2))
        requests.append(SceneRequest(own, seed, num_views - has_unrelated[-1]))
        if has_unrelated[-1]:
            requests.append(SceneRequest(other, seed + _UNRELATED_SEED, 1))
    rendered = render_scenes(library, requests, config.views)
    ticket = describer.submit([view.image for views in rendered for view in views])
    first = np.arange(len(seeds)) + np.cumsum([0, *has_unrelated])[:-1]  # an unrelated view follows its scene
    return PendingScenes(config, tuple(rendered[idx] for idx in first), tuple(has_unrelated), ticket)


def finish_scenes(pending: PendingScenes, describer: Describer) -> list[TrainingScene]:
    """Label the keypoints of scenes of `begin_scenes`, with the same describer.

    Raises:
        DataError: if a process that describes images has ended or failed.
    """
    described = iter(describer.result(pending.ticket))
    views = []
    for rendered, has_unrelated in zip(pending.related, pending.has_unrelated, strict=True):
        views.append(tuple(next(described) for _ in range(len(rendered) + has_unrelated)))
    related_pairs = _related_pairs(pending, views)
    scenes = []
    for scene_views, has_unrelated, pairs in zip(views, pending.has_unrelated, related_pairs, strict=True):
        last = len(scene_views) - 1
        unrelated = [_unrelated_pair(scene_views, idx, last) for idx in range(last) if has_unrelated]
        scenes.append(TrainingScene(scene_views, (*unrelated, *pairs)))
    return scenes


def split_photos(names: Sequence[str], rng: np.random.Generator) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Photographs for a scene, and others for an unrelated view; parts of one photograph stay in one set."""
    families = sorted({family(name) for name in names})
    if len(families) < 2:
        return tuple(names), ()
    draws = rng.random(len(families))
    others = {name for name, draw in zip(families, draws, strict=True) if draw <= np.median(draws)}
    own = tuple(name for name in names if family(name) not in others)
    return own, tuple(name for name in names if family(name) in others)


def _related_pairs(pending: PendingScenes, views: Sequence[Sequence[TrainingView]]) -> list[list[PairLabels]]:
    """The labels of the pairs of each scene, computed for all scenes at once on the device of the depths."""
    config, labels = pending.config, [list[PairLabels]() for _ in pending.related]
    rendered = [view for scene in pending.related for view in scene]
    described = [view for scene, own in zip(views, pending.related, strict=True) for view in scene[: len(own)]]
    first = np.cumsum([0, *map(len, pending.related)])
    places = [(k, *pair) for k, own in enumerate(pending.related) for pair in combinations(range(len(own)), 2)]
    if len(places) == 0:
        return labels
    seen = _seen(rendered, described, has_scale=isinstance(config.features, SiftConfig))
    pairs = torch.tensor([(first[k] + idx0, first[k] + idx1) for k, idx0, idx1 in places]).to(seen.keypoints.device)
    shares = overlaps(seen.views, pairs)
    is_kept = shares >= config.min_overlap
    found = label_pairs(seen, pairs[is_kept], config.labels)
    partners, states, shares_of_places = (values.cpu().numpy() for values in (found.partners, found.states, shares))
    for row, place in enumerate(np.flatnonzero(shares_of_places >= config.min_overlap)):
        k, *idxs = places[place]
        rows0 = np.flatnonzero(partners[row] >= 0)
        matches = np.stack([rows0, partners[row, rows0]], axis=1).astype(np.int32)
        states0, states1 = (states[row, side, : len(views[k][idx])].copy() for side, idx in enumerate(idxs))
        labels[k].append(PairLabels(idxs[0], idxs[1], matches, states0, states1, float(shares_of_places[place])))
    return labels


def _seen(rendered: Sequence[RenderedView], described: Sequence[TrainingView], has_scale: bool) -> SeenKeypoints:
    """The keypoints of views with their depths, on the device of the depths."""
    counts = np.array([len(view) for view in described])
    numbers = np.zeros((len(described), max(1, counts.max()), 3), np.float32)  # x, y, scale
    filled = np.arange(numbers.shape[1]) < counts[:, None]
    numbers[filled, :2] = np.concatenate([view.keypoints for view in described])
    numbers[filled, 2] = np.concatenate([view.scales for view in described])
    depths = DepthViews.of([view.depth for view in rendered], [view.camera for view in rendered])
    on_device = torch.from_numpy(numbers).to(depths.depths.device)
    return SeenKeypoints(
        depths,
        on_device[..., :2].contiguous(),
        torch.from_numpy(counts).to(on_device.device),
        on_device[..., 2] if has_scale else None,
    )


def _unrelated_pair(views: Sequence[TrainingView], idx0: int, idx1: int) -> PairLabels:
    states = [np.full(len(views[idx]), UNMATCHABLE, np.int8) for idx in (idx0, idx1)]
    return PairLabels(idx0, idx1, np.zeros((0, 2), np.int32), states[0], states[1], 0.0)
