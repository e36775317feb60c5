"""The keypoints of a model and those of its dense layer, numbered together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pycolmap
from scipy.spatial import cKDTree

from sfm_lightglue.arrays import Float64Array, IndexArray
from sfm_lightglue.colmap.image_points import add_points, pixels_of
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.mapping.dense_tracks import DensePoints
from sfm_lightglue.mapping.observers import Observers
from sfm_lightglue.types import Camera, DenseFeatures

_SAME_PLACE_PX = 1.0
"""A keypoint of the dense layer within this distance of a keypoint with a point continues its track."""


@dataclass(frozen=True, eq=False, slots=True)
class DenseKeypoints:
    """All keypoints of the registered images of a model: those that it has, then those of the dense layer.

    Args:
        image_ids: [I] registered images, ascending.
        names: [I] of the images.
        pixels: [N_i, 2] of each image; the first are the `points2D` of the model, in their order.
        starts: [I + 1] number of the first keypoint of each image; the keypoints of all images are numbered together.
        number_from_row: for each image [D_i], number of the keypoint of each row of its dense features.
    """

    image_ids: tuple[int, ...]
    names: tuple[str, ...]
    pixels: tuple[Float64Array, ...]
    starts: IndexArray
    number_from_row: tuple[IndexArray, ...]

    @classmethod
    def from_model(cls, model: pycolmap.Reconstruction, dense: Callable[[str], DenseFeatures]) -> DenseKeypoints:
        """The keypoints of a model and of the dense features of its images.

        If the dense features begin with the keypoints of the model, they are the same. Otherwise, as in the model of
        another tool, those near a keypoint with a point continue its track, and the others are added.

        Args:
            model: with registered images.
            dense: features by name of image.
        """
        image_ids = tuple(sorted(model.reg_image_ids()))
        names, pixels, rows = [], [], []
        for image_id in image_ids:
            image = model.images[image_id]
            own, row = _joined(image, dense(image.name))
            names.append(image.name)
            pixels.append(own)
            rows.append(row)
        starts = np.cumsum([0, *(len(each) for each in pixels)])
        numbers = tuple(row + start for row, start in zip(rows, starts[:-1], strict=True))
        return cls(image_ids, tuple(names), tuple(pixels), starts, numbers)

    def observers(self, model: pycolmap.Reconstruction, max_error_px: float, reference_size_px: float) -> Observers:
        """Poses and normalised keypoints.

        Args:
            model: with the poses.
            max_error_px: largest reprojection error, in pixels of images of up to `reference_size_px`.
            reference_size_px: longer side from which the limit grows in proportion.
        """
        cameras = [model.cameras[model.images[image_id].camera_id] for image_id in self.image_ids]
        matrices = np.stack([model.images[image_id].cam_from_world().matrix() for image_id in self.image_ids])
        return Observers(
            R=matrices[:, :, :3],
            t=matrices[:, :, 3],
            focal_px=np.array([camera.mean_focal_length() for camera in cameras]),
            limits_px=self.limits_px(model, max_error_px, reference_size_px),
            image=np.repeat(np.arange(len(self.image_ids)), np.diff(self.starts)),
            points=np.concatenate(
                [np.asarray(camera.cam_from_img(each)) for camera, each in zip(cameras, self.pixels, strict=True)]
            ),
        )

    def observers_like(self, model: pycolmap.Reconstruction, observers: Observers) -> Observers:
        """Poses and normalised keypoints of a model that differs from that of other observers in its cameras only."""
        scale = observers.limits_px  # of the same images
        moved = self.observers(model, 1.0, np.inf)
        return replace(moved, limits_px=scale)

    def part(self, numbers: IndexArray) -> DenseKeypoints:
        """Some keypoints of all images, by their ascending numbers, without rows of dense features."""
        starts = np.searchsorted(numbers, self.starts)
        pixels = np.concatenate(self.pixels)[numbers]
        none = np.zeros(0, np.int64)
        return DenseKeypoints(
            self.image_ids, self.names, tuple(np.split(pixels, starts[1:-1])), starts, (none,) * len(self.image_ids)
        )

    def limits_px(self, model: pycolmap.Reconstruction, max_error_px: float, reference_size_px: float) -> Float64Array:
        """Largest reprojection errors [I] in pixels, as for `observers`."""
        cameras = [model.cameras[model.images[image_id].camera_id] for image_id in self.image_ids]
        sizes = np.array([max(camera.width, camera.height) for camera in cameras])
        return np.asarray(max_error_px * np.maximum(1, sizes / reference_size_px))

    def matches_of_tracks(self, model: pycolmap.Reconstruction) -> IndexArray:
        """[M, 2] keypoints that follow each other in the tracks of a model."""
        start_from_id = dict(zip(self.image_ids, self.starts[:-1].tolist(), strict=True))
        first: list[int] = []
        second: list[int] = []
        for point_id in sorted(model.point3D_ids()):
            elements = model.points3D[point_id].track.elements
            numbers = sorted(start_from_id[each.image_id] + each.point2D_idx for each in elements)
            first += numbers[:-1]
            second += numbers[1:]
        return np.stack([np.array(first, np.int64), np.array(second, np.int64)], axis=1)

    def model_with(self, model: pycolmap.Reconstruction, points: DensePoints) -> pycolmap.Reconstruction:
        """A copy of a model with all keypoints, and these points instead of its own; points have no colour yet."""
        copy = pycolmap.Reconstruction(model)
        copy.delete_all_points2D_and_points3D()
        for image_id, pixels in zip(self.image_ids, self.pixels, strict=True):
            copy.images[image_id].points2D = pycolmap.Image(keypoints=pixels).points2D
        order = np.lexsort((points.keypoint, points.point))
        number = points.keypoint[order]
        image: IndexArray = np.searchsorted(self.starts, number, side="right") - 1
        ends = np.searchsorted(points.point[order], np.arange(len(points.xyz)), side="right")
        add_points(copy, points.xyz, ends, np.array(self.image_ids)[image], number - self.starts[image])
        return copy


def with_all_keypoints(
    model: pycolmap.Reconstruction, dense: Callable[[str], DenseFeatures]
) -> pycolmap.Reconstruction:
    """A copy of a model with the same points, whose registered images have the keypoints of the dense layer too."""
    keypoints = DenseKeypoints.from_model(model, dense)
    copy = pycolmap.Reconstruction(model)
    for image_id, pixels in zip(keypoints.image_ids, keypoints.pixels, strict=True):
        points = copy.images[image_id].points2D
        for xy in pixels[len(points) :]:
            points.append(pycolmap.Point2D(xy))
    return copy


def our_camera(camera: pycolmap.Camera) -> Camera:
    """A camera of a model."""
    return Camera(camera.model.name, camera.width, camera.height, tuple(camera.params))


def poses_of(model: pycolmap.Reconstruction, image_ids: Sequence[int]) -> list[Rigid3]:
    """`cam_from_world` of images of a model."""
    return [Rigid3.from_matrix(np.asarray(model.images[i].cam_from_world().matrix())) for i in image_ids]


def _joined(image: pycolmap.Image, dense: DenseFeatures) -> tuple[Float64Array, IndexArray]:
    """Pixels [N, 2] of the keypoints of a model's image and of its dense features, and the rows [D] of the latter."""
    existing = pixels_of(image)
    pixels = dense.keypoints.astype(np.float64)
    if len(existing) == dense.num_sparse and np.array_equal(existing, pixels[: len(existing)]):
        return pixels, np.arange(len(pixels))
    with_point = np.flatnonzero([point.has_point3D() for point in image.points2D])
    rows = np.full(len(pixels), -1)
    if len(with_point) > 0 and len(pixels) > 0:
        found = cKDTree(existing[with_point]).query(pixels, distance_upper_bound=_SAME_PLACE_PX)
        distance, nearest = np.asarray(found[0], np.float64), np.asarray(found[1], np.int64)
        order = np.argsort(distance, kind="stable")
        order = order[np.isfinite(distance[order])]
        _, first = np.unique(nearest[order], return_index=True)  # the nearest keypoint continues a track
        chosen = order[first]
        rows[chosen] = with_point[nearest[chosen]]
    added = np.flatnonzero(rows < 0)
    rows[added] = len(existing) + np.arange(len(added))
    return np.concatenate([existing, pixels[added]]), rows
