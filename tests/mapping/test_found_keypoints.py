"""All models of a run have the same keypoints of an image, also those that the refinement of one of them adds."""

from __future__ import annotations

import numpy as np
import pycolmap

from sfm_lightglue.mapping.found_keypoints import FoundKeypoints

CAMERA = pycolmap.Camera(camera_id=1, model="SIMPLE_PINHOLE", width=100, height=100, params=[100.0, 50.0, 50.0])


def model_of(names: list[str], num_keypoints: int) -> pycolmap.Reconstruction:
    model = pycolmap.Reconstruction()
    model.add_camera_with_trivial_rig(CAMERA)
    for image_id, name in enumerate(names, start=1):
        image = pycolmap.Image(name=name, keypoints=np.zeros((num_keypoints, 2)), image_id=image_id, camera_id=1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d())
    return model


def keypoints(model: pycolmap.Reconstruction) -> dict[str, list[float]]:
    return {image.name: [float(point.xy[0]) for point in image.points2D] for image in model.images.values()}


def test_models_get_the_keypoints_of_their_common_images() -> None:
    first, second, third = model_of(["a", "b"], 2), model_of(["b", "c"], 2), model_of(["d"], 2)
    found = FoundKeypoints([first, second, third])
    found.give(first)
    for image_id, x in ((1, 7.0), (2, 8.0)):
        first.images[image_id].points2D.append(pycolmap.Point2D([x, 0.0]))
    found.take(first)
    found.give(second)
    assert keypoints(second) == {"b": [0, 0, 8], "c": [0, 0]}
    second.images[1].points2D.append(pycolmap.Point2D([9.0, 0.0]))
    found.take(second)
    for model in (first, second, third):
        found.give(model)
    assert keypoints(first) == {"a": [0, 0, 7], "b": [0, 0, 8, 9]}
    assert keypoints(second) == {"b": [0, 0, 8, 9], "c": [0, 0]}
    assert keypoints(third) == {"d": [0, 0]}


def test_a_model_that_was_not_finished_does_not_take_keypoints_away() -> None:
    """Its images have no more than they got when it was begun."""
    first, second = model_of(["a"], 1), model_of(["a"], 1)
    found = FoundKeypoints([first, second])
    first.images[1].points2D.append(pycolmap.Point2D([5.0, 0.0]))
    found.take(first)
    found.take(second)  # as the mapping made it
    found.give(second)
    assert keypoints(second) == {"a": [0, 5]}
