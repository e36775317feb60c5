"""A small scene with a sparse reconstruction, which tests densify."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from sfm_lightglue.reconstruction.densify_config import DensifyConfig
from sfm_lightglue.reconstruction.run import reconstruct
from tests.helpers.reconstructions import one_thread

NUM_IMAGES = 4

EXTRACTOR = {"max_keypoints": 600, "max_keypoints_dense": 2000}


def sparse_map(scene_dir: Path, root: Path) -> Path:
    """A scene folder of a few images with its output folder `reconstruction`."""
    (root / "images").mkdir(parents=True)
    for image in sorted((scene_dir / "images").iterdir())[:NUM_IMAGES]:
        shutil.copy(image, root / "images" / image.name)
    off = {"density": {"level": "sparse"}, "refine": {"mode": "off"}}
    reconstruct(root, config=one_thread(extractor=EXTRACTOR, **off))
    return root


def densify_config(**values: Any) -> DensifyConfig:
    """One thread, few keypoints and no refinement, to keep tests fast."""
    few: dict[str, Any] = {"num_threads": 1, "extractor": EXTRACTOR, "refine": {"mode": "off"}}
    return DensifyConfig.from_mapping(few | values)
