"""Photos in, camera poses and a 3D point cloud out, with a complete LightGlue as the matcher.

The names below are imported when they are first used: `import sfm_lightglue` itself loads no library.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if sys.platform == "linux" and "pycolmap" in sys.modules and "zlib" not in sys.modules:
    # pycolmap exports the functions of its own zlib. Python's zlib would use them, and the process would be aborted.
    raise ImportError("import sfm_lightglue before pycolmap: Python's zlib cannot be loaded after pycolmap")
import zlib  # noqa: F401  # before any module of the package imports pycolmap

from sfm_lightglue.version import __version__

_MODULE_FROM_NAME = {
    "AutoConfig": "huggingface.auto",
    "AutoImageProcessor": "huggingface.auto",
    "AutoModel": "huggingface.auto",
    "AutoModelForKeypointDetection": "huggingface.auto",
    "AutoModelForKeypointMatching": "huggingface.auto",
    "Camera": "types",
    "ColmapDatabase": "colmap.database_reader",
    "DatabaseConfig": "reconstruction.config",
    "DenseFeatures": "types",
    "DensifiedMap": "reconstruction.densify_map",
    "DensifyConfig": "reconstruction.densify_config",
    "ExportableKeypointMatching": "huggingface.exportable",
    "Features": "types",
    "GuidedConfig": "two_view.guided_config",
    "Image": "images.image",
    "ImagePairResult": "image_pair.matching",
    "KeypointMatchingPipeline": "huggingface.matching_pipeline",
    "LightGlueConfig": "huggingface.configuration",
    "LightGlueForKeypointMatching": "huggingface.modeling",
    "LightGlueImageProcessor": "huggingface.image_processor",
    "LightGlueImageProcessorFast": "huggingface.image_processor",
    "LightGlueKeypointMatchingOutput": "huggingface.outputs",
    "Localization": "localization.result",
    "LocalizeConfig": "localization.config",
    "Localizer": "localization.localizer",
    "Matches": "types",
    "ReconstructConfig": "reconstruction.config",
    "ReconstructionResult": "reconstruction.result",
    "RelativePose": "two_view.relative_pose",
    "Rigid3": "geometry.transforms",
    "SuperPointConfig": "huggingface.detector_configuration",
    "SuperPointForKeypointDetection": "huggingface.superpoint_model",
    "SuperPointImageProcessor": "huggingface.detection_processor",
    "SuperPointImageProcessorFast": "huggingface.detection_processor",
    "Tracker": "tracking.tracker",
    "TrackerConfig": "tracking.config",
    "add_to_database": "reconstruction.add_to_database",
    "densify": "reconstruction.densify_map",
    "estimate_relative_pose": "image_pair.estimate",
    "export_map": "reconstruction.export_map",
    "localize": "localization.localizer",
    "match_guided": "two_view.guided",
    "match_images": "image_pair.matching",
    "pipeline": "huggingface.matching_pipeline",
    "read_database": "colmap.database_reader",
    "reconstruct": "reconstruction.run",
}
"""The module of each public name."""

_SPELLINGS = {
    "LightGlueImageProcessorPil": "LightGlueImageProcessor",
    "SuperPointImageProcessorPil": "SuperPointImageProcessor",
}
"""Names of `transformers` 5 for classes that have another name here."""

if TYPE_CHECKING:
    from sfm_lightglue.colmap.database_reader import ColmapDatabase, read_database
    from sfm_lightglue.geometry.transforms import Rigid3
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
    from sfm_lightglue.huggingface.exportable import ExportableKeypointMatching
    from sfm_lightglue.huggingface.image_processor import LightGlueImageProcessor, LightGlueImageProcessorFast
    from sfm_lightglue.huggingface.matching_pipeline import KeypointMatchingPipeline, pipeline
    from sfm_lightglue.huggingface.modeling import LightGlueForKeypointMatching
    from sfm_lightglue.huggingface.outputs import LightGlueKeypointMatchingOutput
    from sfm_lightglue.huggingface.superpoint_model import SuperPointForKeypointDetection
    from sfm_lightglue.image_pair.estimate import estimate_relative_pose
    from sfm_lightglue.image_pair.matching import ImagePairResult, match_images
    from sfm_lightglue.images.image import Image
    from sfm_lightglue.localization.config import LocalizeConfig
    from sfm_lightglue.localization.localizer import Localizer, localize
    from sfm_lightglue.localization.result import Localization
    from sfm_lightglue.reconstruction.add_to_database import add_to_database
    from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig
    from sfm_lightglue.reconstruction.densify_config import DensifyConfig
    from sfm_lightglue.reconstruction.densify_map import DensifiedMap, densify
    from sfm_lightglue.reconstruction.export_map import export_map
    from sfm_lightglue.reconstruction.result import ReconstructionResult
    from sfm_lightglue.reconstruction.run import reconstruct
    from sfm_lightglue.tracking.config import TrackerConfig
    from sfm_lightglue.tracking.tracker import Tracker
    from sfm_lightglue.two_view.guided import match_guided
    from sfm_lightglue.two_view.guided_config import GuidedConfig
    from sfm_lightglue.two_view.relative_pose import RelativePose
    from sfm_lightglue.types import Camera, DenseFeatures, Features, Matches

__all__ = [
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoModelForKeypointDetection",
    "AutoModelForKeypointMatching",
    "Camera",
    "ColmapDatabase",
    "DatabaseConfig",
    "DenseFeatures",
    "DensifiedMap",
    "DensifyConfig",
    "ExportableKeypointMatching",
    "Features",
    "GuidedConfig",
    "Image",
    "ImagePairResult",
    "KeypointMatchingPipeline",
    "LightGlueConfig",
    "LightGlueForKeypointMatching",
    "LightGlueImageProcessor",
    "LightGlueImageProcessorFast",
    "LightGlueKeypointMatchingOutput",
    "Localization",
    "LocalizeConfig",
    "Localizer",
    "Matches",
    "ReconstructConfig",
    "ReconstructionResult",
    "RelativePose",
    "Rigid3",
    "SuperPointConfig",
    "SuperPointForKeypointDetection",
    "SuperPointImageProcessor",
    "SuperPointImageProcessorFast",
    "Tracker",
    "TrackerConfig",
    "__version__",
    "add_to_database",
    "densify",
    "estimate_relative_pose",
    "export_map",
    "localize",
    "match_guided",
    "match_images",
    "pipeline",
    "read_database",
    "reconstruct",
]


def __getattr__(name: str) -> Any:
    name = _SPELLINGS.get(name, name)
    if name not in _MODULE_FROM_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE_FROM_NAME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_FROM_NAME, *_SPELLINGS})
