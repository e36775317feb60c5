"""The judgement of models whose frames have several images: they leave the model together."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.judgement import judge_models
from tests.helpers.exact_scenes import make_model, ring_scene, write_database
from tests.helpers.rigged_models import with_common_frame

DOUBTFUL, PARTNER = "04.jpg", "03.jpg"
CAMERA_IDS = frozenset({1, 2})


def test_all_images_of_a_frame_are_doubtful_and_counted(tmp_path: Path) -> None:
    scene = ring_scene()
    model = with_common_frame(make_model(scene, max_points={DOUBTFUL: 8}), PARTNER, DOUBTFUL)
    (judged,) = judge_models([model], write_database(tmp_path / "database.db", scene), ChecksConfig(), CAMERA_IDS)
    left = {judged.model.images[image_id].name for image_id in judged.model.reg_image_ids()}
    assert left == scene.poses.keys() - {DOUBTFUL, PARTNER}
    assert judged.verdict.images.keys() == scene.poses.keys()
    doubtful = {name: image for name, image in judged.verdict.images.items() if image.status == "doubtful"}
    assert {name: image.reason for name, image in doubtful.items()} == dict.fromkeys((PARTNER, DOUBTFUL), "few_points")
    assert doubtful[PARTNER].num_points > doubtful[DOUBTFUL].num_points == 8
    assert judged.verdict.checks["min_kept_images"].value == pytest.approx(0.8)
