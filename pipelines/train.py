"""`python -m pipelines.train --photos DIR --output RUN_DIR`: train a LightGlue for SIFT from photographs alone."""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import command_parser, require_checkout, run_command, show_warnings
from sfm_lightglue.version import __version__

if TYPE_CHECKING:
    from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig
    from sfm_lightglue.models.lightglue import LightGlue
    from sfm_lightglue.training.confidence import ConfidenceConfig
    from sfm_lightglue.training.data.producer import ShardProducer
    from sfm_lightglue.training.options import RunOptions, TrainingConfig
    from sfm_lightglue.training.replicas import Replicas
    from sfm_lightglue.training.trainer import Trainer
    from sfm_lightglue.training.validation import Validation

EXAMPLES = """\
examples:
  python -m pipelines.train --photos ../shared/data/train --output runs/sift --steps 40000 --decay-steps 8000
      renders scenes textured with the photographs in the background, trains on them, and keeps checkpoints and
      log.jsonl in runs/sift; the same command continues after an interruption, or says that all is done
  python -m pipelines.train --photos ../shared/data/train --output runs/sift --steps 80000 --decay-steps 8000
      prolongs that run: it goes on from the state before the learning rate fell
  python -m pipelines.train ... --validate --compile --workers 1
      also measures on real photographs (hololens, 10 to 50 % overlap), beside nearest neighbours; compiles the
      layers, a quarter faster on CPUs with a C++ compiler; one process makes data until there are --max-shards
  torchrun --nproc-per-node 2 -m pipelines.train ... --threads 1
      two processes share every batch: one a GPU, or one a core, a third faster than one process on two cores
  python -m pipelines.train ... --export lightglue.safetensors --half
      at the end writes the weights that validated best, for `--matcher lightglue --matcher-weights FILE`

files in RUN_DIR: last.pt (the newest state), best.pt (the best by validation: AUC@10 with --validate, else F1 on
held-out pairs), stable.pt (before the learning rate fell), log.jsonl, shards/ (training scenes, unless --cache).
"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    arguments = parser.parse_args(given)
    teaches = not arguments.export_only or (arguments.export is not None and arguments.confidence_steps > 0)
    if arguments.photos is None and teaches:
        parser.error("give --photos, the folder of photographs that become textures")
    show_warnings()

    def body() -> None:
        _run(arguments, f"python -m pipelines.train {shlex.join(given)}")

    return run_command(body)


def _run(arguments: argparse.Namespace, command: str) -> None:
    from sfm_lightglue.training.replicas import replicas_of_launcher

    with replicas_of_launcher() as replicas:
        _run_replica(arguments, command, replicas)


def _run_replica(arguments: argparse.Namespace, command: str, replicas: Replicas) -> None:
    from sfm_lightglue.models.checkpoints import load_lightglue
    from sfm_lightglue.training.trainer import Trainer, forget_run, use_threads

    if arguments.threads:
        use_threads(arguments.threads)
    if arguments.restart and replicas.is_first:
        forget_run(arguments.output)
    replicas.wait()
    config, options, thresholds = _config(arguments), _options(arguments), _thresholds(arguments)
    _confidence_config(arguments)  # fails now, not after the training
    validation = _RealPhotos(arguments.data, thresholds) if arguments.validate and replicas.is_first else None
    initial = None if arguments.init is None else load_lightglue(arguments.init)
    trainer = Trainer(config, options, arguments.output, initial, replicas)
    replicas.wait()  # before the first one writes where the others read
    if not replicas.is_first:
        if not arguments.export_only:
            trainer.follow()
        return
    if trainer.step > 0:
        print(f"{arguments.output}: goes on after step {trainer.step} of {options.num_steps}")
    if not arguments.export_only and trainer.step < options.num_steps:
        _train(trainer, arguments, validation)
    if arguments.export is not None:
        _export(trainer, arguments, command)


def _train(trainer: Trainer, arguments: argparse.Namespace, validation: Validation | None) -> None:
    table = _Table(arguments.quiet)
    with _producer(arguments) as producer:
        if len(producer.available()) == 0:
            print(f"{producer.folder}: the first shard of training scenes is being made", flush=True)
        trainer.run(producer, validation, table)


def _producer(arguments: argparse.Namespace) -> ShardProducer:
    from sfm_lightglue.training.data.producer import ShardProducer

    cache = arguments.cache or arguments.output / "shards"
    return ShardProducer(arguments.photos, cache, arguments.seed, arguments.max_shards, arguments.workers)


def _config(arguments: argparse.Namespace) -> TrainingConfig:
    from sfm_lightglue.training.data.batches import BatchConfig
    from sfm_lightglue.training.options import TrainingConfig

    return TrainingConfig(
        num_layers=arguments.layers,
        num_heads=arguments.heads,
        optimizer=arguments.optimizer,
        learning_rate=arguments.learning_rate,
        num_warmup_steps=arguments.warmup_steps,
        seed=arguments.seed,
        batches=BatchConfig(arguments.batch_size, arguments.num_keypoints, mirrored_share=arguments.mirrored_share),
    )


def _options(arguments: argparse.Namespace) -> RunOptions:
    from sfm_lightglue.training.options import RunOptions

    decay = arguments.steps // 5 if arguments.decay_steps is None else arguments.decay_steps
    return RunOptions(
        num_steps=arguments.steps,
        num_decay_steps=decay,
        log_every=arguments.log_every,
        validate_every=arguments.validate_every,
        checkpoint_every=arguments.checkpoint_every,
        device=arguments.device,
        bfloat16=not arguments.float32,
        compile=arguments.compile,
    )


def _export(trainer: Trainer, arguments: argparse.Namespace, command: str) -> None:
    from sfm_lightglue.models.checkpoints import save_lightglue

    network, step = trainer.best_result()
    config = _confidence_config(arguments)
    if config is not None:
        _teach_confidence(network, trainer, arguments, config)
    num_pairs = step * trainer.config.batches.batch_size
    metadata = {
        "license": "Apache-2.0",
        "features": "RootSIFT with scale and orientation, one keypoint per place",
        "trained_on": f"{num_pairs} pairs of scenes rendered with photographs as textures",
        "step": str(step),
        "command": command,
        "version": __version__,
    }
    network = network.half() if arguments.half else network
    save_lightglue(network, arguments.export, metadata, _thresholds(arguments).given_thresholds())
    print(f"{arguments.export}: the weights after step {step}")


def _thresholds(arguments: argparse.Namespace) -> LightGlueMatcherConfig:
    """What the exported weights are to recommend.

    Raises:
        ConfigError: where no matcher would take it.
    """
    from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig

    names = ("depth_confidence", "width_confidence", "filter_threshold")
    return LightGlueMatcherConfig(**{name: getattr(arguments, name) for name in names})


def _confidence_config(arguments: argparse.Namespace) -> ConfidenceConfig | None:
    """How the heads are taught at the export; None where they are left as they are."""
    from sfm_lightglue.training.confidence import ConfidenceConfig
    from sfm_lightglue.weights.recommended_thresholds import PAPERS_THRESHOLDS

    if arguments.confidence_steps == 0:
        return None
    width = arguments.width_confidence
    if width is None:
        width = PAPERS_THRESHOLDS["width_confidence"]
    return ConfidenceConfig(
        arguments.confidence_steps,
        unsettled_weight=arguments.unsettled_weight,
        target=arguments.confidence_target,
        width_confidence=1.0 if width == -1 else width,  # either way no point leaves
    )


def _teach_confidence(
    network: LightGlue, trainer: Trainer, arguments: argparse.Namespace, config: ConfidenceConfig
) -> None:
    from sfm_lightglue.training.confidence import teach_confidence
    from sfm_lightglue.training.data.feed import PairFeed

    held_out = trainer.options.held_out_shard
    excluded = frozenset() if held_out is None else frozenset({held_out})
    losses: list[float] = []
    with _producer(arguments) as producer:
        feed = PairFeed(producer, trainer.config.batches, trainer.config.seed + 1, trainer.config.feed, None, excluded)
        with closing(iter(feed)) as batches:
            teach_confidence(
                network.to(trainer.device),
                (batch for batch, _ in batches),
                config,
                trainer.options.bfloat16,
                lambda _, loss: losses.append(loss),
            )
    network.cpu()
    print(f"confidence heads: loss {losses[0]:.3f} -> {losses[-1]:.3f} in {len(losses)} steps")


class _Table:
    """Prints the rows of the log: the training's as a table, the validation's as name and value."""

    _COLUMNS = ("step", "loss", "last", "confidence", "norm", "rate", "pairs_per_s", "shards", "hours")

    def __init__(self, quiet: bool) -> None:
        self._quiet, self._num_rows = quiet, 0

    def __call__(self, row: Mapping[str, float]) -> None:
        """Print a row."""
        if self._quiet:
            return
        if "loss" not in row:
            texts = [f"{name} {value:.3f}" for name, value in row.items() if name != "step"]
            print(f"{int(row['step']):>11}  validation: {', '.join(texts)}", flush=True)
            return
        if self._num_rows % 30 == 0:
            print("".join(f"{name:>12}" for name in self._COLUMNS))
        self._num_rows += 1
        print("".join(f"{self._text(name, row[name]):>12}" for name in self._COLUMNS), flush=True)

    @staticmethod
    def _text(name: str, value: float) -> str:
        if name in {"step", "shards"}:
            return str(int(value))
        return f"{value:.2e}" if name == "rate" else f"{value:.4g}"


class _RealPhotos:
    """A `Validation`: pairs of the hololens sequence with 10 to 50 % overlap, judged by their depth.

    Args:
        data: root of the shared data, None for where they usually lie.
        thresholds: with which the network matches.

    Raises:
        ConfigError: outside of the checkout, where the readers of benchmarks are missing.
        DataError: where the shared data are missing.
    """

    _MAX_IMAGE_SIZE, _NUM_KEYPOINTS, _NUM_PAIRS = 540, 1024, 100

    def __init__(self, data: Path | None, thresholds: LightGlueMatcherConfig) -> None:
        require_checkout("--validate")
        self._thresholds = thresholds
        from datasets.image_pairs import depth_pairs
        from datasets.shared import shared_data_root
        from sfm_lightglue.evaluation.match_errors import PairFeatures
        from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
        from sfm_lightglue.matchers.nearest import NearestMatcher

        folder = shared_data_root(data) / "sequences" / "hololens"
        self._pairs = depth_pairs(folder, "hololens", (0.1, 0.5), self._NUM_PAIRS)
        extractor = SiftExtractor(SiftConfig(max_keypoints=self._NUM_KEYPOINTS, max_image_size=self._MAX_IMAGE_SIZE))
        self._features = PairFeatures(extractor)
        self._nearest = self._scores(NearestMatcher(), "nearest_")

    def __call__(self, network: LightGlue) -> dict[str, float]:
        """Scores of the network, adaptivity on, beside those of nearest neighbours; AUC@10 first."""
        from sfm_lightglue.matchers.lightglue import LightGlueMatcher
        from sfm_lightglue.models.checkpoints import save_lightglue

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "validated.safetensors"
            save_lightglue(network, path)
            scores = self._scores(LightGlueMatcher(replace(self._thresholds, weights=str(path)), "cpu"), "hololens_")
        return scores | self._nearest

    def _scores(self, matcher: object, prefix: str) -> dict[str, float]:
        from sfm_lightglue.evaluation.match_errors import evaluate_matcher, summarize

        outcomes = evaluate_matcher(matcher, self._pairs, self._features, self._MAX_IMAGE_SIZE)  # type: ignore[arg-type]
        scores = summarize([outcome for group in outcomes.values() for outcome in group])
        auc5, auc10, auc20 = scores.auc or (0.0, 0.0, 0.0)
        found = {"auc10": auc10, "auc5": auc5, "auc20": auc20, "correct": scores.correct}
        found |= {"precision": scores.precision, "ms": scores.ms}
        return {f"{prefix}{name}": value for name, value in found.items()}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("train", "Train a LightGlue for SIFT features from photographs alone.", EXAMPLES)
    add = parser.add_argument
    add(
        "--photos",
        metavar="DIR",
        type=Path,
        help="photographs that become textures of the training"
        " scenes; names that begin alike, up to their digits, are of one kind, and rare kinds are drawn more often",
    )
    add("--output", metavar="RUN_DIR", type=Path, required=True, help="checkpoints and log")
    add("--cache", metavar="DIR", type=Path, help="where training scenes are kept (default: RUN_DIR/shards)")
    add("--steps", metavar="N", type=int, default=20_000, help="of the whole run (default: 20000)")
    add("--decay-steps", metavar="N", type=int, help="last steps, in which the rate falls to 0 (default: a fifth)")
    add("--warmup-steps", metavar="N", type=int, default=500, help="first steps, in which it rises (default: 500)")
    add("--optimizer", default="adamw", choices=("adamw", "muon"), help="of the matrices (default: adamw)")
    add("--learning-rate", metavar="X", type=float, default=8e-4, help="in between (default: 8e-4)")
    add("--batch-size", metavar="N", type=int, default=16, help="pairs a step (default: 16)")
    add(
        "--mirrored-share",
        metavar="X",
        type=float,
        default=0.5,
        help="of the pairs, seen in a mirror; 0 goes on with runs from before there were mirrors (default: 0.5)",
    )
    add("--num-keypoints", metavar="N", type=int, default=384, help="of each view, drawn anew (default: 384)")
    add("--layers", metavar="N", type=int, default=6, help="of the network (default: 6)")
    add("--heads", metavar="N", type=int, default=2, help="of its attention, over 128 dimensions (default: 2)")
    add(
        "--init",
        metavar="FILE",
        type=Path,
        help="weights to start a new run from; of a deeper network, its first layers",
    )
    add("--seed", metavar="N", type=int, default=0, help="of scenes, weights and order (default: 0)")
    _add_machine_arguments(parser.add_argument_group("machine"))
    _add_result_arguments(parser.add_argument_group("results"))
    return parser


def _add_machine_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--device", default="auto", help="cpu, cuda, or auto (default: auto)")
    add("--threads", metavar="N", type=int, default=0, help="of the network on the CPU (default: torch's choice)")
    add("--workers", metavar="N", type=int, default=1, help="processes that make data; 0: use what is cached")
    add("--max-shards", metavar="N", type=int, default=1000, help="of 20 scenes, then reused (default: 1000)")
    add("--compile", action="store_true", help="compile the layers: slow start, faster steps")
    add("--float32", action="store_true", help="matrix products in float32 instead of bfloat16")
    add("--restart", action="store_true", help="forget the run that is in RUN_DIR; its shards are kept")


def _add_result_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--validate", action="store_true", help="also on real photographs of the shared data; needs the checkout")
    add("--data", metavar="DIR", type=Path, help="the shared data (default: $SFM_LIGHTGLUE_DATA or ../shared/data)")
    add("--log-every", metavar="N", type=int, default=50, help="steps (default: 50)")
    add("--validate-every", metavar="N", type=int, default=1000, help="steps (default: 1000)")
    add("--checkpoint-every", metavar="N", type=int, default=200, help="steps (default: 200)")
    add("--export", metavar="FILE", type=Path, help="write the best weights as .safetensors at the end")
    add(
        "--confidence-steps",
        metavar="N",
        type=int,
        default=200,
        help="at the export: of the heads that tell when to stop, 0 to leave them as they are (default: 200)",
    )
    add(
        "--unsettled-weight",
        metavar="X",
        type=float,
        default=5.0,
        help="in these, weight of points whose answer will"
        " still change: with more, fewer pairs stop early; of the target point (default: 5)",
    )
    add(
        "--confidence-target",
        choices=("point", "pair"),
        default="point",
        help="what they learn: whether a point's answer is the last one, as in the paper, or what share of its pair's"
        " matches are found, so that easy pairs stop first (default: point)",
    )
    for name, more in (
        ("depth-confidence", ""),
        ("width-confidence", "; with the target pair the heads learn to be sure of what it drops"),
        ("filter-threshold", ""),
    ):
        add(
            f"--{name}",
            metavar="X",
            type=float,
            help=f"{name.replace('-', '_')} that the exported weights recommend to matchers"
            f" (default: the paper's){more}",
        )
    add("--export-only", action="store_true", help="do not train, export what the run in RUN_DIR has")
    add("--half", action="store_true", help="export in half precision")
    add("--quiet", action="store_true", help="print no table; log.jsonl has it all")


if __name__ == "__main__":
    sys.exit(main())
