"""Small COLMAP models with chosen cameras and points."""

import numpy as np
import PIL.Image  # noqa: F401  # before pycolmap
import pycolmap

SIZE = (1000, 800)


def model_of(points, poses, seen=None, keypoints=None):
    """A model whose images have the ids 1, 2, ... and names "0.png", "1.png", ...

    Args:
        points: [P, 3].
        poses: (R, t) of each image, camera from world.
        seen: rows of the points that each image observes, -1 for none; None for all that project into it.
        keypoints: [K, 2] pixels of each image, of which row k observes point `seen[k]`; None for exact projections.
    """
    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="PINHOLE", width=SIZE[0], height=SIZE[1], params=[800.0, 800.0, 500.0, 400.0], camera_id=1
    )
    model.add_camera_with_trivial_rig(camera)
    tracks = [pycolmap.Track() for _ in points]
    for number, (R, t) in enumerate(poses):
        in_camera = np.asarray(points) @ R.T + t
        rows = np.flatnonzero(in_camera[:, 2] > 0.1) if seen is None else np.asarray(seen[number])
        pixels = np.asarray(camera.img_from_cam(in_camera[rows])) if len(rows) else np.zeros((0, 2))
        if seen is None and len(rows):
            inside = ((pixels >= 0) & (pixels < SIZE)).all(axis=1)
            rows, pixels = rows[inside], pixels[inside]
        if keypoints is not None:
            pixels = np.asarray(keypoints[number], np.float64)
        image = pycolmap.Image(name=f"{number}.png", keypoints=pixels, camera_id=1, image_id=number + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pycolmap.Rotation3d(R), t))
        for index, row in enumerate(rows):
            if row >= 0:
                tracks[row].add_element(number + 1, index)
    for xyz, track in zip(points, tracks, strict=True):
        if track.length() >= 2:
            model.add_point3D(xyz, track)
    return model
