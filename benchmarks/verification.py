"""Time and accuracy of the two-view verification, beside those of another checkout, on matches computed once.

    python -m benchmarks.verification [SET ...] [--other DIR] [--seeds 3] [--max-pairs 80]

Each checkout runs in a process of its own, on one thread; they take turns pair by pair, so that other load on the
machine affects both. Times are processor time. "apart" are pairs that have no common view: photographs of two scenes,
and walls of a rendered courtyard with equal windows.
"""

from __future__ import annotations

import argparse
import pickle
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.pair_sets import synthetic_set
from benchmarks.verification_checkouts import CheckoutVerifier, MatchedValues, Verdict, plain_pair
from datasets.ground_truth import read_scene
from datasets.image_pairs import depth_pairs, evenly, pair_of_scene, scene_pairs
from datasets.shared import shared_data_root
from pipelines.command import run_command
from sfm_lightglue.evaluation.match_errors import PairFeatures
from sfm_lightglue.evaluation.pose_errors import pose_auc
from sfm_lightglue.evaluation.truth import EvaluationPair
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS

Verdicts = dict[str, dict[str, list[tuple[MatchedValues, Verdict]]]]
"""Pairs with their verdicts, by set and by checkout."""


def error_deg(verdict: Verdict, truth: tuple[np.ndarray, np.ndarray]) -> float:
    """The larger of the errors of rotation and direction; infinity for a rejected pair."""
    if verdict.R is None or verdict.t is None:
        return float("inf")
    return max(relative_pose_error_deg(Rigid3(verdict.R, verdict.t), Rigid3(*truth)))


def as_table(verdicts: Verdicts) -> str:
    """A Markdown table with a row for each set and checkout; ratios are to the other checkout, the last one."""
    lines = [
        "| set | checkout | n | median ms | mean ms | apart: n | median ms | max ms | AUC@5° | AUC@10° | AUC@20° |"
        " verified | ratio of times |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, by_checkout in verdicts.items():
        reference = sum(verdict.cpu_s for _, verdict in list(by_checkout.values())[-1])
        for checkout, rows in by_checkout.items():
            ms = [1000 * verdict.cpu_s for _, verdict in rows]
            apart = [1000 * verdict.cpu_s for pair, verdict in rows if not pair["common"]]
            errors = [error_deg(verdict, pair["truth"]) for pair, verdict in rows if pair["common"] and pair["truth"]]
            auc = [f"{value:.3f}" for value in pose_auc(np.array(errors), (5.0, 10.0, 20.0))] if errors else [""] * 3
            cells = [name, checkout, f"{len(rows)}", f"{statistics.median(ms):.1f}", f"{statistics.mean(ms):.1f}"]
            cells += [f"{len(apart)}", *(f"{f(apart):.1f}" if apart else "" for f in (statistics.median, max)), *auc]
            cells += [f"{sum(verdict.R is not None for _, verdict in rows)}", f"{sum(ms) / 1000 / reference:.2f}"]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def compare(
    pairs_from_set: dict[str, list[MatchedValues]], verifiers: dict[str, CheckoutVerifier], num_seeds: int
) -> Verdicts:
    """Verdicts by set and checkout."""
    verdicts: Verdicts = {}
    for name, pairs in pairs_from_set.items():
        verdicts[name] = {checkout: [] for checkout in verifiers}
        for index, pair in enumerate(pairs):
            for seed in range(num_seeds):
                for checkout, verifier in sorted(verifiers.items(), reverse=bool((index + seed) % 2)):
                    verdicts[name][checkout].append((pair, verifier.verify(pair, seed)))
    return verdicts


def matched_sets(names: Sequence[str], data: Path | None, max_pairs: int, work: Path) -> dict[str, list[MatchedValues]]:
    """The matched pairs of each set; those that `work` holds are not matched again."""
    root, found = shared_data_root(data), {}
    for name in names:
        path = work / f"matched_{name}_{max_pairs}.pickle"
        if not path.is_file():
            path.write_bytes(pickle.dumps(list(SETS[name](root, max_pairs, work))))
        found[name] = pickle.loads(path.read_bytes())
    return found


def _pairs_of(some: Iterable[EvaluationPair], max_image_size: int) -> Iterable[MatchedValues]:
    matcher = MATCHERS.build(MATCHERS.choose("lightglue", {}), "cpu")
    options = {"max_keypoints": 1024, "max_image_size": max_image_size}
    cache = PairFeatures(EXTRACTORS.build(EXTRACTORS.choose("sift", options)))
    for pair in some:
        features = cache.for_pair(pair)
        cameras, truth = (pair.camera0, pair.camera1), pair.cam1_from_cam0
        yield plain_pair(features, matcher.match(*features), cameras, truth, truth is not None)


def _hololens(low: float, high: float) -> Callable[[Path, int, Path], Iterable[MatchedValues]]:
    return lambda root, num, _: _pairs_of(depth_pairs(root / "sequences" / "hololens", "", (low, high), num), 540)


def _scene(folder: str) -> Callable[[Path, int, Path], Iterable[MatchedValues]]:
    return lambda root, num, _: _pairs_of(evenly(scene_pairs(read_scene(root / "scenes" / folder), ""), num), 800)


def _apart(root: Path, max_pairs: int, work: Path) -> Iterable[MatchedValues]:
    court = synthetic_set("courtyard", 20, 0, work)
    seen = [{pair.name0, pair.name1} for pair in court.common]
    names = [names for names in combinations(court.truth.names, 2) if set(names) not in seen]
    walls = [replace(pair_of_scene(court.truth, *both, ""), cam1_from_cam0=None) for both in names]
    fountain, door = (read_scene(root / "scenes" / folder) for folder in ("fountain_p11", "lund_door"))
    photos = [
        EvaluationPair(
            "", fountain.image_root / a, door.image_root / b, fountain.camera_from_name[a], door.camera_from_name[b]
        )
        for a, b in product(fountain.names[:6], door.names[:6])
    ]
    return _pairs_of([*evenly(walls, max_pairs), *evenly(photos, max_pairs)], 1600)


SETS: dict[str, Callable[[Path, int, Path], Iterable[MatchedValues]]] = {
    "hololens_wide": _hololens(0.1, 0.5),
    "hololens_narrow": _hololens(0.5, 1.0),
    "fountain": _scene("fountain_p11"),
    "door": _scene("lund_door"),
    "apart": _apart,
}


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verification", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)} (default: all)")
    parser.add_argument("--other", type=Path, metavar="DIR", help="another checkout of the project")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the shared data (default: SFM_LIGHTGLUE_DATA)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the matches (default: a temporary folder)")
    parser.add_argument("--max-pairs", type=int, default=80, metavar="N", help="of each set (default: 80)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="verifications of each pair (default: 3)")
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.sets) - SETS.keys()):
        parser.error(f"unknown set {unknown[0]}; expected some of {', '.join(SETS)}")

    def body() -> None:
        with tempfile.TemporaryDirectory(prefix="sfm_verification_") as temporary:
            work = arguments.work or Path(temporary)
            work.mkdir(parents=True, exist_ok=True)
            pairs = matched_sets(arguments.sets or list(SETS), arguments.data, arguments.max_pairs, work)
        roots = {"a: this": _REPOSITORY} | ({"b: other": arguments.other} if arguments.other else {})
        with ExitStack() as stack:
            verifiers = {name: stack.enter_context(CheckoutVerifier(root)) for name, root in roots.items()}
            verdicts = compare(pairs, verifiers, arguments.seeds)
        print(as_table(verdicts))

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
