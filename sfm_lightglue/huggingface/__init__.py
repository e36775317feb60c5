"""The keypoint matching that people know from Hugging Face: configuration, image processor, model, pipeline.

All of it is imported from `sfm_lightglue`. Where `transformers` 5 is wrong, this is not: pairs of a batch keep
their places whenever they stop, each adaptivity works alone, sizes are not swapped, pictures are not squashed,
keypoints are not cut to integers, and points at all four sides of a picture are removed.
"""

from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.image_processor import LightGlueImageProcessor, LightGlueImageProcessorFast
from sfm_lightglue.huggingface.matching_pipeline import KeypointMatchingPipeline, pipeline
from sfm_lightglue.huggingface.modeling import LightGlueForKeypointMatching
from sfm_lightglue.huggingface.outputs import ImageBatch, LightGlueKeypointMatchingOutput

__all__ = [
    "ImageBatch",
    "KeypointMatchingPipeline",
    "LightGlueConfig",
    "LightGlueForKeypointMatching",
    "LightGlueImageProcessor",
    "LightGlueImageProcessorFast",
    "LightGlueKeypointMatchingOutput",
    "pipeline",
]
