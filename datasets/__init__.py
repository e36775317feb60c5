"""Readers of scenes, pairs and trajectories with ground truth."""

from datasets.ground_truth import (
    SceneTruth,
    read_cameras_json,
    read_colmap_truth,
    read_image_folder,
    read_scene,
)
from datasets.shared import shared_data_root
from sfm_lightglue.evaluation.pose_errors import Evaluation, NotAligned, evaluate_model, evaluate_poses

__all__ = [
    "Evaluation",
    "NotAligned",
    "SceneTruth",
    "evaluate_model",
    "evaluate_poses",
    "read_cameras_json",
    "read_colmap_truth",
    "read_image_folder",
    "read_scene",
    "shared_data_root",
]
