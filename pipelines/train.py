"""`python -m pipelines.train --photos DIR --output RUN_DIR`: train a LightGlue on rendered scenes."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from typing import TYPE_CHECKING

from pipelines.command import run_command, show_warnings
from pipelines.output import say_json
from pipelines.train_arguments import build_parser, check_combinations
from pipelines.train_settings import (
    SETTINGS_NAME,
    confidence_config,
    default_threads,
    recommended_thresholds,
    run_options,
    shard_producer,
    training_config,
    training_settings,
    write_sizes,
)
from pipelines.train_table import TrainingTable, named, tell
from sfm_lightglue.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from sfm_lightglue.models.lightglue import LightGlue
    from sfm_lightglue.training.recipes import TrainingSettings
    from sfm_lightglue.training.replicas import Replicas
    from sfm_lightglue.training.trainer import Trainer
    from sfm_lightglue.training.validation import Validation

_DEFAULT_PACK_MB = 40.0


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    started = time.perf_counter()
    given = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    arguments = parser.parse_args(given)
    check_combinations(parser, arguments)
    show_warnings(arguments.verbose)

    def body() -> None:
        if arguments.pack_photos is not None:
            _pack(arguments)
        elif arguments.dry_run:
            from pipelines.train_plan import print_plan

            _require_permission(arguments)
            print_plan(arguments)
        else:
            _run(arguments, f"python -m pipelines.train {shlex.join(given)}", started)

    return run_command(body)


def _pack(arguments: argparse.Namespace) -> None:
    from sfm_lightglue.synthetic.photo_scenes.photo_library import write_photo_archive

    size = _DEFAULT_PACK_MB if arguments.pack_size is None else arguments.pack_size
    report = write_photo_archive(arguments.photos, arguments.pack_photos, size)
    if arguments.json:
        counts = {"num_photos": report.num_photos, "quality": report.quality, "num_bytes": report.num_bytes}
        say_json({"photos": str(arguments.pack_photos)} | counts)
    text = f"{report.num_photos} photographs in quality {report.quality}, {report.num_bytes / 1e6:.1f} MB"
    tell(arguments, f"{arguments.pack_photos}: {text}")


def _run(arguments: argparse.Namespace, command: str, started: float) -> None:
    from sfm_lightglue.training.replicas import replicas_of_launcher

    with replicas_of_launcher() as replicas:
        _run_replica(arguments, command, started, replicas)


def _run_replica(arguments: argparse.Namespace, command: str, started: float, replicas: Replicas) -> None:
    from sfm_lightglue.store.sole_writer import sole_writer
    from sfm_lightglue.training.trainer import LOG_NAME, use_threads

    threads = arguments.threads or default_threads(arguments, replicas.world_size)
    if threads:
        use_threads(threads)
    _require_permission(arguments)
    if not replicas.is_first or (arguments.export_only and not arguments.restart):
        _train_and_export(arguments, command, started, replicas)
        return
    # A second run would train for hours and overwrite the checkpoints of the first one.
    with sole_writer(arguments.output / LOG_NAME, waiting=False):
        _train_and_export(arguments, command, started, replicas)


def _require_permission(arguments: argparse.Namespace) -> None:
    """Check that a run of some minutes does not continue another one by mistake, whose minutes would be used up.

    Raises:
        ConfigError: if the folder holds a run.
    """
    from sfm_lightglue.training.checkpoints import LAST, STABLE

    if arguments.max_minutes is None or arguments.resume or arguments.restart or arguments.export_only:
        return
    if any((arguments.output / name).exists() for name in (LAST, STABLE)):
        raise ConfigError(f"{arguments.output}: holds a run; continue it with --resume, or replace it with --restart")


def _train_and_export(arguments: argparse.Namespace, command: str, started: float, replicas: Replicas) -> None:
    from pipelines.train_export import export
    from pipelines.train_validation import PhotoValidation
    from sfm_lightglue.training.trainer import Trainer

    if arguments.restart and replicas.is_first:
        _remove_run(arguments.output)
    replicas.wait()
    settings = training_settings(arguments)
    config, options = training_config(arguments, settings), run_options(arguments, settings)
    thresholds = recommended_thresholds(settings)
    confidence_config(arguments, settings)  # so that impossible values are refused before the training
    validation = PhotoValidation(arguments.data, thresholds) if arguments.validate and replicas.is_first else None
    trainer = Trainer(config, options, arguments.output, _initial(arguments), replicas, started)
    replicas.wait()  # process 0 writes checkpoints only after the others have read them
    if not replicas.is_first:
        if not arguments.export_only:
            trainer.follow()
        return
    _tell_beginning(trainer, arguments)
    table = TrainingTable(arguments.quiet, arguments.json)
    if not arguments.export_only and not trainer.is_over:
        _train(trainer, arguments, settings, validation, table)
    if arguments.export is not None:
        last = None if options.plan is None else validation  # with a number of steps, the last step was validated
        export(trainer, arguments, settings, command, table.throughput, last)


def _initial(arguments: argparse.Namespace) -> LightGlue | None:
    from sfm_lightglue.models.checkpoints import load_lightglue
    from sfm_lightglue.weights.lookup import find_weights

    return None if arguments.init is None else load_lightglue(find_weights(arguments.init))


def _tell_beginning(trainer: Trainer, arguments: argparse.Namespace) -> None:
    """Tell where the run continues.

    Raises:
        ConfigError: if the time of a plan was over before the first step.
    """
    plan, step = trainer.options.plan, trainer.step
    if plan is not None and step == 0:
        plan.require_time(trainer.elapsed_s)
    if step > 0:
        end = f"{trainer.options.num_steps}"
        if plan is not None:
            end = f"{trainer.elapsed_s / 60:.1f} of {plan.max_minutes:g} minutes"
        tell(arguments, f"{arguments.output}: continuing after step {step} {'and' if plan is not None else 'of'} {end}")
    elif arguments.resume:
        tell(arguments, f"{arguments.output}: holds no checkpoint; a new run begins")


def _train(
    trainer: Trainer,
    arguments: argparse.Namespace,
    settings: TrainingSettings,
    validation: Validation | None,
    table: TrainingTable,
) -> None:
    write_sizes(arguments.output, settings)
    with shard_producer(arguments, settings, settings.num_workers) as producer:
        if len(producer.available()) == 0:
            tell(arguments, f"{producer.folder}: making the first shard of training scenes")
        network = trainer.run(producer, validation, table)
        if trainer.options.plan is not None and arguments.export is None:
            metrics = trainer.validate(network, producer, validation)
            tell(arguments, f"held-out renderings: {named(metrics)}")
            if arguments.json:
                say_json({"held_out": metrics})


def _remove_run(folder: Path) -> None:
    """Remove checkpoints, log and results of a run; training scenes are kept.

    Raises:
        StoreError: if one cannot be removed.
    """
    from pipelines.train_export import RESULT_NAME
    from sfm_lightglue.store.atomic_file import store_errors
    from sfm_lightglue.training.trainer import remove_run

    remove_run(folder)
    for name in (SETTINGS_NAME, RESULT_NAME):
        with store_errors(folder / name):
            (folder / name).unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
