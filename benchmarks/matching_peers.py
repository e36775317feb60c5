"""Measure the time per pair of the LightGlue of `transformers`, with all layers and random weights.

The time does not depend on the values of the weights as long as no pair stops early. Sizes: the official one
(256 dimensions, 9 layers, 4 heads), and that of other LightGlue weights.
"""

from __future__ import annotations

import statistics
import time

import torch
from transformers import LightGlueConfig, LightGlueForKeypointMatching, SuperPointConfig

from sfm_lightglue.models.lightglue import LightGlueArchitecture

OFFICIAL = LightGlueArchitecture()


def peer_milliseconds(architecture: LightGlueArchitecture, num_keypoints: int, num_runs: int = 7) -> float:
    """Median time of one pair.

    Args:
        architecture: width, layers and heads are used; positions are always (x, y).
        num_keypoints: of each image.
        num_runs: number of measured runs, after one that is not measured.
    """
    width = architecture.descriptor_dim
    config = LightGlueConfig(
        keypoint_detector_config=SuperPointConfig(descriptor_decoder_dim=width),
        descriptor_dim=width,
        num_hidden_layers=architecture.num_layers,
        num_attention_heads=architecture.num_heads,
        depth_confidence=-1.0,
        width_confidence=-1.0,
    )
    torch.manual_seed(0)
    model = LightGlueForKeypointMatching(config)
    model.eval()  # type: ignore[no-untyped-call]
    keypoints = torch.rand(1, 2, num_keypoints, 2) * 500
    descriptors = torch.nn.functional.normalize(torch.randn(1, 2, num_keypoints, width), dim=-1)
    mask = torch.ones(1, 2, num_keypoints, dtype=torch.int)
    times = []
    for _ in range(1 + num_runs):
        start = time.perf_counter()
        with torch.inference_mode():
            model._match_image_pair(keypoints, descriptors, 500, 500, mask=mask)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[1:])
