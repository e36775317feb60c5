"""The second matching of two images: all keypoints of their dense layers, along the epipolar lines of a first pose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.stages.cached import CachedExtractor
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.guided import match_guided
from sfm_lightglue.two_view.guided_config import GuidedConfig
from sfm_lightglue.two_view.relative_pose import RelativePose, relative_pose_from_matches
from sfm_lightglue.types import Camera, DenseFeatures, Features, Matches, TwoViewGeometry


@dataclass(frozen=True, eq=False, slots=True)
class Layers:
    """The features of an image that the matcher sees, and those of all layers."""

    features: Features
    dense: DenseFeatures

    @property
    def all_features(self) -> Features:
        """All keypoints; the additional ones have the score 0, and there are no orientations."""
        dense, sparse = self.dense, self.features
        scores = np.zeros(len(dense), np.float32)
        scores[: dense.num_sparse] = sparse.scores
        return Features(
            dense.keypoints,
            scores,
            dense.unit_descriptors(),
            dense.image_size,
            dense.scales,
            None,
            sparse.quarter_turns,
            shrink_factor=dense.shrink_factor,
        )


def dense_limit(extractor: Extractor) -> int:
    """Largest number of keypoints of the dense layer of an extractor; 0 if it has none."""
    bare = extractor.extractor if isinstance(extractor, CachedExtractor) else extractor
    return int(getattr(getattr(bare, "config", None), "max_keypoints_dense", 0))


def extract_layers(extractor: Extractor, image: Image, with_dense: bool) -> Layers:
    """Find the features of an image.

    Args:
        extractor: one without a dense layer gives its features alone.
        image: to decode.
        with_dense: whether the dense layer is wanted.

    Raises:
        DataError: if the image cannot be decoded.
    """
    limit = dense_limit(extractor) if with_dense else 0
    extract_dense = getattr(extractor, "extract_dense", None)
    if limit == 0 or extract_dense is None:
        features = extractor.extract(image)
        return Layers(features, DenseFeatures.from_features(features))
    return Layers(*extract_dense(image, limit))


@dataclass(frozen=True, eq=False, slots=True)
class GuidedResult:
    """Features of all layers of both images, their guided matches, and the pose of these matches."""

    features: tuple[Features, Features]
    matches: Matches
    relative_pose: RelativePose


def match_along_lines(
    first: RelativePose,
    layers: tuple[Layers, Layers],
    cameras: tuple[Camera, Camera],
    guided: GuidedConfig,
    config: TwoViewConfig | None,
    seed: int,
    is_same_camera: bool,
) -> GuidedResult | None:
    """Match the dense layers of two images along the epipolar lines of a pose, and estimate the pose again.

    The band around a line is wider where the pose is uncertain. If a focal length is guessed, the lines are those of
    the fundamental matrix, which does not depend on it.

    Args:
        first: pose of the first matches.
        layers: features of both images.
        cameras: intrinsics before the first matches told a focal length.
        guided: options of the second matching.
        config: thresholds of the verification.
        seed: of its random samples.
        is_same_camera: whether both images have the same, possibly unknown, focal length.

    Returns:
        None if the first pose has no certain epipolar lines, or if the second one has fewer inliers or a less certain
        verdict.
    """
    if not _has_epipolar_lines(first):
        return None
    matches = _guided_matches(first, layers, guided)
    features = layers[0].all_features, layers[1].all_features
    second = relative_pose_from_matches(*features, matches, *cameras, config, seed, is_same_camera=is_same_camera)
    if second.num_inliers < first.num_inliers or second.verdict not in ("general", first.verdict):
        return None
    return GuidedResult(features, matches, second)


def _has_epipolar_lines(pose: RelativePose) -> bool:
    """Whether the matches determine epipolar lines. Those of a plane do if they leave one pose of known cameras."""
    is_certain_plane = pose.alternative_pose is None and "guessed" not in pose.focal_sources
    return pose.verdict == "general" or (pose.verdict == "planar" and is_certain_plane)


def _guided_matches(pose: RelativePose, layers: tuple[Layers, Layers], config: GuidedConfig) -> Matches:
    dense0, dense1 = (one.dense for one in layers)
    if "guessed" in pose.focal_sources:
        assert isinstance(pose.geometry, TwoViewGeometry)  # there is a pose
        return match_guided(dense0, dense1, pose.cameras, F=pose.geometry.F, config=config)
    covariance = None if pose.uncertainty is None else pose.uncertainty.noise_covariance
    return match_guided(
        dense0, dense1, pose.cameras, cam1_from_cam0=pose.cam1_from_cam0, covariance=covariance, config=config
    )
