"""Sequences with true poses for visual SLAM: of the shared data, of any scene that `read_scene` reads, and rendered."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datasets.ground_truth import read_scene
from datasets.shared import find_scene_path
from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.evaluation.truth import SceneTruth
from sfm_lightglue.images.image import Image
from sfm_lightglue.scene.natural_order import natural_order
from sfm_lightglue.synthetic.corridor import corridor_loop, small_corridor_loop
from sfm_lightglue.synthetic.image_sequence import ImageSequence

SHARED_SEQUENCES = ("kitti00", "seven_scenes", "icl_office", "tsukuba", "hololens", "tum_fr2_desk")
"""Sequences of the shared data, by their names."""

RENDERED_SEQUENCES = {"corridor": corridor_loop, "small_corridor": small_corridor_loop}
"""Functions that make a rendered sequence of a number of frames."""

_NUM_FRAMES = {"corridor": 600, "small_corridor": 60}

_FRAMES_PER_S = {"kitti00": 10.0, "hololens": 7.5, "tum_fr2_desk": 10.0}
"""Rates of sequences; others have 30 frames a second."""


def open_slam_sequence(text: str, data: Path | None = None, limit: int | None = None) -> ImageSequence:
    """A sequence by its name.

    Args:
        text: "corridor" or "small_corridor", whose images are rendered one by one; a scene that `read_scene` reads; or
            the name of a scene of the shared data.
        data: folder of the shared data, None for the default.
        limit: number of frames; None takes all, and the usual number of a rendered sequence.

    Raises:
        DataError: if there is no such scene, it has no true poses, or several cameras.
    """
    if text in RENDERED_SEQUENCES:
        return RENDERED_SEQUENCES[text](limit or _NUM_FRAMES[text])
    return sequence_of_scene(read_scene(find_scene_path(text, data)), limit)


def sequence_of_scene(truth: SceneTruth, limit: int | None = None) -> ImageSequence:
    """The images of a scene in natural order of their names.

    Args:
        truth: with poses, and one camera.
        limit: number of frames; None takes all.

    Raises:
        DataError: if the scene has no poses, or not one camera.
    """
    cameras = {(camera.model, camera.size, camera.params): camera for camera in truth.camera_from_name.values()}
    if not truth.names or len(cameras) != 1:
        raise DataError(
            f"scene {truth.name}: a sequence needs true poses and one camera, it has {len(cameras)} cameras"
        )
    names = sorted(truth.names, key=natural_order)[:limit]
    return ImageSequence(
        truth.name,
        next(iter(cameras.values())),
        tuple(names),
        _times_s(names, _FRAMES_PER_S.get(truth.name, 30.0)),
        tuple(truth.cam_from_world_from_name[name] for name in names),
        lambda idx: Image.read(truth.image_root / names[idx]).rgb(),
        truth.is_metric,
        truth.image_root,
    )


def _times_s(names: list[str], frames_per_s: float) -> Float64Array:
    """The times in seconds, as they are in the names of TUM's images, else from the rate."""
    try:
        stamps = np.array([float(Path(name).stem) for name in names])
    except ValueError:
        stamps = np.zeros(0)
    is_timed = len(stamps) > 1 and all("." in Path(name).stem for name in names) and bool((np.diff(stamps) > 0).all())
    return stamps if is_timed else np.arange(len(names)) / frames_per_s
