"""Similar images among real photographs."""

from __future__ import annotations

from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.retrieval.describe import describe_scene
from tests.helpers.shared_data import shared_data


def test_frames_of_a_walk_look_like_those_before_and_after():
    """Every fourth frame of two parts of an indoor walk: 12 images."""
    paths = sorted(shared_data("sequences", "hololens", "images").iterdir())
    extractor = SiftExtractor(SiftConfig(max_keypoints=600))
    steps = [start + 4 * i for start in (0, 64) for i in range(6)]
    features = {f"{step:02}": extractor.extract(Image.read(paths[step])) for step in steps}
    found, _ = describe_scene(features).nearest(3)
    near = [any(abs(steps[other] - step) == 4 for other in row) for step, row in zip(steps, found, strict=True)]
    assert sum(near) >= 10
