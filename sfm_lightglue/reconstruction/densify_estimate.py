"""What densifying a model will cost, from a short measurement on this machine; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.colmap.database_reader import camera_from_pycolmap
from sfm_lightglue.colmap.model import find_map, read_model
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.execution.threads import as_one_of
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.images.image import Image
from sfm_lightglue.mapping.dense_pairs import pairs_to_match, ranked_partners
from sfm_lightglue.messages import shown_path
from sfm_lightglue.reconstruction.densified_files import DensifiedFolder, folder_of_images
from sfm_lightglue.reconstruction.densify_config import DensifyConfig
from sfm_lightglue.registry.builtin import EXTRACTORS
from sfm_lightglue.stages.cached import both_layers
from sfm_lightglue.two_view.guided import GuidedView, match_views

if TYPE_CHECKING:
    import pycolmap


@dataclass(frozen=True, slots=True)
class DensifyEstimate:
    """The work of densifying a model. The completion of the tracks and the adjustment come on top.

    Args:
        output: folder of the results.
        num_images: registered images.
        num_points: of the model.
        num_pairs: pairs of images that are matched in the first round.
        extract_s: seconds of the features of all images, as if none were kept, with all workers.
        match_s: seconds of matching these pairs, with all workers.
    """

    output: Path
    num_images: int
    num_points: int
    num_pairs: int
    extract_s: float
    match_s: float


def estimate_densify(
    map: Path | str,
    images: Path | str | None = None,
    output: Path | str | None = None,
    config: DensifyConfig | None = None,
) -> DensifyEstimate:
    """Extract and match one pair of the images of a model, and estimate the time of all.

    The arguments are those of `densify`.

    Raises:
        DataError: if there is no model, or an image is missing.
        ConfigError: if the output folder has other files.
        ReconstructionError: if no two images see the same surface.
        WeightsError: if the weights of a network are missing.
    """
    path, config = Path(map), config or DensifyConfig()
    location = find_map(path, None if images is None else Path(images))
    folder = DensifiedFolder.choose(location, None if output is None else Path(output), completes=False)
    model, root = read_model(location.model), folder_of_images(location, path)
    image_ids = sorted(model.reg_image_ids())
    ranked = ranked_partners(model, image_ids, config.density) if len(image_ids) > 1 else []
    pairs = pairs_to_match(ranked, config.density.num_matched_partners(len(image_ids)))
    if not pairs:
        raise ReconstructionError(f"{shown_path(path)}: no two images of the model see the same surface")
    extractor = EXTRACTORS.build(config.extractor, config.device)
    num_workers = ThreadExecutor(config.num_threads).num_workers
    with as_one_of(num_workers):
        extract_s, match_s = _measured(model, root, [image_ids[i] for i in pairs[len(pairs) // 2]], extractor, config)
    return DensifyEstimate(
        folder.path,
        len(image_ids),
        model.num_points3D(),
        len(pairs),
        len(image_ids) * extract_s / num_workers,
        len(pairs) * match_s / num_workers,
    )


def _measured(
    model: pycolmap.Reconstruction, root: Path, image_ids: Sequence[int], extractor: Extractor, config: DensifyConfig
) -> tuple[float, float]:
    """Seconds of the extraction of an image, and of the matching of the given pair of images."""
    seconds: list[float] = []
    views: list[GuidedView] = []
    poses: list[Rigid3] = []
    for image_id in image_ids:
        image = model.images[image_id]
        start = time.perf_counter()
        _, dense = both_layers(extractor, Image.read(root / image.name), config.max_keypoints_dense, None)
        seconds.append(time.perf_counter() - start)
        views.append(GuidedView.from_features(dense, camera_from_pycolmap(model.cameras[image.camera_id])))
        poses.append(Rigid3.from_matrix(np.asarray(image.cam_from_world().matrix())))
    start = time.perf_counter()
    match_views(views[0], views[1], poses[1] @ poses[0].inverse(), config=config.density.guided)
    return min(seconds), time.perf_counter() - start
