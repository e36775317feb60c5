"""Scenes in which different places look alike, with known truth; for the benchmark, the training and the tests."""

from sfm_lightglue.synthetic.lookalikes.overlap import connected_groups, overlap_matrix
from sfm_lightglue.synthetic.lookalikes.scenes import KINDS, LookalikeScene, render_lookalikes

__all__ = ["KINDS", "LookalikeScene", "connected_groups", "overlap_matrix", "render_lookalikes"]
