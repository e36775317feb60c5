"""The images of keyframes in little memory."""

import numpy as np

from sfm_lightglue.refinement.patches import grid
from sfm_lightglue.tracking import compact_image
from sfm_lightglue.tracking.compact_image import CompactImage
from sfm_lightglue.tracking.optical_flow import FlowImage
from tests.helpers.rendered_map import scene


def samples(pyramid, centers):
    return pyramid.sample(centers, np.broadcast_to(np.eye(2), (len(centers), 2, 2)), grid(9))


def test_an_image_keeps_its_grey_values_in_less_memory():
    flow = FlowImage.of(scene().images[scene().names[0]], 1280)
    compact = CompactImage.of(flow)
    assert len(compact.data) < flow.grey.nbytes / 2
    centers = np.random.default_rng(0).uniform(20, 200, (50, 2))
    again = CompactImage.of(FlowImage(flow.grey.copy(), flow.factors))
    assert again.data == compact.data
    x, y = np.floor(centers).astype(int).T
    found = samples(compact.pyramid(), centers)[:, 40]
    assert np.corrcoef(found, flow.grey[y, x])[0, 1] > 0.95


def test_an_image_that_cannot_be_encoded_or_decoded_is_none(monkeypatch):
    flow = FlowImage.of(scene().images[scene().names[0]], 1280)
    assert CompactImage(b"no JPEG", flow.factors).pyramid() is None
    monkeypatch.setattr(compact_image.cv2, "imencode", lambda *_: (False, None))
    compact = CompactImage.of(flow)
    assert compact.data == b"" and compact.factors == flow.factors and compact.pyramid() is None
