"""Find the poses of images in a finished map, of this library or of another tool."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.colmap.database_reader import camera_from_pycolmap
from sfm_lightglue.colmap.model import find_map, read_model
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.features import Features
from sfm_lightglue.images.image import MIN_SIDE_PX, Image
from sfm_lightglue.localization.candidates import choose_candidates
from sfm_lightglue.localization.config import LocalizeConfig
from sfm_lightglue.localization.judgement import judged_pose
from sfm_lightglue.localization.map_features import MapStore, RunOfMap, features_of_database, features_of_images
from sfm_lightglue.localization.map_points import MapPoints
from sfm_lightglue.localization.matching import ImageMatches, collected, match_with_points
from sfm_lightglue.localization.result import Localization
from sfm_lightglue.messages import nearest_hint, shown_path
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.retrieval.image_index import ImageIndex
from sfm_lightglue.scene.camera_assignment import CameraConfig, camera_of_image
from sfm_lightglue.types import Camera

QueryImage = Path | str | Image | UInt8Array
"""A file, an `Image`, or pixels [H, W] or [H, W, 3] (RGB) of uint8."""


class Localizer:
    """A map that stays loaded, in which images are found. Use it in a `with` statement, or call `close`.

    Args:
        map: an output folder, a scene folder that has one, or a COLMAP model.
        images: folder that the names of its images are relative to; None looks beside the model.
        database: COLMAP database of the model with SIFT descriptors, which are matched instead of the images.
        config: options; None takes extractor and matcher of the run that made the map.
        store: folder that keeps the features of the images; None for the output folder of the map, or nothing for the
            model of another tool.
        progress: called as the stages "scan", "extract" and "describe" advance.

    Raises:
        DataError: if there is no model, it has no points, or images are missing.
        ConfigError: for options that do not fit.
        WeightsError: if the weights of a network are missing.

    Example:
        >>> with sfm_lightglue.Localizer("photos") as localizer:
        ...     found = localizer.localize("left.jpg")
        >>> found.registered
        True
    """

    def __init__(
        self,
        map: Path | str,
        images: Path | str | None = None,
        database: Path | str | None = None,
        config: LocalizeConfig | None = None,
        store: Path | str | None = None,
        progress: Progress = silent,
    ) -> None:
        self.location = find_map(Path(map), None if images is None else Path(images))
        run = RunOfMap.of(self.location)
        self.config = config if config is not None else LocalizeConfig.from_mapping(run.tables)
        model = read_model(self.location.model)
        if model.num_reg_images() == 0 or model.num_points3D() == 0:
            raise DataError(
                f"{shown_path(self.location.model)}: the model has no points, so nothing can be found in it"
            )
        self._points = MapPoints(model)
        self._extractor = EXTRACTORS.build(self.config.extractor, self.config.device)
        self._matcher = MATCHERS.build(self.config.matcher, self.config.device)
        self._exif_ids: LruCache[str, str] = LruCache(4096)
        self._executor = executor = ThreadExecutor(self.config.num_threads)
        self._store = MapStore(self.location, None if store is None else Path(store))
        try:
            if database is not None:
                self._features = features_of_database(model, Path(database), self.config.extractor.name)
            else:
                self._features = features_of_images(
                    model, self.location, run.masks, self._extractor, self._store.store, executor, progress
                )
            self._index = ImageIndex.from_features(self._features, self._store.store, executor, progress)
            self._store.store.flush()
        except BaseException:
            self._store.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits in memory, and remove temporary files."""
        self._store.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images of the map that have features, sorted."""
        return tuple(sorted(self._features))

    def localize(
        self,
        image: QueryImage,
        camera: Camera | CameraConfig | None = None,
        name: str | None = None,
        candidates: Sequence[str] | None = None,
    ) -> Localization:
        """Find the pose of an image.

        Args:
            image: a file, an `Image`, or pixels.
            camera: intrinsics, or the camera model with or without parameters. Without parameters, the focal length is
                that of the map's camera if the EXIF data name the same one, else of the EXIF data, else it is
                estimated.
            name: in the result; None takes the path.
            candidates: images of the map to match with; None for the most similar ones.

        Returns:
            A pose, or the reason why there is none; an unreadable image is a reason too.

        Raises:
            ConfigError: if the intrinsics do not fit the image.
            DataError: if a candidate is not an image of the map.
        """
        start = time.perf_counter()
        for one in candidates or ():
            if one not in self._features:
                raise DataError(f"{one!r}: no image of the map{nearest_hint(one, self._features)}")
        shown = name or (image.name if isinstance(image, Image) else str(image) if _is_path(image) else "array")
        try:
            read = _as_image(image, shown)
            known = _stated_camera(read, camera)
            features = self._extractor.extract(read)
        except DataError as error:
            found = Localization(shown, None, "unreadable", message=str(error))
        else:
            found = self._localized(read, shown, features, known, candidates)
        return replace(found, seconds=time.perf_counter() - start)

    def localize_all(self, images: Iterable[QueryImage], camera: CameraConfig | None = None) -> list[Localization]:
        """The poses of several images, in their order."""
        return [self.localize(image, camera) for image in images]

    def _localized(
        self, image: Image, name: str, features: Features, camera: Camera, candidates: Sequence[str] | None
    ) -> Localization:
        config = self.config
        first: Sequence[str] = candidates or ()
        others: Sequence[str] = ()
        if candidates is None:
            first, others = choose_candidates(
                self._index, features, self._points, config.num_images, min(config.first_images, config.num_images)
            )
        if len(first) == 0:
            return Localization(name, None, "no_similar_image", camera=camera)
        if camera.source == "exif":
            camera = self._same_camera_of_map(image, camera, [*first, *others]) or camera
        found = self._matched(features, first)
        matches = collected(found)
        judged = judged_pose(matches, features, camera, config.limits, config.seed)
        if others and not (judged.reason is None and judged.num_inliers >= config.enough_inliers):
            found |= self._matched(features, others)
            matches = collected(found)
            judged = judged_pose(matches, features, camera, config.limits, config.seed)
        pose, num = judged.pose, matches.num_keypoints
        if pose is None or judged.reason is not None:
            images = matches.supporting(None if pose is None else pose.inlier_mask)
            return Localization(name, None, judged.reason, num, judged.num_inliers, images, camera)
        images = matches.supporting(pose.inlier_mask)
        return Localization(
            name, pose.cam_from_world, None, num, judged.num_inliers, images, pose.camera, pose.covariance
        )

    def _matched(self, features: Features, names: Sequence[str]) -> dict[str, ImageMatches]:
        """Matches of an image with images of the map."""
        num_threads = self._executor.num_workers
        return match_with_points(features, names, self._features, self._points, self._matcher, num_threads)

    def _same_camera_of_map(self, image: Image, camera: Camera, names: Sequence[str]) -> Camera | None:
        """The refined intrinsics of the map for a camera that the EXIF data of an image of the map name too."""
        if self.location.images is None or not image.exif.camera_id:
            return None
        for name in names:
            native = self._points.camera(name)
            if (native.width, native.height) == image.size and self._exif_id(name) == image.exif.camera_id:
                own = camera_from_pycolmap(native)
                return Camera(own.model, own.width, own.height, own.params, "exif")
        return None

    def _exif_id(self, name: str) -> str:
        """What the EXIF data of an image of the map say of its camera; "" for nothing."""
        known = self._exif_ids.get(name)
        if known is None:
            try:
                known = self._image_of_map(name).exif.camera_id
            except DataError:  # the features are known, so the file has gone meanwhile
                known = ""
            self._exif_ids.put(name, known)
        return known

    def _image_of_map(self, name: str) -> Image:
        if self.location.images is None:
            raise DataError(f"{name}: the folder of the images of the map is not known")
        return Image.read(self.location.images / name, name)


def localize(
    map: Path | str,
    queries: QueryImage | Sequence[QueryImage],
    images: Path | str | None = None,
    database: Path | str | None = None,
    camera: CameraConfig | None = None,
    config: LocalizeConfig | None = None,
    progress: Progress = silent,
) -> list[Localization]:
    """Find the poses of images in a finished map. For many calls, keep a `Localizer`.

    Args:
        map: an output folder, a scene folder that has one, or a COLMAP model.
        queries: one image or several.
        images: folder that the names of the map's images are relative to; None looks beside the model.
        database: COLMAP database of the model with SIFT descriptors, which are matched instead of the images.
        camera: camera model and parameters of all queries; None takes the EXIF data.
        config: options; None takes extractor and matcher of the run that made the map.
        progress: called as the stages advance.

    Returns:
        A result for each query, with a pose or the reason why there is none.

    Raises:
        DataError: if there is no model, or images of the map are missing.
        ConfigError: for options or intrinsics that do not fit.

    Example:
        >>> found = sfm_lightglue.localize("photos", ["left.jpg"])
        >>> found[0].registered
        True
    """
    several = queries if isinstance(queries, list | tuple) else [queries]
    with Localizer(map, images, database, config, progress=progress) as localizer:
        found = []
        for done, query in enumerate(several, start=1):
            found.append(localizer.localize(query, camera))
            progress("localize", done, len(several))
        return found


def _is_path(image: QueryImage) -> bool:
    return isinstance(image, Path | str)


def _as_image(image: QueryImage, name: str) -> Image:
    if isinstance(image, Image):
        return image
    return Image.read(image, name) if isinstance(image, Path | str) else Image.from_array(image, name)


def _stated_camera(image: Image, stated: Camera | CameraConfig | None) -> Camera:
    if min(image.size) < MIN_SIDE_PX:
        raise DataError(f"{image.name}: only {image.size[0]} x {image.size[1]} pixels")
    if not isinstance(stated, Camera):
        return camera_of_image(image, stated or CameraConfig())
    if stated.size != image.size:
        raise ConfigError(
            f"{image.name}: has {image.size[0]} x {image.size[1]} pixels, its camera {stated.width} x {stated.height}"
        )
    return stated
