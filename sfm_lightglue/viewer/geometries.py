"""Arrays as geometries of Open3D."""

from __future__ import annotations

from typing import Any

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.viewer.meshes import Mesh


def point_cloud(points: AnyArray, colors: AnyArray) -> Any:
    """A cloud of points [N, 3] with colours [N, 3] in 0 to 1."""
    import open3d as o3d

    vectors = o3d.utility.Vector3dVector
    cloud = o3d.geometry.PointCloud(vectors(_own(points, np.float64)))
    cloud.colors = vectors(_own(colors, np.float64))
    return cloud


def line_set(vertices: AnyArray, segments: AnyArray, colors: AnyArray) -> Any:
    """Lines between vertices [V, 3], rows [S, 2] of them, with colours [S, 3] in 0 to 1."""
    import open3d as o3d

    vectors = o3d.utility.Vector3dVector
    lines = o3d.geometry.LineSet(
        vectors(_own(vertices, np.float64)),
        o3d.utility.Vector2iVector(_own(segments, np.int32)),
    )
    lines.colors = vectors(_own(colors, np.float64))
    return lines


def segments_set(ends: AnyArray, colors: AnyArray) -> Any:
    """Segments whose ends [2 S, 3] follow each other, with colours [S, 3]."""
    return line_set(ends, np.arange(len(ends)).reshape(-1, 2), colors)


def triangle_mesh(mesh: Mesh, texture: AnyArray | None = None) -> Any:
    """A mesh without normals: it is drawn without lighting.

    Args:
        mesh: with colours, or with places in the texture.
        texture: [H, W, 3] uint8; None for a mesh with colours.
    """
    import open3d as o3d

    vectors = o3d.utility.Vector3dVector
    made = o3d.geometry.TriangleMesh(
        vectors(_own(mesh.vertices, np.float64)),
        o3d.utility.Vector3iVector(_own(mesh.triangles, np.int32)),
    )
    # The off-screen renderer multiplies a texture with the colours of the vertices, which are grey by default.
    colors = np.ones_like(mesh.vertices) if texture is not None else mesh.colors
    made.vertex_colors = vectors(_own(colors, np.float64))
    if texture is not None:
        made.triangle_uvs = o3d.utility.Vector2dVector(_own(mesh.uvs, np.float64))
        made.triangle_material_ids = o3d.utility.IntVector(np.zeros(len(mesh.triangles), np.int32))
        made.textures = [image_of(texture)]
    return made


def image_of(pixels: AnyArray) -> Any:
    """An image of pixels [H, W, 3] uint8."""
    import open3d as o3d

    return o3d.geometry.Image(_own(pixels, np.uint8))


def _own(values: AnyArray, dtype: Any) -> AnyArray:
    """Values as Open3D takes them: contiguous and writeable."""
    return np.require(values, dtype, ["C", "W"])
