"""Classify the verified pairs of scenes with repeated structure, and of two sequences, as right or wrong.

    python -m benchmarks.verified_pairs [--seeds 3] [--work DIR] [--json FILE]

The intrinsics are given. A pair is right if both images see a common surface, and its relative pose agrees with the
truth: the rotation, and the direction of translation where the baseline determines it. "by count" are all pairs with
15 inliers and a tenth of the matches; "kept" are those that the library uses.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

_REPOSITORY = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path[0] = str(_REPOSITORY)

from benchmarks.pair_sets import PairSet, hololens_set, kitti_set, synthetic_set
from datasets.shared import shared_data_root
from pipelines.command import ProgressBars, run_command
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.tables import markdown_table
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.geometry.transforms import relative_pose_error_deg
from sfm_lightglue.reconstruction.components import build_components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.into_database import PairCounts as VerifiedCounts
from sfm_lightglue.stages.into_database import VerifiedPairRecord, extract_scene
from sfm_lightglue.stages.matching import PairResult, match_pairs
from sfm_lightglue.stages.weighed_pairs import PairSources, weigh_scene
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Camera, Features, ImagePair, Rejected, Scene, TwoViewGeometry

MAX_ROTATION_ERROR_DEG, MAX_DIRECTION_ERROR_DEG = 5.0, 20.0
MIN_BASELINE = 0.05
"""The direction of translation is compared if the baseline is at least this fraction of the depth of the scene."""

SETS = ("courtyard10", "courtyard20", "street", "room", "hololens", "kitti00")


@dataclass(frozen=True, eq=False, slots=True)
class MatchedScene:
    """Images of a set with features, and their matched and verified pairs.

    Args:
        scene: the images.
        features: by name of image.
        results: of all pairs, as the library verifies them.
        by_count: geometries of the pairs that have enough inliers, also of those that the library rejects as chance.
        config: of the library.
        store: with the results.
    """

    scene: Scene
    features: Mapping[str, Features]
    results: tuple[PairResult, ...]
    by_count: Mapping[ImagePair, TwoViewGeometry]
    config: ReconstructConfig
    store: Store


def kept_poses(matched: MatchedScene) -> dict[ImagePair, VerifiedPairRecord]:
    """The verified pairs that the library uses for mapping."""
    counts = VerifiedCounts(len(matched.results))
    for result in matched.results:
        counts.add(result)
    config, store = matched.config, matched.store
    sources = PairSources(
        matched.features,
        {image.name: image.camera for image in matched.scene.images},
        CachedMatcher(build_components(config).matcher, store),
        CachedVerifier(config.two_view, config.seed, store),
    )
    return dict(weigh_scene(counts, sources, config.checks, ThreadExecutor(config.num_threads)).kept)


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Counts of a set.

    Args:
        name: of the set.
        num_pairs: all pairs of images.
        num_common: those that see a common surface.
        right: verified by count, and right.
        wrong: verified by count, and wrong.
        kept_right: of the right ones, kept by the library.
        kept_corrected: of the wrong ones, kept by the library with a pose that is right.
        kept_wrong: kept by the library with a wrong pose.
        seconds: of matching and verification (nearly 0 if the results were kept from an earlier run).
        kept_seconds: of the decision which pairs are kept.
    """

    name: str
    num_pairs: int
    num_common: int
    right: int
    wrong: int
    kept_right: int
    kept_corrected: int
    kept_wrong: int
    seconds: float
    kept_seconds: float

    @property
    def precision(self) -> float:
        """Of the pairs verified by count; 1 without pairs."""
        return _ratio(self.right, self.right + self.wrong)

    @property
    def kept_precision(self) -> float:
        """Of the kept pairs; 1 without pairs."""
        num_right = self.kept_right + self.kept_corrected
        return _ratio(num_right, num_right + self.kept_wrong)

    @property
    def kept_recall(self) -> float:
        """Fraction of the right pairs that are kept; 1 without right pairs."""
        return _ratio(self.kept_right, self.right)


def is_right(pair_set: PairSet, pair: ImagePair, geometry: TwoViewGeometry | VerifiedPairRecord) -> bool:
    """Whether a verified pair agrees with the truth."""
    if pair not in pair_set.common:
        return False
    poses = pair_set.truth.cam_from_world_from_name
    truth = poses[pair.name1] @ poses[pair.name0].inverse()
    rotation_deg, direction_deg = relative_pose_error_deg(geometry.cam1_from_cam0, truth)
    if rotation_deg > MAX_ROTATION_ERROR_DEG:
        return False
    baseline = float((truth.t**2).sum() ** 0.5)
    is_determined = geometry.kind != "pure_rotation" and baseline >= MIN_BASELINE * pair_set.depth
    return not is_determined or direction_deg <= MAX_DIRECTION_ERROR_DEG


def match_set(pair_set: PairSet, config: ReconstructConfig, work: Path) -> MatchedScene:
    """Extract, match and verify all pairs of a set, as far as the store in `work` does not hold the results."""
    executor, components, store = ThreadExecutor(config.num_threads), build_components(config), Store(work)
    found = load_scene(pair_set.truth.image_root, config.cameras)
    wanted = set(pair_set.truth.names)
    given = pair_set.truth.camera_from_name  # a guessed focal length would make all poses wrong
    images = tuple(
        replace(image, camera=given.get(image.name, image.camera)) for image in found.images if image.name in wanted
    )
    scene = Scene(found.root, images)
    with _progress(pair_set.truth.name) as progress:
        features = extract_scene(scene, CachedExtractor(components.extractor, store), executor, progress)
        cameras = {image.name: image.camera for image in scene.images}
        results = tuple(
            match_pairs(
                tuple(ImagePair(*names) for names in combinations(scene.names, 2)),
                features,
                cameras,
                CachedMatcher(components.matcher, store),
                CachedVerifier(config.two_view, config.seed, store),
                executor,
                progress,
            )
        )
    store.flush()
    by_count = {}
    for result in results:
        geometry = _by_count(result, features, cameras, config, store)
        if isinstance(geometry, TwoViewGeometry):
            by_count[result.pair] = geometry
    return MatchedScene(scene, features, results, by_count, config, store)


def _by_count(
    result: PairResult,
    features: Mapping[str, Features],
    cameras: Mapping[str, Camera],
    config: ReconstructConfig,
    store: Store,
) -> TwoViewGeometry | Rejected:
    """The geometry of a pair, judged only by the number and ratio of its inliers."""
    if isinstance(result.geometry, TwoViewGeometry) or result.geometry.reason != "chance":
        return result.geometry
    verifier = CachedVerifier(replace(config.two_view, max_false_alarms=math.inf), config.seed, store)
    names = result.pair.name0, result.pair.name1
    both = features[names[0]], features[names[1]]
    return verifier.verify(result.pair, both, result.matches, (cameras[names[0]], cameras[names[1]]))


def count_pairs(
    pair_set: PairSet,
    matched: MatchedScene,
    kept: Mapping[ImagePair, VerifiedPairRecord],
    seconds: float,
    kept_seconds: float,
) -> PairCounts:
    """Compare the verified pairs of a set with the truth."""
    right, wrong = set(), set()
    for pair, geometry in matched.by_count.items():
        (right if is_right(pair_set, pair, geometry) else wrong).add(pair)
    kept_right = {pair for pair, record in kept.items() if is_right(pair_set, pair, record)}
    return PairCounts(
        pair_set.name,
        len(matched.results),
        len(pair_set.common),
        len(right),
        len(wrong),
        len(right & kept_right),
        len(kept_right - right),
        len(kept) - len(kept_right),
        seconds,
        kept_seconds,
    )


def measure(pair_set: PairSet, config: ReconstructConfig, work: Path) -> PairCounts:
    """Match a set, and count its right and wrong pairs."""
    start = time.perf_counter()
    matched = match_set(pair_set, config, work / "store")
    middle = time.perf_counter()
    kept = kept_poses(matched)
    return count_pairs(pair_set, matched, kept, middle - start, time.perf_counter() - middle)


def summed(counts: Sequence[PairCounts], name: str) -> PairCounts:
    """Sums over sets."""
    keys = [key for key in asdict(counts[0]) if key != "name"]
    return PairCounts(name, **{key: sum(getattr(one, key) for one in counts) for key in keys})


def format_table(counts: Sequence[PairCounts]) -> str:
    """A Markdown table with a row per name of a set, and a row for all."""
    names = list(dict.fromkeys(one.name for one in counts))
    rows = [summed([one for one in counts if one.name == name], name) for name in names]
    header = ["set", "pairs", "common view", "by count: right", "wrong", "precision"]
    header += ["kept: right", "corrected", "wrong", "precision", "recall", "match + verify s", "kept s"]
    cells = [
        [
            *(row.name, str(row.num_pairs), str(row.num_common), str(row.right), str(row.wrong)),
            *(
                f"{row.precision:.3f}",
                str(row.kept_right),
                str(row.kept_corrected),
                str(row.kept_wrong),
                f"{row.kept_precision:.3f}",
            ),
            *(f"{row.kept_recall:.3f}", f"{row.seconds:.1f}", f"{row.kept_seconds:.2f}"),
        ]
        for row in [*rows, summed(counts, "all")]
    ]
    return markdown_table(header, cells, 1)


def as_json(counts: Sequence[PairCounts]) -> dict[str, Any]:
    """Plain values of each scene."""
    return {
        "sets": [
            asdict(one)
            | {"precision": one.precision, "kept_precision": one.kept_precision, "kept_recall": one.kept_recall}
            for one in counts
        ]
    }


def pair_sets(names: Sequence[str], num_seeds: int, work: Path, data: Path | None) -> Iterator[Callable[[], PairSet]]:
    """The sets with these names, rendered or read when they are called."""
    folder = work / "scenes"
    for seed in range(num_seeds):
        for name, kind, num_images in (
            ("courtyard10", "courtyard", 10),
            ("courtyard20", "courtyard", 20),
            ("street", "street", 20),
            ("room", "room", 16),
        ):
            if name in names:
                yield lambda kind=kind, num=num_images, seed=seed: synthetic_set(kind, num, seed, folder)  # type: ignore[misc]
    if "hololens" in names:
        yield lambda: hololens_set(shared_data_root(data), 0, 30)
    if "kitti00" in names:
        yield lambda: kitti_set(shared_data_root(data), 0, 30, 5)


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verified_pairs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("sets", nargs="*", metavar="SET", help=f"of {', '.join(SETS)} (default: all)")
    add("--seeds", type=int, default=3, metavar="N", help="number of scenes of each synthetic kind (default: 3)")
    add("--work", type=Path, metavar="DIR", help="keeps scenes, matches and geometries (default: a temporary folder)")
    add("--data", type=Path, metavar="DIR", help="the shared data (default: SFM_LIGHTGLUE_DATA or ../shared/data)")
    add("--threads", type=int, default=num_usable_cores(), metavar="N")
    add("--json", type=Path, metavar="FILE")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; returns its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    if unknown := sorted(set(arguments.sets) - set(SETS)):
        parser.error(f"unknown set {unknown[0]}; expected some of {', '.join(SETS)}")

    def body() -> None:
        config = ReconstructConfig.from_mapping({"num_threads": arguments.threads})
        with tempfile.TemporaryDirectory(prefix="sfm_pairs_") as temporary:
            work = arguments.work or Path(temporary)
            work.mkdir(parents=True, exist_ok=True)
            counts = []
            for make in pair_sets(arguments.sets or SETS, arguments.seeds, work, arguments.data):
                try:
                    pair_set = make()
                except DataError as error:
                    print(f"left out: {error}", file=sys.stderr)
                    continue
                counts.append(measure(pair_set, config, work))
        if not counts:
            raise DataError("no set of images: neither a seed nor shared data")
        print(format_table(counts))
        if arguments.json:
            with atomic_write(arguments.json) as file:
                file.write(json.dumps(as_json(counts), indent=1).encode() + b"\n")

    return run_command(body)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[str, int, int], None]]:
    bars = ProgressBars()
    try:
        yield lambda stage, done, total: bars(f"{name}: {stage}", done, total)
    finally:
        bars.close()


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


if __name__ == "__main__":
    sys.exit(main())
