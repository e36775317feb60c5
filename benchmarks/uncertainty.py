"""`python benchmarks/uncertainty.py`: percentage of errors of relative poses that lie within the reported radius.

The pairs are synthetic, with noise and false matches, and their poses are known exactly. The radius should contain
95 % of the errors; the table gives the standard error of each percentage.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg
from sfm_lightglue.scene.cameras import as_pycolmap, make_camera
from sfm_lightglue.two_view.relative_pose import relative_pose_from_matches
from sfm_lightglue.types import Camera, Features, Matches

_SIZE = (1200, 900)


@dataclass(frozen=True, slots=True)
class Kind:
    """Parameters of a synthetic pair."""

    noise_px: float = 0.5
    num_points: int = 150
    false_fraction: float = 0.25
    baseline: float = 1.0
    focals_px: tuple[float, float] = (1000.0, 1000.0)


KINDS: Mapping[str, Kind] = {
    "usual": Kind(),
    "noise of 0.15 px": Kind(noise_px=0.15),
    "noise of 0.8 px": Kind(noise_px=0.8),
    "40 points": Kind(num_points=40, false_fraction=0.1),
    "400 points": Kind(num_points=400),
    "45 % false": Kind(false_fraction=0.45),
    "small parallax": Kind(baseline=0.3),
    "wide angle": Kind(focals_px=(620.0, 620.0)),
    "two focal lengths": Kind(focals_px=(850.0, 1400.0)),
}


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", metavar="N", type=int, default=100, help="of each kind (default: 100)")
    num_pairs = parser.parse_args(argv).pairs
    print("| pairs | n | rotation | direction | both within twice the radius |\n|---|--:|--:|--:|--:|")
    everything = []
    for kind_idx, (name, kind) in enumerate(KINDS.items()):
        ratios = np.array([_errors_over_radii(kind, 1_000_000 * kind_idx + k) for k in range(num_pairs)])
        everything.append(ratios)
        print(_row(name, ratios), flush=True)
    print(_row("all", np.concatenate(everything)))
    return 0


def _row(name: str, ratios: Float64Array) -> str:
    """A row of the table from [N, 2] errors as multiples of their radii."""
    percentages = [100 * float((ratios[:, which] <= 1).mean()) for which in (0, 1)]
    texts = [f"{each:.1f} % ± {math.sqrt(each * (100 - each) / len(ratios)):.1f}" for each in percentages]
    return f"| {name} | {len(ratios)} | {texts[0]} | {texts[1]} | {100 * (ratios <= 2).all(axis=1).mean():.2f} % |"


def _errors_over_radii(kind: Kind, seed: int) -> tuple[float, float]:
    """Errors of rotation and direction as multiples of their radii; for two reported poses, those of the nearer one."""
    rng = np.random.default_rng(seed)
    direction = rng.normal(size=3) * [1, 1, 0.5]
    pose = Rigid3.from_rotvec(
        np.array([0.05, -0.2, 0.03]) * rng.uniform(0.5, 1.5), kind.baseline * direction / np.linalg.norm(direction)
    )
    cameras = [make_camera("SIMPLE_PINHOLE", _SIZE, (focal, 600, 450)) for focal in kind.focals_px]
    features, matches = _matched(kind, pose, cameras, rng)
    result = relative_pose_from_matches(*features, matches, cameras[0], cameras[1], seed=seed)
    if result.uncertainty is None:
        return math.inf, math.inf
    radii = (result.uncertainty.rotation_deg, result.uncertainty.direction_deg)
    ratios = []
    for candidate in (result.cam1_from_cam0, result.alternative_pose):
        if candidate is not None:
            errors = relative_pose_error_deg(candidate, pose)
            ratios.append((errors[0] / radii[0], 0.0 if radii[1] is None else errors[1] / radii[1]))
    return min(ratios, key=max)


def _matched(
    kind: Kind, pose: Rigid3, cameras: list[Camera], rng: np.random.Generator
) -> tuple[tuple[Features, Features], Matches]:
    """Noisy keypoints of points at distances 4 to 9 that both cameras see, and false matches at random positions."""
    points = rng.uniform([-8, -8, 4], [8, 8, 9], (60 * kind.num_points, 3))
    in_frames = (points, pose @ points)
    seen = [
        np.asarray(as_pycolmap(camera).img_from_cam(p), dtype=np.float64)
        for camera, p in zip(cameras, in_frames, strict=True)
    ]
    inside = [
        (p[:, 2] > 0) & ((xy > 2) & (xy < np.array(_SIZE) - 2)).all(1) for p, xy in zip(in_frames, seen, strict=True)
    ]
    rows = np.flatnonzero(inside[0] & inside[1])[: kind.num_points]
    num_false = round(len(rows) * kind.false_fraction / (1 - kind.false_fraction))
    features = []
    for xy in seen:
        true = np.clip(xy[rows] + rng.normal(scale=kind.noise_px, size=(len(rows), 2)), 0, _SIZE)
        pixels = np.concatenate([true, rng.uniform(0, _SIZE, (num_false, 2))]).astype(np.float32)
        n = len(pixels)
        features.append(Features(pixels, np.ones(n, np.float32), np.zeros((n, 1), np.float32), _SIZE))
    indices = np.stack([np.arange(n), np.arange(n)], axis=1).astype(np.int32)
    return (features[0], features[1]), Matches(indices, np.ones(n, np.float32))


if __name__ == "__main__":
    sys.exit(main())
