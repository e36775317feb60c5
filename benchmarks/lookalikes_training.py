"""Train the logistic model of look-alikes on rendered scenes with known truth.

    python -m benchmarks.lookalikes_training [--seeds 3] [--work DIR] [--output FILE]

Scenes are rendered with other seeds than those of the benchmark, matched and verified with the default options. A
verified pair is true if most of its inliers are the same point by depth and pose, false if few are. Finished scenes
are kept in DIR. The result is the file of coefficients that comes with the package.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.lookalikes_fit import (
    PENALTIES,
    SIGN_FROM_CUE,
    PairTable,
    calibration_error,
    fit,
    held_out_probabilities,
    mean_loss,
    ranking_quality,
    reliability_table,
)
from benchmarks.lookalikes_pairs import labelled_pairs
from pipelines.command import run_command
from sfm_lightglue.lookalikes.cues import CUES_VERSION, PairCues
from sfm_lightglue.lookalikes.probability import PACKAGED_MODEL
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.synthetic import SyntheticScene, render_courtyard, render_room, render_scene, render_street
from sfm_lightglue.synthetic.lookalikes import KINDS, LookalikeScene, render_lookalikes

FIRST_SEED = 5000
"""Seeds of the training; the benchmark has smaller ones."""

SIZE = (320, 240)
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
    images, depths = ({name: values[name] for name in names} for values in (scene.images, scene.depths))
    return replace(scene, images=images, depths=depths, cam_from_world_from_name=poses)


def training_scenes(num_seeds: int) -> list[TrainingScene]:
    """`num_seeds` scenes of each kind."""
    kinds = (*sorted(KINDS), *sorted(_OTHERS))
    return [
        TrainingScene(kind, FIRST_SEED + seed * len(kinds) + idx, (seed + idx) % _POSITIONS_EVERY == 0)
        for seed in range(num_seeds)
        for idx, kind in enumerate(kinds)
    ]


def table_of(scenes: list[TrainingScene], fields: tuple[str, ...], work: Path) -> tuple[PairTable, tuple[str, ...]]:
    """Labelled pairs of all scenes, each scene with the same weight, and the kinds that are the groups."""
    kinds = tuple(sorted({scene.kind for scene in scenes}))
    columns = [PairCues.FIELDS.index(name) for name in fields]
    values, is_true, group, weight = [], [], [], []
    for scene in scenes:
        path = work / f"{scene.kind}_{scene.seed}_v{CUES_VERSION}.npz"
        if not path.is_file():
            cues, labels = labelled_pairs(scene.render(), work / "scenes" / path.stem, scene.seed, scene.with_positions)
            with atomic_write(path) as file:
                np.savez(file, cues=cues, is_true=labels)
        with np.load(path) as stored:
            values.append(stored["cues"][:, columns])
            is_true.append(stored["is_true"])
        num = len(is_true[-1])
        group.append(np.full(num, kinds.index(scene.kind)))
        weight.append(np.full(num, 1 / max(num, 1)))
        print(f"{path.stem}: {is_true[-1].sum()} of {num} pairs are true", file=sys.stderr, flush=True)
    table = PairTable(*(np.concatenate(parts) for parts in (values, is_true, group, weight)))
    return table, kinds


def train(table: PairTable, fields: tuple[str, ...], kinds: tuple[str, ...], output: Path) -> None:
    """Choose the penalty by validation, fit on all pairs, write the coefficients, and print what was measured."""
    held_out = {penalty: held_out_probabilities(table, fields, penalty) for penalty in PENALTIES}
    penalty = min(PENALTIES, key=lambda one: mean_loss(table, held_out[one]))
    model = fit(table, fields, penalty)
    with atomic_write(output) as file:
        file.write(json.dumps(model.as_mapping(), indent=1).encode() + b"\n")
    probabilities = held_out[penalty]
    print(f"{len(table.is_true)} pairs, {int(table.is_true.sum())} true; penalty {penalty:g}; kinds held out in turn:")
    print(
        f"loss {mean_loss(table, probabilities):.3f}, area under the ROC curve"
        f" {ranking_quality(table.is_true, probabilities):.3f}, calibration error"
        f" {calibration_error(table, probabilities):.3f}\n"
    )
    print(reliability_table(table, probabilities) + "\n")
    for idx, kind in enumerate(kinds):
        own = table.group == idx
        num_true = int(table.is_true[own].sum())
        quality = ranking_quality(table.is_true[own], probabilities[own])
        print(f"{kind}: {num_true} true, {int(own.sum()) - num_true} false, ROC {quality:.3f}")


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the training."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lookalikes_training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seeds", type=int, default=3, metavar="N", help="number of scenes of each kind (default: 3)")
    add("--work", type=Path, metavar="DIR", help="keeps the pairs of finished scenes (default: a temporary folder)")
    add("--output", type=Path, default=PACKAGED_MODEL, metavar="FILE", help="(default: the file of the package)")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Train; returns the exit code."""
    arguments = build_parser().parse_args(argv)

    def body() -> None:
        fields = tuple(name for name in PairCues.FIELDS if name in SIGN_FROM_CUE)
        with tempfile.TemporaryDirectory(prefix="sfm_lookalikes_") as temporary:
            table, kinds = table_of(training_scenes(arguments.seeds), fields, arguments.work or Path(temporary))
        train(table, fields, kinds, arguments.output)

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
