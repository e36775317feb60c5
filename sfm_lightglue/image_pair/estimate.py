"""`estimate_relative_pose`: two images in, one relative pose out, with everything at its default."""

from __future__ import annotations

from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.image_pair.inputs import AnyCamera, AnyImage
from sfm_lightglue.image_pair.matching import match_images
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.guided_config import GuidedConfig
from sfm_lightglue.two_view.relative_pose import RelativePose


def estimate_relative_pose(
    image0: AnyImage,
    image1: AnyImage,
    camera0: AnyCamera | None = None,
    camera1: AnyCamera | None = None,
    *,
    extractor: Extractor | str | None = None,
    matcher: Matcher | str | None = None,
    config: TwoViewConfig | None = None,
    seed: int = 0,
    device: str = "auto",
    same_camera: bool | None = None,
    guided: bool | GuidedConfig = False,
) -> RelativePose:
    """Pose of the second camera in the frame of the first, with its uncertainty.

    The focal length is that of the camera, else of the EXIF data (of files only: pixels and Pillow images have none),
    else estimated from the matches if they determine it, else guessed; `RelativePose.focal_sources` reports which.
    Matches determine one unknown focal length, not two: if both are unknown, it is estimated only for images that
    share a camera.

    Args:
        image0: a file, an `Image`, pixels [H, W] or [H, W, 3] (RGB) of uint8, or a Pillow image.
        image1: likewise.
        camera0: known intrinsics: a `Camera`, a `pycolmap.Camera`, or K [3, 3] without distortion, in COLMAP's pixels
            (the centre of the first pixel is at 0.5). If only one image has a camera, the other image uses it too if
            it has the same size and was taken by the same camera.
        camera1: likewise.
        extractor: a name or an object; the default is that of `reconstruct`.
        matcher: likewise.
        config: thresholds, and the estimator.
        seed: of the random samples.
        device: of networks that are given by name.
        same_camera: whether one camera with one focal length took both images. None: it did exactly if both have EXIF
            data with the same camera, lens and focal length, so never for pixels.
        guided: whether the dense layers of both images are matched along the epipolar lines of a first pose; see
            `match_images`.

    Raises:
        DataError: if an image cannot be read.
        ConfigError: for unknown names, for cameras that do not fit the images, or if images of different sizes are
            stated to share a camera.
        WeightsError: if the weights of a network are missing.
        TypeError: if a value is neither an image nor a camera.

    Example:
        >>> pose = sfm_lightglue.estimate_relative_pose("left.jpg", "right.jpg")
        >>> pose.verdict
        'general'
    """
    return match_images(
        image0,
        image1,
        extractor,
        matcher,
        (camera0, camera1),
        config,
        seed,
        same_camera=same_camera,
        device=device,
        guided=guided,
    ).relative_pose
