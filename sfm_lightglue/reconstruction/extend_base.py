"""The finished model that a run extends: that of the last run in the output folder, or one from elsewhere."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.arrays import AnyArray, Float32Array, Float64Array
from sfm_lightglue.colmap.database_reader import camera_from_pycolmap
from sfm_lightglue.colmap.image_points import pixels_of
from sfm_lightglue.colmap.model import find_map, read_model
from sfm_lightglue.colmap.model_database import read_stored_keypoints
from sfm_lightglue.errors import DataError, ReconstructionError
from sfm_lightglue.mapping.cached_models import PackedModels, load_models
from sfm_lightglue.mapping.extend_keypoints import RowsFromName
from sfm_lightglue.mapping.model_files import CLOUD_MODEL
from sfm_lightglue.messages import shortened, shown_path
from sfm_lightglue.reconstruction.densified_files import digest_of_model
from sfm_lightglue.reconstruction.publish import DATABASE_NAME
from sfm_lightglue.reconstruction.run_record import RecordedResults
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.store.publication import complete_publication, file_digest, reading_results
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.types import Scene, SceneImage

if TYPE_CHECKING:
    import pycolmap

_NEW_CAMERA = 1 << 24
"""Added to the indices of cameras that the model does not have; its own cameras have their ids as indices."""


@dataclass(frozen=True, eq=False, slots=True)
class ExtensionBase:
    """A finished model.

    Args:
        model: as it was published.
        key: of everything that it depends on.
        known: names of all images that its run knew.
        packed: all models of its run; None for a model from elsewhere.
        database: copy of that of its run, which the extension moves; None if there is none, or if it was changed.
    """

    model: pycolmap.Reconstruction
    key: str
    known: frozenset[str]
    packed: PackedModels | None
    database: Path | None

    def num_found(self, name: str) -> int:
        """How many of the last keypoints of an image are not from its extractor, but from the refinement."""
        return 0 if self.packed is None else self.packed.statistics.num_found.get(name, 0)

    def keypoints_of(
        self, features: SceneFeatures, names: Iterable[str], database: Path, is_ours: bool
    ) -> dict[str, Float64Array]:
        """Pixels [N, 2] of all keypoints of images that may come in; some may be in another model of the run.

        Args:
            features: of the images.
            names: of the images.
            database: that of the run.
            is_ours: whether it has the keypoints of the features, and then what the refinement found.
        """
        pixels = {name: features.dense(name).keypoints.astype(np.float64) for name in names}
        for name, stored in read_stored_keypoints(database) if is_ours else ():
            num_found = self.num_found(name)
            if name in pixels and num_found > 0:
                pixels[name] = np.concatenate([pixels[name], stored[-num_found:].astype(np.float64)])
        return pixels

    def read_detected(self) -> Iterator[tuple[str, Float32Array]]:
        """Name and pixels [N, 2] of the keypoints in the database that extractors found.

        Raises:
            DataError: if it cannot be read.
        """
        if self.database is not None:
            for name, keypoints in read_stored_keypoints(self.database):
                yield name, keypoints[: max(0, len(keypoints) - self.num_found(name))]


def has_finished_model(output: Path) -> bool:
    """Whether the last run in a folder has published a model."""
    return "model" in RecordedResults.read(output).keys and (output / CLOUD_MODEL).is_dir()


def base_of_output(output: Path, store: Store, work: Path) -> ExtensionBase:
    """The model of the last run in an output folder.

    Args:
        output: the folder.
        store: of the folder.
        work: an existing folder for intermediate files.

    Raises:
        DataError: if a frame of the model has several images.
        ReconstructionError: if there is no finished model.
    """
    complete_publication(output)
    with reading_results(output):
        recorded = RecordedResults.read(output)
        database = _copied_database(output, recorded, work)
    key = recorded.keys.get("model", "")
    packed = load_models(store, key) if key else None
    if packed is None or not packed.statistics.published:
        reason = "has no finished model" if not key else "has a finished model, but its store has lost it"
        raise ReconstructionError(
            f"{shown_path(output)}: {reason}, so there is nothing to extend; run the same command once without"
            " extending, or name the model to extend"
        )
    model = unpacked_model(packed.files, CLOUD_MODEL, work)
    _require_single_images(model, output / CLOUD_MODEL)
    known = {*packed.statistics.images, *(image.name for image in packed.statistics.undecodable)}
    return ExtensionBase(model, key, frozenset(known), packed, database)


def _copied_database(output: Path, recorded: RecordedResults, work: Path) -> Path | None:
    """A copy of the database of the last run; None if there is none, or if it was changed."""
    digest = recorded.files.get(DATABASE_NAME)
    if digest is None or not (output / DATABASE_NAME).is_file():
        return None
    copied = work / "base.db"
    with store_errors(copied):
        shutil.copyfile(output / DATABASE_NAME, copied)
    return copied if file_digest(copied) == digest else None


def base_from_elsewhere(path: Path) -> ExtensionBase:
    """A COLMAP model from elsewhere.

    Raises:
        DataError: if there is no model, it is damaged, or a frame of it has several images.
        ReconstructionError: if it has fewer than two images, or no points.
    """
    location = find_map(path)
    model = read_model(location.model)
    names = frozenset(model.images[image_id].name for image_id in model.reg_image_ids())
    if len(names) < 2 or model.num_points3D() == 0:
        raise ReconstructionError(
            f"{shown_path(path)}: the model has {len(names)} images with poses and {model.num_points3D()} points; two"
            " images and some common points are needed to extend it"
        )
    _require_single_images(model, path)
    return ExtensionBase(model, make_key("model from elsewhere", digest_of_model(location.model)), names, None, None)


def _require_single_images(model: pycolmap.Reconstruction, path: Path) -> None:
    if any(len(model.frames[frame_id].data_ids) > 1 for frame_id in model.reg_frame_ids()):
        raise DataError(
            f"{shown_path(path)}: the model has frames of several images (a rig), and such a model cannot be extended"
            " yet; map anew without extending"
        )


class OtherKeypointsError(ReconstructionError):
    """A finished model has keypoints of another version or of other options, and images cannot come into it."""


def require_same_dense_layer(base: ExtensionBase, features: SceneFeatures) -> None:
    """Check that no image of a finished model has our sparse layer, but followed by another dense layer than ours.

    Both dense layers in one model would double the keypoints, and the other models of the run would have other
    keypoints than the database.

    Raises:
        OtherKeypointsError: if an image has another dense layer.
    """
    if base.packed is None or base.database is None:
        return
    for name, keypoints in base.read_detected():
        if name not in features:
            continue
        dense = features.dense(name)
        num_sparse = dense.num_sparse
        is_ours = np.array_equal(keypoints[:num_sparse], dense.keypoints[:num_sparse])
        if len(keypoints) > num_sparse > 0 and is_ours and not np.array_equal(keypoints, dense.keypoints):
            raise OtherKeypointsError(
                f"{name}: the finished model has keypoints of another version or of other options (`density.level`,"
                " `extractor.max_keypoints_dense`); give the options of its run, or run the same command once without"
                " extending"
            )


def is_refined(model: pycolmap.Reconstruction, rows_from_name: RowsFromName, features: SceneFeatures) -> bool:
    """Whether keypoints of a model are elsewhere than where they were detected.

    Args:
        model: with all keypoints.
        rows_from_name: keypoints of the rows of the features of all images.
        features: of the images.
    """
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        if image.name in features:
            pixels = pixels_of(image)[rows_from_name[image.name]]
            if not np.allclose(pixels, features.dense(image.name).keypoints, atol=1e-3):
                return True
    return False


def unpacked_model(files: Mapping[str, AnyArray], path: str, work: Path) -> pycolmap.Reconstruction:
    """A model of packed ones.

    Args:
        files: of the models, by relative path.
        path: of the model.
        work: an existing folder for intermediate files.
    """
    folder = work / "unpacked" / path
    with store_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            if name.startswith(f"{path}/"):
                (work / "unpacked" / name).write_bytes(content.tobytes())
    return read_model(folder)


@dataclass(frozen=True, eq=False, slots=True)
class ExtendedScene:
    """The images of a folder, those of a model with the cameras of the model.

    Args:
        scene: the index of a camera of the model is its id.
        constant_camera_ids: cameras of the model whose intrinsics the user gave.
        guessed_camera_ids: cameras of the model whose focal length was not known before mapping.
    """

    scene: Scene
    constant_camera_ids: frozenset[int]
    guessed_camera_ids: frozenset[int]


def with_known_cameras(scene: Scene, model: pycolmap.Reconstruction, keep_given: bool) -> ExtendedScene:
    """Give the images of a model its cameras, and the others those of images with which they share a camera.

    Args:
        scene: as it was read from the folder.
        model: its names are those of the scene.
        keep_given: given cameras are not refined.

    Raises:
        DataError: if an image of the model is missing, or does not fit its camera.
    """
    camera_id_from_name = {
        model.images[image_id].name: model.images[image_id].camera_id for image_id in model.reg_image_ids()
    }
    missing = sorted(camera_id_from_name.keys() - set(scene.names))
    if missing:
        raise DataError(
            f"{scene.root}: images of the model that is extended are missing or cannot be read: {shortened(missing)};"
            " put them back, or reconstruct the folder anew without extending"
        )
    cameras = {
        camera_id: replace(camera_from_pycolmap(native), source="given")
        for camera_id, native in sorted(model.cameras.items())
    }
    ids_from_idx: dict[int, set[int]] = {}
    for image in scene.images:
        if image.name in camera_id_from_name:
            ids_from_idx.setdefault(image.camera_idx, set()).add(camera_id_from_name[image.name])
    images = []
    for image in scene.images:
        shared = ids_from_idx.get(image.camera_idx, set())
        camera_id = camera_id_from_name.get(image.name, next(iter(shared)) if len(shared) == 1 else None)
        if camera_id is None or (
            image.name not in camera_id_from_name and cameras[camera_id].size != image.camera.size
        ):
            images.append(replace(image, camera_idx=_NEW_CAMERA + image.camera_idx))
            continue
        _require_size(image, cameras[camera_id].size)
        images.append(replace(image, camera=cameras[camera_id], camera_idx=camera_id))

    def ids_of(sources: set[str]) -> frozenset[int]:
        found = [image.name for image in scene.images if image.camera.source in sources]
        return frozenset(camera_id_from_name[name] for name in found if name in camera_id_from_name)

    constant = ids_of({"given"}) if keep_given else frozenset()
    return ExtendedScene(replace(scene, images=tuple(images)), constant, ids_of({"guessed", "estimated"}))


def _require_size(image: SceneImage, size: tuple[int, int]) -> None:
    if image.camera.size != size:
        raise DataError(
            f"{image.name}: has {image.camera.width} x {image.camera.height} pixels, its camera in the model"
            f" {size[0]} x {size[1]}; give the images that the model was made from, neither resized nor rotated"
        )
