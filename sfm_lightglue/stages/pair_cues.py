"""The cues about look-alikes of the verified pairs of a scene, from what is kept of the pairs and of the images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.scene_cues import scene_cues
from sfm_lightglue.lookalikes.views import ImageView, PairView
from sfm_lightglue.scene.cameras import mean_focal_length
from sfm_lightglue.scene.natural_order import natural_order
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import VerifiedPairRecord
from sfm_lightglue.stages.keypoints import HasKeypoints
from sfm_lightglue.types import Camera, Features, ImagePair, PairEvidence


def cues_of_pairs(
    verified: Mapping[ImagePair, VerifiedPairRecord],
    features: Mapping[str, Features],
    position_m_from_name: Mapping[str, Float64Array] | None = None,
    max_error_deg: float = 5.0,
    camera_from_name: Mapping[str, Camera] | None = None,
) -> dict[ImagePair, PairCues]:
    """The cues of each verified pair.

    Args:
        verified: by pair, with inliers.
        features: by name of image; each is looked up once.
        position_m_from_name: known positions [3] of images in metres.
        max_error_deg: rotations of a triplet that differ by at most this angle close.
        camera_from_name: intrinsics of images; without them, some cues are not known.

    Raises:
        ValueError: if a record has no inliers.
    """
    views = scene_views(verified, features, position_m_from_name or {}, camera_from_name or {})
    return dict(zip(sorted(verified), scene_cues(views.images, views.pairs, max_error_deg), strict=True))


@dataclass(frozen=True, eq=False, slots=True)
class SceneViews:
    """What the cues of a scene are computed from.

    Args:
        images: with verified pairs, in the natural order of their names.
        pairs: in their order.
    """

    images: Sequence[ImageView]
    pairs: Sequence[PairView]


def scene_views(
    verified: Mapping[ImagePair, VerifiedPairRecord],
    features: Mapping[str, Features],
    position_m_from_name: Mapping[str, Float64Array],
    camera_from_name: Mapping[str, Camera],
) -> SceneViews:
    """The images and pairs of a scene; the arguments are those of `cues_of_pairs`.

    Raises:
        ValueError: if a record has no inliers.
    """
    keypoints_of: Callable[[str], HasKeypoints]
    keypoints_of = features.keypoints_of if isinstance(features, SceneFeatures) else features.__getitem__
    position_from_name = {name: position for position, name in enumerate(sorted(features, key=natural_order))}
    names = sorted({name for pair in verified for name in (pair.name0, pair.name1)}, key=position_from_name.__getitem__)
    row_from_name = {name: row for row, name in enumerate(names)}
    return SceneViews(
        [
            _image_view(
                keypoints_of(name),
                position_m_from_name.get(name),
                camera_from_name.get(name),
                (position_from_name[name], str(PurePosixPath(name).parent)),
            )
            for name in names
        ],
        [
            _pair_view(row_from_name[pair.name0], row_from_name[pair.name1], verified[pair])
            for pair in ImagePair.in_order(verified)
        ],
    )


def _image_view(
    features: HasKeypoints,
    position_m: Float64Array | None,
    camera: Camera | None,
    place: tuple[int, str],
) -> ImageView:
    scales = None if features.scales is None else features.scales * np.float32(features.shrink_factor or 1.0)
    # A copy: the arrays of an entry of the store can share memory, and the descriptors must not stay in it.
    focal_px = None if camera is None else mean_focal_length(camera)
    return ImageView(features.keypoints.copy(), features.image_size, scales, focal_px, position_m, *place)


def _pair_view(image0: int, image1: int, record: VerifiedPairRecord) -> PairView:
    if record.inliers is None:
        raise ValueError("a record has no inliers: match the scene with `keeps_inliers`")
    evidence = record.inliers.evidence or PairEvidence(0, 0, 1.0, 0.0)
    return PairView(
        image0,
        image1,
        record.inliers.rows,
        record.inliers.num_matches,
        evidence.num_distinctive,
        evidence.num_distinctive_inliers,
        evidence.mean_inlier_score,
        record.cam1_from_cam0.R,
        record.inliers.asked0,
        record.inliers.asked1,
    )
