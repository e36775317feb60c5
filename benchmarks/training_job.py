"""One measurement of `benchmarks/training.py`, in a process of its own, with the package that PYTHONPATH names.

It runs with this checkout and with older ones, so it finds out what the package has.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import torch

STAGES = {
    "render": ("render_views", "render_scenes"),
    "describe": ("extract", "submit", "result"),
    "label": ("_related_pair", "_related_pairs"),
}
"""Functions of each stage by their names, those of older checkouts first; those that exist are timed."""

BATCH_SIZE, NUM_KEYPOINTS, NUM_LAYERS = 16, 256, 4
_WARM_SEED = 10**6
_NEVER = 10**9


class Stopwatch:
    """Adds up the seconds of functions; a function within another one of the same stage counts once.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = defaultdict(float)
        self._running: set[str] = set()

    def _now(self) -> float:
        """The clock, after a GPU has done what was asked of it."""
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return self.clock()

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, whose seconds are added to a stage."""

        @wraps(function)
        def run(*arguments: Any, **options: Any) -> Any:
            if stage in self._running:
                return function(*arguments, **options)
            self._running.add(stage)
            start = self._now()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[stage] += self._now() - start
                self._running.discard(stage)

        return run


class StoredShard:
    """A source of one shard, for trainers that read scenes and for those that read arrays."""

    is_working = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def available(self) -> list[int]:
        """Its index."""
        return [0]

    def read(self, shard_idx: int) -> Any:
        """The scenes."""
        from sfm_lightglue.training.data.shards import read_shard

        return read_shard(self._path)

    def read_arrays(self, shard_idx: int) -> Any:
        """The arrays."""
        from sfm_lightglue.training.data import shards

        return shards.read_shard_arrays(self._path)


def measure_scenes(arguments: argparse.Namespace) -> dict[str, float]:
    """Seconds of all stages for some scenes, and pairs per second that are trained on them.

    On a CPU, these are seconds of one core, which other work on the machine changes little.
    """
    watch = Stopwatch(time.process_time if arguments.device == "cpu" else time.perf_counter)
    make = scene_maker(arguments, watch)
    make([_WARM_SEED])  # loads libraries
    watch.seconds.clear()
    start = watch.clock()
    scenes = make(list(range(arguments.seed, arguments.seed + arguments.scenes)))
    total = watch.clock() - start
    num_views, num_pairs = (sum(len(getattr(scene, name)) for scene in scenes) for name in ("views", "pairs"))
    trained = measure_training(scenes, arguments, watch.clock)
    stages = {name: watch.seconds[name] for name in STAGES}
    return {"total": total, "views": num_views, "pairs": num_pairs, **stages, "trained_pairs_per_s": trained}


def scene_maker(arguments: argparse.Namespace, watch: Stopwatch) -> Callable[[list[int]], list[Any]]:
    """A function that makes the scenes of some seeds, and whose stages are timed."""
    from sfm_lightglue.extractors.sift import SiftExtractor
    from sfm_lightglue.training.data import labelled_pairs

    makes_one = hasattr(labelled_pairs, "make_scene")
    if makes_one:
        watch_functions(watch, labelled_pairs, SiftExtractor)
        paths = sorted(arguments.photos.glob("*.jpg"))
        return lambda seeds: [labelled_pairs.make_scene(paths, seed) for seed in seeds]
    from sfm_lightglue.synthetic.photo_scenes.photo_library import PhotoLibrary
    from sfm_lightglue.training.data.describers import InlineDescriber, build_extractor

    watch_functions(watch, labelled_pairs, InlineDescriber)
    library, config = PhotoLibrary.open(arguments.photos, arguments.device), labelled_pairs.SceneConfig()
    describer = InlineDescriber(build_extractor(config.features, arguments.device))
    return lambda seeds: [
        scene for seed in seeds for scene in labelled_pairs.make_scenes(library, [seed], config, describer)
    ]


def watch_functions(watch: Stopwatch, *holders: Any) -> None:
    """Replace the functions of all stages, in modules or classes, by timed ones."""
    for stage, names in STAGES.items():
        for holder in holders:
            for name in names:
                if hasattr(holder, name):
                    setattr(holder, name, watch.timed(stage, getattr(holder, name)))


def measure_training(scenes: list[Any], arguments: argparse.Namespace, clock: Callable[[], float]) -> float:
    """Pairs per second of the recipe's network and batches on a CPU, after as many steps that are not timed.

    On a CPU, matrix products are in float32: processors without instructions for bfloat16 emulate it very slowly, also
    in torch's Muon.
    """
    import torch

    from sfm_lightglue.training.data.batches import BatchConfig
    from sfm_lightglue.training.data.shards import write_shard
    from sfm_lightglue.training.options import RunOptions, TrainingConfig
    from sfm_lightglue.training.trainer import Trainer

    config = TrainingConfig(
        num_layers=NUM_LAYERS, optimizer="muon", batches=BatchConfig(BATCH_SIZE, NUM_KEYPOINTS), num_warmup_steps=10
    )
    not_held_out = {"num_held_out_shards": 0} if "num_held_out_shards" in RunOptions.__slots__ else {}
    options = RunOptions(
        num_steps=2 * arguments.steps,
        num_decay_steps=0,
        log_every=arguments.steps,
        validate_every=_NEVER,
        checkpoint_every=_NEVER,
        device=arguments.device,
        bfloat16=arguments.device != "cpu",
        **not_held_out or {"held_out_shard": None},
    )
    if arguments.device == "cpu":
        torch.Tensor.bfloat16 = torch.Tensor.float  # type: ignore[method-assign]
    times: dict[float, float] = {}

    def note(row: Mapping[str, float]) -> None:
        times.setdefault(row["step"], clock())

    with tempfile.TemporaryDirectory() as folder:
        write_shard(Path(folder) / "000000.npz", scenes)
        Trainer(config, options, Path(folder)).run(StoredShard(Path(folder) / "000000.npz"), report=note)
    return arguments.steps * BATCH_SIZE / (times[2 * arguments.steps] - times[arguments.steps])


def make_shards(arguments: argparse.Namespace) -> None:
    """Make the shards of a run, and wait for them."""
    from sfm_lightglue.training.data.producer import ShardProducer

    num_workers = arguments.workers
    with ShardProducer(arguments.photos, arguments.cache, arguments.seed, arguments.shards, num_workers) as producer:
        while len(producer.available()) < arguments.shards and producer.is_working:
            time.sleep(1)
        assert len(producer.available()) == arguments.shards, "not all shards were made"
    print(producer.folder)


def main() -> int:
    """Measure and write the figures as JSON, or make shards and print their folder."""
    parser = argparse.ArgumentParser()
    add = parser.add_argument
    add("what", choices=("speed", "shards"))
    add("--photos", type=Path, required=True)
    add("--seed", type=int, default=0)
    add("--scenes", type=int, default=8)
    add("--steps", type=int, default=20)
    add("--device", default="cpu")
    add("--json", type=Path)
    add("--cache", type=Path)
    add("--shards", type=int)
    add("--workers", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.what == "shards":
        make_shards(arguments)
        return 0
    import cv2
    import torch

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    arguments.json.write_text(json.dumps(measure_scenes(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
