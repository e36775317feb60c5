"""Images that share a camera although their focal lengths differ, found after mapping.

Images without EXIF data, or with equal EXIF data, share one camera. If some of them were zoomed, the shared focal
length is wrong for all of them and the model is bent. A sample of the model is adjusted with a camera of its own for
each image; the focal lengths tell which images belong together. Several cameras are reported only if they explain the
sample clearly better than one, and if their focal lengths differ clearly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pycolmap

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.types import Camera

_MIN_IMAGES = 4
"""Smallest number of images of a shared camera that is examined."""

_SAMPLE_PER_IMAGE, _MIN_PER_IMAGE = 150, 15
"""Number of observations of each image in the sample, and the smallest number with which an image separates groups."""

_MAX_COST_RATIO = 0.7
"""Largest ratio of the cost with several cameras to the cost with a shared camera, of all images of this camera or of
those outside the largest group. The smaller one was 0.1 to 0.6 for zoomed images, above 0.8 for images of one camera,
also in wrong models."""

_MAX_ZOOM_COST_RATIO = 0.5
"""The same ratio for a camera of its own for each image: the focal lengths of long sequences drift."""

_MAX_SINGLE_COST_RATIO = 0.85
"""Largest ratio of the cost with a camera for each image to the cost with groups at which the groups are not enough."""

_MIN_LOG_RATIO = math.log(1.06)
"""Smallest difference of the logarithms of two focal lengths that separates groups."""

_MIN_ZOOM_LOG_RATIO = math.log(1.12)
"""Smallest range of the logarithms of focal lengths of a continuous zoom."""

_MIN_SIGMAS = 5.0
"""Smallest difference of two focal lengths that separates groups, in standard deviations."""

_MAX_LOG_SIGMA = 0.03
"""An image whose focal length is less certain does not separate groups; it joins the nearest one."""

_LOSS_PX = 0.5
"""Scale of the soft L1 loss."""

_FUNCTION_TOLERANCE, _MAX_ITERATIONS = 1e-5, 50
"""Relative change of the cost, and number of iterations, at which an adjustment stops."""

_BEHIND_PX = 1000.0
"""Reprojection error of a point behind the camera."""

_RAYLEIGH_MEDIAN = math.sqrt(2 * math.log(2))
"""Median length of a vector of two normal coordinates with standard deviation 1."""

_Groups = Sequence[list[int]]
"""Image identifiers that share a camera."""


@dataclass(frozen=True, slots=True)
class CameraGroup:
    """Images that share a camera.

    Args:
        names: of the images, sorted.
        camera: their refined intrinsics, with the source "estimated".
    """

    names: tuple[str, ...]
    camera: Camera


@dataclass(frozen=True, eq=False, slots=True)
class _Sample:
    """Some points of a model; a point has the same identifier as in the model.

    Args:
        pixels: by image identifier, the observations [N, 2].
        point_ids: by image identifier, the observed point of each observation.
        elements: by point identifier, the image identifiers and the rows of the observations.
    """

    pixels: Mapping[int, Float64Array]
    point_ids: Mapping[int, Sequence[int]]
    elements: Mapping[int, Sequence[tuple[int, int]]]


@dataclass(frozen=True, eq=False, slots=True)
class _Fit:
    """A sample with its cameras, poses and points.

    Args:
        model: a model of the sample.
        costs: by image identifier, the sum of the robust loss over its observations, in square pixels.
        noise_px: standard deviation of the coordinates of observations, from the median error.
    """

    model: pycolmap.Reconstruction
    costs: Mapping[int, float]
    noise_px: float

    def cost(self, image_ids: Sequence[int]) -> float:
        return sum(self.costs[image_id] for image_id in image_ids)


@dataclass(frozen=True, eq=False, slots=True)
class _FocalLengths:
    """Logarithms of focal lengths and their standard deviations, by image identifier."""

    logs: Mapping[int, float]
    sigmas: Mapping[int, float]

    def certain(self, image_ids: Sequence[int]) -> list[int]:
        """The images whose focal lengths are certain, by focal length."""
        certain = [image_id for image_id in image_ids if self.sigmas[image_id] <= _MAX_LOG_SIGMA]
        return sorted(certain, key=lambda image_id: (self.logs[image_id], image_id))

    def log_range(self, image_ids: Sequence[int]) -> float:
        """Difference of the largest and the smallest certain logarithm, 0 if there is none."""
        logs = [self.logs[image_id] for image_id in self.certain(image_ids)]
        return max(logs) - min(logs) if logs else 0.0


def find_camera_groups(
    model: pycolmap.Reconstruction, constant_camera_ids: frozenset[int], num_threads: int
) -> tuple[CameraGroup, ...]:
    """The groups into which the images of a shared camera fall, if several cameras explain the model clearly better.

    The poses and points of a model that was mapped with a wrong shared focal length are bent. The intrinsics of the
    groups are a start for mapping again, accurate to a few percent.

    Args:
        model: a mapped model; it is not changed.
        constant_camera_ids: cameras with known intrinsics, which are not examined.
        num_threads: of the bundle adjustments. With 1, the result is the same in each run.

    Returns:
        For each shared camera that is better replaced by several, its groups. Each registered image of such a camera
        is in one group. Empty if there is no such camera.
    """
    shared = _shared_cameras(model, constant_camera_ids)
    if not shared:
        return ()
    with quiet_log():
        return _find(model, shared, _Adjustment(_draw_sample(model), constant_camera_ids, num_threads))


def _find(
    model: pycolmap.Reconstruction, shared: Mapping[int, list[int]], adjustment: _Adjustment
) -> tuple[CameraGroup, ...]:
    sample = adjustment.sample
    mapped = _measure(_build(model, sample, list(shared.values())), sample)
    free = adjustment.run(_build(model, sample, [[image_id] for ids in shared.values() for image_id in ids]))
    if all(cost > _MAX_COST_RATIO * mapped.costs[image_id] for image_id, cost in free.costs.items()):
        return ()
    focal_lengths = adjustment.focal_lengths(free)
    parts = {camera_id: _partition(image_ids, focal_lengths) for camera_id, image_ids in shared.items()}
    zooms = {
        camera_id: _around([[image_id] for image_id in focal_lengths.certain(image_ids)], image_ids, focal_lengths)
        for camera_id, image_ids in shared.items()
        if focal_lengths.log_range(image_ids) > _MIN_ZOOM_LOG_RATIO
    }
    candidates = [camera_id for camera_id, groups in parts.items() if len(groups) > 1 or camera_id in zooms]
    if not candidates:
        return ()
    one = adjustment.run(mapped.model)
    several = adjustment.run(_build(free.model, sample, _all_groups(parts)))
    split = []
    for camera_id in candidates:
        image_ids = shared[camera_id]
        largest = max(parts[camera_id], key=lambda group: len(group))
        outside = sorted(set(image_ids) - set(largest))
        limit = min(_MAX_ZOOM_COST_RATIO * one.cost(image_ids), _MAX_SINGLE_COST_RATIO * several.cost(image_ids))
        if camera_id in zooms and free.cost(image_ids) <= limit:
            parts[camera_id] = zooms[camera_id]
            split.append(camera_id)
        elif any(ids and several.cost(ids) <= _MAX_COST_RATIO * one.cost(ids) for ids in (image_ids, outside)):
            split.append(camera_id)
    if any(parts[camera_id] is zooms.get(camera_id) for camera_id in split):
        several = adjustment.run(_build(free.model, sample, _all_groups(parts)))
    return tuple(_as_group(several.model, group) for camera_id in split for group in parts[camera_id])


def _all_groups(parts: Mapping[int, _Groups]) -> _Groups:
    return [group for groups in parts.values() for group in groups]


def _shared_cameras(model: pycolmap.Reconstruction, constant_camera_ids: frozenset[int]) -> dict[int, list[int]]:
    """The registered images of each camera that is examined."""
    images: dict[int, list[int]] = {}
    for image_id in sorted(model.reg_image_ids()):
        images.setdefault(model.images[image_id].camera_id, []).append(image_id)
    return {
        camera_id: image_ids
        for camera_id, image_ids in sorted(images.items())
        if len(image_ids) >= _MIN_IMAGES
        and camera_id not in constant_camera_ids
        and len(model.cameras[camera_id].focal_length_idxs()) > 0
    }


def _draw_sample(model: pycolmap.Reconstruction) -> _Sample:
    """The points with the longest tracks, until each image has enough observations."""
    tracks = {point_id: point.track.elements for point_id, point in model.points3D.items()}
    missing = dict.fromkeys(sorted(model.reg_image_ids()), _SAMPLE_PER_IMAGE)
    pixels_of: dict[int, list[int]] = {image_id: [] for image_id in missing}
    point_ids: dict[int, list[int]] = {image_id: [] for image_id in missing}
    elements: dict[int, list[tuple[int, int]]] = {}
    for point_id in sorted(tracks, key=lambda point_id: (-len(tracks[point_id]), point_id)):
        track = [(element.image_id, element.point2D_idx) for element in tracks[point_id]]
        if all(missing[image_id] <= 0 for image_id, _ in track):
            continue
        elements[point_id] = []
        for image_id, point2d_idx in track:
            elements[point_id].append((image_id, len(pixels_of[image_id])))
            pixels_of[image_id].append(point2d_idx)
            point_ids[image_id].append(point_id)
            missing[image_id] -= 1
    pixels = {}
    for image_id, point2d_idxs in pixels_of.items():
        image = model.images[image_id]
        rows = [image.point2D(idx).xy for idx in point2d_idxs]
        pixels[image_id] = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return _Sample(pixels, point_ids, elements)


def _build(model: pycolmap.Reconstruction, sample: _Sample, groups: _Groups) -> pycolmap.Reconstruction:
    """A model of the sample with the poses and points of `model`; each group gets a camera of its own.

    The camera of a group has the identifier of its first image beyond those of the model, and the median parameters
    of its images.
    """
    first_new_id = max(model.cameras) + 1
    new = pycolmap.Reconstruction()
    camera_ids = {image_id: first_new_id + group[0] for group in groups for image_id in group}
    for group in groups:
        cameras = [model.cameras[model.images[image_id].camera_id] for image_id in group]
        params = np.median([camera.params for camera in cameras], axis=0)
        new.add_camera_with_trivial_rig(_camera(cameras[0], first_new_id + group[0], params))
    for image_id, pixels in sample.pixels.items():
        image = model.images[image_id]
        camera_id = camera_ids.get(image_id, image.camera_id)
        if not new.exists_camera(camera_id):
            camera = model.cameras[camera_id]
            new.add_camera_with_trivial_rig(_camera(camera, camera_id, camera.params))
        copied = pycolmap.Image(name=image.name, keypoints=pixels, camera_id=camera_id, image_id=image_id)
        new.add_image_with_trivial_frame(copied, image.cam_from_world())
    for point_id, elements in sample.elements.items():
        track = pycolmap.Track()
        for image_id, row in elements:
            track.add_element(image_id, row)
        new.add_point3D_with_id(point_id, pycolmap.Point3D(xyz=model.points3D[point_id].xyz, track=track))
    return new


def _camera(like: pycolmap.Camera, camera_id: int, params: Float64Array) -> pycolmap.Camera:
    return pycolmap.Camera(
        camera_id=camera_id, model=like.model, width=like.width, height=like.height, params=params.tolist()
    )


@dataclass(frozen=True, eq=False, slots=True)
class _Adjustment:
    """Bundle adjustment of the models of a sample."""

    sample: _Sample
    constant_camera_ids: frozenset[int]
    num_threads: int

    def run(self, model: pycolmap.Reconstruction) -> _Fit:
        """Adjust a model in place.

        The gauge is free: with two images fixed, a bent model would need far more iterations.
        """
        pycolmap.create_default_ceres_bundle_adjuster(self._options(), self._config(model), model).solve()
        return _measure(model, self.sample)

    def focal_lengths(self, fit: _Fit) -> _FocalLengths:
        """The focal length of each image, infinitely uncertain if it cannot be determined."""
        config = self._config(fit.model)
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.THREE_POINTS)
        adjuster = pycolmap.create_default_ceres_bundle_adjuster(self._options(), config, fit.model)
        options = pycolmap.BACovarianceOptions()
        options.params = pycolmap.BACovarianceOptionsParams.ALL
        covariance = pycolmap.estimate_ba_covariance(options, fit.model, adjuster)
        logs, sigmas = {}, {}
        for image_id, pixels in self.sample.pixels.items():
            camera = fit.model.cameras[fit.model.images[image_id].camera_id]
            focal_px = float(np.mean(camera.params[camera.focal_length_idxs()]))
            block = None if covariance is None else covariance.get_other_params_cov(camera.params)
            variance = 0.0 if block is None or len(pixels) < _MIN_PER_IMAGE else float(block[0, 0])
            logs[image_id] = math.log(focal_px) if focal_px > 0 else -math.inf
            known = focal_px > 0 and variance > 0
            sigmas[image_id] = math.sqrt(variance) * fit.noise_px / focal_px if known else math.inf
        return _FocalLengths(logs, sigmas)

    def _options(self) -> pycolmap.BundleAdjustmentOptions:
        options = pycolmap.BundleAdjustmentOptions()
        options.print_summary = False
        options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
        options.ceres.loss_function_scale = _LOSS_PX
        options.ceres.solver_options.num_threads = self.num_threads
        options.ceres.solver_options.function_tolerance = _FUNCTION_TOLERANCE
        options.ceres.solver_options.max_num_iterations = _MAX_ITERATIONS
        return options

    def _config(self, model: pycolmap.Reconstruction) -> pycolmap.BundleAdjustmentConfig:
        config = pycolmap.BundleAdjustmentConfig()
        for image_id in self.sample.pixels:
            config.add_image(image_id)
        for camera_id in sorted(self.constant_camera_ids & set(model.cameras)):
            config.set_constant_cam_intrinsics(camera_id)
        return config


def _measure(model: pycolmap.Reconstruction, sample: _Sample) -> _Fit:
    errors_px = {}
    for image_id, pixels in sample.pixels.items():
        image = model.images[image_id]
        points = np.array([model.points3D[point_id].xyz for point_id in sample.point_ids[image_id]]).reshape(-1, 3)
        in_camera = np.asarray(image.cam_from_world() * points, dtype=np.float64)
        projected = np.asarray(model.cameras[image.camera_id].img_from_cam(in_camera), dtype=np.float64)
        errors = np.linalg.norm(projected - pixels, axis=1)
        errors_px[image_id] = np.where(np.isfinite(errors), errors, _BEHIND_PX)
    costs = {
        image_id: 2 * _LOSS_PX**2 * float((np.sqrt(1 + (errors / _LOSS_PX) ** 2) - 1).sum())
        for image_id, errors in errors_px.items()
    }
    return _Fit(model, costs, float(np.median(np.concatenate(list(errors_px.values())))) / _RAYLEIGH_MEDIAN)


def _partition(image_ids: list[int], focal_lengths: _FocalLengths) -> list[list[int]]:
    """The groups of the images of one camera, by the gaps between their focal lengths."""
    certain = focal_lengths.certain(image_ids)
    if not certain:
        return [image_ids]
    logs, sigmas = focal_lengths.logs, focal_lengths.sigmas
    cores = [[certain[0]]]
    for before, image_id in pairwise(certain):
        gap, sigma = logs[image_id] - logs[before], math.hypot(sigmas[before], sigmas[image_id])
        if gap > max(_MIN_LOG_RATIO, _MIN_SIGMAS * sigma):
            cores.append([])
        cores[-1].append(image_id)
    return _around(cores, image_ids, focal_lengths)


def _around(cores: _Groups, image_ids: Sequence[int], focal_lengths: _FocalLengths) -> list[list[int]]:
    """The groups, after each image that is in none has joined the group with the nearest focal length."""
    logs = focal_lengths.logs
    means = [float(np.mean([logs[image_id] for image_id in core])) for core in cores]
    grouped = {image_id for core in cores for image_id in core}
    groups = [list(core) for core in cores]
    for image_id in image_ids:
        if image_id not in grouped:
            distances = [abs(mean - logs[image_id]) for mean in means]
            groups[distances.index(min(distances))].append(image_id)
    return sorted(sorted(group) for group in groups)


def _as_group(model: pycolmap.Reconstruction, group: Sequence[int]) -> CameraGroup:
    camera = model.cameras[model.images[group[0]].camera_id]
    names = tuple(sorted(model.images[image_id].name for image_id in group))
    params = tuple(camera.params.tolist())
    return CameraGroup(names, Camera(camera.model.name, camera.width, camera.height, params, "estimated"))
