"""The end of `train`: confidence heads, metrics on held-out renderings, file of weights."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING

from pipelines.output import say_json
from pipelines.train_settings import confidence_config, recipe, recommended_thresholds, shard_producer
from pipelines.train_table import named, tell
from sfm_lightglue.version import __version__

if TYPE_CHECKING:
    from sfm_lightglue.models.lightglue import LightGlue
    from sfm_lightglue.training.data.producer import ShardProducer
    from sfm_lightglue.training.recipes import TrainingSettings
    from sfm_lightglue.training.trainer import Trainer
    from sfm_lightglue.training.validation import Validation

RESULT_NAME = "result.json"
"""File of a run with the metrics of the exported weights."""


def export(
    trainer: Trainer,
    arguments: argparse.Namespace,
    settings: TrainingSettings,
    command: str,
    throughput: Mapping[str, float],
    validation: Validation | None = None,
) -> None:
    """Train the confidence heads of the best network, measure it on the held-out renderings, and write it.

    Args:
        trainer: of the run, after the last step.
        arguments: of the command.
        settings: of the run.
        command: as the user called it, for the metadata.
        throughput: of this session; empty if it did not train.
        validation: more metrics.

    Raises:
        DataError: if training scenes are missing or damaged.
        StoreError: if a file cannot be written.
    """
    from sfm_lightglue.models.checkpoints import save_lightglue

    network, step = trainer.best_result()
    metrics: dict[str, float] = {}
    if arguments.photos is not None:
        with closing(_existing_shards(trainer, arguments, settings)) as producer:
            _train_heads(trainer, network, producer, arguments, settings)
            metrics = trainer.validate(network, producer, validation)
    network = network.half() if arguments.half else network
    metadata = _metadata(trainer, arguments, step, command)
    if metrics:
        metadata["held_out"] = json.dumps({name: round(value, 4) for name, value in metrics.items()})
    thresholds = recommended_thresholds(settings).given_thresholds()
    save_lightglue(network, arguments.export, metadata, thresholds)
    _write_result(trainer, arguments, {**metadata, "held_out": metrics, "throughput": dict(throughput)})
    if metrics:
        tell(arguments, f"held-out renderings: {named(metrics)}")
    tell(arguments, f"{arguments.export}: wrote the weights after step {step}")
    if arguments.json:
        say_json({"export": str(arguments.export), "step": step, "held_out": metrics})


def _existing_shards(trainer: Trainer, arguments: argparse.Namespace, settings: TrainingSettings) -> ShardProducer:
    """A producer that reads what exists; it makes scenes only if there are none besides the held-out ones."""
    producer = shard_producer(arguments, settings, 0)
    if set(producer.available()) > trainer.options.held_out_shards:
        return producer
    producer.close()
    return shard_producer(arguments, settings, settings.num_workers)


def _train_heads(
    trainer: Trainer,
    network: LightGlue,
    producer: ShardProducer,
    arguments: argparse.Namespace,
    settings: TrainingSettings,
) -> None:
    config = confidence_config(arguments, settings)
    if config is None:
        return
    losses = trainer.train_heads(network, producer, config)
    tell(arguments, f"confidence heads: loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps")


def _metadata(trainer: Trainer, arguments: argparse.Namespace, step: int, command: str) -> dict[str, str]:
    features, chosen = trainer.config.features, recipe(arguments)
    num_pairs = step * trainer.config.batches.batch_size
    metadata = {
        "license": "Apache-2.0",
        "features": _FEATURES.get(features.name, features.name) if chosen is None else chosen.description,
        "trained_on": f"{num_pairs} pairs of scenes rendered with photographs as textures",
        "step": str(step),
        "minutes": f"{trainer.elapsed_s / 60:.1f}",
        "command": command,
        "version": __version__,
    }
    if chosen is not None:
        metadata["recipe"] = chosen.name
    if arguments.init is not None:
        metadata["initial_weights"] = str(arguments.init)
    return metadata


_FEATURES = {"sift": "RootSIFT with scale and orientation, one keypoint per position"}


def _write_result(trainer: Trainer, arguments: argparse.Namespace, result: Mapping[str, object]) -> None:
    from sfm_lightglue.store.atomic_file import atomic_write

    with atomic_write(trainer.folder / RESULT_NAME) as file:
        file.write(json.dumps({"weights": str(arguments.export), **result}, indent=2).encode() + b"\n")
