"""Two photos -> matches and relative pose, without a scene folder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.errors import DataError
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.images import MIN_SIDE_PX, Image
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.progress import Progress, silent
from sfm_lightglue.scene import CameraConfig, camera_of_image
from sfm_lightglue.two_view import TwoViewConfig, estimate_two_view_geometry
from sfm_lightglue.types import Camera, Features, Matches, Rejected, TwoViewGeometry, UInt8Array


@dataclass(frozen=True, eq=False, slots=True)
class ImagePairResult:
    """What two photos have in common.

    Args:
        images: both.
        cameras: the intrinsics that were used.
        features: of both.
        matches: between them.
        geometry: relative pose and verdict, or why there is none.
        seconds: by stage, and "total".
    """

    images: tuple[Image, Image]
    cameras: tuple[Camera, Camera]
    features: tuple[Features, Features]
    matches: Matches
    geometry: TwoViewGeometry | Rejected
    seconds: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `cam1_from_cam0` is null where the pair was rejected."""
        geometry = self.geometry
        found = isinstance(geometry, TwoViewGeometry)
        pose = geometry.cam1_from_cam0 if isinstance(geometry, TwoViewGeometry) else None
        return {
            "images": [image.name for image in self.images],
            "num_keypoints": [len(features) for features in self.features],
            "num_matches": len(self.matches),
            "num_inliers": geometry.num_inliers,
            "verdict": geometry.kind if isinstance(geometry, TwoViewGeometry) else "rejected",
            "reason": geometry.reason if isinstance(geometry, Rejected) else None,
            "cam1_from_cam0": None if pose is None else {"R": pose.R.tolist(), "t": pose.t.tolist()},
            "cameras": [
                {"model": camera.model, "params": list(camera.params), "source": camera.source}
                for camera in self.cameras
            ],
            "pose_rests_on_guessed_focal_length": found and any(camera.source == "guessed" for camera in self.cameras),
            "seconds": round(self.seconds["total"], 3),
            "seconds_by_stage": {stage: round(value, 3) for stage, value in self.seconds.items()},
        }

    def __str__(self) -> str:
        geometry = self.geometry
        counts = f"{len(self.matches)} matches, {geometry.num_inliers} inliers"
        if isinstance(geometry, Rejected):
            return f"{counts}: rejected, {geometry.reason.replace('_', ' ')}"
        pose = geometry.cam1_from_cam0
        rows = "\n".join(
            f"  [{' '.join(f'{value:9.6f}' for value in row)} | {t:9.6f}]"
            for row, t in zip(pose.R, pose.t, strict=True)
        )
        text = f"{counts}: {geometry.kind.replace('_', ' ')}, {self.seconds['total']:.2f} s\n"
        text += f"cam1_from_cam0 = [R | t], the length of t is unknown:\n{rows}"
        if any(camera.source == "guessed" for camera in self.cameras):
            text += "\nthe focal length was guessed, and the pose is as rough: give the intrinsics if they are known"
        return text


def match_images(
    image0: Path | str | Image | UInt8Array,
    image1: Path | str | Image | UInt8Array,
    extractor: Extractor,
    matcher: Matcher,
    cameras: tuple[CameraConfig, CameraConfig] = (CameraConfig(), CameraConfig()),
    config: TwoViewConfig | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> ImagePairResult:
    """Match two photos, and estimate where the second was taken as seen from the first.

    Args:
        image0: file, `Image`, or pixels [H, W] or [H, W, 3] (RGB) of uint8.
        image1: the same.
        extractor: finds the features.
        matcher: matches them.
        cameras: known intrinsics of each; without them EXIF data, or a guess.
        config: thresholds of the verification.
        seed: of its random samples.
        progress: told of the stages.

    Raises:
        DataError: where an image cannot be read.
        ConfigError: where intrinsics do not make a camera.
    """
    images = _as_image(image0), _as_image(image1)
    for image in images:
        if min(image.size) < MIN_SIDE_PX:
            raise DataError(f"{image.name}: only {image.size[0]} x {image.size[1]} pixels")
    camera0, camera1 = (camera_of_image(image, one) for image, one in zip(images, cameras, strict=True))
    times = [time.perf_counter()]
    features = []
    for num_done, image in enumerate(images, start=1):
        features.append(extractor.extract(image))
        progress("extract", num_done, 2)
    times.append(time.perf_counter())
    matches = matcher.match(features[0], features[1])
    times.append(time.perf_counter())
    geometry = estimate_two_view_geometry(features[0], features[1], matches, camera0, camera1, config, seed)
    times.append(time.perf_counter())
    spans = [later - earlier for earlier, later in pairwise(times)]
    seconds = dict(zip(("extract", "match", "verify"), spans, strict=True))
    return ImagePairResult(
        (images[0], images[1]),
        (camera0, camera1),
        (features[0], features[1]),
        matches,
        geometry,
        seconds | {"total": times[-1] - times[0]},
    )


def _as_image(image: Path | str | Image | UInt8Array) -> Image:
    if isinstance(image, Image):
        return image
    return Image.from_array(image) if isinstance(image, np.ndarray) else Image.read(Path(image))
