"""`python benchmarks/observations.py`: errors of the observations of models of rendered scenes, whose depths are known.

Observations at keypoints of the extractor are beside those that the refinement found in further images. The first
observation of each point is moved to the images of the others by the true depths and poses; the error is the distance
from there. Those near the edge of a surface, where the depth changes from pixel to pixel, do not count. An observation
is hidden if another surface lies before its point.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pycolmap

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.pair_sets import RENDERERS
from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.refinement.observations import Observations, read_observations
from sfm_lightglue.scene.cameras import as_pycolmap
from sfm_lightglue.synthetic import SyntheticScene, write_scene

_MAX_SLOPE = 0.05
"""Largest relative difference of the depths of neighbouring pixels on a surface."""

_MAX_DEPTH_RATIO = 0.98
"""A surface at a smaller part of the depth of a point hides it."""


@dataclass(frozen=True, eq=False, slots=True)
class ObservationErrors:
    """Errors of observations by the true surfaces.

    Args:
        errors_px: [N] distances from where the first observation of their point is by depths and poses.
        is_hidden: [N] whether another surface lies before the point.
        is_found: [N] whether the refinement found them.
    """

    errors_px: Float64Array
    is_hidden: BoolArray
    is_found: BoolArray

    def row(self, is_found: bool) -> str:
        """Cells of the table for one of the two kinds."""
        chosen = self.is_found == is_found
        errors = self.errors_px[chosen]
        if len(errors) == 0:
            return "0 | | | |"
        percentiles = ", ".join(f"{value:.2f}" for value in np.percentile(errors, [50, 90, 99]))
        beyond = f"{100 * (errors > 1).mean():.1f}, {100 * (errors > 2).mean():.1f} %"
        return f"{len(errors):,} | {percentiles} | {beyond} | {100 * self.is_hidden[chosen].mean():.2f} %"


def errors_by_depth(
    scene: SyntheticScene, model: pycolmap.Reconstruction, num_detected: dict[str, int]
) -> ObservationErrors:
    """Errors of all observations but the first of each point, which is one at a keypoint of the extractor.

    Args:
        scene: with depths.
        model: of its images.
        num_detected: number of the keypoints of each image that the extractor found, by name.
    """
    seen = read_observations(model)
    names = [model.images[image_id].name for image_id in seen.image_ids]
    is_found = seen.keypoints >= np.array([num_detected[name] for name in names])[seen.images]
    order = np.lexsort((seen.images, is_found, seen.points))
    first = np.full(len(seen.positions), -1)
    first[seen.points[order[::-1]]] = order[::-1]
    rows = np.setdiff1d(np.arange(len(seen)), first)
    expected, is_usable, is_hidden = _expected(scene, names, seen, first[seen.points[rows]], rows)
    errors = np.linalg.norm(expected - seen.xy[rows], axis=1)
    return ObservationErrors(errors[is_usable], is_hidden[is_usable], is_found[rows][is_usable])


def _expected(
    scene: SyntheticScene, names: list[str], seen: Observations, sources: IndexArray, rows: IndexArray
) -> tuple[Float64Array, BoolArray, BoolArray]:
    """Where observations [N] should be by other ones of their points; whether that is known, and whether hidden."""
    camera = as_pycolmap(scene.camera)
    expected, is_usable, is_hidden = np.zeros((len(rows), 2)), *(np.zeros(len(rows), np.bool_) for _ in range(2))
    pairs = seen.images[sources] * len(names) + seen.images[rows]
    for pair in np.unique(pairs).tolist():
        chosen = np.flatnonzero(pairs == pair)
        first, second = names[pair // len(names)], names[pair % len(names)]
        pixels = seen.xy[sources[chosen]]
        depths, is_flat = _depth_at(scene.depths[first], pixels)
        rays = np.column_stack([np.asarray(camera.cam_from_img(pixels)), np.ones(len(pixels))])
        poses = scene.cam_from_world_from_name
        in_second = poses[second] @ (poses[first].inverse() @ (rays * depths[:, None]))
        expected[chosen] = np.asarray(camera.img_from_cam(in_second))
        other_depths, is_other_flat = _depth_at(scene.depths[second], expected[chosen])
        is_usable[chosen] = is_flat & is_other_flat & (in_second[:, 2] > 0) & np.isfinite(expected[chosen]).all(axis=1)
        is_hidden[chosen] = (other_depths > 0) & (other_depths < _MAX_DEPTH_RATIO * in_second[:, 2])
    return expected, is_usable, is_hidden


def _depth_at(depths: Float32Array, pixels: Float64Array) -> tuple[Float64Array, BoolArray]:
    """Depths [N] at pixels [N, 2], interpolated as on a plane, and whether the four around are of one surface."""
    height, width = depths.shape
    cells = np.clip(np.nan_to_num(pixels - 0.5), 0, np.array([width, height]) - 1.001)  # no number: not projected
    columns, rows = np.floor(cells).astype(np.int64).T
    right, below = (cells - np.floor(cells)).T
    corners = np.stack([depths[rows + y, columns + x].astype(np.float64) for y in (0, 1) for x in (0, 1)])
    inverse = 1 / np.maximum(corners, 1e-6)
    upper, lower = (inverse[k] * (1 - right) + inverse[k + 1] * right for k in (0, 2))
    is_flat = (corners.min(axis=0) > 0) & (corners.max(axis=0) < (1 + _MAX_SLOPE) * corners.min(axis=0))
    return 1 / (upper * (1 - below) + lower * below), is_flat


def main(argv: list[str] | None = None) -> int:
    """Print the table; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"of {', '.join(RENDERERS)} (default: all)")
    parser.add_argument("--images", type=int, default=14, help="of a scene (default: 14)")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes (default: 0)")
    options = parser.parse_args(argv)
    if unknown := sorted(set(options.scenes) - set(RENDERERS)):
        parser.error(f"{', '.join(unknown)}: expected {', '.join(RENDERERS)}")
    print("| scene | observations | number | error px: 50, 90, 99 % | beyond 1, 2 px | hidden | track length |")
    print("|---|---|--:|---|---|--:|--:|")
    for name in options.scenes or RENDERERS:
        with tempfile.TemporaryDirectory(prefix="sfm_observations_") as folder:
            _run(name, RENDERERS[name](options.images, seed=options.seed), Path(folder))
    return 0


def _run(name: str, scene: SyntheticScene, folder: Path) -> None:
    """Reconstruct a scene without and with the completion of tracks, and print its two rows."""
    write_scene(scene, folder)
    camera = {"mode": "single", "model": scene.camera.model, "params": list(scene.camera.params), "refine": False}
    models = []
    for completes in (False, True):
        values = {"cameras": camera, "refine": {"complete_tracks": completes}}
        models.append(reconstruct(folder / "images", folder / "out", ReconstructConfig.from_mapping(values)).model)
    num_detected = {image.name: image.num_points2D() for image in models[0].images.values()}
    errors = errors_by_depth(scene, models[1], num_detected)
    for label, is_found, model in (("of keypoints", False, models[0]), ("found", True, models[1])):
        print(f"| {name} | {label} | {errors.row(is_found)} | {model.compute_mean_track_length():.2f} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
