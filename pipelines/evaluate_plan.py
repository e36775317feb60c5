"""What `evaluate --dry-run` prints: how much would be evaluated, and about how long that takes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING

from pipelines.evaluate_output import PRINTED
from pipelines.plan import Plan, say_plan
from sfm_lightglue.execution.threads import num_usable_cores

if TYPE_CHECKING:
    from sfm_lightglue.evaluation.combinations import Candidates
    from sfm_lightglue.evaluation.scenes import SceneOptions
    from sfm_lightglue.evaluation.truth import EvaluationPair, SceneTruth
    from sfm_lightglue.synthetic.image_sequence import ImageSequence
    from sfm_lightglue.tracking.tracker import Tracker

_VERIFY_S = 0.05
"""Seconds of the geometry of a pair."""

_NUM_FRAMES = 30
"""Frames of a sequence that are tracked."""


def plan_of_pairs(pairs: Sequence[EvaluationPair], candidates: Candidates, reference_size_px: int) -> Plan:
    """All pairs with all combinations, by the second pair: the first one loads the networks.

    Raises:
        SfmError: if nothing can be evaluated.
    """
    from sfm_lightglue.evaluation.pairs import evaluate_pairs

    times: dict[str, list[float]] = {}

    def note(stage: str, num_done: int, num_total: int) -> None:
        times.setdefault(stage, []).append(time.perf_counter())

    start = time.perf_counter()
    evaluation = evaluate_pairs(pairs[:2], candidates, reference_size_px, progress=note)
    total = time.perf_counter() - start
    pair_s = sum(ends[-1] - ends[-2] if len(ends) > 1 else total for ends in times.values())
    num_combinations = len({one.combination for one in evaluation.scores})
    what = f"{len(pairs)} pairs with {num_combinations} combinations"
    work = {
        "num_pairs": len(pairs),
        "num_combinations": num_combinations,
        "num_left_out": len(evaluation.left_out),
        "seconds_per_pair": round(pair_s, 3),
    }
    return Plan(what, work, len(pairs) * pair_s, "measured on one pair here")


def plan_of_scenes(truths: Sequence[SceneTruth], candidates: Candidates, options: SceneOptions) -> Plan:
    """Extraction and matching of all scenes with all combinations.

    Raises:
        DataError: if no image can be decoded.
        WeightsError: if the weights of a network are missing.
    """
    from sfm_lightglue.evaluation.combinations import build_extractor, build_matcher
    from sfm_lightglue.stages.measurement import measure_steps

    num_workers = options.num_threads or num_usable_cores()
    seconds, num_images, num_pairs = 0.0, 0, 0
    for truth in truths:
        paths = [truth.image_root / name for name in truth.names]
        pairs = len(paths) * (len(paths) - 1) // 2
        if options.pairs == "sequential":
            pairs = min(pairs, _SEQUENTIAL * len(paths))
        num_images, num_pairs = num_images + len(paths), num_pairs + pairs
        for extractor in candidates.extractors.values():
            built = build_extractor(extractor, candidates.device)
            for matcher in candidates.matchers.values():
                built_matcher = build_matcher(extractor, matcher, candidates.device)
                steps = measure_steps(paths, built, built_matcher, num_workers)
                one = len(paths) * steps.extract_s + pairs * (steps.match_s + _VERIFY_S)
                seconds += len(candidates.estimators) * one / num_workers
    num_combinations = len(candidates.extractors) * len(candidates.matchers) * len(candidates.estimators)
    what = f"{len(truths)} scenes of {num_images} images, up to {num_pairs} pairs, {num_combinations} combinations"
    work = {
        "num_scenes": len(truths),
        "num_images": num_images,
        "num_pairs": num_pairs,
        "num_combinations": num_combinations,
    }
    return Plan(what, work, seconds, "measured on a few images here; mapping comes on top")


_SEQUENTIAL = 20
"""Upper bound of the pairs of an image that the sequential selection chooses."""


def plan_of_slam(sequences: Sequence[ImageSequence], num_seeds: int, tracker: Tracker) -> Plan:
    """All sequences with all seeds, by the first frames of the first one.

    Args:
        sequences: that would be tracked.
        num_seeds: runs of each.
        tracker: of the first one; it is used up.
    """
    first = sequences[0]
    with tracker:
        frames = zip(first.names, first.times_s, first.images(), strict=True)
        name, time_s, image = next(frames)
        tracker.track(image, float(time_s), name)
        start, num_measured = time.perf_counter(), 0
        for name, time_s, image in islice(frames, _NUM_FRAMES):
            tracker.track(image, float(time_s), name)
            num_measured += 1
        frame_s = (time.perf_counter() - start) / max(num_measured, 1)
    num_frames = sum(len(sequence) for sequence in sequences)
    what = f"{len(sequences)} sequences of {num_frames} frames, {num_seeds} runs each"
    work = {"num_sequences": len(sequences), "num_frames": num_frames, "num_seeds": num_seeds}
    basis = f"measured on {num_measured} frames of {first.name} here"
    return Plan(what, work, num_seeds * num_frames * frame_s, basis)


def say_plans(plans: Sequence[Plan], arguments: argparse.Namespace) -> None:
    """Print the plans of all parts of a task as one."""
    seconds = [plan.seconds for plan in plans if plan.seconds is not None]
    files = [path for path in (arguments.markdown, arguments.json) if path not in {None, PRINTED}]
    work = plans[0].work if len(plans) == 1 else {"parts": [plan.work for plan in plans]}
    what, basis = "; ".join(plan.what for plan in plans), plans[0].basis
    is_json = argparse.Namespace(json=arguments.json == PRINTED)
    say_plan(Plan(what, work, sum(seconds), basis, tuple(files)), is_json)
