"""Find the poses of images in a finished map, of this library or of another tool."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.colmap.model import MapLocation, find_map
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.images.image import MIN_SIDE_PX, Image
from sfm_lightglue.localization.candidates import RIVAL_SIMILARITY
from sfm_lightglue.localization.config import LocalizeConfig
from sfm_lightglue.localization.loaded_model import LoadedModel, Query
from sfm_lightglue.localization.map_features import MapStore, RunOfMap, searched_models
from sfm_lightglue.localization.result import Localization, best_of_models
from sfm_lightglue.messages import nearest_hint, shown_path
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.scene.camera_assignment import CameraConfig, camera_of_image
from sfm_lightglue.stages.cached import both_layers
from sfm_lightglue.types import Camera

logger = logging.getLogger(__name__)

QueryImage = Path | str | Image | UInt8Array
"""A file, an `Image`, or pixels [H, W] or [H, W, 3] (RGB) of uint8."""


class Localizer:
    """A map that stays loaded, in which images are found. Use it in a `with` statement, or call `close`.

    If a run has made several models, an image is looked for in all of them, unless one of them is given as `map`. A
    further model that cannot be read, or whose images are missing, is logged as a warning and left out.

    Args:
        map: an output folder, a scene folder that has one, or a COLMAP model.
        images: folder that the names of its images are relative to; None looks beside the model.
        database: COLMAP database of the model with SIFT descriptors, which are matched instead of the images.
        config: options; None takes extractor and matcher of the run that made the map.
        store: folder that keeps the features of the images; None for the output folder of the map, or nothing for the
            model of another tool.
        progress: called as the stages "scan", "extract" and "describe" advance.

    Raises:
        DataError: if there is no model, the first one has no points, or its images are missing.
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
        self._extractor = EXTRACTORS.build(self.config.extractor, self.config.device)
        matcher = MATCHERS.build(self.config.matcher, self.config.device)
        executor = ThreadExecutor(self.config.num_threads)
        self._store = MapStore(self.location, None if store is None else Path(store))
        files = None if database is None else Path(database)

        def load(one: MapLocation) -> LoadedModel:
            return LoadedModel.load(
                one, files, run, self.config, self._extractor, matcher, self._store.store, executor, progress
            )

        try:
            self.models = _loaded(searched_models(Path(map), self.location), load)
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
        return tuple(sorted({name for model in self.models for name in model.features.sparse}))

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
        names = self.names if candidates else ()
        for one in candidates or ():
            if one not in names:
                raise DataError(f"{one!r}: no image of the map{nearest_hint(one, names)}")
        shown = name or (image.name if isinstance(image, Image) else str(image) if _is_path(image) else "array")
        try:
            read = _as_image(image, shown)
            known = _stated_camera(read, camera)
            query = self._query(read, shown, known, candidates)
        except DataError as error:
            found = Localization(shown, None, "unreadable", message=str(error))
        else:
            found = self._found(query)
        return replace(found, seconds=time.perf_counter() - start)

    def localize_all(self, images: Iterable[QueryImage], camera: CameraConfig | None = None) -> list[Localization]:
        """The poses of several images, in their order."""
        return [self.localize(image, camera) for image in images]

    def _query(self, image: Image, name: str, camera: Camera, candidates: Sequence[str] | None) -> Query:
        """An image with its features; both layers are found in one pass."""
        if not self.config.guided:
            return Query(image, name, self._extractor.extract(image), None, camera, candidates)
        layers = both_layers(self._extractor, image, self.config.max_keypoints_dense, None)
        return Query(image, name, *layers, camera, candidates)

    def _found(self, query: Query) -> Localization:
        """The best pose of an image in the models that may show it."""
        results = [
            replace(model.find(own, self.config), model=model.name) for model, own in self._possible_models(query)
        ]
        return best_of_models(results, self.config.limits.max_rival_share)

    def _possible_models(self, query: Query) -> list[tuple[LoadedModel, Query]]:
        """The models with images that are about as similar as the most similar one of all, the largest model first.

        Given candidates are those of their models.
        """
        if len(self.models) == 1:
            return [(self.models[0], query)]
        if query.candidates is not None:
            given = set(query.candidates)
            pairs = [
                (model, replace(query, candidates=[name for name in query.candidates if name in model.features.sparse]))
                for model in self.models
                if given & model.features.sparse.keys()
            ]
            return pairs or [(self.models[0], query)]
        similarities = [model.similarity(query.features) for model in self.models]
        top = max(similarities)
        least = min(top, RIVAL_SIMILARITY * top)  # similarities may be negative
        return [
            (model, query) for model, similarity in zip(self.models, similarities, strict=True) if similarity >= least
        ]


def _loaded(locations: Sequence[MapLocation], load: Callable[[MapLocation], LoadedModel]) -> tuple[LoadedModel, ...]:
    """The models of a map. Those beside the first one that cannot be used are left out with a warning."""
    models: list[LoadedModel] = []
    for one in locations:
        try:
            models.append(load(one))
        except DataError as error:
            if not models:
                raise
            shown = shown_path(one.model)
            logger.warning("%s: this model of the map cannot be used, and is left out (%s)", shown, error)
    return tuple(models)


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
