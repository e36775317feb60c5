"""The points of a window: all of them in a view at rest, fewer while it moves."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.arrays import AnyArray, IndexArray
from sfm_lightglue.drawing.viewpoint import Viewpoint
from sfm_lightglue.viewer.canvas import Canvas
from sfm_lightglue.viewer.contents import Contents
from sfm_lightglue.viewer.geometries import point_cloud, triangle_mesh
from sfm_lightglue.viewer.levels import (
    FIRST_PART,
    TARGET_FRAME_S,
    moving_rows,
    next_number,
    number_after_rest,
    octree_order,
    parts,
)
from sfm_lightglue.viewer.look import Look
from sfm_lightglue.viewer.meshes import near_squares, square_mesh
from sfm_lightglue.viewer.picking import in_view
from sfm_lightglue.viewer.point_colors import point_colors
from sfm_lightglue.viewer.scene_parts import near_distance, point_px, points_shown

_MOVING, _PART, _SQUARES = "points-moving", "points-part-", "points-squares"

MAX_TESTED = 1_000_000
"""Points that are looked for in the view when it begins to move; the coarsest ones of more."""


class Cloud:
    """Draws the points of some contents on a canvas.

    Args:
        canvas: of the window.
        contents: with the points.
        is_reduced: draw fewer points while the view moves; False draws all always.
    """

    def __init__(self, canvas: Canvas, contents: Contents, is_reduced: bool = True) -> None:
        self._canvas, self._contents, self._is_reduced = canvas, contents, is_reduced
        self._order = octree_order(contents.points)
        self._rows: IndexArray = self._order
        self._candidates: IndexArray = self._order[:0]
        self._moving_rows: IndexArray = self._order[:0]
        self._colors: AnyArray = np.zeros((0, 3))
        self._coloring = ""
        self._hidden: frozenset[int] | None = None
        self._look = Look()
        self.number = 2 * FIRST_PART
        self._waiting: list[slice] = []
        self._is_moving = self._is_slow = False

    @property
    def is_complete(self) -> bool:
        """Whether all points are drawn that should be."""
        return not self._waiting

    @property
    def is_slow(self) -> bool:
        """Whether frames with all points took too long."""
        return self._is_reduced and self._is_slow

    @property
    def num_drawn(self) -> int:
        """Points that are drawn while the view moves."""
        return len(self._moving_rows) if self._is_moving else len(self._rows)

    @property
    def rows(self) -> IndexArray:
        """Rows of the points that can be seen and picked."""
        return self._rows

    def point_px(self, height_px: int) -> float:
        """Size of a far point in pixels."""
        return point_px(len(self._rows), self._look, height_px)

    def show(self, look: Look) -> bool:
        """Take over a look; returns whether the points have to be drawn again."""
        is_new = (look.coloring, look.hidden_models) != (self._coloring, self._hidden)
        self._look = look
        if is_new:
            self._coloring, self._hidden = look.coloring, look.hidden_models
            self._colors = point_colors(self._contents, look.coloring)
            self._rows = self._order[points_shown(self._contents, look)[self._order]]
            self._clear()
            self._waiting = parts(len(self._rows))
        return is_new

    def begin_moving(self, view: Viewpoint, size: tuple[int, int]) -> None:
        """Draw only a part of the points from now on, if there are too many."""
        if self._is_moving or not self._is_reduced or self.number >= len(self._rows):
            return
        self._is_moving = True
        visible = np.zeros(len(self._contents.points), np.bool_)
        tested = self._rows[:MAX_TESTED]
        visible[tested] = in_view(view, size, self._contents.points[tested])
        self._candidates = moving_rows(self._rows, visible, self.number)
        self._put_moving(self._candidates)
        self._drop_parts()
        self._waiting = parts(len(self._rows))

    def _put_moving(self, rows: IndexArray) -> None:
        self._moving_rows = rows
        self._canvas.put(_MOVING, point_cloud(self._contents.points[rows], self._colors[rows]))

    def frame_took(self, frame_s: float) -> None:
        """Draw more or fewer points in the next frames of a movement."""
        if not self._is_reduced:
            return
        self._is_slow = self._is_moving or frame_s > 1.3 * TARGET_FRAME_S
        drawn = self.num_drawn
        self.number = next_number(drawn, frame_s, len(self._rows))
        if self._is_moving and min(self.number, len(self._candidates)) != drawn:
            self._put_moving(self._candidates[: self.number])

    def rest_frame_took(self, frame_s: float) -> None:
        """Begin the next movement with more points if all of them can be drawn quickly."""
        if not self._is_moving and not self._waiting:
            self.number = number_after_rest(self.number, frame_s, len(self._rows))

    def add_part(self) -> None:
        """Add points to a view at rest; those of the movement go when all are there."""
        self._is_moving = False
        if self._waiting:
            part = self._waiting.pop(0)
            rows = self._rows[part]
            cloud = point_cloud(self._contents.points[rows], self._colors[rows])
            self._canvas.put(f"{_PART}{part.start}", cloud)
        if not self._waiting:
            self._canvas.put(_MOVING, None)

    def put_squares(self, view: Viewpoint, size: tuple[int, int]) -> None:
        """Draw near points larger, as the view is at rest."""
        self._canvas.put(_SQUARES, None)
        if not self._look.sizes_by_distance or len(self._rows) == 0:
            return
        usual_px, limit = self.point_px(size[1]), near_distance(self._contents)
        near, half_sides = near_squares(self._contents.points[self._rows], view, usual_px, limit, size[1])
        if len(near) > 0:
            rows = self._rows[near]
            mesh = square_mesh(self._contents.points[rows], half_sides, self._colors[rows], view)
            self._canvas.put(_SQUARES, triangle_mesh(mesh))

    def _drop_parts(self) -> None:
        for name in [*self._canvas.names(_PART), _SQUARES]:
            self._canvas.put(name, None)

    def _clear(self) -> None:
        self._drop_parts()
        self._canvas.put(_MOVING, None)
