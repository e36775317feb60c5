"""Models in which two images were taken together."""

from __future__ import annotations

import copy

import pycolmap

from sfm_lightglue.colmap.image_points import pixels_of


def with_common_frame(model: pycolmap.Reconstruction, first: str, second: str) -> pycolmap.Reconstruction:
    """A copy of a model of one camera, with one frame for two images; the second one has the camera 2 of the rig."""
    found, others = pycolmap.Reconstruction(), {}
    for camera_id in (1, 2):
        others[camera_id] = copy.deepcopy(model.cameras[1])
        others[camera_id].camera_id = camera_id
        found.add_camera(others[camera_id])
    image_from_name = {image.name: image for image in model.images.values()}
    poses = {name: image.cam_from_world() for name, image in image_from_name.items()}
    rig = pycolmap.Rig()
    rig.rig_id = 1
    rig.add_ref_sensor(others[1].sensor_id)
    rig.add_sensor(others[2].sensor_id, poses[second] * poses[first].inverse())
    found.add_rig(rig)
    images = {
        name: pycolmap.Image(
            name=name,
            keypoints=pixels_of(image),
            camera_id=1 + (name == second),
            image_id=image.image_id,
        )
        for name, image in sorted(image_from_name.items())
    }
    for name in sorted(images.keys() - {second}):
        frame = pycolmap.Frame()
        frame.frame_id, frame.rig_id = images[name].image_id, 1
        for one in (name, second) if name == first else (name,):
            frame.add_data_id(images[one].data_id)
            images[one].frame_id = frame.frame_id
        frame.rig_from_world = poses[name]
        found.add_frame(frame)
    for image in images.values():
        found.add_image(image)
    for frame_id in sorted(found.frames):
        found.register_frame(frame_id)
    for point_id in sorted(model.point3D_ids()):
        found.add_point3D(model.points3D[point_id].xyz, model.points3D[point_id].track)
    return found
