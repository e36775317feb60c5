"""Plots of a report as SVG text: the pairs as a matrix and on the map of the cameras, times, residuals.

Colours are variables of the page's style sheet, so that light and dark share the plots.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.drawing.scene import ViewScene

STRENGTH_LEVELS = (15, 50, 100, 200, 400)
"""Numbers of inliers at which the colour of a pair changes."""

MATRIX_PX, MAP_PX = 520, (560, 400)
"""Side of the matrix; (width, height) of the map."""

PAIRS_PER_CAMERA = 6
"""Pairs that are drawn on the map for each camera, the strongest ones of all."""


_FLAT = 0.15
"""The cameras have a plane of their own if their second extent is at least this fraction of the first."""


@dataclass(frozen=True, slots=True)
class DrawnPair:
    """A pair of images in the plots.

    Args:
        idx0: row of the first image in the report.
        idx1: row of the second one.
        num_inliers: 0 if the pair was matched, but not verified.
    """

    idx0: int
    idx1: int
    num_inliers: int


def level_of(num_inliers: int) -> int:
    """Step of the colours: 0 without a geometry, then 1 to 6."""
    return 0 if num_inliers == 0 else 1 + int(np.searchsorted(STRENGTH_LEVELS, num_inliers, side="right"))


def matrix_svg(num_images: int, pairs: Sequence[DrawnPair]) -> str:
    """All pairs as cells of a square matrix, coloured by their number of inliers; rows are images."""
    level_from_cell = {
        cell: level_of(pair.num_inliers) for pair in pairs for cell in ((pair.idx0, pair.idx1), (pair.idx1, pair.idx0))
    }
    cells = _runs(level_from_cell)
    num_verified = sum(pair.num_inliers > 0 for pair in pairs)
    title = f"Matrix of {num_images} images: {len(pairs)} pairs were matched, {num_verified} verified"
    paths = [f'<path class="level{level}" d="{"".join(parts)}"/>' for level, parts in sorted(cells.items())]
    diagonal = "".join(f"M{index} {index}h1v1h-1z" for index in range(num_images))
    size = max(num_images, 1)
    return (
        f'<svg class="matrix" viewBox="0 0 {size} {size}" width="{MATRIX_PX}" height="{MATRIX_PX}" role="img"'
        f' shape-rendering="crispEdges"><title>{title}</title><rect class="paper" width="{size}" height="{size}"/>'
        f'<path class="diagonal" d="{diagonal}"/>{"".join(paths)}</svg>'
    )


def _runs(level_from_cell: Mapping[tuple[int, int], int]) -> dict[int, list[str]]:
    """Parts of paths by level, one for each run of equal cells of a row: a browser draws few long ones faster."""
    runs: dict[int, list[str]] = {}
    start, length = (-1, -1), 0
    for row, column in [*sorted(level_from_cell), (-1, -1)]:
        level, current = level_from_cell.get((row, column)), level_from_cell.get(start)
        if length and (row, column) == (start[0], start[1] + length) and level == current:
            length += 1
            continue
        if length and current is not None:
            runs.setdefault(current, []).append(f"M{start[1]} {start[0]}h{length}v1h-{length}z")
        start, length = (row, column), 1
    return runs


def map_svg(scene: ViewScene, rows: Sequence[int], pairs: Sequence[DrawnPair], names: Sequence[str]) -> str:
    """The cameras of a model from above, and the verified pairs between them.

    Args:
        scene: of the model.
        rows: of its cameras in the report.
        pairs: all pairs.
        names: of all images of the report.
    """
    places = _seen_from_above(scene)
    place_from_row = {row: places[index] for index, row in enumerate(rows)}
    drawn = [pair for pair in pairs if pair.num_inliers and {pair.idx0, pair.idx1} <= place_from_row.keys()]
    drawn = sorted(drawn, key=lambda pair: pair.num_inliers)[-PAIRS_PER_CAMERA * max(len(rows), 50) :]
    lines: dict[int, list[str]] = {}
    for pair in drawn:
        (x0, y0), (x1, y1) = place_from_row[pair.idx0], place_from_row[pair.idx1]
        lines.setdefault(level_of(pair.num_inliers), []).append(f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}")
    paths = [f'<path class="line{level}" d="{"".join(parts)}"/>' for level, parts in sorted(lines.items())]
    radius = max(2.0, min(6.0, 60 / max(len(rows), 1) ** 0.5))
    dots = [
        f'<circle cx="{place_from_row[row][0]:.1f}" cy="{place_from_row[row][1]:.1f}" r="{radius:.1f}"'
        f' data-image="{row}"><title>{html.escape(names[row])}</title></circle>'
        for row in rows
    ]
    width, height = MAP_PX
    return (
        f'<svg class="map" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">'
        f"<title>Map of {len(rows)} cameras from above, with the verified pairs between them</title>"
        f'<rect class="paper" width="{width}" height="{height}"/>{"".join(paths)}{"".join(dots)}</svg>'
    )


def _seen_from_above(scene: ViewScene) -> Float64Array:
    """Centres [F, 3] -> places [F, 2] in the map, in the plane of the cameras if they have one, else from above."""
    normal = _map_normal(scene)
    towards = scene.viewpoint.target - scene.viewpoint.eye
    upwards = max((towards, scene.viewpoint.up), key=lambda axis: float(np.linalg.norm(_in_plane(axis, normal))))
    upwards = _in_plane(upwards, normal)
    upwards = upwards / np.linalg.norm(upwards)
    flat = scene.centers @ np.stack([np.cross(upwards, normal), -upwards], axis=1)
    lowest, highest = flat.min(axis=0), flat.max(axis=0)
    room = np.array(MAP_PX, np.float64) - 40
    spans = highest - lowest
    scale = min((side / span for side, span in zip(room, spans, strict=True) if span > 0), default=1.0)
    places: Float64Array = (flat - (lowest + highest) / 2) * scale + np.array(MAP_PX) / 2
    return places


def _map_normal(scene: ViewScene) -> Float64Array:
    """Unit vector [3] from the map to the eye."""
    up = scene.viewpoint.up
    _, extents, axes = np.linalg.svd(scene.centers - scene.centers.mean(axis=0), full_matrices=len(scene.centers) < 3)
    if len(extents) < 3 or extents[1] < _FLAT * extents[0]:  # on a line, which has no plane of its own
        return up
    towards = scene.viewpoint.target - scene.viewpoint.eye
    normal: Float64Array = axes[2]
    return normal if normal @ (up - towards / np.linalg.norm(towards)) >= 0 else -normal


def _in_plane(vector: Float64Array, normal: Float64Array) -> Float64Array:
    part: Float64Array = vector / np.linalg.norm(vector)
    return part - (part @ normal) * normal


def bars_svg(values: Mapping[str, float], unit: str, title: str) -> str:
    """Horizontal bars with a name and a number each."""
    rows = [(name, value) for name, value in values.items() if value > 0]
    largest = max((value for _, value in rows), default=1.0)
    height, parts = 26 * len(rows) + 4, []
    for row, (name, value) in enumerate(rows):
        y, length = 26 * row + 4, max(1.0, 300 * value / largest)
        parts.append(
            f'<text x="92" y="{y + 14}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect class="bar" x="100" y="{y}" width="{length:.1f}" height="18" rx="3"/>'
            f'<text x="{106 + length:.1f}" y="{y + 14}">{_number(value)} {html.escape(unit)}</text>'
        )
    return (
        f'<svg class="bars" viewBox="0 0 500 {height}" width="500" height="{height}" role="img">'
        f"<title>{html.escape(title)}</title>{''.join(parts)}</svg>"
    )


def histogram_svg(residuals_px: Float64Array, title: str, num_bins: int = 40) -> str:
    """How often residuals of each size occur, up to their 99 % quantile."""
    finite = residuals_px[np.isfinite(residuals_px)]
    if len(finite) == 0:
        return ""
    highest = max(float(np.quantile(finite, 0.99)), 1e-6)
    counts, _ = np.histogram(np.minimum(finite, highest), bins=num_bins, range=(0, highest))
    width, height = 440, 150
    step = width / num_bins
    parts = [
        f'<rect class="bar" x="{30 + index * step:.1f}" y="{10 + height * (1 - count / counts.max()):.1f}"'
        f' width="{step - 1:.1f}" height="{height * count / counts.max():.1f}"/>'
        for index, count in enumerate(counts)
    ]
    ticks = [
        f'<text x="{30 + width * fraction:.0f}" y="{height + 28}" text-anchor="middle">{highest * fraction:.2f}</text>'
        for fraction in (0.0, 0.25, 0.5, 0.75, 1.0)
    ]
    return (
        f'<svg class="histogram" viewBox="0 0 500 {height + 34}" width="500" height="{height + 34}" role="img">'
        f"<title>{html.escape(title)}</title>{''.join(parts)}"
        f'<path class="axis" d="M30 {height + 10}h{width}"/>{"".join(ticks)}</svg>'
    )


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 1000 else f"{value:,.0f}".replace(",", " ")
