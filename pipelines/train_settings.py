"""The options of the library that the arguments of `train` become."""

from __future__ import annotations

import argparse
import json
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.training.recipes import DeviceKind, Recipe, TrainingSettings, recipe_of, settings_with

if TYPE_CHECKING:
    from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig
    from sfm_lightglue.training.confidence import ConfidenceConfig
    from sfm_lightglue.training.data.labelled_pairs import SceneConfig
    from sfm_lightglue.training.data.producer import ShardProducer
    from sfm_lightglue.training.options import RunOptions, TrainingConfig
    from sfm_lightglue.training.time_plan import TimePlan

SETTINGS_NAME = "settings.json"
"""File of a run with the sizes of its shards, which depend on its first `--max-minutes`."""

_SIZES = ("scenes_per_shard", "num_held_out_shards", "num_views")

_STEPS, _WARMUP_STEPS = 20_000, 500

_FLAGS = {
    "learning_rate": "learning_rate",
    "optimizer": "optimizer",
    "num_layers": "layers",
    "num_heads": "heads",
    "batch_size": "batch_size",
    "num_keypoints": "num_keypoints",
    "mirrored_share": "mirrored_share",
    "compile": "compile",
    "scenes_per_shard": "scenes_per_shard",
    "max_shards": "max_shards",
    "num_workers": "workers",
    "confidence_target": "confidence_target",
    "depth_confidence": "depth_confidence",
    "width_confidence": "width_confidence",
    "filter_threshold": "filter_threshold",
}
"""Arguments that override a setting, by the name of the setting."""


def recipe(arguments: argparse.Namespace) -> Recipe | None:
    """The recipe; None if there is none.

    Raises:
        ConfigError: there is no recipe of this name.
    """
    return None if arguments.recipe is None else recipe_of(arguments.recipe)


def training_settings(arguments: argparse.Namespace) -> TrainingSettings:
    """The settings of the recipe, or those without a recipe, overridden by the arguments that were given.

    The sizes of the shards are those that the run had before.

    Raises:
        ConfigError: on an unknown recipe or device, or if the run has shards of another size.
        DataError: if the file with the sizes is damaged.
    """
    chosen = recipe(arguments)
    settings = TrainingSettings()
    if chosen is not None:
        settings = chosen.settings(device_kind(arguments), arguments.max_minutes, num_cores(), arguments.batch_size)
    given: dict[str, Any] = {name: getattr(arguments, flag) for name, flag in _FLAGS.items()}
    given["num_decay_keypoints"] = (
        arguments.num_keypoints if arguments.decay_keypoints is None else arguments.decay_keypoints
    )
    settings = settings_with(settings, **given)
    if settings.scenes_per_shard < 1 or settings.max_shards < 1 or settings.num_workers < 0:
        raise ConfigError("--scenes-per-shard and --max-shards must be positive, and --workers not negative")
    stored = {} if arguments.restart else _stored_sizes(arguments.output / SETTINGS_NAME)
    if arguments.scenes_per_shard not in (None, stored.get("scenes_per_shard", arguments.scenes_per_shard)):
        raise ConfigError(
            f"{arguments.output}: its shards have {stored['scenes_per_shard']} scenes, so --scenes-per-shard"
            f" {arguments.scenes_per_shard} needs another folder or --restart"
        )
    return settings_with(settings, **stored)


def write_sizes(folder: Path, settings: TrainingSettings) -> None:
    """Write the sizes of the shards of a run, for later sessions with other numbers of minutes.

    Raises:
        StoreError: if the file cannot be written.
    """
    from sfm_lightglue.store.atomic_file import atomic_write

    if not (folder / SETTINGS_NAME).exists():
        with atomic_write(folder / SETTINGS_NAME) as file:
            file.write(json.dumps({name: getattr(settings, name) for name in _SIZES}, indent=2).encode() + b"\n")


def device_kind(arguments: argparse.Namespace) -> DeviceKind:
    """Kind of the device of the training.

    Raises:
        ConfigError: this machine does not have the device.
    """
    from sfm_lightglue.execution.devices import resolve_device

    return "cuda" if resolve_device(arguments.device).type == "cuda" else "cpu"


def num_cores() -> int:
    """CPU cores that this process may use, by its affinity and by the quota of its container."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = _CGROUP_QUOTA.read_text().split()
        return max(1, min(number, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups, or no quota: "max"
        return number


def default_threads(arguments: argparse.Namespace, num_replicas: int = 1) -> int:
    """Threads of the network if the user chooses none; 0 leaves the choice to torch.

    On a CPU, the processes that make scenes need cores of their own: threads that share a core with them wait for each
    other after every matrix product, and a step takes several times as long.
    """
    if device_kind(arguments) != "cpu" or num_replicas > 1:
        return 0
    return max(1, num_cores() - training_settings(arguments).num_workers)


_CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def training_config(arguments: argparse.Namespace, settings: TrainingSettings) -> TrainingConfig:
    """What is trained.

    Raises:
        ConfigError: on impossible values.
    """
    from sfm_lightglue.training.data.batches import BatchConfig
    from sfm_lightglue.training.options import TrainingConfig

    return TrainingConfig(
        num_layers=settings.num_layers,
        num_heads=settings.num_heads,
        optimizer=settings.optimizer,
        learning_rate=settings.learning_rate,
        num_warmup_steps=_WARMUP_STEPS if arguments.warmup_steps is None else arguments.warmup_steps,
        seed=arguments.seed,
        batches=BatchConfig(
            settings.batch_size,
            settings.num_keypoints,
            turned_share=settings.turned_share,
            mirrored_share=settings.mirrored_share,
            cropped_share=settings.cropped_share,
            scale_jitter=settings.scale_jitter,
        ),
        features=settings.features,
    )


def run_options(arguments: argparse.Namespace, settings: TrainingSettings) -> RunOptions:
    """How long the run trains and what it reports.

    Raises:
        ConfigError: on impossible values.
    """
    from sfm_lightglue.training.data.pair_pool import PoolConfig
    from sfm_lightglue.training.options import RunOptions

    stored = PoolConfig().max_keypoints
    steps = _STEPS if arguments.steps is None else arguments.steps
    return RunOptions(
        num_steps=steps,
        num_decay_steps=steps // 5 if arguments.decay_steps is None else arguments.decay_steps,
        # The export of an old run trains its confidence heads for a number of steps: its minutes may be over.
        plan=None if arguments.export_only else time_plan(arguments, settings),
        log_every=arguments.log_every,
        validate_every=arguments.validate_every,
        checkpoint_every=arguments.checkpoint_every,
        num_held_out_shards=settings.num_held_out_shards,
        device=arguments.device,
        bfloat16=False if arguments.float32 else None,
        compile=settings.compile,
        num_parts=arguments.accumulate,
        pool=PoolConfig(max_keypoints=max(stored, settings.num_keypoints, settings.num_decay_keypoints)),
    )


def time_plan(arguments: argparse.Namespace, settings: TrainingSettings) -> TimePlan | None:
    """The plan of the minutes; None if the run has a number of steps.

    Raises:
        ConfigError: on impossible values.
    """
    from sfm_lightglue.training.time_plan import TimePlan

    if arguments.max_minutes is None:
        return None
    heads = {"max_heads_s": 0.0} if arguments.confidence_steps == 0 else {}
    return TimePlan(
        arguments.max_minutes,
        num_keypoints=settings.num_keypoints,
        num_decay_keypoints=settings.num_decay_keypoints,
        **heads,
    )


def recommended_thresholds(settings: TrainingSettings) -> LightGlueMatcherConfig:
    """Configuration of a matcher with the thresholds that the exported weights recommend.

    Raises:
        ConfigError: on thresholds that no matcher accepts.
    """
    from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig

    names = ("depth_confidence", "width_confidence", "filter_threshold")
    return LightGlueMatcherConfig(**{name: getattr(settings, name) for name in names})


def confidence_config(arguments: argparse.Namespace, settings: TrainingSettings) -> ConfidenceConfig | None:
    """How the confidence heads are trained before the export; None if they are not.

    Raises:
        ConfigError: on impossible values.
    """
    from sfm_lightglue.training.confidence import ConfidenceConfig
    from sfm_lightglue.weights.recommended_thresholds import PAPERS_THRESHOLDS

    if arguments.confidence_steps == 0:
        return None
    width = settings.width_confidence
    if width is None:
        width = PAPERS_THRESHOLDS["width_confidence"]
    return ConfidenceConfig(
        arguments.confidence_steps,
        unsettled_weight=arguments.unsettled_weight,
        target=settings.confidence_target,
        width_confidence=1.0 if width == -1 else width,  # both prune no point
    )


def scene_config(settings: TrainingSettings) -> SceneConfig:
    """How training scenes are made."""
    from sfm_lightglue.synthetic.photo_scenes.views import ViewConfig
    from sfm_lightglue.training.data.labelled_pairs import SceneConfig

    return SceneConfig(
        views=ViewConfig(num_views=settings.num_views),
        extractor=settings.features.name,
        extractor_options=settings.extractor_options,
    )


def shard_producer(arguments: argparse.Namespace, settings: TrainingSettings, num_workers: int) -> ShardProducer:
    """The producer of the training scenes of a run.

    Raises:
        DataError: if there are no photographs.
        StoreError: if workers shall run and the folder of the shards cannot be written.
    """
    from sfm_lightglue.execution.devices import resolve_device
    from sfm_lightglue.training.data.producer import ShardProducer

    return ShardProducer(
        arguments.photos,
        arguments.cache or arguments.output / "shards",
        arguments.seed,
        settings.max_shards,
        num_workers,
        scene_config(settings),
        device=str(resolve_device(arguments.device)),
        scenes_per_shard=settings.scenes_per_shard,
    )


def _stored_sizes(path: Path) -> dict[str, int]:
    """The sizes in the file of a run; empty if it has none.

    Raises:
        DataError: if the file is damaged.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {name: int(stored[name]) for name in _SIZES}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: damaged ({error}); repair it, or restart the run with --restart") from error
