"""Train the logistic model of look-alikes on rendered scenes with known truth.

    python -m benchmarks.lookalikes_training [--seeds 2] [--work DIR] [--pairs FILE] [--output FILE]

Scenes are rendered with other seeds than those of the benchmark, matched and verified with the default options. A
verified pair is true if most of its inliers are the same point by depth and pose, false if few are. Finished scenes
are kept in DIR. The result is the file of coefficients that comes with the package.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.lookalikes_fit import (
    PENALTIES,
    PRIOR,
    PairTable,
    calibration_error,
    chosen_penalty,
    fit,
    held_out_probabilities,
    mean_loss,
    ranking_quality,
    reliability_table,
    scene_probabilities_of,
)
from benchmarks.lookalikes_pairs import (
    MAX_FALSE,
    MAX_KEYPOINTS,
    MIN_TRUE,
    LabelledScene,
    labelled_scene,
    stage_versions,
)
from pipelines.command import run_command
from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.errors import DataError
from sfm_lightglue.lookalikes.cues import CUES_VERSION, PairCues
from sfm_lightglue.lookalikes.probability import PACKAGED_MODEL
from sfm_lightglue.lookalikes.twins import TWINS_VERSION
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.store.store import make_key
from sfm_lightglue.synthetic import SyntheticScene, render_courtyard, render_room, render_scene, render_street
from sfm_lightglue.synthetic.lookalikes import KINDS, LookalikeScene, render_lookalikes

FIRST_SEED = 5000
"""Seeds of the training; the benchmark has smaller ones."""

SIZE = (320, 240)
"""(width, height) of the images."""

_OTHERS: dict[str, Callable[..., SyntheticScene]] = {
    "courtyard": render_courtyard,
    "row": render_street,
    "hall": render_room,
    "ruin": render_scene,
}
"""Further scenes: with repeated windows and cabinets, and one without look-alikes."""

_NUM_OTHER_IMAGES = 8
_MAX_IMAGES = 10
"""Of scenes with more images, this many are drawn by chance."""

_KEY_DIGITS = 12
"""Of the key in the names of finished scenes."""

_POSITIONS_EVERY = 3
"""Every third scene has known positions of its images."""


@dataclass(frozen=True, slots=True)
class TrainingScene:
    """A scene of the training.

    Args:
        kind: of its content; the validation holds out all scenes of a kind together.
        seed: of everything.
        with_positions: whether rough positions of its images are known.
    """

    kind: str
    seed: int
    with_positions: bool

    def render(self) -> SyntheticScene:
        """Render the scene; its properties are random."""
        if self.kind in _OTHERS:
            return _OTHERS[self.kind](_NUM_OTHER_IMAGES, SIZE, self.seed)
        difference, dense, ordered, revisit = (np.random.default_rng([self.seed, 1]).random(4) < 0.5).tolist()
        scene = LookalikeScene("training", self.kind, difference, dense, ordered, revisit, self.seed)
        return _thinned(render_lookalikes(scene, SIZE), self.seed)


def _thinned(scene: SyntheticScene, seed: int) -> SyntheticScene:
    """At most `_MAX_IMAGES` images of a scene."""
    chosen = np.random.default_rng([seed, 3]).permutation(scene.names)[:_MAX_IMAGES]
    names = sorted(chosen.tolist())
    poses = {name: scene.cam_from_world_from_name[name] for name in names}
    images = {name: scene.images[name] for name in names}
    depths = {name: scene.depths[name] for name in names}
    return replace(scene, images=images, depths=depths, cam_from_world_from_name=poses)


def training_scenes(num_seeds: int) -> list[TrainingScene]:
    """`num_seeds` scenes of each kind."""
    kinds = (*sorted(KINDS), *sorted(_OTHERS))
    return [
        TrainingScene(kind, FIRST_SEED + seed * len(kinds) + idx, (seed + idx) % _POSITIONS_EVERY == 0)
        for seed in range(num_seeds)
        for idx, kind in enumerate(kinds)
    ]


@dataclass(frozen=True, eq=False, slots=True)
class TrainingSet:
    """Labelled pairs of the scenes whose probabilities the model gives, and which scenes these are.

    Args:
        table: of the pairs; each scene has the same weight.
        kinds: of the scenes; their positions in it are the groups of the table.
        used: scenes of the table.
        twins: scenes that were left out: among twins, other rules give the probabilities.
    """

    table: PairTable
    kinds: tuple[str, ...]
    used: tuple[TrainingScene, ...]
    twins: tuple[TrainingScene, ...]


def training_set(scenes: Sequence[TrainingScene], work: Path) -> TrainingSet:
    """Label the pairs of all scenes; finished ones are read from `work`, if they are of the same versions."""
    kinds = tuple(sorted({scene.kind for scene in scenes}))
    columns = [PairCues.FIELDS.index(name) for name in PRIOR.fields]
    versions = make_key(data_versions())[:_KEY_DIGITS]
    parts: list[tuple[Float64Array, BoolArray, IndexArray, IndexArray, Float64Array]] = []
    chosen: tuple[list[TrainingScene], list[TrainingScene]] = ([], [])
    for scene in scenes:
        found = _labelled(scene, work, versions)
        is_left_out = found.has_twins(PRIOR)
        chosen[is_left_out].append(scene)
        is_true, num = found.is_true[found.is_clear], int(found.is_clear.sum())
        ending = ", left out: it has twins" if is_left_out else ""
        print(
            f"{scene.kind} {scene.seed}: {is_true.sum()} of {num} pairs are true{ending}", file=sys.stderr, flush=True
        )
        if num > 0 and not is_left_out:
            numbers = np.full(num, kinds.index(scene.kind)), np.full(num, scene.seed), np.full(num, 1 / num)
            parts.append((found.cues[found.is_clear][:, columns], is_true, *numbers))
    if not parts:
        raise DataError("no scene without twins has pairs: train with more scenes (`--seeds`)")
    table = PairTable(*(np.concatenate(values) for values in zip(*parts, strict=True)))
    return TrainingSet(table, kinds, tuple(chosen[False]), tuple(chosen[True]))


def _labelled(scene: TrainingScene, work: Path, versions: str) -> LabelledScene:
    name = f"{scene.kind}_{scene.seed}"
    path = work / f"{name}_{versions}.npz"
    if not path.is_file():
        found = labelled_scene(scene.render(), work / "scenes" / name, scene.seed, scene.with_positions)
        found.save(path)
    return LabelledScene.load(path)


def data_versions() -> dict[str, Any]:
    """What the labelled pairs depend on, beside the scenes: sizes, and versions of what finds and compares pairs."""
    return {
        "image_size": list(SIZE),
        "max_images": _MAX_IMAGES,
        "max_keypoints": MAX_KEYPOINTS,
        "true_from": MIN_TRUE,
        "false_up_to": MAX_FALSE,
        "cues": CUES_VERSION,
        "twins": TWINS_VERSION,
        **stage_versions(),
    }


def train(found: TrainingSet, output: Path, pairs_file: Path | None = None, penalty: float | None = None) -> None:
    """Fit on all pairs, write the coefficients, and print what was measured.

    Args:
        found: labelled pairs.
        output: file of the coefficients.
        pairs_file: gets the pairs too, so that the fit can be repeated without rendering; None for no file.
        penalty: of the weights; None for that of `chosen_penalty`.
    """
    table = found.table
    if pairs_file is not None:
        table.save(pairs_file)
        table = PairTable.load(pairs_file)
    held_out = {penalty: held_out_probabilities(table, penalty) for penalty in PENALTIES}
    chosen = chosen_penalty(table, held_out)
    penalty = chosen if penalty is None else penalty
    probabilities = held_out[penalty]
    quality = {
        "loss": mean_loss(table, probabilities),
        "roc_area": ranking_quality(table.is_true, probabilities),
        "calibration_error": calibration_error(table, probabilities),
    }
    by_hand = scene_probabilities_of(table, PRIOR)
    training = {
        "program": "python -m benchmarks.lookalikes_training",
        "scenes": [[scene.kind, scene.seed] for scene in found.used],
        "left_out_with_twins": [[scene.kind, scene.seed] for scene in found.twins],
        "num_pairs": len(table.is_true),
        "num_true": int(table.is_true.sum()),
        "penalty": penalty,
        "kinds_held_out": {name: round(value, 4) for name, value in quality.items()},
        "data": data_versions(),
    }
    with atomic_write(output) as file:
        file.write(json.dumps(fit(table, penalty).as_mapping() | {"training": training}, indent=1).encode() + b"\n")
    losses = ", ".join(f"{each:g}: {mean_loss(table, held_out[each]):.3f}" for each in PENALTIES)
    print(f"losses by penalty: {losses}; validation chooses {chosen:g}")
    print(f"{len(table.is_true)} pairs, {int(table.is_true.sum())} true; penalty {penalty:g}; kinds held out in turn:")
    print(", ".join(f"{name} {value:.3f}" for name, value in quality.items()))
    print(
        f"set by hand: loss {mean_loss(table, by_hand):.3f}, roc_area {ranking_quality(table.is_true, by_hand):.3f},"
        f" calibration_error {calibration_error(table, by_hand):.3f}\n"
    )
    print(reliability_table(table, probabilities) + "\n")
    for idx, kind in enumerate(found.kinds):
        own = table.group == idx
        num_true = int(table.is_true[own].sum())
        roc_area = ranking_quality(table.is_true[own], probabilities[own])
        print(f"{kind}: {num_true} true, {int(own.sum()) - num_true} false, ROC {roc_area:.3f}")


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the training."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lookalikes_training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seeds", type=int, default=2, metavar="N", help="number of scenes of each kind (default: 2)")
    add("--work", type=Path, metavar="DIR", help="keeps the pairs of finished scenes (default: a temporary folder)")
    add("--pairs", type=Path, metavar="FILE", help="also write the labelled pairs to this .npz file")
    add(
        "--keep-weights",
        action="store_true",
        help="fit slope and offset alone, with the weights that were set by hand; without it, weights leave those as"
        " far as validation allows",
    )
    add("--output", type=Path, default=PACKAGED_MODEL, metavar="FILE", help="(default: the file of the package)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train; returns the exit code."""
    arguments = build_parser().parse_args(argv)

    def body() -> None:
        with tempfile.TemporaryDirectory(prefix="sfm_lookalikes_") as temporary:
            found = training_set(training_scenes(arguments.seeds), arguments.work or Path(temporary))
        penalty = PENALTIES[-1] if arguments.keep_weights else None
        train(found, arguments.output, arguments.pairs, penalty)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
