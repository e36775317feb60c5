"""Pairs of a rendered scene are labelled by depth and pose: twins are false however well they match."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.lookalikes_fit import ranking_quality
from benchmarks.lookalikes_pairs import labelled_scene
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.probability import calibrated_probabilities
from sfm_lightglue.synthetic.lookalikes import LookalikeScene, render_lookalikes


def part_of(whole, names):
    """A scene with some of the images of another one."""
    parts = {
        field: {name: getattr(whole, field)[name] for name in names}
        for field in ("images", "depths", "cam_from_world_from_name")
    }
    return replace(whole, **parts)


def test_pairs_within_a_room_are_true_and_pairs_of_twin_rooms_are_false(tmp_path):
    whole = render_lookalikes(LookalikeScene("rooms", "rooms", False, False, True, seed=4), (320, 240))
    names = [whole.names[idx] for idx in (2, 3, 10, 11)]  # two images of each room, the same views of the twins
    scene = part_of(whole, names)
    found = labelled_scene(scene, tmp_path, seed=0, with_positions=True)
    cues, is_true = found.cues, found.is_true
    assert cues.shape == (6, len(PairCues.FIELDS))
    assert found.is_clear.all()
    # Sorted pairs: (2, 3), (2, 10), (2, 11), (3, 10), (3, 11), (10, 11).
    assert is_true.tolist() == [True, False, False, False, False, True]
    inliers = cues[:, PairCues.FIELDS.index("log_inliers")]
    assert inliers[~is_true].min() > np.log10(30)  # the twins match well
    assert np.isfinite(cues[:, PairCues.FIELDS.index("position_gap")]).all()


def test_the_packaged_model_tells_true_pairs_of_another_corridor_from_false_ones(tmp_path):
    whole = render_lookalikes(LookalikeScene("corridor", "corridor", True, True, True, seed=4), (320, 240))
    names = whole.names[::3]
    scene = part_of(whole, names)
    found = labelled_scene(scene, tmp_path, seed=0, with_positions=False)
    is_true = found.is_true[found.is_clear]
    assert 3 <= is_true.sum() <= len(is_true) - 3
    cues = [PairCues(*row) for row in found.cues.tolist()]
    probabilities = calibrated_probabilities(cues)[found.is_clear]
    assert ranking_quality(is_true, probabilities) > 0.9
    assert probabilities[is_true].mean() > probabilities[~is_true].mean() + 0.2
