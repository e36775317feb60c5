"""Which models can be extended."""

import numpy as np
import pytest

from sfm_lightglue.errors import DataError
from sfm_lightglue.reconstruction.extend_base import base_from_elsewhere
from tests.helpers.exact_scenes import make_model, ring_scene
from tests.helpers.foreign_models import write_model
from tests.helpers.rigged_models import with_common_frame


def test_a_model_with_a_frame_of_two_images_is_refused(tmp_path):
    model = make_model(ring_scene())
    rigged = with_common_frame(model, "03.jpg", "04.jpg")
    for image_id, image in model.images.items():
        assert np.allclose(image.cam_from_world().matrix(), rigged.images[image_id].cam_from_world().matrix())
    assert base_from_elsewhere(write_model(model, tmp_path / "single")).known == set(ring_scene().poses)
    with pytest.raises(DataError, match=r"rigged: the model has frames of several images.*map anew"):
        base_from_elsewhere(write_model(rigged, tmp_path / "rigged"))
