"""Pairs of a rendered scene are labelled by depth and pose: twins are false however well they match."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.lookalikes_pairs import labelled_pairs
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.synthetic.lookalikes import LookalikeScene, render_lookalikes


def test_pairs_within_a_room_are_true_and_pairs_of_twin_rooms_are_false(tmp_path):
    whole = render_lookalikes(LookalikeScene("rooms", "rooms", False, False, True, seed=4), (320, 240))
    names = [whole.names[idx] for idx in (2, 3, 10, 11)]  # two images of each room, the same views of the twins
    scene = replace(
        whole,
        images={name: whole.images[name] for name in names},
        depths={name: whole.depths[name] for name in names},
        cam_from_world_from_name={name: whole.cam_from_world_from_name[name] for name in names},
    )
    cues, is_true = labelled_pairs(scene, tmp_path, seed=0, with_positions=True)
    assert cues.shape == (6, len(PairCues.FIELDS))
    # Sorted pairs: (2, 3), (2, 10), (2, 11), (3, 10), (3, 11), (10, 11).
    assert is_true.tolist() == [True, False, False, False, False, True]
    inliers = cues[:, PairCues.FIELDS.index("log_inliers")]
    assert inliers[~is_true].min() > np.log10(30)  # the twins match well
    assert np.isfinite(cues[:, PairCues.FIELDS.index("position_gap")]).all()
