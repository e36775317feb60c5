"""Verified pairs of a rendered scene, with their cues and whether they are true overlaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float32Array, Float64Array, IndexArray
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.reconstruction.components import build_components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.read_scene import read_scene
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import VerifiedPairRecord, extract_scene, match_scene
from sfm_lightglue.stages.pair_cues import cues_of_pairs
from sfm_lightglue.stages.pair_plan import plan_pairs
from sfm_lightglue.store.store import Store
from sfm_lightglue.synthetic import SyntheticScene, write_scene
from sfm_lightglue.types import ImagePair, Matches, Rejected, TwoViewGeometry

MAX_KEYPOINTS = 512
"""Number of keypoints of an image: as many per pixel as the default gives in a photograph of 640 x 480."""

MAX_ERROR_PX = 3.0
"""Two keypoints are the same point if its projection is this near, at a width of 320 pixels."""

MIN_TRUE, MAX_FALSE = 0.6, 0.3
"""A pair is true if at least the first fraction of its inliers is right, false if at most the second one is. Pairs
between are left out."""

_POSITION_NOISE = 0.15
"""Standard deviation of known positions, relative to the extent of the scene."""


class _NoDatabase:
    """Receives pairs, and keeps nothing of them."""

    def add_pair(self, pair: ImagePair, matches: Matches, geometry: TwoViewGeometry | Rejected) -> None:
        """Forget the pair."""


def labelled_pairs(
    scene: SyntheticScene, folder: Path, seed: int, with_positions: bool
) -> tuple[Float64Array, BoolArray]:
    """Match and verify a scene, and label its pairs.

    Args:
        scene: with depths.
        folder: of the images and the store.
        seed: of the noise of known positions.
        with_positions: whether rough positions of the images are known.

    Returns:
        Cues [P, F] in the order of `PairCues.FIELDS`, and whether each pair is a true overlap [P].
    """
    write_scene(scene, folder)
    features, verified = _verified_pairs(folder)
    positions = _rough_positions(scene, seed) if with_positions else None
    cues = cues_of_pairs(verified, features, position_m_from_name=positions)
    rows, labels = [], []
    for pair, one in cues.items():
        right = _right_fraction(scene, pair, verified[pair], features)
        if right >= MIN_TRUE or right <= MAX_FALSE:
            rows.append(one.as_vector())
            labels.append(right >= MIN_TRUE)
    return np.array(rows).reshape(-1, len(PairCues.FIELDS)), np.array(labels, np.bool_)


def _verified_pairs(folder: Path) -> tuple[SceneFeatures, dict[ImagePair, VerifiedPairRecord]]:
    config = ReconstructConfig.from_mapping(
        {"extractor": {"max_keypoints": MAX_KEYPOINTS}, "density": {"level": "sparse"}, "num_threads": 1}
    )
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
