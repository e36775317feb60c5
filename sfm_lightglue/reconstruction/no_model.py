"""Why no model came of a scene."""

from __future__ import annotations

from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import PairCounts
from sfm_lightglue.types import Scene


def explain_no_model(scene: Scene, features: SceneFeatures, counts: PairCounts, config: ReconstructConfig) -> str:
    """The message for a scene without a model: the counts, and what to try."""
    num_keypoints = sorted(features.num_keypoints_from_name[name] for name in features)
    text = (
        f"{scene.root}: no model: {len(num_keypoints)} images with {num_keypoints[len(num_keypoints) // 2]}"
        f" keypoints (median), {counts.num_pairs} pairs matched, {counts.num_verified} of them with a common view"
    )
    if counts.best is None:
        return (
            f"{text}. Do neighbouring images overlap by half? Try a larger `extractor.max_keypoints`, or"
            " `pairs.name` exhaustive"
        )
    hint = "Are the camera parameters right" if config.cameras.params else "Try `cameras.params` if they are known"
    num_inliers, pair = counts.best
    return (
        f"{text}, at best {num_inliers} inliers ({pair.name0}, {pair.name1}). Was the camera moved sideways between"
        f" the images, not only turned? {hint} (COLMAP's order and pixel convention)"
    )
