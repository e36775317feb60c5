"""Held-out losses of two checkouts after equal numbers of steps, measured on the same renderings."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import torch

from benchmarks.training import run_job
from benchmarks.training_job import BATCH_SIZE, NUM_KEYPOINTS, NUM_LAYERS, StoredShard
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.models.checkpoints import load_lightglue, save_lightglue
from sfm_lightglue.training.data.batches import BatchConfig
from sfm_lightglue.training.options import RunOptions, TrainingConfig
from sfm_lightglue.training.trainer import new_network
from sfm_lightglue.training.validation import Validator

_HELD_OUT = "000000.npz"
_METRICS = ("held_out_loss", "held_out_last", "recall", "precision")
_CPU = torch.device("cpu")
_CONFIG = TrainingConfig(num_layers=NUM_LAYERS, batches=BatchConfig(BATCH_SIZE, NUM_KEYPOINTS))


@dataclass(frozen=True, slots=True)
class Outcome:
    """Metrics of one network on one set of held-out renderings.

    Args:
        trained: checkout that made the scenes and trained.
        held_out: checkout that rendered the held-out scenes.
        seed: of the run.
        metrics: by name.
    """

    trained: str
    held_out: str
    seed: int
    metrics: Mapping[str, float]


def compare_losses(checkouts: Mapping[str, Path], arguments: argparse.Namespace) -> None:
    """Train every checkout, measure all networks on the held-out scenes of all checkouts, and print a table.

    Raises:
        DataError: if a run fails.
    """
    temporary = tempfile.TemporaryDirectory(prefix="training-losses-") if arguments.folder is None else nullcontext()
    with temporary as made:
        folder = (arguments.folder or Path(str(made))).resolve()
        shards, weights = {}, {}
        for k, (name, checkout) in enumerate(checkouts.items()):
            shards[name] = _make_shards(checkout, folder / f"shards-{k}", arguments)
            for seed in range(arguments.seeds):
                weights[name, seed] = _train(
                    checkout, folder / f"run-{k}-{seed}", folder / f"shards-{k}", seed, arguments
                )
        outcomes = [
            Outcome(trained, held_out, seed, found)
            for (trained, seed), path in weights.items()
            for held_out, shard in shards.items()
            if (found := _metrics(path, shard / _HELD_OUT)) is not None
        ]
    print(losses_table(outcomes))


def _make_shards(checkout: Path, cache: Path, arguments: argparse.Namespace) -> Path:
    words = [str(Path(__file__).with_name("training_job.py")), "shards", "--photos", str(arguments.photos)]
    words += ["--cache", str(cache), "--shards", str(arguments.shards), "--workers", str(arguments.workers)]
    return Path(run_job(checkout, [*words, "--seed", str(arguments.seed)]))


def _train(checkout: Path, run: Path, cache: Path, seed: int, arguments: argparse.Namespace) -> Path:
    """Train with the command of the checkout; runs of one checkout differ in their initial weights only."""
    weights, initial = run.with_suffix(".safetensors"), run.with_name(f"initial-{seed}.safetensors")
    if weights.exists():
        return weights
    save_lightglue(new_network(_CONFIG.architecture, seed), initial)
    steps = arguments.loss_steps
    text = f"--seed {arguments.seed} --workers 0 --max-shards {arguments.shards} --layers {NUM_LAYERS} --steps {steps}"
    text += f" --batch-size {BATCH_SIZE} --num-keypoints {NUM_KEYPOINTS} --optimizer adamw --learning-rate 1e-3"
    text += f" --decay-steps {steps // 2} --warmup-steps 50 --validate-every {steps} --checkpoint-every {steps}"
    text += f" --confidence-steps 0 --device {arguments.device} --threads 1 --float32"
    paths = {"photos": arguments.photos, "output": run, "cache": cache, "export": weights, "init": initial}
    words = [word for name, path in paths.items() for word in (f"--{name}", str(path))]
    run_job(checkout, ["-m", "pipelines.train", *text.split(), *words])
    return weights


def _metrics(weights: Path, held_out: Path) -> dict[str, float] | None:
    """Metrics of weights; None if this checkout cannot read the held-out shard of another one."""
    network = load_lightglue(weights)
    try:
        validator = Validator(StoredShard(held_out), _CONFIG, RunOptions(device="cpu"), _CPU, None)
    except DataError:
        return None
    return validator(network, _CPU)[0]


def losses_table(outcomes: list[Outcome]) -> str:
    """Means over the seeds, with the standard deviation of the loss."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        groups.setdefault((outcome.trained, outcome.held_out), []).append(outcome)
    rows = []
    for (trained, held_out), group in groups.items():
        means = [mean(one.metrics[name] for one in group) for name in _METRICS]
        losses = [one.metrics["held_out_loss"] for one in group]
        spread = f"{stdev(losses):.3f}" if len(losses) > 1 else ""
        rows.append([held_out, trained, str(len(group)), *(f"{value:.3f}" for value in means), spread])
    rows.sort()
    return markdown_table(["held-out scenes of", "trained by", "runs", *_METRICS, "sd of loss"], rows, 2)
