"""A model as an image: SVG text for notebooks, or pixels.

Both show the model from the viewpoint of `build_scene`, on a dark background of their own, so that they are readable
on light and dark pages. Neither needs a display or a graphics library.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.drawing.scene import (
    BACKGROUND,
    SEGMENTS_OF_FRUSTUM,
    ModelArrays,
    ViewScene,
    build_scene,
    order_colors,
    point_size_px,
)

MAX_CAMERAS = 500
"""Cameras that are drawn; of more, an evenly spaced subset."""

SUPERSAMPLING = 2
"""Images are drawn at this multiple of their size and averaged, which smooths lines and points."""

SVG_COLOR_LEVELS = 15
"""Steps of each colour channel in SVG text; `#rgb` is short, and points of one colour share a path."""

FACE_OPACITY = 0.18
"""Opacity of the image plane of a frustum."""


def model_svg(model: ModelArrays, size: tuple[int, int] = (600, 400), max_points: int = 4000) -> str:
    """Draw cameras and points of a model as SVG text, for `_repr_html_` in notebooks.

    The text depends on the arguments only, and it contains no ids, so one page can hold several of them.

    Args:
        model: of `sfm_lightglue.colmap.drawing.model_arrays(reconstruction)`; without points and cameras, only the
            background is drawn.
        size: (width, height) in pixels.
        max_points: of more points in view, an evenly spaced subset is drawn.

    Returns:
        An `<svg>` element, about 100 kB at most.

    Example:
        >>> import pycolmap
        >>> from sfm_lightglue.colmap.drawing import model_arrays
        >>> from sfm_lightglue.drawing.model import model_svg
        >>> model_svg(model_arrays(pycolmap.Reconstruction()))[:4]
        '<svg'
    """
    width, height = size
    view = _project(model, size, max_points)
    title = f"{len(model.poses)} cameras, {len(model.points)} points"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' role="img" style="max-width:100%;height:auto"><title>{title}</title>',
        f'<rect width="{width}" height="{height}" rx="6" fill="{_hex(np.array(BACKGROUND), 255)}"/>',
        *_svg_points(view),
        *_svg_cameras(view),
        "</svg>",
    ]
    return "\n".join(parts)


def model_image(model: ModelArrays, size: tuple[int, int] = (1200, 800), max_points: int = 200_000) -> PilImage.Image:
    """Draw cameras and points of a model as an RGB image.

    Args:
        model: as of `model_svg`.
        size: (width, height) in pixels.
        max_points: of more points in view, an evenly spaced subset is drawn.
    """
    factor = SUPERSAMPLING
    large = (factor * size[0], factor * size[1])
    view = _project(model, large, max_points)
    canvas = PilImage.new("RGB", large, _rgb(np.array(BACKGROUND)))
    draw = ImageDraw.Draw(canvas, "RGBA")  # blends colours that have an opacity; pixel centres are at integers
    half_sides = view.point_sizes_px / 2
    for (x, y), half, color in zip(view.points - 0.5, half_sides, view.point_colors, strict=True):
        draw.ellipse([x - half, y - half, x + half, y + half], fill=_rgb(color))
    line_width = max(factor, round(view.line_width_px))
    for vertices, color in zip(view.frusta, view.camera_colors, strict=True):
        corners = [tuple(vertex) for vertex in vertices - 0.5]
        draw.polygon(corners[1:5], fill=(*_rgb(color), round(255 * FACE_OPACITY)))
        for start, end in SEGMENTS_OF_FRUSTUM:
            draw.line([corners[start], corners[end]], fill=_rgb(color), width=line_width)
    return canvas.resize(size, PilImage.Resampling.BOX)


@dataclass(frozen=True, slots=True, eq=False)
class _ProjectedModel:
    """What lies in the image, in pixels, the farthest first.

    Args:
        points: [N, 2].
        point_colors: [N, 3] in 0 to 1.
        point_sizes_px: [N] diameters; near points are larger.
        frusta: [F, 8, 2] vertices as of `frustum_lines`.
        camera_colors: [F, 3] in 0 to 1.
        line_width_px: of the frusta.
    """

    points: Float64Array
    point_colors: Float64Array
    point_sizes_px: Float64Array
    frusta: Float64Array
    camera_colors: Float64Array
    line_width_px: float


def _project(model: ModelArrays, size: tuple[int, int], max_points: int) -> _ProjectedModel:
    scale = (size[0] * size[1] / (1280 * 960)) ** 0.5
    if not np.isfinite(model.points).all(axis=1).any() and not model.poses:
        none = np.zeros((0, 3))
        return _ProjectedModel(np.zeros((0, 2)), none, np.zeros(0), np.zeros((0, 8, 2)), none, 1.6 * scale)
    scene = build_scene(model, size[0] / size[1])
    pixels, depths = scene.viewpoint.project(scene.points, size)
    visible = np.flatnonzero(((pixels >= 0) & (pixels <= size)).all(axis=1))  # False for NaN
    chosen = visible[_evenly(len(visible), max_points)]
    chosen = chosen[np.argsort(-depths[chosen], kind="stable")]
    nearness = np.clip(np.median(depths[chosen]) / depths[chosen], 0.6, 1.8) if len(chosen) > 0 else np.ones(0)
    frusta, camera_colors = _project_frusta(scene, size)
    return _ProjectedModel(
        pixels[chosen],
        scene.point_colors[chosen],
        scale * point_size_px(len(chosen)) * nearness,
        frusta,
        camera_colors,
        1.6 * scale,
    )


def _project_frusta(scene: ViewScene, size: tuple[int, int]) -> tuple[Float64Array, Float64Array]:
    """Vertices [F, 8, 2] and colours [F, 3] of the cameras that are entirely in front, the farthest first."""
    vertices, depths = scene.viewpoint.project(scene.frusta.vertices, size)
    frusta, centre_depths = vertices.reshape(-1, 8, 2), depths.reshape(-1, 8)[:, 0]
    usable = np.flatnonzero(np.isfinite(frusta).all(axis=(1, 2)) & (np.abs(frusta) < 10 * max(size)).all(axis=(1, 2)))
    chosen = usable[_evenly(len(usable), MAX_CAMERAS)]
    chosen = chosen[np.argsort(-centre_depths[chosen], kind="stable")]
    return frusta[chosen], order_colors(len(frusta))[chosen]


def _evenly(num: int, most: int) -> IndexArray:
    """At most `most` of the indices 0 to num - 1, evenly spaced."""
    if num <= most:
        return np.arange(num)
    return np.arange(most) * num // most


def _svg_points(view: _ProjectedModel) -> list[str]:
    """One path of dots for each colour: a line of length zero with round ends is a dot."""
    starts_from_color: dict[str, list[str]] = {}
    for (x, y), color in zip(view.points, view.point_colors, strict=True):
        starts_from_color.setdefault(_hex(color, SVG_COLOR_LEVELS), []).append(f"M{x:.1f} {y:.1f}h0")
    if not starts_from_color:
        return []
    width = max(float(np.median(view.point_sizes_px)), 1.2)
    paths = [f'<path stroke="{color}" d="{"".join(starts)}"/>' for color, starts in starts_from_color.items()]
    return [f'<g fill="none" stroke-linecap="round" stroke-width="{width:.2f}">', *paths, "</g>"]


def _svg_cameras(view: _ProjectedModel) -> list[str]:
    paths = []
    for vertices, rgb in zip(view.frusta, view.camera_colors, strict=True):
        color = _hex(rgb, 255)
        at = [f"{x:.1f} {y:.1f}" for x, y in vertices]
        face = f"M{at[1]}L{at[2]}L{at[3]}L{at[4]}z"
        edges = "".join(f"M{at[0]}L{corner}" for corner in at[1:5])
        paths.append(
            f'<path stroke="{color}" fill="{color}" fill-opacity="{FACE_OPACITY}"'
            f' d="{face}{edges}M{at[5]}L{at[6]}L{at[7]}"/>'
        )
    width = max(view.line_width_px, 1.0)
    return [f'<g stroke-linejoin="round" stroke-width="{width:.2f}">', *paths, "</g>"] if paths else []


def _rgb(color: Float64Array) -> tuple[int, int, int]:
    """Red, green, blue in 0 to 1 -> 0 to 255."""
    red, green, blue = (int(value) for value in np.round(255 * color))
    return red, green, blue


def _hex(color: Float64Array, num_levels: int) -> str:
    """Red, green, blue in 0 to 1 -> `#rgb` for 15 levels, `#rrggbb` for 255."""
    num_digits = 1 if num_levels == SVG_COLOR_LEVELS else 2
    return "#" + "".join(f"{int(value):0{num_digits}x}" for value in np.round(num_levels * color))
