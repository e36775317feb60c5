"""One model of a map that stays loaded, and the pose of an image in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfm_lightglue.colmap.database_reader import camera_from_pycolmap
from sfm_lightglue.colmap.model import MapLocation, read_model
from sfm_lightglue.errors import DataError
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.features import DenseFeatures, Features
from sfm_lightglue.images.image import Image
from sfm_lightglue.localization.appearance import MapAppearance
from sfm_lightglue.localization.candidates import choose_candidates
from sfm_lightglue.localization.config import LocalizeConfig
from sfm_lightglue.localization.guided_search import guided_pose
from sfm_lightglue.localization.judgement import JudgedPose, inlier_limit_px, is_certain, judged_pose
from sfm_lightglue.localization.map_features import MapFeatures, RunOfMap, features_of_database, features_of_images
from sfm_lightglue.localization.map_points import MapPoints
from sfm_lightglue.localization.matching import ImageMatches, PointMatches, collected, match_with_points
from sfm_lightglue.localization.result import Localization
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.messages import shown_path
from sfm_lightglue.retrieval.image_index import ImageIndex
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Camera


@dataclass(frozen=True, eq=False, slots=True)
class Query:
    """An image whose pose is wanted.

    Args:
        image: the image.
        name: in the result.
        features: those that matchers see.
        dense: all of them; the first ones are the same. None without a guided search.
        camera: intrinsics, and where they are from.
        candidates: images of the map to match with; None for the most similar ones.
    """

    image: Image
    name: str
    features: Features
    dense: DenseFeatures | None
    camera: Camera
    candidates: Sequence[str] | None


class LoadedModel:
    """A model with the features of its images.

    Args:
        location: of the model.
        points: of the model.
        features: of its images.
        matcher: of features.
        store: keeps the global descriptors of the images.
        executor: works on several images at a time.
        progress: called with "describe" after each image.
    """

    def __init__(
        self,
        location: MapLocation,
        points: MapPoints,
        features: MapFeatures,
        matcher: Matcher,
        store: Store,
        executor: Executor,
        progress: Progress,
    ) -> None:
        self.location, self.points, self.features = location, points, features
        self._matcher, self._executor = matcher, executor
        self._appearance = MapAppearance(points, features.dense, features.dense_rows)
        self._exif_ids: LruCache[str, str] = LruCache(4096)
        self._index = ImageIndex.from_features(features.sparse, store, executor, progress)

    @classmethod
    def load(
        cls,
        location: MapLocation,
        database: Path | None,
        run: RunOfMap,
        config: LocalizeConfig,
        extractor: Extractor,
        matcher: Matcher,
        store: Store,
        executor: Executor,
        progress: Progress,
    ) -> LoadedModel:
        """Read a model and the features of its images, or extract them.

        Raises:
            DataError: if the model has no points, or images are missing.
            ConfigError: if the extractor does not fit the database.
        """
        model = read_model(location.model)
        if model.num_reg_images() == 0 or model.num_points3D() == 0:
            raise DataError(f"{shown_path(location.model)}: the model has no points, so nothing can be found in it")
        if database is not None:
            features = features_of_database(model, database, config.extractor.name, config.max_keypoints_dense)
        else:
            limit = config.max_keypoints_dense * run.dense_factor
            features = features_of_images(model, location, run.masks, extractor, store, executor, progress, limit)
        return cls(location, MapPoints(model), features, matcher, store, executor, progress)

    @property
    def name(self) -> str:
        """Path of the model in its output folder, such as "sparse/0"; "" for a model of another tool."""
        output, model = self.location.output, self.location.model
        if output is None or not model.resolve().is_relative_to(output.resolve()):
            return ""
        return model.resolve().relative_to(output.resolve()).as_posix()

    def similarity(self, features: Features) -> float:
        """That of the most similar image of the model; 0 if there is none."""
        return max((similarity for _, similarity in self._index.query(features, 1)), default=0.0)

    def find(self, query: Query, config: LocalizeConfig) -> Localization:
        """The pose of an image, or the reason why it has none."""
        first: Sequence[str] = query.candidates or ()
        others: Sequence[str] = ()
        if query.candidates is None:
            num_first = min(config.first_images, config.num_images)
            first, others = choose_candidates(self._index, query.features, self.points, config.num_images, num_first)
        camera = query.camera
        if len(first) == 0:
            return Localization(query.name, None, "no_similar_image", camera=camera)
        if config.same_camera and camera.source != "given":
            camera = self._camera_of_size(camera.size, [*first, *others]) or camera
        elif camera.source == "exif":
            camera = self._same_camera_of_map(query.image, camera, [*first, *others]) or camera
        found = self._matched(query.features, first)
        matches = collected(found)
        judged = judged_pose(matches, query.features, camera, config.limits, config.seed)
        if others and not (judged.reason is None and judged.num_inliers >= config.enough_inliers):
            found |= self._matched(query.features, others)
            matches = collected(found)
            judged = judged_pose(matches, query.features, camera, config.limits, config.seed)
        return self._result(query, camera, matches, judged, config)

    def _result(
        self, query: Query, camera: Camera, matches: PointMatches, judged: JudgedPose, config: LocalizeConfig
    ) -> Localization:
        pose, num = judged.pose, matches.num_keypoints
        if pose is None or judged.reason is not None:
            images = matches.supporting(None if pose is None else pose.inlier_mask)
            return Localization(query.name, None, judged.reason, num, judged.num_inliers, images, camera)
        num_guided = 0
        if query.dense is not None:
            limit_px = inlier_limit_px(camera, config.limits)
            better = guided_pose(pose, matches, query.dense, camera, self.points, self._appearance, limit_px)
            if better is not None and is_certain(better.pose, matches.xyz[better.pose.inlier_mask], config.limits):
                pose, num_guided = better.pose, better.num_inliers
        return Localization(
            query.name,
            pose.cam_from_world,
            None,
            num,
            matches.num_keypoints_of(pose.inlier_mask),
            matches.supporting(pose.inlier_mask),
            pose.camera,
            pose.covariance,
            num_guided_inliers=num_guided,
        )

    def _matched(self, features: Features, names: Sequence[str]) -> dict[str, ImageMatches]:
        """Matches of an image with images of the map."""
        num_threads = self._executor.num_workers
        return match_with_points(features, names, self.features.sparse, self.points, self._matcher, num_threads)

    def _camera_of_size(self, size: tuple[int, int], names: Sequence[str]) -> Camera | None:
        """The intrinsics of the first of some images of the map that has a size."""
        for name in names:
            native = self.points.camera(name)
            if (native.width, native.height) == size:
                return replace(camera_from_pycolmap(native), source="given")
        return None

    def _same_camera_of_map(self, image: Image, camera: Camera, names: Sequence[str]) -> Camera | None:
        """The refined intrinsics of the map for a camera that the EXIF data of an image of the map name too."""
        if self.location.images is None or not image.exif.camera_id:
            return None
        for name in names:
            native = self.points.camera(name)
            if (native.width, native.height) == image.size and self._exif_id(name) == image.exif.camera_id:
                return replace(camera_from_pycolmap(native), source="exif")
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
