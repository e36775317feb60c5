"""Compare matchers on image pairs with ground truth, with the same keypoints and the same pose estimation.

`python benchmarks/matching.py --matcher nearest --matcher lightglue=weights.safetensors`
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from datasets.ground_truth import read_scene
from datasets.homographies import homography_pairs
from datasets.image_pairs import depth_pairs, read_pair_list, scene_pairs
from datasets.shared import shared_data_root
from pipelines.command import ProgressBars, run_command
from sfm_lightglue.evaluation.match_errors import MatchingScores, PairFeatures, evaluate_matcher, summarize
from sfm_lightglue.evaluation.truth import EvaluationPair
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.store.store import atomic_write
from sfm_lightglue.types import Features

HOLOLENS_PX, OTHERS_PX = 540, 800


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if arguments.as_reconstruct and not arguments.other:
        parser.error("--as-reconstruct needs --other")

    def body() -> None:
        sets = _pair_sets(arguments)
        scores: dict[str, dict[str, MatchingScores]] = {}
        matchers = _matchers(arguments.matcher or ["nearest", "lightglue"], arguments.device)
        for name, matcher in matchers.items():
            scores[name] = _evaluate(name, matcher, sets, arguments)
        ratios = _compare_checkouts(scores, sets, arguments) if arguments.other else ""
        print(as_table(scores))
        print(ratios)
        if arguments.peers:
            print(_peer_table(matchers, arguments.max_keypoints))
        if arguments.json:
            with atomic_write(arguments.json) as file:
                file.write(json.dumps(as_record(scores), indent=2).encode() + b"\n")

    return run_command(body)


def _pair_sets(arguments: argparse.Namespace) -> list[tuple[list[EvaluationPair], int]]:
    """Lists of pairs, each with the longer side to which its images are resized."""
    if arguments.pairs is not None:
        pairs = read_pair_list(arguments.pairs, arguments.images or arguments.pairs.parent, arguments.pairs.stem)
        return [(pairs, arguments.max_image_size or 1600)]
    root = shared_data_root(arguments.data)
    hololens = root / "sequences" / "hololens"
    wide = depth_pairs(hololens, "hololens 10-50 %", (0.1, 0.5), arguments.max_pairs)
    narrow = depth_pairs(hololens, "hololens > 50 %", (0.5, 1.0), arguments.max_pairs)
    others = homography_pairs(root / "homographies" / "graf", "graf")
    for scene in ("fountain_p11", "lund_door"):
        others += scene_pairs(read_scene(root / "scenes" / scene), scene)
    return [
        (wide + narrow, arguments.max_image_size or HOLOLENS_PX),
        (others, arguments.max_image_size or OTHERS_PX),
    ]


def _matchers(names: Sequence[str], device: str) -> dict[str, Matcher]:
    """Matchers by their names in the table."""
    matchers: dict[str, Matcher] = {}
    for item in names:
        name, _, weights = item.partition("=")
        options = {"weights": weights} if weights else {}
        label = name if name not in matchers else f"{name} {Path(weights).stem}"
        matchers[label] = MATCHERS.build(MATCHERS.choose(name, options), device)
        if name == "lightglue":
            full = options | {"depth_confidence": -1.0, "width_confidence": -1.0}
            matchers[f"{label}, all layers"] = MATCHERS.build(MATCHERS.choose(name, full), device)
    return matchers


def _evaluate(
    name: str, matcher: Matcher, sets: list[tuple[list[EvaluationPair], int]], arguments: argparse.Namespace
) -> dict[str, MatchingScores]:
    scores: dict[str, MatchingScores] = {}
    every = []
    for pairs, max_image_size in sets:
        features = PairFeatures(_extractor(arguments, max_image_size))
        bars = ProgressBars()
        try:
            outcomes = evaluate_matcher(
                matcher,
                pairs,
                features,
                max_image_size,
                lambda _, done, total, bars=bars: bars(name, done, total),
                arguments.seeds,
            )
        finally:
            bars.close()
        for group, some in outcomes.items():
            scores[group] = summarize(some, arguments.seeds)
            every += some
    return scores | {"all": summarize(every, arguments.seeds)}


def _compare_checkouts(
    scores: dict[str, dict[str, MatchingScores]],
    sets: list[tuple[list[EvaluationPair], int]],
    arguments: argparse.Namespace,
) -> str:
    """Adds the scores of another checkout; returns a table of times."""
    from benchmarks.matching_checkouts import CheckoutMatcher, ratio_table

    as_reconstruct = arguments.as_reconstruct
    with (
        CheckoutMatcher(ROOT, arguments.device, as_reconstruct) as this,
        CheckoutMatcher(arguments.other, arguments.device, as_reconstruct) as other,
    ):
        pairs_from_group: dict[str, list[tuple[Features, Features]]] = {}
        for pairs, max_image_size in sets:
            features = PairFeatures(_extractor(arguments, max_image_size), 1024)
            for pair in pairs:
                pairs_from_group.setdefault(pair.group, []).append(features.for_pair(pair))
        images = {group: [pair[0] for pair in pairs] for group, pairs in pairs_from_group.items()}
        if {"fountain_p11", "lund_door"} <= images.keys():
            pairs_from_group["no common view"] = list(zip(images["fountain_p11"], images["lund_door"], strict=False))
        table = ratio_table(pairs_from_group, this, other)
        if as_reconstruct:
            scores["lightglue, as in reconstruct"] = _evaluate("as in reconstruct", this, sets, arguments)
        scores[f"lightglue of {arguments.other}"] = _evaluate("other", other, sets, arguments)
    return table


def _extractor(arguments: argparse.Namespace, max_image_size: int) -> Extractor:
    options = {"max_keypoints": arguments.max_keypoints, "max_image_size": max_image_size}
    return EXTRACTORS.build(EXTRACTORS.choose("sift", options))


def _peer_table(matchers: dict[str, Matcher], num_keypoints: int) -> str:
    """Milliseconds of the LightGlue of `transformers`, in the official size and in the size of each LightGlue here."""
    from benchmarks.matching_peers import OFFICIAL, peer_milliseconds
    from sfm_lightglue.matchers.lightglue import LightGlueMatcher

    sizes = {"official": OFFICIAL}
    sizes |= {name: one.architecture for name, one in matchers.items() if isinstance(one, LightGlueMatcher)}
    lines = ["", "| transformers, all layers, random weights, size of | width | layers | ms |", "|---|--:|--:|--:|"]
    times: dict[tuple[int, int, int], float] = {}
    for name, size in sizes.items():
        key = (size.descriptor_dim, size.num_layers, size.num_heads)
        if key not in times:
            times[key] = peer_milliseconds(size, num_keypoints)
            lines.append(f"| {name} | {key[0]} | {key[1]} | {times[key]:.1f} |")
    return "\n".join(lines)


def as_table(scores: dict[str, dict[str, MatchingScores]]) -> str:
    """A Markdown table with a row per group and matcher; the ratio is that of correct matches to the first matcher."""
    first = next(iter(scores.values()))
    lines = [
        "| pairs | n | matcher | correct | ratio | precision | AUC@5° | AUC@10° | AUC@20° | ms | stop layers |",
        "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for group, reference in first.items():
        for name, by_group in scores.items():
            one = by_group[group]
            auc = ["" if one.auc is None else f"{value:.3f}" for value in one.auc or (0, 0, 0)]
            ratio = f"{one.correct / reference.correct:.2f}" if reference.correct else ""
            stops = ", ".join(
                f"{layer}: {100 * fraction:.0f} %" for layer, fraction in one.fraction_from_stop_layer.items() if layer
            )
            lines.append(
                f"| {group} | {one.num_pairs} | {name} | {one.correct:.1f} | {ratio} | {one.precision:.3f}"
                f" | {' | '.join(auc)} | {one.ms:.1f} | {stops} |"
            )
    return "\n".join(lines)


def as_record(scores: dict[str, dict[str, MatchingScores]]) -> dict[str, Any]:
    """Plain values for JSON: each matcher over all pairs, and by group."""
    return {
        "matchers": {
            name: by_group["all"].as_dict()
            | {"groups": {group: one.as_dict() for group, one in by_group.items() if group != "all"}}
            for name, by_group in scores.items()
        }
    }


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the benchmark."""
    parser = argparse.ArgumentParser(prog="python benchmarks/matching.py", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add(
        "--matcher", action="append", metavar="NAME[=WEIGHTS]", help="may be repeated; ratios are relative to the first"
    )
    add("--pairs", type=Path, metavar="FILE", help="in SuperGlue's format, instead of the shared data sets")
    add(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder that the names in FILE are relative to (default: FILE's folder)",
    )
    add("--data", type=Path, metavar="DIR", help="the shared data (default: SFM_LIGHTGLUE_DATA or ../shared/data)")
    add("--max-keypoints", type=int, default=1024, metavar="N")
    add("--max-image-size", type=int, metavar="PX", help="default: 540 for hololens, 800 for the others, 1600 for FILE")
    add("--max-pairs", type=int, default=150, metavar="N", help="of each range of overlap (default: 150)")
    add("--seeds", type=int, default=5, metavar="N", help="pose estimations per pair, all counted (default: 5)")
    add("--peers", action="store_true", help="also measure the LightGlue of transformers (dev extra)")
    add("--other", type=Path, metavar="DIR", help="also time and score the default LightGlue of another checkout")
    add(
        "--as-reconstruct",
        action="store_true",
        help="with --other: both with the options that `reconstruct` gives them",
    )
    add("--device", default="auto")
    add("--json", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
