"""Matchers of `transformers`, given as objects: what they need, and what they do not tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.image_batch import ImageBatch

_FIELDS = ("matches", "matching_scores", "keypoints", "mask")


def require_matcher(model: Any) -> None:
    """Check that an object can be the model of a pipeline.

    Raises:
        ConfigError: if it is no module of torch with a configuration.
    """
    if not isinstance(model, nn.Module) or not hasattr(model, "config"):
        raise ConfigError(
            "model: expected a name, a path, LightGlueForKeypointMatching or a matcher of transformers, got"
            f" {type(model).__name__}"
        )


def folder_of(model: nn.Module) -> Path | None:
    """The folder that a model of `transformers` was read from; None if it was not read from a folder here."""
    name = getattr(model.config, "name_or_path", None) or getattr(model.config, "_name_or_path", None)
    return Path(name) if isinstance(name, str) and name and Path(name).is_dir() else None


def run_foreign(model: nn.Module, batch: ImageBatch) -> Any:
    """Outputs of a model of `transformers` for a batch of one pair.

    It gets the pixels only: it takes further values without an error, and ignores them.

    Raises:
        ConfigError: if the outputs are not those of a matcher of keypoints.
    """
    weight = next(model.parameters())
    pixels = torch.as_tensor(batch["pixel_values"]).to(weight.device, weight.dtype)
    outputs = model(pixel_values=pixels, return_dict=True)
    missing = [name for name in _FIELDS if getattr(outputs, name, None) is None]
    if missing:
        raise ConfigError(f"model: {type(model).__name__} returns no {', '.join(missing)}, which matches need")
    return outputs


def single_pairs(batch: ImageBatch) -> list[ImageBatch]:
    """Batches of one pair each: a matcher of `transformers` can mix up the pairs of a larger one."""
    return [
        ImageBatch({key: values[i : i + 1] for key, values in batch.items()}) for i in range(len(batch["pixel_values"]))
    ]
