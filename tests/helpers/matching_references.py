"""Small models of `transformers` with random weights that find matches, for tests of parity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sfm_lightglue import LightGlueForKeypointMatching as OurModel

transformers = pytest.importorskip("transformers")


def make_reference(*, seed: int = 0, **options: object) -> Any:
    """A model of `transformers` in evaluation mode; `options` are fields of its or its detector's configuration."""
    detector: dict[str, object] = {
        "encoder_hidden_sizes": [8, 8, 16, 16],
        "decoder_hidden_size": 32,
        "descriptor_decoder_dim": 64,
        "border_removal_distance": 0,
        "keypoint_threshold": 0.01,
    }
    sizes: dict[str, object] = {
        "descriptor_dim": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "depth_confidence": -1.0,
        "width_confidence": -1.0,
    }
    detector |= {key: options.pop(key) for key in list(options) if key in {*detector, "max_keypoints", "nms_radius"}}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = transformers.LightGlueConfig(
            keypoint_detector_config=transformers.SuperPointConfig(**detector), **(sizes | options)
        )
        model = transformers.LightGlueForKeypointMatching(config).eval()
        model.set_attn_implementation({"": "eager", "keypoint_detector_config": "eager"})
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                _draw(name, parameter)
            # Descriptors of random networks differ little from their mean; the projection amplifies the differences.
            found = model.keypoint_detector(make_inputs(1).flatten(0, 1))
            mean = found.descriptors[found.mask.bool()].mean(0)
            model.input_projection.weight.mul_(16.0)
            model.input_projection.bias.copy_(-model.input_projection.weight @ mean)
            for assignment in model.match_assignment_layers:
                torch.nn.init.orthogonal_(assignment.final_projection.weight)
                assignment.final_projection.weight.mul_(3.0)
                assignment.matchability.bias.add_(4.0)
    return model


def _draw(name: str, parameter: torch.Tensor) -> None:
    if parameter.ndim == 4:
        parameter.normal_(0.0, (2.0 / parameter[0].numel()) ** 0.5)
    elif "layer_norm" in name:
        parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.2)
    elif name.endswith("bias"):
        parameter.normal_(0.0, 0.1)
    elif "mlp.fc2" in name:
        parameter.normal_(0.0, 0.3 * parameter.shape[1] ** -0.5)  # keeps states similar enough to match
    else:
        parameter.normal_(0.0, parameter.shape[1] ** -0.5)


def make_both(folder: Path, **options: object) -> tuple[Any, OurModel]:
    """A model of `transformers`, and ours with the same weights."""
    reference = make_reference(**options)
    reference.save_pretrained(folder)
    return reference, OurModel.from_pretrained(folder)


def make_inputs(batch: int, size: tuple[int, int] = (64, 88), seed: int = 0) -> torch.Tensor:
    """Pairs of coarse noise [B, 2, 3, H, W]; the second image is the first, shifted by whole cells, plus noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 1, size[0] // 4, size[1] // 4, generator=generator)
    first = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0.01, 1)
    second = first.roll((8, 16), (-2, -1)) + 0.02 * torch.rand(batch, 1, *size, generator=generator)
    return torch.stack([first, second], dim=1).expand(-1, -1, 3, -1, -1).contiguous()


def both_outputs(reference, ours, pixel_values: torch.Tensor, **options: bool):
    """Outputs of both models, without gradients."""
    with torch.no_grad():
        return reference(pixel_values, **options), ours(pixel_values, **options)
