"""Compare the files of a model with the model: pycolmap's streams do not tell that a disk is full."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.image_points import pixels_of, point_ids_of
from sfm_lightglue.colmap.model_content import ModelContent, PointTable
from sfm_lightglue.colmap.track_check import check_tracks
from sfm_lightglue.errors import DataError

_PLY_HEADER = re.compile(rb"ply\nformat binary_little_endian 1\.0\n(?:comment .*\n)*element vertex (\d{1,15})\n")
_PLY_VERTEX = np.dtype([("xyz", "<f4", 3), ("color", "u1", 3)])


def difference_from_model(content: ModelContent, model: pycolmap.Reconstruction) -> str | None:
    """What differs between the files of a model and the model itself, None if nothing does.

    Args:
        content: of the files.
        model: that was written; only its registered images are in the files.
    """
    try:
        check_tracks(content, is_complete=True)
    except DataError as error:
        return str(error)
    return next(_differences(content, model), None)


def _differences(content: ModelContent, model: pycolmap.Reconstruction) -> Iterator[str]:
    cameras = {camera.camera_id: (camera.model, camera.size, camera.params) for camera in content.cameras}
    if not _equal(sorted(cameras), sorted(model.cameras)):
        yield "cameras"
    for camera_id, native in model.cameras.items():
        model_name, size, params = cameras[camera_id]
        if (model_name, size) != (native.model_name, (native.width, native.height)) or not _equal(
            params, native.params
        ):
            yield f"camera {camera_id}"
    frames = {frame.frame_id: frame for frame in content.frames}
    if sorted(frames) != sorted(model.reg_frame_ids()) or len(content.rigs) != model.num_rigs():
        yield "rigs or frames"
    for frame_id, frame in frames.items():
        native_frame = model.frames[frame_id]
        pose = native_frame.rig_from_world
        if pose is None or frame.rig_id != native_frame.rig_id or not _equal(frame.pose, _pose(pose)):
            yield f"frame {frame_id}"
    yield from _image_differences(content, model)
    yield from _point_differences(content, model)


def _image_differences(content: ModelContent, model: pycolmap.Reconstruction) -> Iterator[str]:
    images = content.images
    if sorted(images.ids.tolist()) != sorted(model.reg_image_ids()):
        yield "images"
    ends = np.cumsum(images.num_points)
    for row, image_id in enumerate(images.ids.tolist()):
        native, own = model.images[image_id], slice(ends[row] - images.num_points[row], ends[row])
        is_same = (
            (images.names[row], images.camera_ids[row]) == (native.name, native.camera_id)
            and np.allclose(images.poses[row], _pose(native.cam_from_world()), rtol=1e-12, atol=1e-12, equal_nan=True)
            and _equal(images.xy[own], pixels_of(native))
            and _equal(images.point_ids[own].astype(np.int64), point_ids_of(native))
        )
        if not is_same:
            yield f"image {native.name}"


def _point_differences(content: ModelContent, model: pycolmap.Reconstruction) -> Iterator[str]:
    points, order = content.points, np.argsort(content.points.ids)
    pairs = sorted(model.points3D.items())
    natives = [native for _, native in pairs]
    if not _equal(points.ids[order], np.array([point_id for point_id, _ in pairs], np.uint64)):
        yield "points"
        return
    is_same = (
        _equal(points.xyz[order], np.array([native.xyz for native in natives], np.float64).reshape(-1, 3))
        and _equal(points.colors[order], np.array([native.color for native in natives], np.uint8).reshape(-1, 3))
        and _equal(points.errors[order], np.array([native.error for native in natives], np.float64))
        and _equal(points.track_lengths[order], np.array([native.track.length() for native in natives], np.int64))
    )
    if not is_same:
        yield "points"


def ply_difference(ply: bytes, points: PointTable) -> str | None:
    """What differs between a PLY file of pycolmap and the points of a model, None if nothing does.

    Args:
        ply: content of the file; its vertices may have any order.
        points: of the model.
    """
    header = _PLY_HEADER.match(ply)
    start = ply.find(b"end_header\n") + len(b"end_header\n")
    if header is None or start < len(b"end_header\n"):
        return "no header of a point cloud"
    if int(header[1]) != len(points.ids) or len(ply) - start != len(points.ids) * _PLY_VERTEX.itemsize:
        return f"{len(points.ids)} points expected"
    expected = np.zeros(len(points.ids), _PLY_VERTEX)
    with np.errstate(over="ignore"):
        expected["xyz"], expected["color"] = points.xyz, points.colors
    found = np.frombuffer(ply, _PLY_VERTEX, offset=start)
    return None if _equal(_sorted_rows(found), _sorted_rows(expected)) else "other points"


def _sorted_rows(vertices: AnyArray) -> AnyArray:
    return np.sort(vertices.view(np.dtype((np.void, _PLY_VERTEX.itemsize))))


def _pose(native: pycolmap.Rigid3d) -> list[float]:
    x, y, z, w = native.rotation.quat
    return [w, x, y, z, *native.translation]


def _equal(one: object, other: object) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    return bool(np.array_equal(one, other, equal_nan=one.dtype.kind == "f"))
