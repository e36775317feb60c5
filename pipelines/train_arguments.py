"""The arguments of `train`, and the options of the library that they become."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.command import command_parser

if TYPE_CHECKING:
    from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig
    from sfm_lightglue.training.confidence import ConfidenceConfig
    from sfm_lightglue.training.options import RunOptions, TrainingConfig

EXAMPLES = """\
examples:
  python -m pipelines.train --photos ../shared/data/train --output runs/sift --steps 40000 --decay-steps 8000
      renders scenes with the photographs as textures in the background, trains on them, and keeps checkpoints and
      log.jsonl in runs/sift; after an interruption, the same command continues
  python -m pipelines.train --photos ../shared/data/train --output runs/sift --steps 80000 --decay-steps 8000
      prolongs that run from the checkpoint before the learning rate fell
  python -m pipelines.train ... --validate --compile --workers 1
      also validates on real photographs (hololens, 10 to 50 % overlap), against nearest neighbours; compiles the
      layers, which is a quarter faster on CPUs and needs a C++ compiler; one process makes scenes up to --max-shards
  torchrun --nproc-per-node 2 -m pipelines.train ... --threads 1
      two processes share every batch: one per GPU, or one per core, which is a third faster than one process
      with two threads
  python -m pipelines.train ... --export lightglue.safetensors --half
      at the end writes the weights with the best validation score, for `--matcher lightglue --matcher-weights FILE`

files in RUN_DIR: last.pt (the newest state), best.pt (the best state by validation: AUC@10 with --validate, else F1
on held-out pairs), stable.pt (the state before the learning rate fell), log.jsonl, shards/ (training scenes, unless
--cache is given).
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command."""
    parser = command_parser(
        "train", "Train a LightGlue for SIFT features on scenes rendered from photographs.", EXAMPLES
    )
    _add_training_arguments(parser)
    _add_machine_arguments(parser.add_argument_group("machine"))
    _add_result_arguments(parser.add_argument_group("results"))
    _add_confidence_arguments(parser.add_argument_group("confidence heads and thresholds of the exported weights"))
    return parser


def training_config(arguments: argparse.Namespace) -> TrainingConfig:
    """What is trained.

    Raises:
        ConfigError: on impossible values.
    """
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


def run_options(arguments: argparse.Namespace) -> RunOptions:
    """How long the run trains and what it reports.

    Raises:
        ConfigError: on impossible values.
    """
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


def recommended_thresholds(arguments: argparse.Namespace) -> LightGlueMatcherConfig:
    """Configuration of a matcher with the thresholds that the exported weights recommend.

    Raises:
        ConfigError: on thresholds that no matcher accepts.
    """
    from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig

    names = ("depth_confidence", "width_confidence", "filter_threshold")
    return LightGlueMatcherConfig(**{name: getattr(arguments, name) for name in names})


def confidence_config(arguments: argparse.Namespace) -> ConfidenceConfig | None:
    """How the confidence heads are trained before the export; None if they are not.

    Raises:
        ConfigError: on impossible values.
    """
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
        width_confidence=1.0 if width == -1 else width,  # both prune no point
    )


def _add_training_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    photos_help = (
        "photographs for the textures of training scenes; names that are equal up to their first digit are one kind,"
        " and rare kinds are drawn more often"
    )
    add("--photos", metavar="DIR", type=Path, help=photos_help)
    add("--output", metavar="RUN_DIR", type=Path, required=True, help="folder for checkpoints and log")
    add("--cache", metavar="DIR", type=Path, help="folder for training scenes (default: RUN_DIR/shards)")
    add("--steps", metavar="N", type=int, default=20_000, help="steps of the whole run (default: 20000)")
    decay_help = "last steps, in which the learning rate falls to 0 (default: a fifth of --steps)"
    add("--decay-steps", metavar="N", type=int, help=decay_help)
    warmup_help = "first steps, in which the learning rate rises (default: 500)"
    add("--warmup-steps", metavar="N", type=int, default=500, help=warmup_help)
    optimizer_help = "optimizer of the weight matrices (default: adamw)"
    add("--optimizer", default="adamw", choices=("adamw", "muon"), help=optimizer_help)
    rate_help = "learning rate between warm-up and decay (default: 8e-4)"
    add("--learning-rate", metavar="X", type=float, default=8e-4, help=rate_help)
    add("--batch-size", metavar="N", type=int, default=16, help="pairs per step (default: 16)")
    mirrored_help = "fraction of pairs that are mirrored; 0 resumes runs of versions without mirroring (default: 0.5)"
    add("--mirrored-share", metavar="X", type=float, default=0.5, help=mirrored_help)
    keypoints_help = "keypoints per view, sampled anew for every batch (default: 384)"
    add("--num-keypoints", metavar="N", type=int, default=384, help=keypoints_help)
    add("--layers", metavar="N", type=int, default=6, help="layers of the network (default: 6)")
    heads_help = "attention heads of the network, 128 dimensions in all (default: 2)"
    add("--heads", metavar="N", type=int, default=2, help=heads_help)
    init_help = "weights to start a new run from; of a deeper network, the first layers are used"
    add("--init", metavar="FILE", type=Path, help=init_help)
    seed_help = "seed of scenes, initial weights and order of the data (default: 0)"
    add("--seed", metavar="N", type=int, default=0, help=seed_help)


def _add_machine_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--device", default="auto", help="cpu, cuda, or auto (default: auto)")
    threads_help = "threads of the network on the CPU (default: chosen by torch)"
    add("--threads", metavar="N", type=int, default=0, help=threads_help)
    workers_help = "processes that make training scenes; 0 uses existing scenes only (default: 1)"
    add("--workers", metavar="N", type=int, default=1, help=workers_help)
    shards_help = "shards of 20 scenes to make; then they are used again (default: 1000)"
    add("--max-shards", metavar="N", type=int, default=1000, help=shards_help)
    add("--compile", action="store_true", help="compile the layers: slower start, faster steps")
    add("--float32", action="store_true", help="compute matrix products in float32 instead of bfloat16")
    restart_help = "remove the checkpoints and the log in RUN_DIR first; training scenes are kept"
    add("--restart", action="store_true", help=restart_help)


def _add_result_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    validate_help = "also validate on real photographs of the shared data; needs the checkout"
    add("--validate", action="store_true", help=validate_help)
    add("--data", metavar="DIR", type=Path, help="shared data (default: $SFM_LIGHTGLUE_DATA, else ../shared/data)")
    add("--log-every", metavar="N", type=int, default=50, help="steps between rows of the log (default: 50)")
    validations_help = "steps between validations (default: 1000)"
    add("--validate-every", metavar="N", type=int, default=1000, help=validations_help)
    checkpoints_help = "steps between checkpoints (default: 200)"
    add("--checkpoint-every", metavar="N", type=int, default=200, help=checkpoints_help)
    export_help = "at the end, write the weights with the best validation score as .safetensors"
    add("--export", metavar="FILE", type=Path, help=export_help)
    add("--export-only", action="store_true", help="do not train, only export the weights of the run in RUN_DIR")
    add("--half", action="store_true", help="export in half precision")
    add("--quiet", action="store_true", help="print no table; log.jsonl has all rows")


def _add_confidence_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    steps_help = "steps that train the confidence heads before the export; 0 exports them as they are (default: 200)"
    add("--confidence-steps", metavar="N", type=int, default=200, help=steps_help)
    unsettled_help = (
        "for the target point: weight of points whose match still changes in a later layer; with a larger weight,"
        " fewer pairs stop early (default: 5)"
    )
    add("--unsettled-weight", metavar="X", type=float, default=5.0, help=unsettled_help)
    target_help = (
        "what the heads predict. point, as in the paper: whether the match of a point is that of the last layer;"
        " pair: the fraction of the matches of the pair that is found, so that easy pairs stop first (default: point)"
    )
    add("--confidence-target", choices=("point", "pair"), default="point", help=target_help)
    for name in ("depth-confidence", "width-confidence", "filter-threshold"):
        recommended = f"{name.replace('-', '_')} that the exported weights recommend (default: that of the paper)"
        target = "; with the target pair, the heads have high confidence on points that it prunes"
        add(f"--{name}", metavar="X", type=float, help=recommended + (target if name == "width-confidence" else ""))
