"""A report of 200 images, all pairs of them and many points is one file below 15 MB."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sfm_lightglue.colmap.model_content import CameraRow
from sfm_lightglue.colmap.model_table import ModelTable
from sfm_lightglue.colmap.pair_counts import DatabaseCounts, PairCount
from sfm_lightglue.drawing.scene import ModelArrays, pinhole_corner_rays
from sfm_lightglue.execution.executor import SERIAL
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.report.images_table import image_rows
from sfm_lightglue.report.packed_model import PackingLimits
from sfm_lightglue.report.page_data import Gathered
from sfm_lightglue.report.photos import Photo, read_photos
from sfm_lightglue.report.sources import ReportSources
from sfm_lightglue.report.write import page_in_one_file, photo_side_px

NUM_IMAGES, NUM_POINTS, TRACK_LENGTH, NUM_LOOSE = 200, 70_000, 6, 600
"""Of points and of keypoints without one in an image, more than a report shows."""

SIZE = (2000, 1500)

NAMES = tuple(f"IMG_{number:05d}.JPG" for number in range(NUM_IMAGES))


def large_table() -> ModelTable:
    """Cameras on a circle that see random points."""
    generator = np.random.default_rng(0)
    num_observations = NUM_POINTS * TRACK_LENGTH
    angles = np.linspace(0, 6, NUM_IMAGES)
    centers = 10 * np.stack([np.cos(angles), np.sin(angles), 0.2 * np.ones(NUM_IMAGES)], axis=1)
    poses = tuple(Rigid3.look_at(center, np.zeros(3), np.array([0.0, 0.0, 1.0])) for center in centers)
    camera = CameraRow(1, "PINHOLE", SIZE, (1500.0, 1500.0, 1000.0, 750.0))
    colors = generator.integers(0, 255, (NUM_POINTS, 3)).astype(np.uint8)
    points = generator.normal(size=(NUM_POINTS, 3))
    return ModelTable(
        NAMES,
        (camera,) * NUM_IMAGES,
        ModelArrays(points, colors, poses, (pinhole_corner_rays(*SIZE),) * NUM_IMAGES),
        np.sort(generator.integers(0, NUM_IMAGES, num_observations)),
        generator.integers(0, NUM_POINTS, num_observations),
        generator.uniform((0, 0), SIZE, (num_observations, 2)),
        generator.exponential(0.4, num_observations),
        np.sort(generator.integers(0, NUM_IMAGES, NUM_IMAGES * NUM_LOOSE)),
        generator.uniform((0, 0), SIZE, (NUM_IMAGES * NUM_LOOSE, 2)),
    )


def all_pairs() -> DatabaseCounts:
    generator = np.random.default_rng(0)
    pairs = tuple(
        PairCount((name0, name1), int(generator.integers(100, 900)), int(generator.integers(0, 500)), "general")
        for row, name0 in enumerate(NAMES)
        for name1 in NAMES[row + 1 :]
    )
    return DatabaseCounts(dict.fromkeys(NAMES, 9000), pairs)


def detailed_photos(folder: Path) -> dict[str, Photo]:
    """Rendered photos, each for many images, of as many bytes as photos of a drone: 22 kB at this size."""
    found = read_photos(folder, sorted(path.name for path in folder.iterdir()), photo_side_px(NUM_IMAGES), SERIAL)
    kinds = [found[name] for name in sorted(found)]
    padding = max(0, 22_000 - min(len(photo.jpeg) for photo in kinds))
    return {
        name: replace(kinds[row % len(kinds)], name=name, jpeg=kinds[row % len(kinds)].jpeg + bytes(padding))
        for row, name in enumerate(NAMES)
    }


def test_200_images_are_one_file_below_15_mb(small_scene_dir: Path) -> None:
    table, counts = large_table(), all_pairs()
    photos = detailed_photos(small_scene_dir / "images")
    sources = ReportSources(Path("model"), None, None, {})
    rows = image_rows({}, table, counts)
    page = page_in_one_file(Gathered(sources, table, counts, rows, (), photos, PackingLimits()), "0" * 64, "large")
    assert 8e6 < len(page) < 15e6
