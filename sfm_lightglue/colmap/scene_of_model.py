"""The images of a finished model, with the cameras that the model has for them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sfm_lightglue.colmap.database_reader import camera_from_pycolmap
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import SERIAL, Executor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.images.image import Image
from sfm_lightglue.images.mask import digest_of_mask
from sfm_lightglue.messages import shown_path
from sfm_lightglue.scene.masks import masks_of_photos
from sfm_lightglue.scene.walk import find_files
from sfm_lightglue.types import Camera, Scene, SceneImage

if TYPE_CHECKING:
    import pycolmap


def scene_of_model(
    model: pycolmap.Reconstruction,
    images: Path,
    masks: Path | None = None,
    executor: Executor = SERIAL,
    progress: Progress = silent,
) -> Scene:
    """The registered images of a model.

    Args:
        model: of which the names of the images are relative to `images`.
        images: folder of the images.
        masks: folder of the masks; None looks for folders named "masks".
        executor: reads several files at a time.
        progress: called with the stage "scan" after each file.

    Raises:
        DataError: if an image is missing, cannot be read or has another size than its camera, or if a camera has no
            image plane.
        ConfigError: if the given masks do not fit the images.
    """
    natives = sorted((model.images[image_id] for image_id in model.reg_image_ids()), key=lambda one: one.name)
    _require_files([one.name for one in natives], images)
    camera_from_id = {camera_id: _camera(native) for camera_id, native in sorted(model.cameras.items())}
    mask_from_name = masks_of_photos(find_files(images, [masks] if masks is not None else []), masks)[1]

    def read(native: pycolmap.Image) -> SceneImage:
        camera, mask = camera_from_id[native.camera_id], mask_from_name.get(native.name)
        return _scene_image(images / native.name, native.name, camera, native.camera_id, mask)

    found: list[SceneImage] = []
    progress("scan", 0, len(natives))
    for one in executor.map(read, natives):
        found.append(one)
        progress("scan", len(found), len(natives))
    return Scene(images, tuple(found))


def _require_files(names: list[str], images: Path) -> None:
    missing = [name for name in names if not (images / name).is_file()]
    if missing:
        others = f" (and {len(missing) - 1} more of {len(names)} images)" if len(missing) > 1 else ""
        raise DataError(
            f"{shown_path(images / missing[0])}: no such image{others}; give the folder that the names of the model's"
            " images are relative to by `images`"
        )


def _camera(native: pycolmap.Camera) -> Camera:
    if native.is_spherical():
        raise DataError(f"the model has a camera {native.model_name}, which has no image plane and is not supported")
    return camera_from_pycolmap(native)


def _scene_image(path: Path, name: str, camera: Camera, camera_id: int, mask: Path | None) -> SceneImage:
    image = Image.read(path, name)
    if image.size != camera.size:
        raise DataError(
            f"{name}: has {image.size[0]} x {image.size[1]} pixels, its camera in the model"
            f" {camera.width} x {camera.height}; give the images that the model was made from, neither resized nor"
            " rotated, by `images`"
        )
    turns = image.quarter_turns
    mask_digest = "" if mask is None else digest_of_mask(mask, image.size, turns)
    return SceneImage(name, path, camera, camera_id, image.digest, None, turns, mask, mask_digest)
