"""The plan of a run that `train --dry-run` prints."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from pipelines.output import say, say_json
from pipelines.train_settings import (
    confidence_config,
    device_kind,
    num_cores,
    recipe,
    recommended_thresholds,
    run_options,
    training_config,
    training_settings,
)

if TYPE_CHECKING:
    from sfm_lightglue.training.options import RunOptions, TrainingConfig
    from sfm_lightglue.training.recipes import Throughput, TrainingSettings
    from sfm_lightglue.training.time_plan import TimePlan

_GUESSED_S, _GUESSED_SHARE = 30.0, 0.2


def print_plan(arguments: argparse.Namespace) -> None:
    """Print what the run would do. Nothing is written.

    Raises:
        ConfigError: on impossible values.
        DataError: if there are no photographs.
        WeightsError: if the initial weights are missing or damaged.
    """
    settings = training_settings(arguments)
    config, options = training_config(arguments, settings), run_options(arguments, settings)
    recommended_thresholds(settings)
    confidence_config(arguments, settings)
    lines = [
        *_network_lines(arguments, settings, config),
        *_machine_lines(arguments, settings, options),
        *_data_lines(arguments, settings),
        *_file_lines(arguments),
    ]
    chosen = recipe(arguments)
    throughput = None if chosen is None else chosen.throughput(device_kind(arguments))
    if arguments.json:
        phases = None if options.plan is None else _phases(options.plan, settings, throughput)
        steps = {"num_steps": options.num_steps, "num_decay_steps": options.num_decay_steps}
        say_json({"dry_run": True} | dict(lines) | (steps if phases is None else {"phases": phases}))
        return
    for name, text in lines:
        say(f"{name:<12}{text}")
    say("")
    if options.plan is None:
        say(f"{options.num_steps} steps, the last {options.num_decay_steps} with a falling learning rate")
        return
    _print_phases(options.plan, settings, throughput)


def _network_lines(
    arguments: argparse.Namespace, settings: TrainingSettings, config: TrainingConfig
) -> list[tuple[str, str]]:
    architecture, features = config.architecture, settings.features
    model = "".join(f", {name} {value}" for name, value in settings.extractor_options)
    kind = "position, scale and orientation" if features.has_scale_orientation else "position"
    start = "random weights"
    if arguments.init is not None:
        from sfm_lightglue.weights.lookup import find_weights

        start = str(find_weights(arguments.init))
    layers = f"{settings.num_layers} layers, {settings.num_heads} heads, {architecture.descriptor_dim} dimensions"
    return [
        ("recipe", arguments.recipe or "none"),
        ("features", f"{features.name}{model}: {features.descriptor_dim} values, {kind}"),
        ("network", f"{layers}; starts from {start}"),
        ("optimizer", f"{settings.optimizer}, learning rate {settings.learning_rate:.2e}"),
    ]


def _machine_lines(
    arguments: argparse.Namespace, settings: TrainingSettings, options: RunOptions
) -> list[tuple[str, str]]:
    from sfm_lightglue.execution.devices import device_text, resolve_device

    keypoints = f"{settings.num_keypoints} keypoints per view"
    if options.plan is not None and settings.num_decay_keypoints != settings.num_keypoints:
        keypoints += f", then {settings.num_decay_keypoints}"
    parts = f" in {options.num_parts} parts" if options.num_parts > 1 else ""
    compiled = "compiled" if options.compile else "not compiled"
    device = device_text(resolve_device(arguments.device))
    return [
        ("device", f"{device}, {num_cores()} CPU cores; processes that make scenes: {settings.num_workers}"),
        ("batches", f"{settings.batch_size} pairs{parts}, {keypoints}, {compiled}"),
    ]


def _data_lines(arguments: argparse.Namespace, settings: TrainingSettings) -> list[tuple[str, str]]:
    scenes = f"{settings.num_views} views a scene, {settings.scenes_per_shard} scenes a shard, up to"
    lines = [("scenes", f"{scenes} {settings.max_shards} shards, {settings.num_held_out_shards} held out")]
    if arguments.photos is not None:
        from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary

        library = PhotoLibrary.open(arguments.photos)
        megabytes = sum(size for _, size in library.contents) / 1e6
        lines.append(("photos", f"{arguments.photos}: {len(library.names)} photographs, {megabytes:.1f} MB"))
    return lines


def _file_lines(arguments: argparse.Namespace) -> list[tuple[str, str]]:
    from sfm_lightglue.training.checkpoints import BEST, LAST, STABLE
    from sfm_lightglue.training.trainer import LOG_NAME

    output = arguments.output
    state = " (holds a run)" if (output / LAST).exists() else ""
    lines = [("run", f"{output}{state}: {LAST}, {STABLE}, {BEST}, {LOG_NAME}; scenes in {_cache(arguments)}")]
    if arguments.export is not None:
        lines.append(("export", f"{arguments.export}{' in half precision' if arguments.half else ''}"))
    return lines


def _cache(arguments: argparse.Namespace) -> str:
    return str(arguments.cache or arguments.output / "shards")


def _print_phases(plan: TimePlan, settings: TrainingSettings, throughput: Throughput | None) -> None:
    """Print a table of the phases; if the throughput is known, with numbers of pairs and steps."""
    plan = _with_start(plan, settings, throughput)
    say(f"{'phase':<10}{'from s':>10}{'seconds':>10}{'keypoints':>11}{'steps':>10}{'pairs':>12}")
    for row in _phases(plan, settings, throughput):
        keypoints, steps, pairs = ("" if row[name] is None else str(row[name]) for name in _COUNTS)
        say(f"{row['phase']:<10}{row['from_s']:>10.1f}{row['seconds']:>10.1f}{keypoints:>11}{steps:>10}{pairs:>12}")
    say(f"checkpoints every {plan.checkpoint_s:.0f} s; the training begins when the first scenes are there")
    if throughput is None:
        say("no figures of this recipe are known for this kind of device: the waiting is a guess")
        return
    num_scenes = throughput.views_per_s * settings.num_workers * plan.heads_at_s / settings.num_views
    say(f"about {num_scenes:.0f} scenes in this time; figures of the machine of docs/explanation/training.md")


_COUNTS = ("num_keypoints", "num_steps", "num_pairs")


def _phases(plan: TimePlan, settings: TrainingSettings, throughput: Throughput | None) -> list[dict[str, Any]]:
    """The phases; counts are None where nothing is trained, or the throughput is not known."""
    plan = _with_start(plan, settings, throughput)
    rows: list[dict[str, Any]] = []
    for name, start, end in plan.phases:
        row: dict[str, Any] = {"phase": name, "from_s": start, "seconds": end - start} | dict.fromkeys(_COUNTS)
        if name in ("warm-up", "flat", "decay"):
            row["num_keypoints"] = plan.num_keypoints_at(start)
            if throughput is not None:
                rate = throughput.decay_pairs_per_s if name == "decay" else throughput.pairs_per_s
                row["num_steps"] = int((end - start) * rate / settings.batch_size)
                row["num_pairs"] = row["num_steps"] * settings.batch_size
        rows.append(row)
    return rows


def _with_start(plan: TimePlan, settings: TrainingSettings, throughput: Throughput | None) -> TimePlan:
    """The plan with the expected time of the first step."""
    guess = min(_GUESSED_S, _GUESSED_SHARE * plan.ends_at_s)
    return plan.starting_at(guess if throughput is None else first_step_s(settings, throughput))


def first_step_s(settings: TrainingSettings, throughput: Throughput) -> float:
    """Expected seconds until the first step: start, and the held-out shards and one more.

    Args:
        settings: of the run.
        throughput: figures for the kind of device.
    """
    num_shards, workers = settings.num_held_out_shards + 1, max(1, settings.num_workers)
    shard_s = settings.scenes_per_shard * settings.num_views / throughput.views_per_s
    # On a GPU all processes describe the views of one shard; on a CPU each makes a shard of its own.
    rounds = num_shards / workers if settings.compile else math.ceil(num_shards / workers)
    return throughput.start_s + rounds * shard_s
