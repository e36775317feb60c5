"""Small rendered training scenes for tests: images with many corners, and comparison of scenes."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from sfm_lightglue.extractors.sift import SiftConfig
from sfm_lightglue.synthetic.photo_scenes.views import ViewConfig
from sfm_lightglue.training.data.labelled_pairs import SceneConfig
from sfm_lightglue.training.data.labelled_scenes import TrainingScene

SMALL = ViewConfig(num_views=3, image_size=(320, 240))
CONFIG = SceneConfig(views=SMALL, sift=SiftConfig(max_keypoints=200), unrelated_share=0.0)


def write_photos(folder: Path) -> Path:
    """Write eight images with many corners; returns the folder."""
    for k in range(8):
        cv2.imwrite(str(folder / f"texture_{k}.jpg"), pattern(k))
    return folder


def pattern(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = np.full((360, 480, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(350):
        x, y = rng.integers(0, (480, 360))
        w, h = rng.integers(6, 40, 2)
        color = tuple(rng.integers(0, 255, 3).tolist())
        cv2.rectangle(image, (int(x), int(y)), (int(x + w), int(y + h)), color, -1)
    return image


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
