"""Views of a world of flat rectangles, made fast enough for a video: a depth buffer instead of rays.

Every pixel is the mean of a grid of samples; each sample is one lookup in the fitting level of the texture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, Int32Array, UInt8Array
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.shapes import Box
from sfm_lightglue.synthetic.textures import MipTexture
from sfm_lightglue.types import Camera

_GRID = 2
"""Samples of a pixel in each direction."""

_NEAR_M = 0.02

_LOOKUP_COLUMNS = 4096
"""Number of lookups per row: cv2.remap accepts fewer than 32768 columns."""


@dataclass(frozen=True, eq=False)
class Face:
    """A textured rectangle that is seen from one side.

    Args:
        corner: upper left corner [3] in the world, as seen from outside.
        right: unit vector [3] along u.
        down: unit vector [3] along v.
        size_m: lengths along u and v.
        texture: what is on it.
    """

    corner: Float64Array
    right: Float64Array
    down: Float64Array
    size_m: tuple[float, float]
    texture: MipTexture

    @cached_property
    def inward(self) -> Float64Array:
        """Unit normal [3] away from those who see it."""
        return np.cross(self.right, self.down)

    @cached_property
    def corners(self) -> Float64Array:
        """The four corners [4, 3], clockwise."""
        u, v = self.size_m[0] * self.right, self.size_m[1] * self.down
        return np.stack([self.corner, self.corner + u, self.corner + u + v, self.corner + v])


def faces_of_box(box: Box, textures: Sequence[MipTexture], patches: Sequence[int]) -> list[Face]:
    """Some faces of a box.

    Args:
        box: the solid.
        textures: of its six patches.
        patches: indices of the faces.
    """
    faces = []
    for patch in patches:
        width, height = box.patch_sizes_m[patch]
        uv = np.array([[0, width, 0], [0, 0, height]], np.float32)
        points = box.world_from_local @ box.points(patch, uv).T.astype(np.float64)
        right, down = (points[1] - points[0]) / width, (points[2] - points[0]) / height
        faces.append(Face(points[0], right, down, (width, height), textures[patch]))
    return faces


def render_faces(faces: Sequence[Face], camera: Camera, cam_from_world: Rigid3) -> UInt8Array:
    """Image [H, W, 3] uint8 of one camera; black where there is no face.

    Args:
        faces: of the world.
        camera: "SIMPLE_PINHOLE".
        cam_from_world: its pose.
    """
    width, height = _GRID * camera.width, _GRID * camera.height
    inverse_depth = np.zeros((height, width), np.float32)
    label = np.full((height, width), -1, np.int32)
    views: list[_FaceView] = []
    for face in faces:
        view = _view_of(face, camera, cam_from_world)
        if view is not None:
            view.draw(inverse_depth, label, len(views))
            views.append(view)
    colors = np.zeros((height, width, 3), np.uint8)
    for number, view in enumerate(views):
        view.paint(colors, label, number)
    return np.asarray(cv2.resize(colors, camera.size, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True, eq=False)
class _FaceView:
    """A face as a camera sees it. Functions of a sample (x, y) are a * x + b * y + c, rows of `linear`.

    Args:
        face: the rectangle.
        rows: of the samples around it.
        columns: of them.
        linear: [3, 3] the inverse depth, and the derivatives of u and v along the ray by depth.
        start_m: (u, v) of the camera centre.
    """

    face: Face
    rows: slice
    columns: slice
    linear: Float64Array
    start_m: Float64Array

    def draw(self, inverse_depth: Float32Array, label: Int32Array, number: int) -> None:
        """Enter the samples that are nearer than what was drawn before."""
        x, y = _centers(self.columns)[None, :], _centers(self.rows)[:, None]
        inverse = self._value(0, x, y)
        buffer = inverse_depth[self.rows, self.columns]
        closer: BoolArray = inverse > buffer
        if not closer.any():
            return
        # u lies within 0 and its length if that holds after a product with the positive inverse depth.
        for axis in (0, 1):
            along = self._value(1 + axis, x, y) + np.float32(self.start_m[axis]) * inverse
            closer &= along >= 0
            closer &= along <= np.float32(self.face.size_m[axis]) * inverse
        np.copyto(buffer, inverse, where=closer)
        np.copyto(label[self.rows, self.columns], np.int32(number), where=closer)

    def paint(self, colors: UInt8Array, label: Int32Array, number: int) -> None:
        """Look up the colours of the samples with the label `number`."""
        row, column = np.nonzero(label[self.rows, self.columns] == number)
        if len(row) == 0:
            return
        x, y = _centers(self.columns)[column], _centers(self.rows)[row]
        inverse = self._value(0, x, y)
        u, v = (self._value(1 + axis, x, y) / inverse + np.float32(self.start_m[axis]) for axis in (0, 1))
        # The area that a sample covers on the face: the determinant of the homography over the cube of its divisor.
        area = np.float32(abs(np.linalg.det(self.linear)) / _GRID**2) / inverse**3
        texture = self.face.texture
        texel_m = texture.size_m[0] / texture.levels[0].shape[1]
        level = np.rint(0.5 * np.log2(np.maximum(area / np.float32(texel_m**2), np.float32(1))))
        target = colors[self.rows, self.columns]
        for k in range(int(level.min()), int(level.max()) + 1):
            chosen = np.flatnonzero(level == k)
            if len(chosen) > 0:
                image = texture.levels[min(k, len(texture.levels) - 1)]
                target[row[chosen], column[chosen]] = _look_up(image, texture.size_m, u[chosen], v[chosen])

    def _value(self, row: int, x: Float32Array, y: Float32Array) -> Float32Array:
        a, b, c = self.linear[row].astype(np.float32)
        return np.asarray(a * x + (b * y + c), np.float32)


def _look_up(image: UInt8Array, size_m: tuple[float, float], u: Float32Array, v: Float32Array) -> UInt8Array:
    """Colours [N, 3] of an image of a patch at the places u, v [N] in metres, interpolated bilinearly."""
    height, width = image.shape[:2]
    num_rows = -(-len(u) // _LOOKUP_COLUMNS)
    xy = np.zeros((2, num_rows * min(_LOOKUP_COLUMNS, len(u))), np.float32)
    xy[0, : len(u)] = u * np.float32(width / size_m[0]) - np.float32(0.5)
    xy[1, : len(u)] = v * np.float32(height / size_m[1]) - np.float32(0.5)
    x, y = xy.reshape(2, num_rows, -1)
    colors = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(colors.reshape(-1, 3)[: len(u)], np.uint8)


def _centers(samples: slice) -> Float32Array:
    """Centres of samples in pixels."""
    return ((np.arange(samples.start, samples.stop) + 0.5) / _GRID).astype(np.float32)


def _view_of(face: Face, camera: Camera, cam_from_world: Rigid3) -> _FaceView | None:
    """What a camera sees of a face, None if it sees nothing of it."""
    center = cam_from_world.center
    distance = float(face.inward @ (face.corner - center))
    if distance <= 0:
        return None
    bounds = _bounds(cam_from_world @ face.corners, camera)
    if bounds is None:
        return None
    focal, cx, cy = camera.params
    ray_from_pixel = cam_from_world.R.T @ np.array([[1, 0, -cx], [0, 1, -cy], [0, 0, focal]]) / focal
    axes = np.stack([face.inward / distance, face.right, face.down])
    start = np.stack([face.right, face.down]) @ (center - face.corner)
    return _FaceView(face, *bounds, axes @ ray_from_pixel, start)


def _bounds(corners: Float64Array, camera: Camera) -> tuple[slice, slice] | None:
    """Rows and columns of samples around the visible part of a polygon [N, 3] in the camera frame."""
    following = np.roll(corners, -1, axis=0)
    crossing = (corners[:, 2] < _NEAR_M) != (following[:, 2] < _NEAR_M)
    start, step = corners[crossing], (following - corners)[crossing]
    cut = start + step * ((_NEAR_M - start[:, 2:]) / step[:, 2:])
    seen = np.concatenate([corners[corners[:, 2] >= _NEAR_M], cut])
    if len(seen) == 0:
        return None
    focal, cx, cy = camera.params
    pixels = focal * seen[:, :2] / seen[:, 2:] + (cx, cy)
    first = np.maximum(np.floor(_GRID * pixels.min(0)), 0).astype(int)
    last = np.minimum(np.ceil(_GRID * pixels.max(0)), np.array(camera.size) * _GRID).astype(int)
    if (first >= last).any():
        return None
    return slice(int(first[1]), int(last[1])), slice(int(first[0]), int(last[0]))
