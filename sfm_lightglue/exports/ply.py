"""A point cloud as PLY: positions, normals and colours, binary.

The normal of a point is that of the plane through its neighbours, turned to the side from which the cameras see it.
A point without enough neighbours has the direction to its cameras.

Source: Turk, The PLY Polygon File Format, 1994.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.exports.base import ExportScene, Pictures
from sfm_lightglue.types import Camera

_VERTEX = np.dtype([("xyz", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)])

_PROPERTIES = "\n".join(
    [
        *(f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
    ]
)
"""Lines of the head that say what a vertex has."""

_MIN_NEIGHBORS = 3
_CHUNK = 100_000


@dataclass(frozen=True, slots=True)
class PlyConfig:
    """Options of the point cloud."""

    num_neighbors: int = 16
    """Points, with the point itself, through which the plane of a normal is fitted."""

    def __post_init__(self) -> None:
        if self.num_neighbors < _MIN_NEIGHBORS:
            raise ConfigError(f"`export.num_neighbors` must be at least {_MIN_NEIGHBORS}, got {self.num_neighbors}")


class PlyExporter:
    """An `Exporter` of the points of a model."""

    file_name = "points.ply"
    pictures: Pictures = "none"

    def __init__(self, config: PlyConfig | None = None) -> None:
        self.config = config or PlyConfig()

    def problem(self, cameras: Sequence[Camera]) -> str | None:
        """None: the file has no cameras."""
        return None

    def is_own(self, head: bytes) -> bool:
        """Whether a file begins as one of this format."""
        return head.startswith(b"ply\n") and _PROPERTIES.encode() in head

    def write(self, scene: ExportScene, target: Path) -> None:
        """Write the points, in the order of their numbers in the model."""
        target.write_bytes(ply_bytes(scene, self.config.num_neighbors))


def ply_bytes(scene: ExportScene, num_neighbors: int = 16) -> bytes:
    """The content of the file.

    Args:
        scene: the model.
        num_neighbors: points through which the plane of a normal is fitted.
    """
    vertices = np.zeros(len(scene.points), _VERTEX)
    vertices["xyz"], vertices["color"] = scene.points.xyz, scene.points.colors
    vertices["normal"] = point_normals(scene, num_neighbors)
    head = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}", _PROPERTIES, "end_header"]
    return "\n".join(head).encode() + b"\n" + vertices.tobytes()


def point_normals(scene: ExportScene, num_neighbors: int) -> Float64Array:
    """Unit normals [P, 3] of the points, turned towards the cameras that see them.

    Args:
        scene: the model.
        num_neighbors: points, with the point itself, through which the plane is fitted.
    """
    xyz = scene.points.xyz
    towards = _directions_to_cameras(scene)
    if len(xyz) < _MIN_NEIGHBORS:
        return towards
    tree = cKDTree(xyz)
    normals = np.empty_like(xyz)
    for start in range(0, len(xyz), _CHUNK):
        chosen = slice(start, start + _CHUNK)
        _, neighbors = tree.query(xyz[chosen], k=min(num_neighbors, len(xyz)))
        around = xyz[neighbors] - xyz[neighbors].mean(axis=1, keepdims=True)
        _, axes = np.linalg.eigh(np.einsum("pki,pkj->pij", around, around))
        normals[chosen] = axes[:, :, 0]  # of the smallest spread
    is_away = (normals * towards).sum(axis=1) < 0
    normals[is_away] *= -1
    return normals


def _directions_to_cameras(scene: ExportScene) -> Float64Array:
    """Mean unit direction [P, 3] from each point to the cameras that see it; upwards in z without any."""
    points = scene.points
    centers = np.array([image.cam_from_world.center for image in scene.images]).reshape(-1, 3)
    of_points = np.repeat(np.arange(len(points)), np.diff(points.starts))
    rays = centers[points.image_idxs] - points.xyz[of_points]
    rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-300)
    total = np.zeros_like(points.xyz)
    np.add.at(total, of_points, rays)
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    return np.where(lengths > 1e-12, total / np.maximum(lengths, 1e-300), (0.0, 0.0, 1.0))
