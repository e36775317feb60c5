"""Keypoint matching with the interface of Hugging Face: configuration, image processor, model, pipeline.

All names can be imported from `sfm_lightglue`. These errors of `transformers` 5 are fixed: pairs of a batch keep their
order when they stop at different layers, adaptive depth and width work separately, width and height are not swapped,
images keep their aspect ratio, keypoints are not rounded to integers, and points at all four borders are removed.
"""

from sfm_lightglue.huggingface.auto import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForKeypointDetection,
    AutoModelForKeypointMatching,
)
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.detection_processor import SuperPointImageProcessor, SuperPointImageProcessorFast
from sfm_lightglue.huggingface.detector_configuration import SuperPointConfig
from sfm_lightglue.huggingface.image_batch import ImageBatch
from sfm_lightglue.huggingface.image_processor import LightGlueImageProcessor, LightGlueImageProcessorFast
from sfm_lightglue.huggingface.matching_pipeline import KeypointMatchingPipeline, pipeline
from sfm_lightglue.huggingface.modeling import LightGlueForKeypointMatching
from sfm_lightglue.huggingface.outputs import LightGlueKeypointMatchingOutput, SuperPointKeypointDescriptionOutput
from sfm_lightglue.huggingface.superpoint_model import SuperPointForKeypointDetection

__all__ = [
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForKeypointDetection",
    "AutoModelForKeypointMatching",
    "ImageBatch",
    "KeypointMatchingPipeline",
    "LightGlueConfig",
    "LightGlueForKeypointMatching",
    "LightGlueImageProcessor",
    "LightGlueImageProcessorFast",
    "LightGlueKeypointMatchingOutput",
    "SuperPointConfig",
    "SuperPointForKeypointDetection",
    "SuperPointImageProcessor",
    "SuperPointImageProcessorFast",
    "SuperPointKeypointDescriptionOutput",
    "pipeline",
]
