"""Features of images along a walk, of which near ones see the same points of the world."""

from __future__ import annotations

import numpy as np

from sfm_lightglue.types import Features

NUM_SEEN, STEP = 120, 20
"""Points that an image sees, and how many of them the next image does not see any more."""


def walk_features(names: list[str], step: int = STEP, seed: int = 0) -> dict[str, Features]:
    """Features of images in the order of the walk; images that are 6 steps apart have no point in common."""
    rng = np.random.default_rng(seed)
    world = rng.normal(size=(NUM_SEEN + step * len(names), 32))
    found = {}
    for place, name in enumerate(names):
        seen = world[step * place : step * place + NUM_SEEN] + rng.normal(scale=0.15, size=(NUM_SEEN, 32))
        order = rng.permutation(NUM_SEEN)
        keypoints = rng.uniform(0, (64, 48), (NUM_SEEN, 2)).astype(np.float32)
        descriptors = np.abs(seen[order]).astype(np.float32)
        found[name] = Features(keypoints, np.ones(NUM_SEEN, np.float32), descriptors, (64, 48), key=name)
    return found
