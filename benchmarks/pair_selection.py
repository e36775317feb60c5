"""Which of the pairs that truly overlap the selectors of pairs choose, of how many, and what models come of them.

    python -m benchmarks.pair_selection [SET ...] [--pairs retrieval auto] [--reconstruct] [--work DIR] [--json FILE]

Sets: "town:N" is rendered; "hololens" has depth maps; "mixed" has the images of three scenes in one folder. Two images
overlap if each sees a tenth of the surface of the other, or if they share 20 points of a model of all pairs. Exhaustive
selection is always run too. With --reconstruct, the models are compared with those of all pairs, those of a mixed set
with the models of each scene alone.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.goals import Goal, at_least, at_most, print_goals
from benchmarks.pair_selection_sets import OverlapSet, open_set, read_models
from pipelines.command import run_command
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.evaluation.pose_errors import evaluate_poses
from sfm_lightglue.evaluation.tables import markdown_table, number
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.geometry.alignment import AlignedPoses
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.reconstruction.components import build_components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.stages.into_database import extract_scene
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import ImagePair

EXHAUSTIVE = "exhaustive"


@dataclass(frozen=True, slots=True)
class Selection:
    """The pairs of one selector on one set.

    Args:
        set_name: the set.
        pairs: the selector.
        num_images: of the set.
        num_overlapping: pairs that overlap.
        num_asked: pairs that were selected.
        num_found: of them, pairs that overlap.
        num_connected: images in the largest group that is connected by selected pairs that overlap.
        num_connectable: the same for all pairs that overlap.
        num_lost: images without a selected pair that overlaps, although they have one.
        seconds: of the selection, without the features.
        cpu_seconds: processor time of it.
    """

    set_name: str
    pairs: str
    num_images: int
    num_overlapping: int
    num_asked: int
    num_found: int
    num_connected: int
    num_connectable: int
    num_lost: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0

    @property
    def share(self) -> float:
        """Pairs that were asked, as a share of all pairs."""
        return self.num_asked / (self.num_images * (self.num_images - 1) / 2)

    @property
    def recall(self) -> float:
        """Share of the pairs that overlap that were selected."""
        return self.num_found / self.num_overlapping if self.num_overlapping else math.nan

    @property
    def precision(self) -> float:
        """Share of the selected pairs that overlap."""
        return self.num_found / self.num_asked if self.num_asked else math.nan


def score_selection(one: OverlapSet, pairs: str, selected: Collection[ImagePair], names: Sequence[str]) -> Selection:
    """Compare selected pairs with those that overlap.

    Args:
        one: the set.
        pairs: name of the selector.
        selected: its pairs.
        names: of all images of the set.
    """
    found = one.overlapping.intersection(selected)
    connected = {name for pair in found for name in (pair.name0, pair.name1)}
    connectable = {name for pair in one.overlapping for name in (pair.name0, pair.name1)}
    return Selection(
        one.name,
        pairs,
        len(names),
        len(one.overlapping),
        len(selected),
        len(found),
        largest_group(found),
        largest_group(one.overlapping),
        len(connectable - connected),
    )


def largest_group(pairs: Iterable[ImagePair]) -> int:
    """Number of images of the largest group that pairs connect."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for pair in pairs:
        parent[root(pair.name0)] = root(pair.name1)
    return max(Counter(root(name) for name in list(parent)).values(), default=0)


def options_with(config: dict[str, Any], pairs: str, num_threads: int) -> dict[str, Any]:
    """A mapping for `ReconstructConfig.from_mapping`; options of the table "pairs" are not those of all pairs."""
    options = {} if pairs == EXHAUSTIVE else dict(config.get("pairs", {}))
    return config | {"pairs": options | {"name": pairs}, "num_threads": num_threads}


def select(one: OverlapSet, pairs: str, work: Path, config: dict[str, Any], num_threads: int) -> Selection:
    """Select the pairs of a set; the features are kept in the folder, and their time does not count."""
    values = options_with(config, pairs, num_threads)
    options = ReconstructConfig.from_mapping(values)
    executor = ThreadExecutor(num_threads)
    scene = load_scene(one.root, options.cameras, num_threads=num_threads)
    components = build_components(options)
    with Store(_features_folder(one, work)) as store:
        features = extract_scene(scene, CachedExtractor(components.extractor, store), executor)
        start, cpu_start = time.perf_counter(), time.process_time()
        selected = components.pairs.select(PairContext(scene, features, store, executor=executor))
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    values = asdict(score_selection(one, pairs, set(selected), scene.names))
    return Selection(**(values | {"seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3)}))


def _features_folder(one: OverlapSet, work: Path) -> Path:
    return work / f"{one.name.replace(' ', '_')}_features"


@dataclass(frozen=True, slots=True)
class Models:
    """The models of one selector on one set.

    Args:
        set_name: the set.
        pairs: the selector.
        num_images: of the set.
        num_pairs: pairs that were matched, with those that were asked after the first round.
        registered: numbers of images of the published models.
        center_error: mean error of the camera centres of the largest model, relative to the extent; NaN without truth.
        rotation_error_deg: median error of its rotations; NaN without truth.
        mixed: models that have images of two scenes.
        by_scene: numbers of images of the models of each scene, if the set has several.
        seconds: of the reconstruction; without those of the features if they were selected by them before.
        error: reason why there is no model, else "".
    """

    set_name: str
    pairs: str
    num_images: int
    num_pairs: int
    registered: tuple[int, ...]
    center_error: float
    rotation_error_deg: float
    mixed: int
    by_scene: dict[str, tuple[int, ...]]
    seconds: float
    error: str = ""


def reconstruct_set(one: OverlapSet, pairs: str, work: Path, config: dict[str, Any], num_threads: int) -> Models:
    """Reconstruct a set with the pairs of a selector, in a new folder; features of `select` are used."""
    values = options_with(config, pairs, num_threads)
    asked = 0

    def progress(stage: str, num_done: int, num_total: int) -> None:
        nonlocal asked
        asked = max(asked, num_total) if stage == "match" else asked

    start, error, summary = time.perf_counter(), "", {}
    with tempfile.TemporaryDirectory(prefix="models_", dir=work) as folder:
        if _features_folder(one, work).is_dir():
            shutil.copytree(_features_folder(one, work), folder, dirs_exist_ok=True)
        try:
            result = reconstruct(one.root, Path(folder), ReconstructConfig.from_mapping(values), progress)
            summary = result.summary.as_dict()
        except ReconstructionError as no_model:
            error, summary = str(no_model), no_model.summary or {}
        seconds = time.perf_counter() - start
        poses = [dict(poses_of_model(model)) for model in read_models(Path(folder))]
    center_error, rotation_error_deg = math.nan, math.nan
    if poses and one.truth is not None:
        accuracy = evaluate_poses(poses[0], one.truth).accuracy
        if isinstance(accuracy, AlignedPoses):
            center_error = accuracy.mean_center_error / one.truth.extent
            rotation_error_deg = accuracy.median_rotation_error_deg
    scenes = [Counter(one.scene_of[name] for name in model) for model in poses]
    by_scene = {
        scene: tuple(counts[scene] for counts in scenes if counts[scene] > 0)
        for scene in sorted(set(one.scene_of.values()))
    }
    return Models(
        one.name,
        pairs,
        len(one.scene_of),
        int(summary.get("num_pairs", asked)),
        tuple(len(model) for model in poses),
        center_error,
        rotation_error_deg,
        sum(len(counts) > 1 for counts in scenes),
        by_scene if len(by_scene) > 1 else {},
        round(seconds, 1),
        error,
    )


def format_selections(selections: Sequence[Selection]) -> str:
    """A table of recalls and numbers of pairs."""
    header = ["set", "pairs", "images", "overlapping", "asked", "% of all", "recall %", "precision %"]
    header += ["connected", "of", "images lost", "s", "CPU s"]
    rows = [
        [
            *(one.set_name, one.pairs, str(one.num_images), str(one.num_overlapping), str(one.num_asked)),
            *(number(100 * value, 1) for value in (one.share, one.recall, one.precision)),
            *(str(value) for value in (one.num_connected, one.num_connectable, one.num_lost)),
            *(number(value, 2) for value in (one.seconds, one.cpu_seconds)),
        ]
        for one in selections
    ]
    return markdown_table(header, rows, 2)


def format_models(models: Sequence[Models], sets: Sequence[OverlapSet]) -> str:
    """A table of models, and what became of each scene of a set of several."""
    header = ["set", "pairs", "matched", "% of all", "registered", "of", "centre error ‰", "rotation deg", "mixed", "s"]
    rows = [
        [
            *(one.set_name, one.pairs, str(one.num_pairs)),
            number(100 * one.num_pairs / (one.num_images * (one.num_images - 1) / 2), 1),
            *(" + ".join(map(str, one.registered)) or "0", str(one.num_images)),
            *(number(1e3 * one.center_error, 3), number(one.rotation_error_deg, 3), str(one.mixed)),
            number(one.seconds, 1),
        ]
        for one in models
    ]
    lines = [markdown_table(header, rows, 2)]
    alone = {one.name: one.alone for one in sets}
    for one in models:
        parts = [
            f"{scene} {' + '.join(map(str, numbers)) or '0'} (alone {' + '.join(map(str, alone[one.set_name][scene]))})"
            for scene, numbers in one.by_scene.items()
        ]
        lines += [f"{one.set_name}, {one.pairs}: {', '.join(parts)}"] if parts else []
        lines += [f"{one.set_name}, {one.pairs}: {one.error}"] if one.error else []
    return "\n\n".join(lines)


def goals(selections: Sequence[Selection], models: Sequence[Models], sets: Sequence[OverlapSet]) -> list[Goal]:
    """Of each selector: a tenth of the pairs, images that stay connected, and models as good as those of all pairs."""
    found = []
    for one in selections:
        if one.pairs != EXHAUSTIVE:
            where = f"{one.set_name}, {one.pairs}"
            found.append(at_most(f"{where}, % of all pairs asked", 100 * one.share, 10.0))
            found.append(at_least(f"{where}, images connected", one.num_connected, 0.95 * one.num_connectable))
    all_pairs = {one.set_name: one for one in models if one.pairs == EXHAUSTIVE}
    alone = {one.name: one.alone for one in sets}
    for model in models:
        if model.pairs != EXHAUSTIVE:
            found += _goals_of_models(model, all_pairs.get(model.set_name), alone[model.set_name])
    return found


def _goals_of_models(one: Models, all_pairs: Models | None, alone: Mapping[str, tuple[int, ...]]) -> list[Goal]:
    where = f"{one.set_name}, {one.pairs}"
    if one.by_scene:
        found = [at_most(f"{where}, models of several scenes", one.mixed, 0)]
        for scene, numbers in one.by_scene.items():
            found.append(at_least(f"{where}, {scene}, registered", sum(numbers), sum(alone[scene])))
            found.append(at_most(f"{where}, {scene}, models", len(numbers), len(alone[scene])))
        return found
    if all_pairs is None:
        return []
    found = [at_least(f"{where}, registered", max(one.registered, default=0), max(all_pairs.registered, default=0))]
    if not math.isnan(all_pairs.center_error):
        errors = 1e3 * one.center_error, 1e3 * all_pairs.center_error
        found.append(at_most(f"{where}, centre error ‰", errors[0], 1.1 * errors[1]))
    return found


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pair_selection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sets", nargs="*", default=["town:100", "hololens", "mixed"], metavar="SET")
    add("--pairs", nargs="+", default=["auto"], metavar="NAME", help="selectors (default: auto)")
    add("--config", type=json.loads, default={}, metavar="JSON", help='options, such as {"pairs": {"window": 5}}')
    add("--reconstruct", action="store_true", help="compare models too")
    add("--data", type=Path, help="shared data (default: $SFM_LIGHTGLUE_DATA, ../shared/data)")
    add("--threads", type=int, default=num_usable_cores(), metavar="N")
    add("--work", type=Path, metavar="DIR", help="keeps images, features and overlaps (default: a temporary folder)")
    add("--json", type=Path, metavar="FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns its exit code, 1 if a goal is missed."""
    arguments = build_parser().parse_args(argv)
    selectors = list(dict.fromkeys([EXHAUSTIVE, *arguments.pairs]))

    def body() -> int:
        selections, models, sets = [], [], []
        with tempfile.TemporaryDirectory(prefix="sfm_pair_selection_") as temporary:
            work = arguments.work or Path(temporary)
            for text in arguments.sets:
                one = open_set(text, arguments.data, work, arguments.threads)
                sets.append(one)
                for pairs in selectors:
                    options = (one, pairs, work, arguments.config, arguments.threads)
                    selections.append(select(*options))
                    print(format_selections(selections[-1:]), file=sys.stderr, flush=True)
                    is_compared = pairs != EXHAUSTIVE or not one.alone  # else with each scene alone
                    if arguments.reconstruct and is_compared:
                        models.append(reconstruct_set(*options))
                        print(format_models(models[-1:], sets), file=sys.stderr, flush=True)
        print(format_selections(selections))
        if models:
            print(f"\n{format_models(models, sets)}")
        if arguments.json:
            report = {"selections": list(map(asdict, selections)), "models": list(map(asdict, models))}
            with atomic_write(arguments.json) as file:
                file.write(json.dumps(report, indent=1).encode() + b"\n")
        print()
        return print_goals(goals(selections, models, sets))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
