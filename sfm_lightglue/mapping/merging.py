"""Merge models of one database that have images in common."""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pycolmap

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.geometry.transforms import Sim3
from sfm_lightglue.mapping.model_alignment import MIN_COMMON, NotMerged, align_models, registered_images

logger = logging.getLogger(__name__)

Adjust = Callable[[pycolmap.Reconstruction], None]

MIN_REMAINING = 0.5
"""Smallest fraction of the observations that connect the common images with the others of each model, which must remain
after the merged model was adjusted and filtered. A model that was merged wrongly loses them; they are few of all."""


def merge_models(
    models: Sequence[pycolmap.Reconstruction],
    adjust: Adjust,
    is_better: Callable[[pycolmap.Reconstruction, pycolmap.Reconstruction, pycolmap.Reconstruction], bool]
    | None = None,
) -> list[pycolmap.Reconstruction]:
    """Merge models that share at least three images, as long as the check by reprojection is passed.

    Args:
        models: of one database, with its identifiers; not changed.
        adjust: adjusts and filters a whole model.
        is_better: called with a merged model and the two models of which it was made; False keeps them apart. All
            merged models are kept if it is None.

    Returns:
        The merged models and those that stay apart, the one with most images first.
    """
    remaining = dict(enumerate(models))
    images = {number: registered_images(model) for number, model in remaining.items()}
    refused: set[tuple[int, int]] = set()
    while True:
        pairs = [
            (len(images[first] & images[second]), (first, second))
            for first, second in combinations(sorted(remaining), 2)
            if (first, second) not in refused
        ]
        num_common, pair = max(pairs, key=lambda each: each[0], default=(0, (0, 0)))
        if num_common < MIN_COMMON:
            return sorted(remaining.values(), key=_num_images, reverse=True)
        target, source = sorted((remaining[number] for number in pair), key=_num_images, reverse=True)
        merged = merge_two(target, source, adjust)
        if not isinstance(merged, NotMerged) and is_better is not None and not is_better(merged, target, source):
            merged = NotMerged("the merged model is judged worse")
        sizes = _num_images(target), _num_images(source)
        if isinstance(merged, NotMerged):
            logger.debug("models of %d and %d images stay apart: %s", *sizes, merged.reason)
            refused.add(pair)
        else:
            logger.debug("merged models of %d and %d images to one of %d", *sizes, _num_images(merged))
            remaining = {number: model for number, model in remaining.items() if number not in pair}
            number = max(images) + 1
            remaining[number], images[number] = merged, registered_images(merged)


def _num_images(model: pycolmap.Reconstruction) -> int:
    return int(model.num_reg_images())


def merge_two(
    target: pycolmap.Reconstruction, source: pycolmap.Reconstruction, adjust: Adjust
) -> pycolmap.Reconstruction | NotMerged:
    """Merge two models into a third one.

    Common images keep their pose of the target. Points of both models with a common observation become one.

    Args:
        target: a model; its world is that of the result.
        source: another model of the same database.
        adjust: adjusts and filters a whole model.

    Returns:
        The merged and adjusted model, or the reason why the models stay apart.
    """
    alignment = align_models(source, target)
    if isinstance(alignment, NotMerged):
        return alignment
    merged = joined(target, source, alignment.target_from_source)
    num_images = merged.num_reg_images()
    ids = [set(model.reg_image_ids()) for model in (target, source)]
    before = [_num_connecting(merged, ids[0] & ids[1], own) for own in (ids[0] - ids[1], ids[1] - ids[0])]
    adjust(merged)
    if merged.num_reg_images() < num_images:
        return NotMerged("images of the merged model lost their poses when it was adjusted")
    after = [_num_connecting(merged, ids[0] & ids[1], own) for own in (ids[0] - ids[1], ids[1] - ids[0])]
    share = min(left / num if num > 0 else 1.0 for left, num in zip(after, before, strict=True))
    if share < MIN_REMAINING:
        return NotMerged(
            f"only {share:.0%} of the observations that connect one of them remain after the merged model was adjusted"
        )
    return merged


def _num_connecting(model: pycolmap.Reconstruction, common_ids: set[int], own_ids: set[int]) -> int:
    """Number of observations in some images of points that one of other images observes too."""
    point_ids = [
        point.point3D_id
        for image_id in sorted(common_ids)
        for point in model.images[image_id].points2D
        if point.has_point3D()
    ]
    return sum(
        count
        for point_id, count in Counter(point_ids).items()
        if any(element.image_id in own_ids for element in model.points3D[point_id].track.elements)
    )


def joined(
    target: pycolmap.Reconstruction, source: pycolmap.Reconstruction, target_from_source: Sim3
) -> pycolmap.Reconstruction:
    """One model of the images and points of two, not adjusted; points with a common observation become one.

    Args:
        target: a model; its world is that of the result.
        source: another model of the same database.
        target_from_source: between their worlds.
    """
    merged, moved = copy.deepcopy(target), copy.deepcopy(source)
    with quiet_log():
        moved.transform(_native(target_from_source))
        _add_frames(merged, moved)
        _add_points(merged, moved)
        merged.update_point_3d_errors()
    return merged


def _native(similarity: Sim3) -> pycolmap.Sim3d:
    return pycolmap.Sim3d(np.column_stack([similarity.scale * similarity.R, similarity.t]))


def _add_frames(merged: pycolmap.Reconstruction, moved: pycolmap.Reconstruction) -> None:
    """Add the registered frames of a model that another one lacks, with their rigs, cameras and images."""
    known = set(merged.reg_frame_ids())
    for frame_id in sorted(set(moved.reg_frame_ids()) - known):
        frame = moved.frames[frame_id]
        image_ids = sorted(data.id for data in frame.image_ids)
        for image_id in image_ids:
            camera_id = moved.images[image_id].camera_id
            if not merged.exists_camera(camera_id):
                merged.add_camera(moved.cameras[camera_id])
        rig = moved.rigs[frame.rig_id]
        if not merged.exists_rig(rig.rig_id):
            merged.add_rig(rig)
        added = pycolmap.Frame(frame_id=frame_id, rig_id=frame.rig_id)
        for data in sorted(frame.data_ids, key=lambda each: (each.sensor_id.id, each.id)):
            added.add_data_id(data)
        added.finalize_data_ids()
        added.rig_from_world = frame.rig_from_world
        merged.add_frame(added)
        for image_id in image_ids:
            merged.add_image(_without_points(moved.images[image_id], frame_id))
        merged.register_frame(frame_id)


def _without_points(image: pycolmap.Image, frame_id: int) -> pycolmap.Image:
    keypoints = np.array([point.xy for point in image.points2D], np.float64).reshape(-1, 2)
    added = pycolmap.Image(name=image.name, keypoints=keypoints, camera_id=image.camera_id, image_id=image.image_id)
    added.frame_id = frame_id
    return added


def _add_points(merged: pycolmap.Reconstruction, moved: pycolmap.Reconstruction) -> None:
    """Add the points of a model. A point that shares an observation with one of the other model extends its track."""
    for point_id in sorted(moved.point3D_ids()):
        point = moved.points3D[point_id]
        elements = [(element.image_id, element.point2D_idx) for element in point.track.elements]
        observed = [point_of(merged, *element) for element in elements]
        twin = _most_frequent([each for each in observed if each is not None])
        free = [element for element, each in zip(elements, observed, strict=True) if each is None]
        if twin is not None:
            seen_in = {element.image_id for element in merged.points3D[twin].track.elements}
            for image_id, point2d_idx in free:
                if image_id not in seen_in:
                    merged.add_observation(twin, pycolmap.TrackElement(image_id, point2d_idx))
        elif len(free) > 1:
            track = pycolmap.Track()
            for element in free:
                track.add_element(*element)
            merged.add_point3D(point.xyz, track, point.color)


def _most_frequent(point_ids: Sequence[int]) -> int | None:
    return Counter(point_ids).most_common(1)[0][0] if point_ids else None


def point_of(model: pycolmap.Reconstruction, image_id: int, point2d_idx: int) -> int | None:
    """The point that a keypoint of an image observes, None for none."""
    point = model.images[image_id].points2D[point2d_idx]
    return int(point.point3D_id) if point.has_point3D() else None
