"""What images see that came into a model is densified, refined and coloured."""

from pathlib import Path

import numpy as np
import PIL.Image  # noqa: F401  # before pycolmap

from sfm_lightglue.execution.executor import SERIAL
from sfm_lightglue.geometry.transforms import rotation_from_rotvec
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.mapping.extend import Extending
from sfm_lightglue.mapping.incremental import MappingConfig
from sfm_lightglue.reconstruction.extend_finish import ExtensionFinishing
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.stages.clock import Clock
from tests.helpers.dense_models import model_of

NUM_IMAGES = 4


def test_an_image_without_points_changes_nothing():
    """All its observations were beyond the limits."""
    poses = [(rotation_from_rotvec(np.array([0, 0.05 * k, 0])), np.array([-0.3 * k, 0, 0])) for k in range(NUM_IMAGES)]
    points = np.random.default_rng(0).uniform((-1.0, -1, 4), (1.0, 1, 7), (50, 3))
    model = model_of(points, poses, seen=[np.arange(50)] * (NUM_IMAGES - 1) + [np.zeros(0, np.int64)])
    before = {image_id: model.images[image_id].cam_from_world().matrix().copy() for image_id in model.reg_image_ids()}
    task = MappingTask(Path(), Path(), NUM_IMAGES)
    extending = Extending({}, lambda _: None, DensityConfig(level="sparse"), MappingConfig(), task)
    clock = Clock.for_stages(("densify", "refine", "map", "write"))
    finishing = ExtensionFinishing(extending, {}, RefinementConfig(), clock, SERIAL, moves_touched=True, refined=None)
    finishing.finish(model, [NUM_IMAGES], set(model.point3D_ids()))
    assert all(np.array_equal(model.images[i].cam_from_world().matrix(), pose) for i, pose in before.items())
    assert model.num_points3D() == 50
