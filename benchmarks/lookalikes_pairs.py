"""Verified pairs of a rendered scene, with their cues and whether they are true overlaps."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.probability import OverlapModel
from sfm_lightglue.lookalikes.scene_cues import scene_cues
from sfm_lightglue.lookalikes.twins import has_lone_surroundings, has_twins
from sfm_lightglue.lookalikes.views import PairView
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.reconstruction.components import build_components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.read_scene import read_scene
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import VerifiedPairRecord, extract_scene, match_scene
from sfm_lightglue.stages.pair_cues import scene_views
from sfm_lightglue.stages.pair_plan import plan_pairs
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.store.store import Store, canonical_json
from sfm_lightglue.synthetic import SyntheticScene, write_scene
from sfm_lightglue.two_view.verification import verification_identity
from sfm_lightglue.types import ImagePair, Matches, Rejected, TwoViewGeometry

MAX_KEYPOINTS = 512
"""Number of keypoints of an image: as many per pixel as the default gives in a photograph of 640 x 480."""

MAX_ERROR_PX = 3.0
"""Two keypoints are the same point if its projection is this near, at a width of 320 pixels."""

MIN_TRUE, MAX_FALSE = 0.6, 0.3
"""A pair is true if at least the first fraction of its inliers is right, false if at most the second one is. Pairs
between are left out."""

_MOST = 0.5
"""A scene has twins if a larger fraction of its false pairs look true."""

_POSITION_NOISE = 0.15
"""Standard deviation of known positions, relative to the extent of the scene."""


class _NoDatabase:
    """Receives pairs, and keeps nothing of them."""

    def add_pair(self, pair: ImagePair, matches: Matches, geometry: TwoViewGeometry | Rejected) -> None:
        """Forget the pair."""


@dataclass(frozen=True, eq=False, slots=True)
class LabelledScene:
    """The verified pairs of a rendered scene.

    Args:
        cues: [P, F] in the order of `PairCues.FIELDS`.
        right: [P] fraction of the inliers that are the same point by depth and pose.
        ends: [P, 2] indices of both images, in the order of their names.
        rotations: [P, 3, 3] of `cam1_from_cam0` of the pairs, as verified.
    """

    cues: Float64Array
    right: Float64Array
    ends: IndexArray
    rotations: Float64Array

    @property
    def is_true(self) -> BoolArray:
        """Which pairs [P] are true overlaps."""
        found: BoolArray = self.right >= MIN_TRUE
        return found

    @property
    def is_clear(self) -> BoolArray:
        """Which pairs [P] are true or false, and not between."""
        found: BoolArray = (self.right >= MIN_TRUE) | (self.right <= MAX_FALSE)
        return found

    def has_twins(self, model: OverlapModel) -> bool:
        """Whether places of it match as completely as one place does, so that the cues of the model say nothing.

        It has if the library finds twins in it by the logits of a model, or if most false pairs look true. Among twins,
        other rules than the model give the probabilities, and the check of finished models finds folds.
        """
        cues = [PairCues(*row) for row in self.cues.tolist()]
        nothing = np.zeros((0, 2), np.int64)
        views = [
            PairView(first, second, nothing, 0, 0, 0, 0.0, rotation)
            for (first, second), rotation in zip(self.ends.tolist(), self.rotations, strict=True)
        ]
        logits = model.logits(cues)
        is_false = self.is_clear & ~self.is_true
        if is_false.any() and (logits[is_false] > 0).mean() > _MOST:
            return True
        return has_twins(cues, logits) or has_lone_surroundings(views, cues, logits)

    def save(self, path: Path) -> None:
        """Write it to an .npz file, all or nothing."""
        with atomic_write(path) as file:
            np.savez(file, cues=self.cues, right=self.right, ends=self.ends, rotations=self.rotations)

    @classmethod
    def load(cls, path: Path) -> LabelledScene:
        """Read what `save` wrote."""
        with np.load(path) as stored:
            return cls(stored["cues"], stored["right"], stored["ends"], stored["rotations"])


def labelled_scene(scene: SyntheticScene, folder: Path, seed: int, with_positions: bool) -> LabelledScene:
    """Match and verify a scene, and label its pairs.

    Args:
        scene: with depths.
        folder: of the images and the store; finished features and matches in it are not computed again.
        seed: of the noise of known positions.
        with_positions: whether rough positions of the images are known.
    """
    write_scene(scene, folder)
    features, verified = _verified_pairs(folder)
    positions = _rough_positions(scene, seed) if with_positions else {}
    views = scene_views(verified, features, positions, dict.fromkeys(scene.names, scene.camera))
    cues = np.array([one.as_vector() for one in scene_cues(views.images, views.pairs)], np.float64)
    right = [_right_fraction(scene, pair, verified[pair], features) for pair in ImagePair.in_order(verified)]
    ends = np.array([(view.image0, view.image1) for view in views.pairs], np.int64)
    rotations = np.array([view.rotation for view in views.pairs], np.float64)
    num = len(right)
    return LabelledScene(
        cues.reshape(num, len(PairCues.FIELDS)),
        np.array(right, np.float64),
        ends.reshape(num, 2),
        rotations.reshape(num, 3, 3),
    )


def _config() -> ReconstructConfig:
    return ReconstructConfig.from_mapping(
        {"extractor": {"max_keypoints": MAX_KEYPOINTS}, "density": {"level": "sparse"}, "num_threads": 1}
    )


def stage_versions() -> dict[str, Any]:
    """Names, versions and options of extractor and matcher, and the versions and limits of the verification."""
    config = _config()
    components = build_components(config)
    stages = {"extractor": components.extractor.identity, "matcher": components.matcher.identity}
    identities: dict[str, Any] = json.loads(
        canonical_json(stages | {"two_view": verification_identity(config.two_view)})
    )
    return identities


def _verified_pairs(folder: Path) -> tuple[SceneFeatures, dict[ImagePair, VerifiedPairRecord]]:
    config = _config()
    output = folder / "output"
    scene = read_scene(folder / "images", output, config, 1, silent)
    components, store = build_components(config), Store(output)
    features = extract_scene(scene, CachedExtractor(components.extractor, store))
    plan = plan_pairs(components.pairs, config.pairs.name, PairContext(scene, features, store), config.transitive)
    cameras = {image.name: image.camera for image in features.decoded_images}
    matcher = CachedMatcher(components.matcher, store)
    verifier = CachedVerifier(config.two_view, config.seed, store)
    clock = Clock.for_stages(("select", "match", "verify"))
    counts = match_scene(plan, features, cameras, _NoDatabase(), matcher, verifier, clock, keeps_inliers=True)
    store.flush()
    return features, counts.verified


def _rough_positions(scene: SyntheticScene, seed: int) -> dict[str, Float64Array]:
    rng = np.random.default_rng([seed, 2])
    sigma_m = _POSITION_NOISE * scene.extent_m
    poses = scene.cam_from_world_from_name
    return {name: pose.center + rng.normal(0, sigma_m, 3) for name, pose in poses.items()}


def _right_fraction(
    scene: SyntheticScene, pair: ImagePair, record: VerifiedPairRecord, features: SceneFeatures
) -> float:
    """Fraction of the inliers that are the same point by depth and pose."""
    assert record.inliers is not None
    rows: IndexArray = record.inliers.rows.astype(np.int64)
    pixels = [features[name].keypoints[rows[:, side]] for side, name in enumerate((pair.name0, pair.name1))]
    errors = [
        _transfer_errors(scene, (pair.name0, pair.name1), pixels[0], pixels[1]),
        _transfer_errors(scene, (pair.name1, pair.name0), pixels[1], pixels[0]),
    ]
    return float((np.minimum(*errors) <= MAX_ERROR_PX * scene.camera.width / 320).mean()) if len(rows) > 0 else 0.0


def _transfer_errors(
    scene: SyntheticScene, names: tuple[str, str], pixels: Float32Array, expected: Float32Array
) -> Float64Array:
    """Distances [M] between pixels of the first image, moved to the second by depth, and `expected`; inf for sky."""
    depth = scene.depths[names[0]]
    columns = np.clip(pixels[:, 0].astype(int), 0, depth.shape[1] - 1)
    z = depth[np.clip(pixels[:, 1].astype(int), 0, depth.shape[0] - 1), columns].astype(np.float64)
    focal, cx, cy = scene.camera.params
    points = np.concatenate([(pixels - (cx, cy)) / focal * z[:, None], z[:, None]], 1)
    poses = scene.cam_from_world_from_name
    moved = (poses[names[1]] @ poses[names[0]].inverse()) @ points
    with np.errstate(divide="ignore", invalid="ignore"):
        projected = moved[:, :2] / moved[:, 2:] * focal + (cx, cy)
    errors: Float64Array = np.linalg.norm(projected - expected, axis=1)
    return np.where((z > 0) & (moved[:, 2] > 0), errors, np.inf)
