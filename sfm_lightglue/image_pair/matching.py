"""Two images -> matches and relative pose, without a scene folder."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sfm_lightglue.execution.progress import Progress, silent
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.geometry.transforms import Rigid3, rotation_angle_deg
from sfm_lightglue.image_pair.cameras import camera_for, have_one_size, is_same_camera, share_known_camera
from sfm_lightglue.image_pair.guided_step import extract_layers, match_along_lines
from sfm_lightglue.image_pair.inputs import AnyCamera, AnyImage, as_camera, as_components, as_image
from sfm_lightglue.image_pair.picture import (
    Colouring,
    PictureConfig,
    draw_pair,
    inlier_mask_of,
    matched_keypoints_of,
)
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.matchers.point_layers import PointLayers, TellsLayers
from sfm_lightglue.scene.cameras import mean_focal_length
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.guided_config import GuidedConfig
from sfm_lightglue.two_view.relative_pose import RelativePose, relative_pose_from_matches
from sfm_lightglue.two_view.uncertainty import CONFIDENCE
from sfm_lightglue.types import Camera, Features, Matches, Rejected, TwoViewGeometry

if TYPE_CHECKING:
    from PIL import Image as PilImage


@dataclass(frozen=True, eq=False, slots=True)
class ImagePairResult:
    """Matches and relative pose of two images.

    Args:
        images: both images.
        features: of both images; with guided matches, those of all layers.
        matches: all of them, outliers too.
        relative_pose: pose, verdict, uncertainty, inliers and points.
        seconds: by stage, and "total".
        is_same_camera: whether one camera with one focal length took both images, by EXIF data or as stated.
        is_guided: whether the matches are those of the guided matching.
        layers: how many layers each keypoint went through; None if it was not asked for, or is not known.

    Example:
        >>> result = sfm_lightglue.match_images("left.jpg", "right.jpg")
        >>> result.as_dict()["verdict"]
        'general'
    """

    images: tuple[Image, Image]
    features: tuple[Features, Features]
    matches: Matches
    relative_pose: RelativePose
    seconds: dict[str, float]
    is_same_camera: bool = False
    is_guided: bool = False
    layers: PointLayers | None = None

    @property
    def geometry(self) -> TwoViewGeometry | Rejected:
        """Relative pose and verdict, or the reason of the rejection."""
        return self.relative_pose.geometry

    @property
    def cameras(self) -> tuple[Camera, Camera]:
        """The intrinsics that were used."""
        return self.relative_pose.cameras

    def plot(
        self,
        colour: Colouring = "inliers",
        outliers: bool = True,
        epipolar_lines: int = 0,
        height: int = 800,
    ) -> PilImage.Image:
        """Draw the matches side by side; a notebook shows the picture.

        Args:
            colour: "inliers" (green, over outliers in red), "score" (red for 0 to green for 1), or "layers" (keypoints
                from dark to bright by their last layer; needs `match_images(..., with_layers=True)`).
            outliers: whether matches that are no inliers are drawn.
            epipolar_lines: number of inliers that are drawn with their epipolar lines; 0 draws all matches.
            height: of the picture in pixels, at most.

        Raises:
            ConfigError: if what is wanted is not known of this pair.

        Example:
            >>> sfm_lightglue.match_images("left.jpg", "right.jpg").plot(colour="score").mode
            'RGB'
        """
        return draw_pair(self, PictureConfig(colour, outliers, epipolar_lines, height))

    def _repr_png_(self) -> bytes:
        """The matches as a picture, for notebooks."""
        file = io.BytesIO()
        self.plot().save(file, "PNG")
        return file.getvalue()

    def matches_as_dict(self) -> dict[str, Any]:
        """Plain values for JSON of every match: keypoints in pixels of the stored images, score, inlier."""
        keypoints0, keypoints1 = matched_keypoints_of(self)
        return {
            "keypoints0": keypoints0.tolist(),
            "keypoints1": keypoints1.tolist(),
            "scores": self.matches.scores.tolist(),
            "inlier_mask": inlier_mask_of(self).tolist(),
        }

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `cam1_from_cam0` is null if the pair was rejected."""
        geometry, result = self.geometry, self.relative_pose
        found = isinstance(geometry, TwoViewGeometry)
        uncertainty = result.uncertainty
        return {
            "images": [image.name for image in self.images],
            "image_sizes": [list(image.size) for image in self.images],
            "quarter_turns": [features.quarter_turns for features in self.features],
            "num_keypoints": [len(features) for features in self.features],
            "num_matches": len(self.matches),
            "stop_layer": self.matches.stop_layer,
            "num_inliers": geometry.num_inliers,
            "num_points": len(result.points),
            "guided": {"num_matches": len(self.matches), "num_inliers": geometry.num_inliers}
            if self.is_guided
            else None,
            "verdict": geometry.kind if isinstance(geometry, TwoViewGeometry) else "rejected",
            "reason": geometry.reason if isinstance(geometry, Rejected) else None,
            "cam1_from_cam0": _pose_as_dict(result.cam1_from_cam0),
            "uncertainty": None
            if uncertainty is None
            else {
                "confidence": CONFIDENCE,
                "rotation_deg": uncertainty.rotation_deg,
                "direction_deg": uncertainty.direction_deg,
                "noise_px": uncertainty.noise_px,
            },
            "alternative_pose": _pose_as_dict(result.alternative_pose),
            "F": geometry.F.tolist() if isinstance(geometry, TwoViewGeometry) else None,
            "cameras": [
                {
                    "model": camera.model,
                    "params": list(camera.params),
                    "focal_length_px": mean_focal_length(camera),
                    "source": camera.source,
                }
                for camera in self.cameras
            ],
            "same_camera": self.is_same_camera,
            "pose_rests_on_guessed_focal_length": found and "guessed" in result.focal_sources,
            "seconds": round(self.seconds["total"], 3),
            "seconds_by_stage": {stage: round(value, 3) for stage, value in self.seconds.items()},
        }

    def __str__(self) -> str:
        geometry, result = self.geometry, self.relative_pose
        counts = f"{len(self.matches)} {'guided ' * self.is_guided}matches, {geometry.num_inliers} inliers"
        if isinstance(geometry, Rejected):
            return f"{counts}: rejected, {geometry.reason.replace('_', ' ')}"
        pose = geometry.cam1_from_cam0
        rows = "\n".join(
            f"  [{' '.join(f'{value:9.6f}' for value in row)} | {t:9.6f}]"
            for row, t in zip(pose.R, pose.t, strict=True)
        )
        points = f", {len(result.points)} points" if len(result.points) > 0 else ""
        text = f"{counts}{points}: {geometry.kind.replace('_', ' ')}, {self.seconds['total']:.2f} s\n"
        text += f"cam1_from_cam0 = [R | t], the length of t is unknown:\n{rows}\n{self.describe_uncertainty()}"
        text += "\nfocal lengths: " + ", ".join(
            f"{mean_focal_length(camera):.1f} px ({_TEXT_FROM_SOURCE[camera.source]})" for camera in self.cameras
        )
        if result.alternative_pose is not None:
            text += (
                "\nanother pose explains this plane as well (alternative_pose in the JSON): only more images can decide"
            )
        if "guessed" in result.focal_sources:
            text += "\nthe focal length was guessed, so the pose is approximate: give the intrinsics if they are known"
            if self._may_share_a_camera:
                text += ",\nor state that one camera with one focal length took both (`same_camera=True`)"
        return text

    @property
    def _may_share_a_camera(self) -> bool:
        """Whether one camera may have taken both images: neither EXIF data nor the user states the opposite."""
        image0, image1 = self.images
        is_unknown = not (image0.exif.camera_id and image1.exif.camera_id)
        return is_unknown and not self.is_same_camera and have_one_size(image0, image1)

    def describe_uncertainty(self) -> str:
        """Angle of the rotation, and the radii that contain 95 % of the errors; "" if there is no pose."""
        pose, uncertainty = self.relative_pose.cam1_from_cam0, self.relative_pose.uncertainty
        if pose is None or uncertainty is None:
            return ""
        text = f"rotation {rotation_angle_deg(pose.R):.2f} deg {_radius_text(uncertainty.rotation_deg)}"
        if uncertainty.direction_deg is not None:
            text += f", direction of t {_radius_text(uncertainty.direction_deg)}"
        return f"{text} (95 %)"


def _radius_text(radius_deg: float) -> str:
    return f"± {radius_deg:.2g} deg" if radius_deg < 180 else "± anything"


_TEXT_FROM_SOURCE = {
    "given": "given",
    "exif": "EXIF",
    "estimated": "estimated from the pair",
    "guessed": "guessed",
}


def _pose_as_dict(pose: Rigid3 | None) -> dict[str, Any] | None:
    return None if pose is None else {"R": pose.R.tolist(), "t": pose.t.tolist()}


def match_images(
    image0: AnyImage,
    image1: AnyImage,
    extractor: Extractor | str | None = None,
    matcher: Matcher | str | None = None,
    cameras: tuple[AnyCamera | None, AnyCamera | None] = (None, None),
    config: TwoViewConfig | None = None,
    seed: int = 0,
    progress: Progress = silent,
    same_camera: bool | None = None,
    device: str = "auto",
    guided: bool | GuidedConfig = False,
    with_layers: bool = False,
) -> ImagePairResult:
    """Match two images, and estimate the pose of the second camera in the frame of the first.

    Args:
        image0: a file, an `Image`, pixels [H, W] or [H, W, 3] (RGB) of uint8, or a Pillow image.
        image1: likewise.
        extractor: a name or an object; the default is that of `reconstruct`.
        matcher: likewise.
        cameras: known intrinsics of each image: a `Camera`, a `CameraConfig`, a `pycolmap.Camera`, or K [3, 3]. For
            None, the focal length is that of the EXIF data, else estimated from the matches, else guessed. The camera
            that is known better is used for both images if one camera took them with one size.
        config: thresholds of the verification.
        seed: of its random samples.
        progress: called as the stages advance.
        same_camera: whether one camera with one focal length took both images; None leaves it to `is_same_camera`.
            Only then is an unknown focal length estimated that both share.
        device: of networks that are given by name.
        guided: whether the dense layers of both images are matched along the epipolar lines of the first pose, and the
            pose is estimated again from these matches; or the options of this matching. The result is the first one
            if that has more inliers, and for pairs without certain epipolar lines: rejected ones, pure rotations, and
            planes that leave two poses or have a guessed focal length.
        with_layers: whether to find out through how many layers of a LightGlue each keypoint went, for
            `plot(colour="layers")`; the network runs once more for it. Not with guided matches.

    Raises:
        DataError: if an image cannot be read.
        ConfigError: for unknown names, for intrinsics that do not fit an image, or if images of different sizes are
            stated to share a camera.
        WeightsError: if the weights of a network are missing.
        TypeError: if a value is neither an image nor a camera.

    Example:
        >>> result = sfm_lightglue.match_images("left.jpg", "right.jpg")
        >>> len(result.matches) > result.geometry.num_inliers > 15
        True
    """
    images = as_image(image0), as_image(image1)
    is_same = is_same_camera(*images, same_camera)
    stated0, stated1 = (as_camera(one, image) for image, one in zip(images, cameras, strict=True))
    used = camera_for(images[0], stated0), camera_for(images[1], stated1)
    if is_same:
        used = share_known_camera(used, (stated0, stated1))
    found_extractor, found_matcher = as_components(extractor, matcher, device)
    clock = Clock.for_stages(("extract", "match", "verify", "guided") if guided else ("extract", "match", "verify"))
    layers = []
    with clock.stage("extract"):
        for num_done, image in enumerate(images, start=1):
            layers.append(extract_layers(found_extractor, image, with_dense=bool(guided)))
            progress("extract", num_done, 2)
    features = layers[0].features, layers[1].features
    with clock.stage("match"):
        matches = found_matcher.match(*features)
    with clock.stage("verify"):
        pose = relative_pose_from_matches(*features, matches, *used, config, seed, is_same_camera=is_same)
    again = None
    if guided:
        with clock.stage("guided"):
            options = guided if isinstance(guided, GuidedConfig) else GuidedConfig()
            again = match_along_lines(pose, (layers[0], layers[1]), used, options, config, seed, is_same)
    layers_of_points = None
    if again is not None:
        features, matches, pose = again.features, again.matches, again.relative_pose
    elif with_layers and isinstance(found_matcher, TellsLayers):
        layers_of_points = found_matcher.point_layers(*features)
    seconds = clock.total()
    return ImagePairResult(images, features, matches, pose, seconds, is_same, again is not None, layers_of_points)
