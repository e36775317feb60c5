"""Recipes: for which features a matcher is trained, and the settings for a GPU or a CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.training.data.feature_kind import SIFT, FeatureKind

DeviceKind = Literal["cpu", "cuda"]

ALIKED = FeatureKind("aliked", 128, has_scale_orientation=False, is_mirrorable=False)
"""ALIKED in its sizes n16, n16rot and n32."""

XFEAT = FeatureKind("xfeat", 64, has_scale_orientation=False, is_mirrorable=False)
"""XFeat."""

_FULL_BATCH, _FULL_RATE = 256, 2.5e-3
_SMALL_BATCH, _SMALL_RATE = 16, 2e-3
"""Batch sizes and learning rates of the runs behind the weights of the package."""

_RATE_POWER = math.log(_FULL_RATE / _SMALL_RATE) / math.log(_FULL_BATCH / _SMALL_BATCH)

_SCENE_S_ON_CPU = 2.3
"""Seconds of one core for a scene of 6 views."""

_FIRST_SHARD_SHARE = 0.05
"""Fraction of the minutes in which a CPU should make its first shard."""

_MOST_SCENES_PER_SHARD, _SCENES_PER_SHARD_ON_CUDA = 20, 16
_SHORT_MINUTES = 3.0


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """What a run needs to know besides its data and its length. The defaults are those of a run without a recipe."""

    features: FeatureKind = SIFT
    """The features that the matcher is trained for."""

    extractor_options: tuple[tuple[str, Any], ...] = ()
    """Options of the extractor by name, beside `max_keypoints`."""

    num_layers: int = 6
    """Layers of the network."""

    num_heads: int = 2
    """Attention heads of the network."""

    optimizer: str = "adamw"
    """Of the weight matrices: "adamw" or "muon"."""

    learning_rate: float = 8e-4
    """Between warm-up and decay."""

    batch_size: int = 16
    """Pairs per step."""

    num_keypoints: int = 384
    """Keypoints per view until the learning rate falls."""

    num_decay_keypoints: int = 384
    """Keypoints per view while the learning rate falls."""

    mirrored_share: float = 0.5
    """Fraction of the pairs that are mirrored."""

    turned_share: float = 0.1
    """Fraction of the views that are rotated by quarter turns."""

    cropped_share: float = 0.0
    """Fraction of the views of which only a window is kept."""

    scale_jitter: float = 0.0
    """In half of the views, scales are multiplied by a factor between exp(-x) and exp(x)."""

    compile: bool = False
    """Compile the layers."""

    num_views: int = 5
    """Views of a scene."""

    scenes_per_shard: int = 20
    """Scenes of a shard; a shard is used when all of its scenes are finished."""

    max_shards: int = 1000
    """Shards to make; then they are used again."""

    num_held_out_shards: int = 1
    """Shards that are used for validation only."""

    num_workers: int = 1
    """Processes that make training scenes."""

    confidence_target: Literal["point", "pair"] = "point"
    """What the confidence heads predict."""

    confidence_batch_size: int = 16
    """Pairs per step of the confidence heads."""

    depth_confidence: float | None = None
    """Threshold that the exported weights recommend; None for that of the paper."""

    width_confidence: float | None = None
    """Threshold that the exported weights recommend; None for that of the paper."""

    filter_threshold: float | None = None
    """Threshold that the exported weights recommend; None for that of the paper."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """What a recipe reached on one kind of device, for the plan that is printed before a run."""

    pairs_per_s: float
    """Pairs per second that are trained with `num_keypoints`."""

    decay_pairs_per_s: float
    """Pairs per second that are trained with `num_decay_keypoints`."""

    views_per_s: float
    """Views per second that each process describes; on a CPU, it also renders them."""

    start_s: float
    """Seconds from the start of the process to the first step, without waiting for the first shard."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """A matcher that can be trained, with settings that suit one kind of features."""

    name: str
    """On the command line."""

    features: FeatureKind
    """The features that the matcher is trained for."""

    extractor_options: tuple[tuple[str, Any], ...] = ()
    """Options of the extractor by name, beside `max_keypoints`."""

    num_layers: int = 4
    """Layers of the network."""

    num_heads: int = 2
    """Attention heads of the network."""

    description: str = ""
    """Of the features, for the metadata of exported weights."""

    on_cuda: Throughput | None = None
    """What was measured on a data-centre GPU, whose 16 CPU cores rendered too; None if nothing was."""

    on_cpu: Throughput | None = None
    """What was measured on two CPU cores; None if nothing was."""

    def throughput(self, device: DeviceKind) -> Throughput | None:
        """What was measured on a kind of device; None if nothing was."""
        return self.on_cuda if device == "cuda" else self.on_cpu

    def settings(
        self,
        device: DeviceKind,
        max_minutes: float | None = None,
        num_cores: int = 1,
        batch_size: int | None = None,
    ) -> TrainingSettings:
        """The settings for a run.

        Args:
            device: kind of device.
            max_minutes: of the run; None if it is limited by steps. A shorter run has smaller shards, so that its
                training begins early, and fewer of them held out.
            num_cores: of the machine.
            batch_size: pairs per step; None for that of the recipe. The learning rate follows it, by the power that
                fits the runs behind the weights of the package.
        """
        on_gpu = device == "cuda"
        size = batch_size or (_FULL_BATCH if on_gpu else 16)
        augmented = 0.5 if self.features.is_mirrorable else 0.0
        return TrainingSettings(
            features=self.features,
            extractor_options=self.extractor_options,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            optimizer="muon",
            learning_rate=_FULL_RATE * (size / _FULL_BATCH) ** _RATE_POWER,
            batch_size=size,
            num_keypoints=512 if on_gpu else 256,
            num_decay_keypoints=768 if on_gpu else 384,
            mirrored_share=augmented,
            turned_share=TrainingSettings().turned_share if self.features.is_mirrorable else 0.0,
            cropped_share=0.3,
            scale_jitter=0.3 if self.features.has_scale_orientation else 0.0,
            compile=on_gpu,
            num_views=6,
            scenes_per_shard=_SCENES_PER_SHARD_ON_CUDA if on_gpu else scenes_per_shard_on_cpu(max_minutes),
            max_shards=10_000,
            num_held_out_shards=2 if on_gpu and (max_minutes is None or max_minutes >= _SHORT_MINUTES) else 1,
            num_workers=max(1, num_cores - 1) if on_gpu else 1,
            confidence_target="pair",
            confidence_batch_size=32 if on_gpu else 16,
            depth_confidence=0.99,
            width_confidence=0.65,
        )


def scenes_per_shard_on_cpu(max_minutes: float | None) -> int:
    """Scenes of a shard so that one core makes the first shard in a twentieth of the minutes."""
    if max_minutes is None:
        return _MOST_SCENES_PER_SHARD
    return max(1, min(_MOST_SCENES_PER_SHARD, round(_FIRST_SHARD_SHARE * 60 * max_minutes / _SCENE_S_ON_CPU)))


RECIPES: MappingProxyType[str, Recipe] = MappingProxyType(
    {
        recipe.name: recipe
        for recipe in (
            Recipe(
                "sift",
                SIFT,
                description="RootSIFT with scale and orientation, one keypoint per position",
                on_cuda=Throughput(5_700, 4_240, 3.6, 60.0),
                on_cpu=Throughput(5.6, 3.9, 3.6, 12.0),
            ),
            Recipe("aliked-n16rot", ALIKED, (("model", "n16rot"),), description="ALIKED n16rot"),
            Recipe("xfeat", XFEAT, description="XFeat"),
        )
    }
)
"""All recipes by name."""


def recipe_of(name: str) -> Recipe:
    """A recipe by its name.

    Raises:
        ConfigError: there is no such recipe.
    """
    if name not in RECIPES:
        raise ConfigError(
            f"recipe {name!r} is unknown{nearest_hint(name, RECIPES)}; there are {', '.join(sorted(RECIPES))}"
        )
    return RECIPES[name]


def settings_with(settings: TrainingSettings, **given: Any) -> TrainingSettings:
    """Settings in which the values that a user gave replace those of a recipe; None stands for not given."""
    return replace(settings, **{name: value for name, value in given.items() if value is not None})
