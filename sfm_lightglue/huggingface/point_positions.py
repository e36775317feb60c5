"""From the outputs of a model to points in pixels of the original images.

Outputs of this library tell how the images lay in the model input. Those of `transformers` do not: then the batch of
the processor tells it, or the options of the processor if the images fill the input. Else no position is returned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfm_lightglue.huggingface.host_pipelines import host_swaps_sizes
from sfm_lightglue.huggingface.letterbox import to_original_pixels
from sfm_lightglue.huggingface.processor_options import ProcessorOptions


def matches_in_pixels(
    outputs: Any,
    target_sizes: Any,
    threshold: float,
    options: ProcessorOptions,
    inputs: Mapping[str, Any] | None,
    is_certain: bool,
) -> list[dict[str, Tensor]]:
    """See `LightGlueImageProcessor.post_process_keypoint_matching`; `is_certain` as in `points_in_pixels`."""
    mask = _value(outputs, "mask", required=True) > 0
    sizes = _as_sizes(target_sizes, (len(mask), 2, 2), "both images of each pair").to(mask.device)
    if host_swaps_sizes():
        sizes = sizes.flip(-1)
    pixels = points_in_pixels(outputs, sizes, options, inputs, is_certain)
    # Without early stopping and pruning, `transformers` returns [2 B, N] instead of [B, 2, N].
    indices, all_scores = (
        _value(outputs, name, required=True).reshape(mask.shape)[:, 0] for name in ("matches", "matching_scores")
    )
    results = []
    for points, valid, matches, scores in zip(pixels, mask, indices, all_scores, strict=True):
        is_match = valid[0] & (matches >= 0) & (matches < valid.shape[1]) & (scores > threshold)
        idx0 = is_match.nonzero()[:, 0]
        idx1 = matches[idx0].long()
        results.append(
            {
                "keypoints0": points[0, idx0],
                "keypoints1": points[1, idx1],
                "matching_scores": scores[idx0],
                "matching_indices": torch.stack([idx0, idx1], dim=1),
            }
        )
    return results


def detections_in_pixels(
    outputs: Any, target_sizes: Any, options: ProcessorOptions, inputs: Mapping[str, Any] | None, is_certain: bool
) -> list[dict[str, Tensor]]:
    """See `SuperPointImageProcessor.post_process_keypoint_detection`; `is_certain` as in `points_in_pixels`."""
    mask = _value(outputs, "mask", required=True) > 0
    sizes = _as_sizes(target_sizes, (len(mask), 2), "each image").to(mask.device)
    pixels = points_in_pixels(outputs, sizes[:, None], options, inputs, is_certain)[:, 0]
    scores, descriptors = (_value(outputs, name, required=True) for name in ("scores", "descriptors"))
    return [
        {"keypoints": pixels[i, valid], "scores": scores[i, valid], "descriptors": descriptors[i, valid]}
        for i, valid in enumerate(mask)
    ]


def points_in_pixels(
    outputs: Any, sizes: Tensor, options: ProcessorOptions, inputs: Mapping[str, Any] | None, is_certain: bool
) -> Tensor:
    """Points [B, K, N, 2] (x, y) in pixels of the original images.

    Args:
        outputs: with `keypoints` [B, K, N, 2]; K is 2 for pairs, and 1 for single images, whose axis can be missing.
        sizes: [B, K, 2] (height, width) of the original images.
        options: of the processor.
        inputs: of the model, if they are known.
        is_certain: whether all images were prepared with these options.

    Raises:
        ValueError: if it is not known how the images were resized.
    """
    keypoints = _value(outputs, "keypoints", required=True)
    keypoints = keypoints.reshape(*sizes.shape[:2], -1, 2)
    seen, frame = _seen_sizes(outputs, sizes, options, inputs, is_certain)
    if frame is not None:  # the points are divided by the size of the whole input
        whole = torch.tensor(frame).to(seen)
        keypoints = keypoints * (whole / seen).flip(-1)[:, :, None].to(keypoints)
    _refuse_swapped(sizes, seen, options)
    return to_original_pixels(keypoints, sizes, seen)


def _seen_sizes(
    outputs: Any, sizes: Tensor, options: ProcessorOptions, inputs: Mapping[str, Any] | None, is_certain: bool
) -> tuple[Tensor, tuple[int, int] | None]:
    """(height, width) [B, K, 2] of the images in the model input, and of the input if points are divided by it."""
    told = _value(outputs, "image_sizes")
    if told is not None:
        return torch.as_tensor(told).to(sizes.device).reshape(sizes.shape), None
    fitted = torch.tensor([[options.resized(size) for size in images] for images in sizes.tolist()]).to(sizes.device)
    frame = _value(outputs, "input_size")
    if inputs is not None:
        pixels, placed = inputs["pixel_values"], inputs.get("image_sizes")
        whole = (pixels.shape[-2], pixels.shape[-1])
        return (torch.tensor(whole).expand(sizes.shape) if placed is None else torch.as_tensor(placed)).to(
            sizes.device
        ).reshape(sizes.shape), whole
    if frame is not None and is_certain:
        return _from_content(_value(outputs, "filled_sizes"), fitted, frame), frame
    whole = options.frame(fitted.reshape(-1, 2).tolist())
    if not is_certain or not bool((fitted == torch.tensor(whole).to(fitted)).all()):
        raise ValueError(
            "post-processing: the outputs do not tell how the images were resized and padded, as those of transformers"
            " and of its pipeline; stretch images with keep_aspect_ratio=False, give the batch of the processor as"
            " inputs=..., or use sfm_lightglue.pipeline"
        )
    return fitted, whole


def _from_content(filled: Tensor | None, fitted: Tensor, frame: Sequence[int]) -> Tensor:
    """Sizes of images without `image_sizes`: as the processor makes them, or all of the input if there is content."""
    whole = torch.tensor(tuple(frame)).to(fitted).expand(fitted.shape)
    reaches = fitted if filled is None else filled.to(fitted).reshape(fitted.shape)
    is_padded = ((reaches <= fitted) & (fitted <= whole)).all(-1, keepdim=True)
    return torch.where(is_padded, fitted, whole)


def _refuse_swapped(sizes: Tensor, seen: Tensor, options: ProcessorOptions) -> None:
    """Check sizes against those of the images in the input.

    Raises:
        ValueError: if they fit only as (width, height).
    """

    def fits(original: Tensor) -> bool:
        expected = torch.tensor([[options.resized(size) for size in images] for images in original.tolist()])
        return bool(((expected.to(seen) - seen).abs() <= 1).all())

    if not fits(sizes) and fits(sizes.flip(-1)):
        raise ValueError("target_sizes: expected (height, width); these fit the images only as (width, height)")


def _value(outputs: Any, name: str, required: bool = False) -> Any:
    """A value of outputs that have attributes or keys.

    Raises:
        ValueError: if a required value is missing.
    """
    found = getattr(outputs, name, None)
    if found is None and isinstance(outputs, Mapping):
        found = outputs.get(name)
    if found is None and required:
        raise ValueError(f"outputs: expected those of a model with {name}, got {type(outputs).__name__} without it")
    return found


def _as_sizes(target_sizes: Any, shape: tuple[int, ...], of_what: str) -> Tensor:
    try:
        sizes = torch.as_tensor(np.asarray(target_sizes.cpu() if isinstance(target_sizes, Tensor) else target_sizes))
    except (TypeError, ValueError) as error:
        raise ValueError(f"target_sizes: expected (height, width) of {of_what}") from error
    if tuple(sizes.shape) != shape or not bool((sizes > 0).all()):
        raise ValueError(
            f"target_sizes: expected positive {list(shape)}, (height, width) of {of_what}, got {list(sizes.shape)}"
        )
    return sizes
