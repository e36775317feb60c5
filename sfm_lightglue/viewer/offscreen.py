"""Pictures of contents without a display, by Open3D's off-screen renderer (Filament, on a graphics card or the CPU)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image as PilImage

from sfm_lightglue.arrays import AnyArray, UInt8Array
from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.viewer.contents import REACH, Contents
from sfm_lightglue.viewer.geometries import image_of, line_set, point_cloud, triangle_mesh
from sfm_lightglue.viewer.levels import nearest_cameras
from sfm_lightglue.viewer.look import Look
from sfm_lightglue.viewer.meshes import near_squares, square_mesh
from sfm_lightglue.viewer.panels import legend_panel
from sfm_lightglue.viewer.photos import MAX_THUMBNAILS, read_thumbnails
from sfm_lightglue.viewer.point_colors import error_legend, legend, point_colors
from sfm_lightglue.viewer.scene_parts import (
    background,
    camera_lines,
    cameras_shown,
    near_distance,
    other_lines,
    point_px,
    points_shown,
    thumbnails_of,
)

SUPERSAMPLING = 2
"""Images are rendered at this multiple of their size and averaged, which smooths lines and points."""

_LINE_PX = 1.6
"""Width of lines in a picture with 960 rows."""

_GAP_PX = 10


def clip_planes(view: Viewpoint) -> tuple[float, float]:
    """Near and far plane, in radii; they enclose everything within `REACH` of the origin."""
    return 0.005, float(np.linalg.norm(view.eye)) + REACH


def srgb_from_linear(values: AnyArray) -> AnyArray:
    """Encode values in 0 to 1; the renderer applies the inverse to its background, and only to that."""
    encoded: AnyArray = np.where(values <= 0.0031308, 12.92 * values, 1.055 * values ** (1 / 2.4) - 0.055)
    return encoded


class OffscreenScene:
    """Contents in Open3D's off-screen renderer.

    Args:
        contents: that are drawn.
        look: of the pictures.
        size: (width, height) of the pictures in pixels.
        num_threads: that read photos.
    """

    def __init__(self, contents: Contents, look: Look, size: tuple[int, int], num_threads: int = 2) -> None:
        import open3d as o3d

        self._rendering: Any = o3d.visualization.rendering
        self._contents, self._look, self._size, self._num_threads = contents, look, size, num_threads
        self._factor = SUPERSAMPLING if max(size) <= 4096 else 1
        self._renderer = self._rendering.OffscreenRenderer(self._factor * size[0], self._factor * size[1])
        ground = srgb_from_linear(np.array(background(look)))
        self._renderer.scene.set_background([*ground, 1.0])
        self._renderer.scene.view.set_post_processing(False)  # no tone mapping: keeps the colours of the images
        self._rows = np.flatnonzero(points_shown(contents, look))
        self._colors = point_colors(contents, look.coloring)
        self._point_px = max(point_px(len(self._rows), look, size[1]), 2.0 if look.point_factor >= 1 else 1.0)
        self._put_lines()
        if len(self._rows) > 0:
            material = self._material("defaultUnlit")
            material.point_size = self._factor * self._point_px
            cloud = point_cloud(contents.points[self._rows], self._colors[self._rows])
            self._renderer.scene.add_geometry("points", cloud, material)

    def pictures(self, views: Sequence[Viewpoint]) -> Iterator[UInt8Array]:
        """The picture [H, W, 3] of each viewpoint. The photos on frusta are those of the cameras near the first one."""
        if len(views) > 0:
            self._put_thumbnails(views[0])
        legends = self._legends()
        for view in views:
            self._put_squares(view)
            drawn = self._drawn(view)
            for panel, place in legends:
                drawn[place[1] : place[1] + panel.shape[0], place[0] : place[0] + panel.shape[1]] = panel[
                    : drawn.shape[0] - place[1], : drawn.shape[1] - place[0]
                ]
            yield drawn

    def _drawn(self, view: Viewpoint) -> UInt8Array:
        near, far = clip_planes(view)
        eye, up, target = (np.asarray(each, np.float32) for each in (view.eye, view.up, view.target))
        self._renderer.setup_camera(view.vertical_fov_deg, target, eye, up, near, far)
        pixels = np.asarray(self._renderer.render_to_image())[..., :3]
        width, height = self._size
        blocks = pixels.reshape(height, self._factor, width, self._factor, 3).astype(np.float32)
        return np.ascontiguousarray(blocks.mean(axis=(1, 3)).round().astype(np.uint8))

    def _material(self, shader: str) -> Any:
        material = self._rendering.MaterialRecord()
        material.shader = shader
        return material

    def _put_lines(self) -> None:
        rows = cameras_shown(self._contents, self._look)
        lines = other_lines(self._contents, self._look)
        if len(rows) > 0:
            lines["cameras"] = camera_lines(self._contents, self._look, rows, None)
        scale = (self._size[0] * self._size[1] / (1280 * 960)) ** 0.5
        for name, parts in lines.items():
            material = self._material("unlitLine")
            material.line_width = self._factor * max(_LINE_PX * scale, 1.0)
            self._renderer.scene.add_geometry(name, line_set(*parts), material)

    def _put_thumbnails(self, view: Viewpoint) -> None:
        rows = cameras_shown(self._contents, self._look)
        if not self._look.thumbnails or len(rows) == 0:
            return
        forward = view.cam_from_world.R[2]
        near = rows[nearest_cameras(self._contents.frusta[rows], view.eye, forward, MAX_THUMBNAILS)].tolist()
        found = read_thumbnails([str(self._contents.files[row]) for row in near], self._num_threads)
        known = {row: thumbnail for row, thumbnail in zip(near, found, strict=True) if thumbnail is not None}
        made = thumbnails_of(self._contents, known)
        if made is not None:
            mesh, texture = made
            material = self._material("defaultUnlit")
            # The renderer decodes textures, and does not encode what it draws; and their lowest row is the first one.
            material.albedo_img = image_of(np.round(255 * srgb_from_linear(texture / 255)).astype(np.uint8))
            flipped = replace(mesh, uvs=mesh.uvs * (1, -1) + (0, 1))
            self._renderer.scene.add_geometry("thumbnails", triangle_mesh(flipped, texture), material)

    def _put_squares(self, view: Viewpoint) -> None:
        """Near points, larger than the others."""
        if not self._look.sizes_by_distance or len(self._rows) == 0:
            return
        self._renderer.scene.remove_geometry("squares")
        limit, height = near_distance(self._contents), self._size[1]
        near, half_sides = near_squares(self._contents.points[self._rows], view, self._point_px, limit, height)
        if len(near) > 0:
            rows = self._rows[near]
            mesh = square_mesh(self._contents.points[rows], half_sides, self._colors[rows], view)
            self._renderer.scene.add_geometry("squares", triangle_mesh(mesh), self._material("defaultUnlit"))

    def _legends(self) -> list[tuple[UInt8Array, tuple[int, int]]]:
        """The scales of colours, and the places of their upper left corners."""
        scales = [legend(self._contents, self._look.coloring)]
        if self._look.errors:
            scales.append(error_legend(self._contents))
        bottom, panels = self._size[1] - _GAP_PX, []
        for scale in scales:
            panel = None if scale is None else legend_panel(*scale)
            if panel is not None and panel.width + 2 * _GAP_PX <= self._size[0] and bottom - panel.height >= _GAP_PX:
                bottom -= panel.height
                panels.append((np.asarray(panel), (_GAP_PX, bottom)))
        return panels


def save_png(pixels: UInt8Array, path: str) -> None:
    """Write a picture as a PNG file, quickly."""
    PilImage.fromarray(pixels).save(path, "PNG", compress_level=3)
