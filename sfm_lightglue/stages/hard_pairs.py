"""Pairs that do not match as they are: with more keypoints, other scales, other angles or equalised contrast.

An attempt finds a geometry by altered copies of the images. Database and tracks know one set of keypoints of an image:
either the ordinary keypoints of both images match along the epipolar lines too, or the features of the copy replace
those of its image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sfm_lightglue.errors import DataError
from sfm_lightglue.extractors.altered import AlteredExtractor
from sfm_lightglue.geometry.transforms import rotation_angle_deg
from sfm_lightglue.images.alteration import Alteration
from sfm_lightglue.stages.added_pairs import AddedPair
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.two_view.guided import match_guided
from sfm_lightglue.two_view.guided_config import GuidedConfig
from sfm_lightglue.types import Camera, Features, ImagePair, TwoViewGeometry

HARD_PAIRS_VERSION = 1
"""Number to raise when a change of the code tries other attempts, or accepts other pairs."""

_MIN_INLIERS = 15
"""Fewest inliers among the ordinary keypoints."""

_MAX_TURN_DEG = 3.0
"""Largest angle between the rotation of an attempt and that of the ordinary keypoints."""

_GUIDED_ERRORS_PX = (4.0, 2.0)
"""Largest errors of the guided matches of each round: the pose of an attempt is less exact than that of the round."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A way to match a pair.

    Args:
        text: for users.
        own: alteration of the image that is helped; None for none.
        other: alteration of its partners.
        has_more_keypoints: whether the image gets more keypoints than usual.
        is_quick: whether a pair ends after its first keypoints if these do not match; see `HardMatchers`.
        by_other_extractor: whether another extractor finds the keypoints of both images.
    """

    text: str
    own: Alteration | None = None
    other: Alteration | None = None
    has_more_keypoints: bool = False
    is_quick: bool = True
    by_other_extractor: bool = False

    @property
    def replaces(self) -> bool:
        """Whether the features of the attempt can replace those of the image: its partners are as they are."""
        is_turned = self.own is not None and self.own.angle_deg != 0
        is_altered = self.own is not None or self.has_more_keypoints
        return is_altered and not is_turned and self.other is None and not self.by_other_extractor


AS_THEY_ARE = Attempt("as they are", is_quick=False)

MORE_KEYPOINTS = Attempt("more keypoints", has_more_keypoints=True, is_quick=False)

_ANGLES_DEG = 45, 315, 90, 270, 135, 225, 180

ATTEMPTS = (
    MORE_KEYPOINTS,
    Attempt("half size", Alteration(scale=0.5)),
    Attempt("half size of the others", None, Alteration(scale=0.5)),
    Attempt("equalised contrast", Alteration(equalised=True), is_quick=False),
    *(Attempt(f"turned by {angle} degrees", Alteration(angle_deg=angle)) for angle in _ANGLES_DEG),
    Attempt("quarter size", Alteration(scale=0.25)),
    Attempt("quarter size of the others", None, Alteration(scale=0.25)),
    Attempt("another extractor", by_other_extractor=True),
)
"""In the order in which they are tried."""

ATTEMPT_FROM_TEXT = {attempt.text: attempt for attempt in ATTEMPTS}


@dataclass(frozen=True, eq=False, slots=True)
class HardMatchers:
    """The matchers of attempts, with the store.

    Args:
        quick: ends pairs that do not match after their first keypoints, and matches others again with the keypoints
            around those first ones that may have a match.
        thorough: matches all keypoints.
        other: matches the features of `other_extractor`; None without.
        other_extractor: another extractor, with the store; None if there is none whose weights are installed.
    """

    quick: CachedMatcher
    thorough: CachedMatcher
    other: CachedMatcher | None = None
    other_extractor: CachedExtractor | None = None

    def of(self, attempt: Attempt) -> CachedMatcher | None:
        """The matcher of an attempt; None if it cannot be made here."""
        if attempt.by_other_extractor:
            return self.other
        return self.quick if attempt.is_quick else self.thorough


@dataclass(frozen=True, eq=False, slots=True)
class HardMatch:
    """What an attempt found for a pair.

    Args:
        direct: matches of the features that the attempt found in its image; None if these cannot replace the ordinary
            ones, or do not match.
        ordinary: matches of the ordinary keypoints of both images along the epipolar lines; None if too few match.
    """

    direct: AddedPair | None = None
    ordinary: AddedPair | None = None


@dataclass(frozen=True, eq=False, slots=True)
class HardPairs:
    """Tries attempts on pairs. Everything that is computed is kept in the store.

    Args:
        features: of the scene, with the ordinary keypoints.
        camera_from_name: intrinsics.
        extractor_of: the extractor, with the store, of an attempt's image; if it is turned, an `AlteredExtractor`.
        matchers: with the store.
        verifier: with the store.
    """

    features: SceneFeatures
    camera_from_name: Mapping[str, Camera]
    extractor_of: Callable[[Alteration | None, bool], CachedExtractor]
    matchers: HardMatchers
    verifier: CachedVerifier

    def can_try(self, attempt: Attempt) -> bool:
        """Whether everything that an attempt needs is installed."""
        return self.matchers.of(attempt) is not None

    def replacing(self, attempt: Attempt) -> CachedExtractor:
        """The extractor whose features replace those of an image after an attempt that `replaces`."""
        return self.extractor_of(attempt.own, attempt.has_more_keypoints)

    def match(self, name: str, partner: str, attempt: Attempt) -> HardMatch:
        """Make an attempt with a pair.

        Args:
            name: image that is helped.
            partner: another image.
            attempt: how.
        """
        pair = ImagePair.from_names(name, partner)
        found = self._attempted(pair, name, attempt)
        if found is None:
            return HardMatch()
        if attempt == AS_THEY_ARE:
            return HardMatch(None, found)
        return HardMatch(found if attempt.replaces else None, self._ordinary(pair, found[1]))

    def _attempted(self, pair: ImagePair, name: str, attempt: Attempt) -> AddedPair | None:
        matcher = self.matchers.of(attempt)
        if matcher is None:
            return None
        try:
            sides = [self._features_of(one, one == name, attempt) for one in (pair.name0, pair.name1)]
        except DataError:  # the file can no longer be read, which the next run tells
            return None
        matches = matcher.match(sides[0][0], sides[1][0])
        geometry = self.verifier.verify(pair, (sides[0][1], sides[1][1]), matches, self._cameras(pair))
        if not isinstance(geometry, TwoViewGeometry) or geometry.kind == "pure_rotation":
            return None
        return matches, geometry

    def _features_of(self, name: str, is_own: bool, attempt: Attempt) -> tuple[Features, Features]:
        """The features that the matcher sees, and the same ones in pixels of the stored image."""
        alteration = attempt.own if is_own else attempt.other
        if attempt.by_other_extractor and self.matchers.other_extractor is not None:
            found = self.features.by(name, self.matchers.other_extractor)
            return found, found
        has_more_keypoints = attempt.has_more_keypoints and is_own
        if alteration is None and not has_more_keypoints:
            return self.features[name], self.features[name]
        extractor = self.extractor_of(alteration, has_more_keypoints)
        seen = self.features.by(name, extractor)
        if not isinstance(extractor.extractor, AlteredExtractor):
            return seen, seen
        size = self.camera_from_name[name].size
        return seen, extractor.extractor.in_stored_pixels(seen, size, self.features.quarter_turns(name))

    def _ordinary(self, pair: ImagePair, found: TwoViewGeometry) -> AddedPair | None:
        """The ordinary keypoints that match along the epipolar lines of a geometry."""
        both, cameras = (self.features[pair.name0], self.features[pair.name1]), self._cameras(pair)
        geometry = found
        for error_px in _GUIDED_ERRORS_PX:
            config = GuidedConfig(max_error_px=error_px)
            if geometry.E is not None:
                matches = match_guided(*both, cameras, cam1_from_cam0=geometry.cam1_from_cam0, config=config)
            else:
                matches = match_guided(*both, cameras, F=geometry.F, config=config)
            verified = self.verifier.verify(pair, both, matches, cameras)
            if not isinstance(verified, TwoViewGeometry) or verified.kind == "pure_rotation":
                return None
            geometry = verified
        turn_deg = rotation_angle_deg(geometry.cam1_from_cam0.R @ found.cam1_from_cam0.R.T)
        if geometry.num_inliers < _MIN_INLIERS or (found.E is not None and turn_deg > _MAX_TURN_DEG):
            return None
        # Guided matches agree with the geometry by construction: what it is worth, its own matches tell.
        return matches, replace(geometry, evidence=found.evidence)

    def _cameras(self, pair: ImagePair) -> tuple[Camera, Camera]:
        return self.camera_from_name[pair.name0], self.camera_from_name[pair.name1]
