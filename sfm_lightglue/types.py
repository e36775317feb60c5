"""The values that pass between the stages: frozen dataclasses with NumPy arrays, unbatched.

Pixels are those of the full-resolution image as it is stored on disk, in COLMAP's convention: the upper left corner of
the image is (0, 0), the centre of its first pixel is (0.5, 0.5). Sizes are (width, height).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Literal

import numpy as np

from sfm_lightglue.arrays import (
    BoolArray,
    Float32Array,
    Float64Array,
    IndexArray,
    Int32Array,
    UInt8Array,
    require_array,
)
from sfm_lightglue.features import DenseFeatures, Features
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.identity import masked_digest

IntrinsicsSource = Literal["given", "exif", "estimated", "guessed"]
"""Where a camera's focal length comes from: the user, EXIF data, the matches of a pair, or a guess from the image
size."""

TwoViewKind = Literal["general", "planar", "pure_rotation"]
"""Relation of two images, see `TwoViewGeometry`."""


@dataclass(frozen=True, slots=True)
class Camera:
    """Intrinsics of one or several images.

    Args:
        model: COLMAP's name of the camera model, such as "SIMPLE_RADIAL".
        width: of the stored image, in pixels.
        height: of the stored image, in pixels.
        params: in COLMAP's order and units.
        source: where the focal length comes from.

    Example:
        >>> camera = sfm_lightglue.Camera("PINHOLE", 640, 480, (520.0, 521.0, 320.0, 240.0))
        >>> camera.size
        (640, 480)
    """

    model: str
    width: int
    height: int
    params: tuple[float, ...]
    source: IntrinsicsSource = "given"

    def __post_init__(self) -> None:
        if self.width <= 0 or self.height <= 0:
            raise ValueError(f"Camera: size must be positive, got {self.width} x {self.height}")
        object.__setattr__(self, "params", tuple(float(value) for value in self.params))

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class SceneImage:
    """One image of a scene.

    Args:
        name: path below the scene's image folder with forward slashes; it identifies the image in all stages.
        path: the file.
        camera: its intrinsics.
        camera_idx: images with the same index share one camera, also in bundle adjustment.
        digest: sha256 of the file's bytes.
        gps_position: latitude, longitude (degrees) and altitude (metres) of the EXIF data or given, or None.
        quarter_turns: clockwise turns by 90 degrees that make the stored image upright, 0..3.
        mask: file of its mask, None if all of its pixels are used.
        mask_digest: sha256 of the bytes of that file, "" without.
        xyz_m: given position in metres of a frame of its own, in place of `gps_position`; None if none is given.
        heading_deg: direction of the viewing axis over the ground, clockwise from north; None if it is not known or
            the camera looks down.
        height_above_ground_m: of a camera that looks straight down; None for others.
        cam_from_world: its pose, if the user gives it; None if it is to be found.
    """

    name: str
    path: Path
    camera: Camera
    camera_idx: int
    digest: str
    gps_position: tuple[float, float, float] | None = None
    quarter_turns: int = 0
    mask: Path | None = None
    mask_digest: str = ""
    xyz_m: tuple[float, float, float] | None = None
    heading_deg: float | None = None
    height_above_ground_m: float | None = None
    cam_from_world: Rigid3 | None = None

    @property
    def content_digest(self) -> str:
        """Digest of all that its features depend on: `digest`, together with that of the mask if it has one."""
        return masked_digest(self.digest, self.mask_digest)


@dataclass(frozen=True, slots=True)
class SkippedImage:
    """A file or folder ("name/") of images that was left out, and the reason as text for the user."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scene:
    """A folder of images, ordered by name.

    Args:
        root: the image folder; names are relative to it.
        images: the usable images, sorted by name.
        skipped: the unusable files.
    """

    root: Path
    images: tuple[SceneImage, ...]
    skipped: tuple[SkippedImage, ...] = ()

    def __post_init__(self) -> None:
        names = [image.name for image in self.images]
        if names != sorted(set(names)):
            raise ValueError("Scene: images must be sorted by name, without repetition")

    @property
    def known_poses(self) -> dict[str, Rigid3]:
        """`cam_from_world` of the images whose pose is given, by name, sorted."""
        return {image.name: image.cam_from_world for image in self.images if image.cam_from_world is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the usable images, sorted."""
        return tuple(image.name for image in self.images)


@dataclass(frozen=True, slots=True, order=True)
class ImagePair:
    """Two different image names in sorted order; `ImagePair.from_names` sorts them."""

    name0: str
    name1: str

    def __post_init__(self) -> None:
        if not self.name0 < self.name1:
            raise ValueError(f"ImagePair: expected two names in order, got {self.name0!r}, {self.name1!r}")

    @classmethod
    def from_names(cls, name_a: str, name_b: str) -> ImagePair:
        """Make a pair of two names in any order."""
        return cls(min(name_a, name_b), max(name_a, name_b))

    @classmethod
    def in_order(cls, pairs: Iterable[ImagePair]) -> list[ImagePair]:
        """`sorted(pairs)`, in a fraction of the time if the pairs are many and in no order."""
        return sorted(pairs, key=attrgetter("name0", "name1"))


@dataclass(frozen=True, eq=False)
class Matches:
    """Correspondences between the features of two images. Each feature has at most one match.

    Args:
        indices: [M, 2] int32 rows of the two `Features`.
        scores: [M] float32 in [0, 1], higher is better.
        stop_layer: number of layers that an adaptive network used; 0 for matchers without layers.
        key: digest of the input of the matching, set by the store; "" without a store.
        asked0: [N0] bool, the features of image 0 that were compared with others: what was not has no match whatever
            the images show. None if all were.
        asked1: [N1] bool, likewise of image 1.

    Raises:
        ValueError: for wrong shapes or types, or a feature that is matched twice.

    Example:
        >>> matches = sfm_lightglue.match_images("left.jpg", "right.jpg").matches
        >>> matches.indices.shape[1], len(matches.scores) == len(matches)
        (2, True)
    """

    indices: Int32Array
    scores: Float32Array
    stop_layer: int = 0
    key: str = field(default="", repr=False)
    asked0: BoolArray | None = field(default=None, repr=False)
    asked1: BoolArray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_array("indices", self.indices, np.int32, (len(self.indices), 2))
        require_array("scores", self.scores, np.float32, (len(self.indices),))
        for name, asked in (("asked0", self.asked0), ("asked1", self.asked1)):
            if asked is not None:
                require_array(name, asked, np.bool_, (len(asked),))
        ordered = np.sort(self.indices, axis=0)  # a third of the time of `np.unique`
        is_repeated = (ordered[1:] == ordered[:-1]).any(axis=0)
        if is_repeated.any():
            raise ValueError(f"indices: a feature of side {int(np.argmax(is_repeated))} is matched twice")

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def empty(cls) -> Matches:
        """Make an object without correspondences."""
        return cls(np.zeros((0, 2), np.int32), np.zeros(0, np.float32))

    def swapped(self) -> Matches:
        """The same correspondences with the images exchanged, sorted by the new first index."""
        order = np.argsort(self.indices[:, 1], kind="stable")
        indices = np.ascontiguousarray(self.indices[order, ::-1])
        return Matches(indices, self.scores[order], self.stop_layer, asked0=self.asked1, asked1=self.asked0)

    def where(self, mask: BoolArray) -> Matches:
        """The correspondences of a mask [M], without the key."""
        return replace(self, indices=self.indices[mask], scores=self.scores[mask], key="")

    @cached_property
    def digest(self) -> str:
        """`key`, or the sha256 of the content if no key was set."""
        return self.key or hashlib.sha256(self.indices.tobytes() + self.scores.tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class PairEvidence:
    """How sure it is that the matches of a verified pair show the same place.

    Args:
        num_distinctive: number of matches whose keypoints have no look-alike in the other image.
        num_distinctive_inliers: number of them that are inliers.
        mean_inlier_score: mean score of the inliers.
        log10_false_alarms: decimal logarithm of the number of geometries with as many inliers that random matches
            would give.
    """

    num_distinctive: int
    num_distinctive_inliers: int
    mean_inlier_score: float
    log10_false_alarms: float


@dataclass(frozen=True, eq=False)
class TwoViewGeometry:
    """The verified relation of two images.

    Args:
        kind: "planar" if one homography fits the matches; "pure_rotation" if the camera only rotated, so that
            direction of motion and depths are undetermined; else "general".
        inlier_mask: [M] bool over the matches.
        cam1_from_cam0: relative pose with ‖t‖ = 1, or t = 0 for a pure rotation. With a guessed focal length it is
            only as exact as the guess.
        F: fundamental matrix [3, 3] on undistorted pixels; zeros for a pure rotation.
        E: essential matrix [3, 3], zeros for a pure rotation; None if a focal length is guessed.
        H: homography [3, 3] from pixels of image 0 to pixels of image 1, undistorted; None if the kind is general.
        evidence: that both images show the same place; None if it was not measured.
    """

    kind: TwoViewKind
    inlier_mask: BoolArray
    cam1_from_cam0: Rigid3
    F: Float64Array
    E: Float64Array | None = None
    H: Float64Array | None = None
    evidence: PairEvidence | None = None

    def __post_init__(self) -> None:
        require_array("inlier_mask", self.inlier_mask, np.bool_, (len(self.inlier_mask),))

    def __repr__(self) -> str:
        pose = self.cam1_from_cam0
        known = ", ".join(name for name in ("E", "F", "H") if getattr(self, name) is not None)
        return (
            f"TwoViewGeometry(kind={self.kind!r}, num_inliers={self.num_inliers} of {len(self.inlier_mask)},"
            f" cam1_from_cam0=Rigid3(R={pose.R.round(6).tolist()}, t={pose.t.round(6).tolist()}), known: {known})"
        )

    @property
    def num_inliers(self) -> int:
        """Number of inliers."""
        return int(self.inlier_mask.sum())


RejectionReason = Literal["too_few_matches", "no_model", "too_few_inliers", "degenerate", "chance"]
"""Why a pair was rejected, see `Rejected`."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Two images without a usable relation: a normal outcome, not an error.

    Args:
        reason: "too_few_matches", "no_model" (the estimator found no matrix), "too_few_inliers", "degenerate"
            (the inliers do not determine a pose, for example if all lie at one point), or "chance" (random matches
            would give as many inliers).
        num_matches: number of matches.
        num_inliers: inliers of the best geometry, 0 if there is none.
    """

    reason: RejectionReason
    num_matches: int
    num_inliers: int = 0


@dataclass(frozen=True, slots=True)
class Trajectory:
    """Camera poses over time.

    Args:
        stamps_s: [N] increasing times in seconds; if `is_timed` is False, the frame numbers.
        world_from_cam: N poses.
        is_timed: whether the stamps are times, not frame numbers.
    """

    stamps_s: Float64Array
    world_from_cam: tuple[Rigid3, ...]
    is_timed: bool = True

    def __len__(self) -> int:
        return len(self.world_from_cam)


__all__ = [
    "BoolArray",
    "Camera",
    "DenseFeatures",
    "Features",
    "Float32Array",
    "Float64Array",
    "ImagePair",
    "IndexArray",
    "Int32Array",
    "IntrinsicsSource",
    "Matches",
    "PairEvidence",
    "Rejected",
    "RejectionReason",
    "Scene",
    "SceneImage",
    "SkippedImage",
    "Trajectory",
    "TwoViewGeometry",
    "TwoViewKind",
    "UInt8Array",
]
