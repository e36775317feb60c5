"""The synthetic scene on the disk: a folder of images with EXIF data, and a file with ground truth."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sfm_lightglue.arrays import Float64Array, UInt8Array
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.execution.threads import ordered_map
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.store.store import atomic_write
from sfm_lightglue.synthetic.image_sequence import ImageSequence
from sfm_lightglue.synthetic.render import DIAGONAL_35MM_MM, SyntheticPhotos, SyntheticScene
from sfm_lightglue.types import Camera

TRUTH_FILE = "truth.json"

_EXIF_MAKE, _EXIF_MODEL, _EXIF_IFD = 0x010F, 0x0110, 0x8769
_EXIF_FOCAL_LENGTH_35MM = 0xA405


def write_scene(scene: SyntheticScene, root: Path, quality: int = 95) -> None:
    """Write root/images/NAME, then root/truth.json; a scene without truth.json is not complete.

    The EXIF data of the images have the exact focal length as 35 mm equivalent. The ground truth per name is
    {width, height, K [3][3], R [3][3], t [3], dist []}, with R, t = cam_from_world in metres and K in OpenCV's pixel
    convention, in which the centre of the first pixel is (0, 0).

    Args:
        scene: the scene to write.
        root: folder, created if it does not exist. Files of the same names are replaced, others are kept.
        quality: of the JPEG files, 1 to 100; chroma is not subsampled.

    Raises:
        ValueError: if the 35 mm equivalent focal length is not an integer number of millimetres.
        StoreError: if the folder is not writable or the disk is full.
    """
    cameras = dict.fromkeys(scene.images, scene.camera)
    _write_all(scene.images, cameras, scene.cam_from_world_from_name, root, quality, exif_of_camera(scene.camera))


def write_photos(photos: SyntheticPhotos, root: Path, quality: int = 95) -> None:
    """As `write_scene`, for images of several cameras: the images have no EXIF data, and `dist` is [k1].

    Args:
        photos: the images to write.
        root: as of `write_scene`.
        quality: as of `write_scene`.

    Raises:
        StoreError: if the folder is not writable or the disk is full.
    """
    _write_all(photos.images, photos.camera_from_name, photos.cam_from_world_from_name, root, quality, Image.Exif())


def _write_all(
    images: Mapping[str, UInt8Array],
    cameras: Mapping[str, Camera],
    poses: Mapping[str, Rigid3],
    root: Path,
    quality: int,
    exif: Image.Exif,
) -> None:
    (root / TRUTH_FILE).unlink(missing_ok=True)
    for name, image in images.items():
        write_photo(image, root, name, exif, quality)
    write_truth(cameras, poses, root)


def write_photo(image: UInt8Array, root: Path, name: str, exif: Image.Exif, quality: int = 95) -> None:
    """Write root/images/NAME from pixels [H, W, 3]; see `write_scene`."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0, exif=exif)
    _write(root / "images" / name, buffer.getvalue())


def write_truth(cameras: Mapping[str, Camera], poses: Mapping[str, Rigid3], root: Path) -> None:
    """Write root/truth.json from cameras and poses cam_from_world, both from name; see `write_scene`."""
    truth = {name: _truth(cameras[name], pose) for name, pose in poses.items()}
    _write(root / TRUTH_FILE, json.dumps(truth, indent=1).encode())


def stored_sequence(
    sequence: ImageSequence, root: Path, progress: Progress = silent, num_threads: int = 1
) -> ImageSequence:
    """The sequence with its images in a folder, as of `write_scene`; those that are there already are kept.

    Args:
        sequence: whose images take long to make, of a "SIMPLE_PINHOLE" or "SIMPLE_RADIAL" camera.
        root: as of `write_scene`.
        progress: called after every image, with stage "render".
        num_threads: make so many images at a time.

    Raises:
        StoreError: if the folder is not writable or the disk is full.
    """

    def store(idx: int) -> None:
        if not (root / "images" / sequence.names[idx]).is_file():
            write_photo(sequence.image(idx), root, sequence.names[idx], Image.Exif())

    for done, _ in enumerate(ordered_map(store, range(len(sequence)), num_threads), start=1):
        progress("render", done, len(sequence))
    poses = dict(zip(sequence.names, sequence.cam_from_world, strict=True))
    write_truth(dict.fromkeys(sequence.names, sequence.camera), poses, root)
    folder = root / "images"
    return replace(sequence, image=lambda idx: _stored_pixels(folder / sequence.names[idx]), folder=folder)


def _stored_pixels(path: Path) -> UInt8Array:
    with Image.open(path) as image:
        return np.asarray(image)


def read_truth(root: Path) -> tuple[dict[str, Camera], dict[str, Rigid3]]:
    """Read root/truth.json of `write_scene`.

    Returns:
        Cameras ("PINHOLE", COLMAP's pixel convention) and poses cam_from_world, both from name.

    Raises:
        DataError: if the scene is missing or incomplete.
    """
    path = root / TRUTH_FILE
    try:
        truth = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read; write the synthetic scene again ({error})") from error
    cameras, poses = {}, {}
    for name, entry in sorted(truth.items()):
        cameras[name] = _camera(entry)
        poses[name] = Rigid3(np.array(entry["R"]), np.array(entry["t"]))
    return cameras, poses


def exif_of_camera(camera: Camera) -> Image.Exif:
    """EXIF data with the focal length of a camera as 35 mm equivalent.

    Raises:
        ValueError: if that is not an integer number of millimetres.
    """
    width, height = camera.size
    exact_mm = camera.params[0] / math.hypot(width, height) * DIAGONAL_35MM_MM
    focal_35mm_mm = round(exact_mm)
    if abs(exact_mm - focal_35mm_mm) > 1e-6 * exact_mm:
        raise ValueError(f"write_scene: EXIF cannot hold a focal length of {exact_mm} mm exactly")
    exif = Image.Exif()
    exif[_EXIF_MAKE], exif[_EXIF_MODEL] = "sfm_lightglue", "synthetic"
    exif.get_ifd(_EXIF_IFD)[_EXIF_FOCAL_LENGTH_35MM] = focal_35mm_mm
    return exif


def _truth(camera: Camera, cam_from_world: Rigid3) -> dict[str, Any]:
    focal, cx, cy, *radial = camera.params
    K: Float64Array = np.array([[focal, 0, cx - 0.5], [0, focal, cy - 0.5], [0, 0, 1]])
    return {
        "width": camera.width,
        "height": camera.height,
        "K": K.tolist(),
        "R": cam_from_world.R.tolist(),
        "t": cam_from_world.t.tolist(),
        "dist": radial,
    }


def _camera(entry: Mapping[str, Any]) -> Camera:
    (fx, _, cx), (_, fy, cy), _ = entry["K"]
    return Camera("PINHOLE", entry["width"], entry["height"], (fx, fy, cx + 0.5, cy + 0.5))


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)
