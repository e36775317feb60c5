"""The arguments of `train`."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipelines.command import command_parser
from pipelines.manners import add_output_arguments
from sfm_lightglue.training.recipes import RECIPES

EXAMPLES = """\
examples:
  python -m pipelines.train --recipe sift --photos my_photos/ --output runs/sift --max-minutes 9 --export FILE
      trains with the settings of a recipe that suit this machine, and ends after 9 minutes with a file of weights;
      with --dry-run it prints the plan only
  python -m pipelines.train ... --max-minutes 30 --resume
      continues that run, whether it was killed or is finished, until it has used 30 minutes in all
  python -m pipelines.train --photos my_photos/ --pack-photos photos.zip --pack-size 40
      writes the photographs into one file, which --photos takes on another machine
  python -m pipelines.train --photos my_photos/ --output runs/sift --steps 40000 --decay-steps 8000
      renders scenes with the photographs as textures in the background, trains on them, and keeps checkpoints and
      log.jsonl in runs/sift; after an interruption, the same command continues
  python -m pipelines.train --photos my_photos/ --output runs/sift --steps 80000 --decay-steps 8000
      prolongs that run from the checkpoint before the learning rate fell
  python -m pipelines.train ... --validate --compile --workers 1
      also validates on real photographs (hololens, 10 to 50 % overlap), against nearest neighbours; compiles the
      layers, which is a quarter faster on CPUs and needs a C++ compiler; one process makes scenes up to --max-shards
  torchrun --nproc-per-node 2 -m pipelines.train ... --threads 1
      two processes share every batch: one per GPU, or one per core, which is a third faster than one process
      with two threads

files in RUN_DIR: last.pt (the newest state), best.pt (the best state by validation: AUC@10 with --validate, else F1
on held-out pairs), stable.pt (the state before the learning rate fell), log.jsonl, result.json (metrics of the exported
weights), settings.json (sizes of the shards), shards/ (training scenes, unless --cache is given).
"""

STEPS_OF_THE_USER = ("steps", "decay_steps", "warmup_steps")


def build_parser() -> argparse.ArgumentParser:
    """The parser of the command. Options that a recipe sets have no default here."""
    parser = command_parser(
        "train", "Train a LightGlue on scenes rendered from photographs, for SIFT or other features.", EXAMPLES
    )
    _add_data_arguments(parser)
    _add_length_arguments(parser.add_argument_group("length of the run"))
    _add_network_arguments(parser.add_argument_group("network and batches; the defaults of a recipe are its own"))
    _add_machine_arguments(parser.add_argument_group("machine"))
    _add_result_arguments(parser.add_argument_group("results"))
    _add_confidence_arguments(parser.add_argument_group("confidence heads and thresholds of the exported weights"))
    return parser


def check_combinations(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with a message about the usage if arguments contradict each other, or one is missing."""
    if arguments.pack_photos is not None:
        if arguments.photos is None:
            parser.error("--pack-photos needs --photos DIR, the folder of the photographs")
        if arguments.dry_run:
            parser.error("--dry-run writes nothing, and --pack-photos has no plan: leave out one of them")
        return
    if arguments.pack_size is not None:
        parser.error("--pack-size is the size of the file of --pack-photos, which is missing")
    if arguments.output is None:
        parser.error("--output is missing: give the folder for checkpoints and log")
    if arguments.max_minutes is not None:
        given = [name for name in STEPS_OF_THE_USER if getattr(arguments, name) is not None]
        if given:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            parser.error(f"--max-minutes plans warm-up, decay and number of steps itself: leave out {flags}")
    elif arguments.decay_keypoints is not None:
        parser.error("--decay-keypoints needs --max-minutes; with --steps, all steps have --num-keypoints")
    if arguments.resume and arguments.restart:
        parser.error("--resume continues the run that --restart removes: give one of them")
    needs_photos = not arguments.export_only or (arguments.export is not None and arguments.confidence_steps > 0)
    if arguments.photos is None and needs_photos:
        parser.error("--photos is missing: give the photographs for textures, a folder or a file of --pack-photos")


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    recipe_help = "settings for one kind of features that suit this machine; other options override them"
    add("--recipe", metavar="|".join(RECIPES), help=recipe_help)
    photos_help = (
        "photographs for the textures of training scenes, a folder or a file of --pack-photos; names that are equal up"
        " to their first digit are one kind, and rare kinds are drawn more often"
    )
    add("--photos", metavar="DIR|FILE", type=Path, help=photos_help)
    add("--output", metavar="RUN_DIR", type=Path, help="folder for checkpoints and log")
    add("--cache", metavar="DIR", type=Path, help="folder for training scenes (default: RUN_DIR/shards)")
    init_help = (
        "weights to start a new run from: a file, or a name such as lightglue_sift; of a deeper network, the first"
        " layers are used"
    )
    add("--init", metavar="NAME|FILE", help=init_help)
    seed_help = "seed of scenes, initial weights and order of the data (default: 0)"
    add("--seed", metavar="N", type=int, default=0, help=seed_help)
    pack_help = "write the photographs of --photos into one file of at most 512 px each, and end"
    add("--pack-photos", metavar="FILE", type=Path, help=pack_help)
    size_help = "largest size of that file; the quality is chosen to fit (default: 40)"
    add("--pack-size", metavar="MB", type=float, help=size_help)
    add("--dry-run", action="store_true", help="print the plan of the run, and end")


def _add_length_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    minutes_help = (
        "wall time of the whole run, with loading, export and earlier sessions; plans warm-up, decay, keypoints and the"
        " confidence heads by time, instead of --steps"
    )
    add("--max-minutes", metavar="M", type=float, help=minutes_help)
    add("--steps", metavar="N", type=int, help="steps of the whole run (default: 20000)")
    decay_help = "last steps, in which the learning rate falls to 0 (default: a fifth of --steps)"
    add("--decay-steps", metavar="N", type=int, help=decay_help)
    warmup_help = "first steps, in which the learning rate rises (default: 500)"
    add("--warmup-steps", metavar="N", type=int, help=warmup_help)
    resume_help = "with --max-minutes, continue the run in RUN_DIR if there is one; with --steps, that needs no option"
    add("--resume", action="store_true", help=resume_help)
    restart_help = "remove the checkpoints and the log in RUN_DIR first; training scenes are kept"
    add("--restart", action="store_true", help=restart_help)


def _add_network_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    optimizer_help = "optimizer of the weight matrices (default: adamw)"
    add("--optimizer", choices=("adamw", "muon"), help=optimizer_help)
    rate_help = "learning rate between warm-up and decay (default: 8e-4)"
    add("--learning-rate", metavar="X", type=float, help=rate_help)
    add("--batch-size", metavar="N", type=int, help="pairs per step (default: 16)")
    parts_help = "compute each batch in N parts, which need less memory, and add up their gradients (default: 1)"
    add("--accumulate", metavar="N", type=int, default=1, help=parts_help)
    mirrored_help = "fraction of pairs that are mirrored (default: 0.5; 0 for features that are not SIFT)"
    add("--mirrored-share", metavar="X", type=float, help=mirrored_help)
    keypoints_help = "keypoints per view, sampled anew for every batch (default: 384)"
    add("--num-keypoints", metavar="N", type=int, help=keypoints_help)
    decay_help = "with --max-minutes: keypoints per view while the learning rate falls (default: --num-keypoints)"
    add("--decay-keypoints", metavar="N", type=int, help=decay_help)
    add("--layers", metavar="N", type=int, help="layers of the network (default: 6)")
    heads_help = "attention heads of the network, 128 dimensions in all (default: 2)"
    add("--heads", metavar="N", type=int, help=heads_help)


def _add_machine_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--device", default="auto", help="cpu, cuda, or auto (default: auto)")
    threads_help = "threads of the network on the CPU (default: the cores that no worker uses)"
    add("--threads", metavar="N", type=int, default=0, help=threads_help)
    workers_help = (
        "processes that make training scenes; 0 uses existing scenes only (default: 1; with a recipe on a GPU, one"
        " less than there are CPU cores)"
    )
    add("--workers", metavar="N", type=int, help=workers_help)
    add("--max-shards", metavar="N", type=int, help="shards to make; then they are used again (default: 1000)")
    scenes_help = "scenes of a shard, which is used when all are finished (default: 20)"
    add("--scenes-per-shard", metavar="N", type=int, help=scenes_help)
    compile_help = "compile the layers: slower start, faster steps (default with a recipe: on a GPU)"
    add("--compile", action=argparse.BooleanOptionalAction, help=compile_help)
    add("--float32", action="store_true", help="compute matrix products in float32, also where bfloat16 is faster")


def _add_result_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    validate_help = "also validate on real photographs of the shared data; needs the checkout"
    add("--validate", action="store_true", help=validate_help)
    add("--data", metavar="DIR", type=Path, help="shared data (default: $SFM_LIGHTGLUE_DATA, else ../shared/data)")
    by_steps = "with --max-minutes, the plan decides"
    log_help = f"steps between rows of the log (default: 50); {by_steps}"
    add("--log-every", metavar="N", type=int, default=50, help=log_help)
    validations_help = f"steps between validations (default: 1000); {by_steps}"
    add("--validate-every", metavar="N", type=int, default=1000, help=validations_help)
    checkpoints_help = f"steps between checkpoints (default: 200); {by_steps}"
    add("--checkpoint-every", metavar="N", type=int, default=200, help=checkpoints_help)
    export_help = "at the end, write the weights with the best validation score as .safetensors"
    add("--export", metavar="FILE", type=Path, help=export_help)
    add("--export-only", action="store_true", help="do not train, only export the weights of the run in RUN_DIR")
    add("--half", action="store_true", help="export in half precision")
    as_json = "print each row of the log as a line of JSON, and the result as the last one"
    add_output_arguments(group, as_json, "print no table; log.jsonl has all rows")


def _add_confidence_arguments(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    steps_help = (
        "steps that train the confidence heads before the export; 0 exports them as they are (default: 200); with"
        " --max-minutes, the plan has seconds for them instead"
    )
    add("--confidence-steps", metavar="N", type=int, default=200, help=steps_help)
    unsettled_help = (
        "for the target point: weight of points whose match still changes in a later layer; with a larger weight,"
        " fewer pairs stop early (default: 5)"
    )
    add("--unsettled-weight", metavar="X", type=float, default=5.0, help=unsettled_help)
    target_help = (
        "what the heads predict. point, as in the paper: whether the match of a point is that of the last layer;"
        " pair: the fraction of the matches of the pair that is found, so that easy pairs stop first (default: point;"
        " recipes: pair)"
    )
    add("--confidence-target", choices=("point", "pair"), help=target_help)
    for name in ("depth-confidence", "width-confidence", "filter-threshold"):
        recommended = f"{name.replace('-', '_')} that the exported weights recommend (default: that of the paper)"
        target = "; with the target pair, the heads have high confidence on points that it prunes"
        add(f"--{name}", metavar="X", type=float, help=recommended + (target if name == "width-confidence" else ""))
