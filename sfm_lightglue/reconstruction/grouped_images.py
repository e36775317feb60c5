"""The images of a scene with the cameras of groups that were found after mapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sfm_lightglue.mapping.camera_groups import CameraGroup
from sfm_lightglue.types import SceneImage


def with_groups(images: Sequence[SceneImage], groups: Sequence[CameraGroup]) -> list[SceneImage]:
    """The images, each of a group with the camera of this group.

    Args:
        images: of a scene.
        groups: images that get another camera than in the scene.
    """
    next_idx = max((image.camera_idx for image in images), default=-1) + 1
    group_from_name = {name: number for number, group in enumerate(groups) for name in group.names}
    return [
        replace(
            image,
            camera=groups[group_from_name[image.name]].camera,
            camera_idx=next_idx + group_from_name[image.name],
        )
        if image.name in group_from_name
        else image
        for image in images
    ]
