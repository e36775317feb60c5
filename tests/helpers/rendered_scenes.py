"""Small rendered training scenes for tests, and comparison of scenes."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.synthetic.photo_scenes.views import ViewConfig
from sfm_lightglue.training.data.labelled_pairs import SceneConfig
from sfm_lightglue.training.data.labelled_scenes import TrainingScene
from tests.helpers.textured_photos import pattern, write_photos

__all__ = ["CONFIG", "SMALL", "flat", "pattern", "same", "write_photos"]

SMALL = ViewConfig(num_views=3, image_size=(320, 240))
CONFIG = SceneConfig(views=SMALL, max_keypoints=200, unrelated_share=0.0)


def same(scene0: TrainingScene, scene1: TrainingScene) -> bool:
    arrays0, arrays1 = flat(scene0), flat(scene1)
    return len(arrays0) == len(arrays1) and all(map(np.array_equal, arrays0, arrays1))


def flat(scene: TrainingScene) -> list[np.ndarray]:
    views = [
        [view.keypoints, view.scales, view.orientations, view.scores, view.descriptors, np.array(view.image_size)]
        for view in scene.views
    ]
    pairs = [
        [np.array([pair.view0, pair.view1]), pair.matches, pair.state0, pair.state1, np.array(pair.overlap)]
        for pair in scene.pairs
    ]
    return [array for group in (*views, *pairs) for array in group]
