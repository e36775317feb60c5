"""An aerial survey of any number of images without pictures: components of the benchmark of many images.

The images are empty files with a GPS position. The extractor projects the points of a terrain, and the matcher knows
which point a feature belongs to. So features and matches cost little, and what is measured is the rest.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import ExifTags
from PIL import Image as PilImage

from sfm_lightglue.arrays import Float32Array, Float64Array, Int32Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.identity import Identity
from sfm_lightglue.images.image import Image
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.registry.registry import Entry
from sfm_lightglue.types import Features, Matches

SIZE = (1000, 750)
FOCAL_35MM_MM = 35
FOCAL_PX = FOCAL_35MM_MM / 43.266615 * 1250
NUM_PER_STRIP = 40
"""Images of a strip of the flight; the next strip is flown back beside it."""

_STEP_M, _STRIP_M, _HEIGHT_M = 10.0, 25.0, 60.0
"""Distances of images in a strip, and of strips, and height: an image shows 59 m x 44 m."""

_TILE_M, _POINTS_PER_TILE, _TERRAIN_M = 15.0, 27, 8.0
_TILES_PER_ROW, _TILE_OFFSET = 128, 32
_FRACTION_FOUND = 0.8
"""Fraction of the visible points that become features."""

_NOISE_PX, _DESCRIPTOR_DIM, _DESCRIPTOR_NOISE = 0.5, 128, 0.35
_GPS_SIGMA_M, _LATITUDE_DEG, _LONGITUDE_DEG, _M_PER_DEG = 2.0, 47.0, 8.0, 111_320.0
_FRACTION_WRONG = 0.15
"""Fraction of the matches of a pair that are wrong."""


@dataclass(frozen=True, slots=True)
class SurveyConfig:
    """Options of the features of the survey."""

    max_keypoints: int = 256
    """Largest number of features of an image."""


@dataclass(frozen=True, slots=True)
class KnownPointsConfig:
    """Options of the matcher that knows the points: none."""


@dataclass(frozen=True, slots=True)
class NoMappingConfig:
    """Options of the mapper without models: none."""


def image_name(idx: int) -> str:
    """Name of an image of the survey."""
    return f"survey_{idx:06d}.png"


def pose_of(idx: int) -> Rigid3:
    """cam_from_world of an image, in metres east, north and up."""
    rng = np.random.default_rng([idx, 1])
    strip, position = divmod(idx, NUM_PER_STRIP)
    is_back = strip % 2 == 1
    along = NUM_PER_STRIP - 1 - position if is_back else position
    center = np.array([along * _STEP_M, strip * _STRIP_M, _HEIGHT_M]) + rng.normal(0, 1.0, 3)
    heading = np.pi * is_back + rng.normal(0, 0.05)
    down = Rigid3.from_rotvec(np.array([np.pi, 0, 0]), np.zeros(3))
    turn = Rigid3.from_rotvec(np.array([0, 0, heading]), np.zeros(3))
    tilt = Rigid3.from_rotvec(np.append(rng.normal(0, 0.04, 2), 0.0), np.zeros(3))
    return tilt @ turn @ down @ Rigid3(np.eye(3), -center)


def write_survey(folder: Path, num_images: int) -> None:
    """Write the empty images of a survey; those that exist are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    empty = folder / ".empty.png"
    PilImage.new("L", SIZE).save(empty)
    data = empty.read_bytes()
    empty.unlink()
    end_of_header = 8 + 12 + 13  # signature, and the first chunk with its 13 bytes
    for idx in range(num_images):
        path = folder / image_name(idx)
        if not path.exists():
            path.write_bytes(data[:end_of_header] + _exif_chunk(idx) + data[end_of_header:])


def _exif_chunk(idx: int) -> bytes:
    """EXIF data as a chunk of a PNG file."""
    center = pose_of(idx).center + np.random.default_rng([idx, 2]).normal(0, _GPS_SIGMA_M, 3)
    latitude = _LATITUDE_DEG + center[1] / _M_PER_DEG
    longitude = _LONGITUDE_DEG + center[0] / (_M_PER_DEG * np.cos(np.radians(_LATITUDE_DEG)))
    exif = PilImage.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Model] = "sfm_lightglue", "survey"
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLengthIn35mmFilm] = FOCAL_35MM_MM
    gps = exif.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLongitudeRef] = "N", "E"
    gps[ExifTags.GPS.GPSLatitude], gps[ExifTags.GPS.GPSLongitude] = _sexagesimal(latitude), _sexagesimal(longitude)
    gps[ExifTags.GPS.GPSAltitudeRef], gps[ExifTags.GPS.GPSAltitude] = b"\0", float(center[2])
    content = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    return struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))


def _sexagesimal(degrees: float) -> tuple[float, float, float]:
    minutes = (degrees - int(degrees)) * 60
    return float(int(degrees)), float(int(minutes)), (minutes - int(minutes)) * 60


@lru_cache(maxsize=4096)
def _tile(column: int, row: int) -> tuple[Float64Array, Float32Array]:
    """The points [P, 3] of a tile of the terrain and their descriptors [P, D]."""
    rng = np.random.default_rng([_TILE_OFFSET + column, _TILE_OFFSET + row, 3])
    corner = np.array([column * _TILE_M, row * _TILE_M, 0.0])
    points = corner + rng.random((_POINTS_PER_TILE, 3)) * (_TILE_M, _TILE_M, _TERRAIN_M)
    return points, rng.standard_normal((_POINTS_PER_TILE, _DESCRIPTOR_DIM), dtype=np.float32)


def _terrain_below(center: Float64Array) -> tuple[Int32Array, Float64Array, Float32Array]:
    """Numbers [P], points [P, 3] and descriptors [P, D] of the terrain that a camera can see."""
    first, last = (np.floor((center[:2] + reach) / _TILE_M).astype(int) for reach in (-45.0, 45.0))
    numbers, points, descriptors = [], [], []
    for row in range(first[1], last[1] + 1):
        for column in range(first[0], last[0] + 1):
            tile_idx = (row + _TILE_OFFSET) * _TILES_PER_ROW + column + _TILE_OFFSET
            numbers.append(tile_idx * _POINTS_PER_TILE + np.arange(_POINTS_PER_TILE))
            tile_points, tile_descriptors = _tile(column, row)
            points.append(tile_points)
            descriptors.append(tile_descriptors)
    return np.concatenate(numbers).astype(np.int32), np.concatenate(points), np.concatenate(descriptors)


class SurveyExtractor:
    """An `Extractor` that projects the terrain; the number of a feature's point is its `orientation`."""

    def __init__(self, config: SurveyConfig | None = None) -> None:
        self.config = config or SurveyConfig()

    @property
    def identity(self) -> Identity:
        """Name and configuration."""
        return Identity("survey", 1, self.config)

    def extract(self, image: Image) -> Features:
        """The features of an image by its name."""
        return self.features_of(int(image.name.removeprefix("survey_").removesuffix(".png")))

    def features_of(self, idx: int) -> Features:
        """The features of the image of an index."""
        pose, rng = pose_of(idx), np.random.default_rng([idx, 4])
        numbers, points, descriptors = _terrain_below(pose.center)
        in_camera = pose @ points
        pixels = in_camera[:, :2] / in_camera[:, 2:] * FOCAL_PX + np.array(SIZE) / 2
        pixels += rng.normal(0, _NOISE_PX, pixels.shape)
        seen = ((pixels >= 0) & (pixels < SIZE)).all(1) & (rng.random(len(pixels)) < _FRACTION_FOUND)
        rows = np.flatnonzero(seen)
        rows = np.sort(rng.permutation(rows)[: self.config.max_keypoints])
        noisy = descriptors[rows] + _DESCRIPTOR_NOISE * rng.standard_normal(
            (len(rows), _DESCRIPTOR_DIM), dtype=np.float32
        )
        ones = np.ones(len(rows), np.float32)
        return Features(
            pixels[rows].astype(np.float32),
            ones,
            noisy / np.linalg.norm(noisy, axis=1, keepdims=True),
            SIZE,
            2 * ones,
            numbers[rows].astype(np.float32),
            shrink_factor=1.0,
        )


class KnownPointsMatcher:
    """A `Matcher` of features of the same point; some matches are wrong."""

    batch_size = 1

    def __init__(self, config: KnownPointsConfig | None = None) -> None:
        self.config = config or KnownPointsConfig()

    @property
    def identity(self) -> Identity:
        """Name and configuration."""
        return Identity("known-points", 1, self.config)

    def match(self, features0: Features, features1: Features) -> Matches:
        """The features of equal numbers, of which the last rows are shifted by one."""
        assert features0.orientations is not None and features1.orientations is not None
        _, rows0, rows1 = np.intersect1d(
            features0.orientations, features1.orientations, assume_unique=True, return_indices=True
        )
        num_wrong = int(_FRACTION_WRONG * len(rows0))
        if num_wrong > 1:
            rows1[-num_wrong:] = np.roll(rows1[-num_wrong:], 1)
        order = np.argsort(rows0)
        indices = np.stack([rows0[order], rows1[order]], 1).astype(np.int32)
        return Matches(indices, np.full(len(indices), 0.9, np.float32))

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Each pair alone."""
        return [self.match(*pair) for pair in pairs]


class NoMapping:
    """A `Mapper` that builds no model, for sizes at which mapping is not measured."""

    version = "none"

    def __init__(self, config: NoMappingConfig | None = None) -> None:
        self.config = config or NoMappingConfig()

    def map(self, task: MappingTask) -> list[object]:
        """No model."""
        return []


EXTRACTOR = Entry("benchmarks.scaling_survey:SurveyConfig", "benchmarks.scaling_survey:SurveyExtractor")
MATCHER = Entry("benchmarks.scaling_survey:KnownPointsConfig", "benchmarks.scaling_survey:KnownPointsMatcher")
MAPPER = Entry("benchmarks.scaling_survey:NoMappingConfig", "benchmarks.scaling_survey:NoMapping")

_ENTRY_POINTS = """[sfm_lightglue.extractors]
survey = benchmarks.scaling_survey:EXTRACTOR

[sfm_lightglue.matchers]
known-points = benchmarks.scaling_survey:MATCHER

[sfm_lightglue.mappers]
none = benchmarks.scaling_survey:MAPPER
"""


def write_plugin(folder: Path) -> None:
    """Write the metadata with which a process that has the folder in its PYTHONPATH finds the components."""
    metadata = folder / "sfm_scaling-1.0.dist-info"
    metadata.mkdir(parents=True, exist_ok=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: sfm-scaling\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(_ENTRY_POINTS, encoding="utf-8")
