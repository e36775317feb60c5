"""`python -m pipelines.train --photos DIR --output RUN_DIR`: train a LightGlue for SIFT on rendered scenes."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from pipelines.command import run_command, show_warnings
from pipelines.output import say
from pipelines.train_arguments import (
    build_parser,
    confidence_config,
    recommended_thresholds,
    run_options,
    training_config,
)
from pipelines.train_validation import PhotoValidation
from sfm_lightglue.version import __version__

if TYPE_CHECKING:
    from sfm_lightglue.models.lightglue import LightGlue
    from sfm_lightglue.training.confidence import ConfidenceConfig
    from sfm_lightglue.training.data.producer import ShardProducer
    from sfm_lightglue.training.replicas import Replicas
    from sfm_lightglue.training.trainer import Trainer
    from sfm_lightglue.training.validation import Validation


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    arguments = parser.parse_args(given)
    needs_photos = not arguments.export_only or (arguments.export is not None and arguments.confidence_steps > 0)
    if arguments.photos is None and needs_photos:
        parser.error("--photos is missing: give the folder of photographs for textures")
    show_warnings()

    def body() -> None:
        _run(arguments, f"python -m pipelines.train {shlex.join(given)}")

    return run_command(body)


def _run(arguments: argparse.Namespace, command: str) -> None:
    from sfm_lightglue.training.replicas import replicas_of_launcher

    with replicas_of_launcher() as replicas:
        _run_replica(arguments, command, replicas)


def _run_replica(arguments: argparse.Namespace, command: str, replicas: Replicas) -> None:
    from sfm_lightglue.store.sole_writer import sole_writer
    from sfm_lightglue.training.trainer import LOG_NAME, use_threads

    if arguments.threads:
        use_threads(arguments.threads)
    if not replicas.is_first or (arguments.export_only and not arguments.restart):
        _train_and_export(arguments, command, replicas)
        return
    # A second run would train for hours and overwrite the checkpoints of the first one.
    with sole_writer(arguments.output / LOG_NAME, waiting=False):
        _train_and_export(arguments, command, replicas)


def _train_and_export(arguments: argparse.Namespace, command: str, replicas: Replicas) -> None:
    from sfm_lightglue.models.checkpoints import load_lightglue
    from sfm_lightglue.training.trainer import Trainer, remove_run

    if arguments.restart and replicas.is_first:
        remove_run(arguments.output)
    replicas.wait()
    config, options, thresholds = training_config(arguments), run_options(arguments), recommended_thresholds(arguments)
    confidence_config(arguments)  # so that impossible values are refused before the training
    validation = PhotoValidation(arguments.data, thresholds) if arguments.validate and replicas.is_first else None
    initial = None if arguments.init is None else load_lightglue(arguments.init)
    trainer = Trainer(config, options, arguments.output, initial, replicas)
    replicas.wait()  # process 0 writes checkpoints only after the others have read them
    if not replicas.is_first:
        if not arguments.export_only:
            trainer.follow()
        return
    if trainer.step > 0:
        say(f"{arguments.output}: continuing after step {trainer.step} of {options.num_steps}")
    if not arguments.export_only and trainer.step < options.num_steps:
        _train(trainer, arguments, validation)
    if arguments.export is not None:
        _export(trainer, arguments, command)


def _train(trainer: Trainer, arguments: argparse.Namespace, validation: Validation | None) -> None:
    table = _Table(arguments.quiet)
    with _producer(arguments) as producer:
        if len(producer.available()) == 0:
            say(f"{producer.folder}: making the first shard of training scenes", flush=True)
        trainer.run(producer, validation, table)


def _producer(arguments: argparse.Namespace) -> ShardProducer:
    from sfm_lightglue.training.data.producer import ShardProducer

    cache = arguments.cache or arguments.output / "shards"
    return ShardProducer(arguments.photos, cache, arguments.seed, arguments.max_shards, arguments.workers)


def _export(trainer: Trainer, arguments: argparse.Namespace, command: str) -> None:
    from sfm_lightglue.models.checkpoints import save_lightglue

    network, step = trainer.best_result()
    config = confidence_config(arguments)
    if config is not None:
        _train_confidence(network, trainer, arguments, config)
    num_pairs = step * trainer.config.batches.batch_size
    metadata = {
        "license": "Apache-2.0",
        "features": "RootSIFT with scale and orientation, one keypoint per position",
        "trained_on": f"{num_pairs} pairs of scenes rendered with photographs as textures",
        "step": str(step),
        "command": command,
        "version": __version__,
    }
    network = network.half() if arguments.half else network
    save_lightglue(network, arguments.export, metadata, recommended_thresholds(arguments).given_thresholds())
    say(f"{arguments.export}: wrote the weights after step {step}")


def _train_confidence(
    network: LightGlue, trainer: Trainer, arguments: argparse.Namespace, config: ConfidenceConfig
) -> None:
    from sfm_lightglue.training.confidence import train_confidence
    from sfm_lightglue.training.data.data_loader import PairLoader

    held_out = trainer.options.held_out_shard
    excluded = frozenset() if held_out is None else frozenset({held_out})
    losses: list[float] = []
    with _producer(arguments) as producer:
        training = trainer.config
        loader = PairLoader(producer, training.batches, training.seed + 1, training.loader, None, excluded)
        with closing(iter(loader)) as batches:
            train_confidence(
                network.to(trainer.device),
                (batch for batch, _ in batches),
                config,
                trainer.options.bfloat16,
                lambda _, loss: losses.append(loss),
            )
    network.cpu()
    say(f"confidence heads: loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps")


class _Table:
    """Prints the rows of the log: those of the training as a table, those of the validation as names and values."""

    _COLUMNS = ("step", "loss", "last", "confidence", "norm", "rate", "pairs_per_s", "shards", "hours")

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._num_rows = quiet, 0

    def __call__(self, row: Mapping[str, float]) -> None:
        """Print a row."""
        if self._quiet:
            return
        if "loss" not in row:
            texts = [f"{name} {value:.3f}" for name, value in row.items() if name != "step"]
            say(f"{int(row['step']):>11}  validation: {', '.join(texts)}", flush=True)
            return
        if self._num_rows % 30 == 0:
            say("".join(f"{name:>12}" for name in self._COLUMNS))
        self._num_rows += 1
        say("".join(f"{self._text(name, row[name]):>12}" for name in self._COLUMNS), flush=True)

    @staticmethod
    def _text(name: str, value: float) -> str:
        if name in {"step", "shards"}:
            return str(int(value))
        return f"{value:.2e}" if name == "rate" else f"{value:.4g}"


if __name__ == "__main__":
    sys.exit(main())
