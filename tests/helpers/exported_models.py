"""A small model with SuperPoint without adaptivity, and images with different numbers of keypoints."""

from __future__ import annotations

import torch

import sfm_lightglue

BLACK_SCORE = 1 / 65
"""Score of all pixels of a black image, because untrained networks have no biases."""

SCALE = torch.tensor([96.0, 64.0])
"""Width and height of images of 64 rows and 96 columns."""


def exact_model(num_layers: int = 2, **detector: object) -> sfm_lightglue.LightGlueForKeypointMatching:
    """A model with random weights, which runs all layers on all points; further options are those of its detector."""
    sizes = {"encoder_hidden_sizes": [8, 8, 16, 16], "decoder_hidden_size": 32, "descriptor_decoder_dim": 32}
    thresholds = {"keypoint_threshold": BLACK_SCORE + 1e-4, "initializer_range": 0.1, "max_keypoints": -1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = sfm_lightglue.LightGlueConfig(
            keypoint_detector_config={"model_type": "superpoint", **sizes, **thresholds, **detector},
            num_hidden_layers=num_layers,
            descriptor_dim=32,
            num_attention_heads=2,
            depth_confidence=-1,
            width_confidence=-1,
            filter_threshold=0.0,
            initializer_range=0.2,
        )
        return sfm_lightglue.LightGlueForKeypointMatching(config).eval()


def images(num_pairs: int, height: int, width: int) -> torch.Tensor:
    """Pairs [B, 2, 1, H, W] of noise; the second image is the first, moved, with a black lower part."""
    generator = torch.Generator().manual_seed(height)
    first = torch.rand(num_pairs, 1, 1, height, width, generator=generator)
    second = first.roll(3, -1)
    second[:, :, :, 3 * height // 4 :] = 0
    return torch.cat([first, second], dim=1)
