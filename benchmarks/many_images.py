"""Thousands of small images: time until progress, first feature and first match, and the memory of their pairs.

    python -m benchmarks.many_images [--num-images 5000] [--pairs sequential] [--folder DIR] [--json FILE]

The images are crops of rendered textures. A run is stopped after its first matches; features are kept in the folder,
so a second start reads them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

import numpy as np

from pipelines.command import run_command
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.execution.memory import peak_memory_mb
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.testing.photos import textured, write_photo

SIZE = (320, 240)
_NUM_MATCHED = 50


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds since the start of a job, and the memory of the process.

    Args:
        pairs: the selector.
        num_images: of the scene.
        progress_s: until the first progress.
        feature_s: until the first image has features.
        features_s: until all images have features.
        match_s: until the first pair is matched.
        memory_mb: largest resident memory after the features, in MiB.
        matching_memory_mb: the same after the first pairs.
    """

    pairs: str
    num_images: int
    progress_s: float
    feature_s: float
    features_s: float
    match_s: float
    memory_mb: float
    matching_memory_mb: float


class _Stopped(Exception):
    """Ends a job after its first matches."""


def write_images(folder: Path, num_images: int) -> None:
    """Write overlapping crops of a wide texture; images that exist are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    strip = textured(8 * SIZE[0], SIZE[1])
    for i in range(num_images):
        path = folder / f"frame{i:05d}.jpg"
        if not path.exists():
            left = i * 16 % (7 * SIZE[0])
            noise = np.random.default_rng(i).integers(0, 12, (SIZE[1], SIZE[0]), dtype=np.uint8)
            write_photo(path, np.maximum(strip[:, left : left + SIZE[0]], noise))


def measure(folder: Path, pairs: str, num_images: int) -> Measured:
    """Run a job until its first pairs are matched."""
    start = time.perf_counter()
    seen: dict[str, float] = {}
    memory: dict[str, float] = {}

    def note(name: str) -> None:
        if name not in seen:
            seen[name] = time.perf_counter() - start
            memory[name] = peak_memory_mb() or float("nan")

    def progress(stage: str, num_done: int, num_total: int) -> None:
        note("progress")
        if stage == "extract" and num_done > 0:
            note("feature")
        if stage == "extract" and num_done == num_total:
            note("features")
        if stage == "match" and num_done > 0:
            note("match")
        if stage == "match" and num_done >= _NUM_MATCHED:
            note("matches")
            raise _Stopped

    values = {
        "pairs": {"name": pairs},
        "extractor": {"max_keypoints": 256},
        "matcher": {"name": "nearest"},
    }
    try:
        reconstruct(folder, folder / f"out-{pairs}", ReconstructConfig.from_mapping(values), progress)
    except _Stopped:
        times = [seen[name] for name in ("progress", "feature", "features", "match")]
        return Measured(pairs, num_images, *times, memory["features"], memory["matches"])
    raise AssertionError("the job ended before its first matches")


_HEADER = ("pairs", "images", "progress s", "first feature s", "features s", "first match s", "MiB", "MiB matching")


def _cells(row: Measured) -> list[str]:
    return [f"{value:.1f}" if isinstance(value, float) else str(value) for value in asdict(row).values()]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-images", type=int, default=5000)
    parser.add_argument("--pairs", choices=["sequential", "exhaustive", "both"], default="both")
    parser.add_argument("--folder", type=Path, help="for images and results (default: a temporary one)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    selectors = ["sequential", "exhaustive"] if arguments.pairs == "both" else [arguments.pairs]

    def body() -> None:
        with tempfile.TemporaryDirectory(prefix="many-images-") as temporary:
            folder = arguments.folder or Path(temporary)
            write_images(folder, arguments.num_images)
            rows = [measure(folder, pairs, arguments.num_images) for pairs in selectors]
        print(markdown_table(_HEADER, [_cells(row) for row in rows], num_text=1))
        if arguments.json is not None:
            with atomic_write(arguments.json) as file:
                file.write(json.dumps([asdict(row) for row in rows], indent=1).encode())

    return run_command(body)


if __name__ == "__main__":
    sys.exit(main())
