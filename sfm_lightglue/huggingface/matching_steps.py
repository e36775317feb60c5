"""The steps of `LightGlueForKeypointMatching`: points of images, their matches, and the output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.detectors import DetectedPoints, Detector, checked_sizes, detect, filled_sizes
from sfm_lightglue.huggingface.image_graph import ImageGraph
from sfm_lightglue.huggingface.loss import labels_as_tensor, matching_loss
from sfm_lightglue.huggingface.outputs import LightGlueKeypointMatchingOutput
from sfm_lightglue.huggingface.pretrained_model import refuse_near_misses, require_pixels
from sfm_lightglue.models.lightglue import LightGlue, LightGlueOutput, Side, normalize_keypoints

_ARGUMENTS = ("labels", "output_attentions", "output_hidden_states", "return_dict", "image_sizes")
_SHAPE = "[batch, 2, channels, height, width]"


class Networks(NamedTuple):
    """The parts of a model."""

    config: LightGlueConfig
    detector: Detector
    lightglue: LightGlue


class Request(NamedTuple):
    """The arguments of a call, with the defaults of the configuration."""

    pixel_values: Tensor
    labels: Any
    with_attentions: bool
    with_states: bool
    as_output: bool
    image_sizes: Tensor | None


class Points(NamedTuple):
    """The points of all pairs, padded to N."""

    keypoints: Tensor
    """[B, 2, N, 2] divided by the sizes of the images."""
    mask: Tensor
    """[B, 2, N] bool."""
    sides: tuple[Side, Side]
    """Input of LightGlue."""
    sizes: Tensor
    """[B, 2, 2] (height, width) of the images, on the CPU."""


def checked_request(
    config: LightGlueConfig,
    pixel_values: Tensor,
    labels: Any,
    flags: tuple[bool | None, bool | None, bool | None],
    image_sizes: Tensor | None,
    keywords: Mapping[str, Any],
) -> Request:
    """Check the arguments of `LightGlueForKeypointMatching.forward`.

    Args:
        config: of the model.
        pixel_values: of the call.
        labels: of the call.
        flags: `output_attentions`, `output_hidden_states` and `return_dict` of the call; None is that of `config`.
        image_sizes: of the call.
        keywords: further ones.

    Raises:
        TypeError: if `pixel_values` are no floating-point numbers, and on a misspelt keyword.
        ValueError: on another shape.
    """
    refuse_near_misses(keywords, _ARGUMENTS)
    require_pixels(pixel_values, _SHAPE, 5)
    if pixel_values.shape[1] != 2:
        raise ValueError(f"pixel_values: expected {_SHAPE}, got {list(pixel_values.shape)}")
    defaults = (config.output_attentions, config.output_hidden_states, config.return_dict)
    attentions, states, as_output = (
        default if flag is None else flag for flag, default in zip(flags, defaults, strict=True)
    )
    return Request(pixel_values, labels, attentions, states, as_output, image_sizes)


def find_points(networks: Networks, request: Request) -> Points:
    """Detect the keypoints of all images."""
    weight = next(networks.lightglue.parameters())
    sizes = checked_sizes(request.pixel_values, request.image_sizes)
    images = request.pixel_values.to(weight.device).flatten(0, 1)  # [B, 2, C, H, W] -> [2 B, C, H, W]
    detected = detect(networks.detector, images, sizes.flatten(0, 1))
    keypoints, positions, descriptors, mask = _padded(detected, sizes.to(weight.device))
    descriptors = descriptors.to(weight.dtype)
    first, second = (Side(positions[:, side], descriptors[:, side], mask[:, side]) for side in (0, 1))
    return Points(keypoints, mask, (first, second), sizes)


def match_points(
    networks: Networks, request: Request, points: Points, found: tuple[Tensor, Tensor, Tensor, Tensor] | None = None
) -> LightGlueKeypointMatchingOutput | tuple[Any, ...]:
    """Match the points of all pairs, and make the output.

    Args:
        networks: of the model.
        request: of the call.
        points: of `find_points`.
        found: results of `LightGlueGraph` for these points; None runs LightGlue.
    """
    if found is None:
        output = networks.lightglue(
            *points.sides,
            thresholds=networks.config.thresholds(),
            return_hidden_states=request.with_states,
            return_attentions=request.with_attentions,
            return_messages=request.with_states,
        )
        result = _as_result(output, points.keypoints, points.mask)
    else:
        result = _from_graph(found, points.keypoints, points.mask, len(networks.lightglue.layers))
    if request.labels is not None:
        known = labels_as_tensor(request.labels, points.mask)
        result.loss = matching_loss(networks.lightglue.forward_all_layers(*points.sides), known, points.mask)
    result.input_size = (request.pixel_values.shape[3], request.pixel_values.shape[4])
    if request.image_sizes is None:
        result.filled_sizes = filled_sizes(request.pixel_values).to(points.mask.device)
    else:
        result.image_sizes = points.sizes.to(points.mask.device)
    return result if request.as_output else result.to_tuple()


def exported_matches(networks: Networks, request: Request) -> LightGlueKeypointMatchingOutput | tuple[Any, ...]:
    """The output of a model in `torch.export`: all layers, all points.

    Raises:
        ConfigError: for another detector than SuperPoint, and for requests that a graph does not have.
    """
    asked = {
        "labels": request.labels is not None,
        "image_sizes": request.image_sizes is not None,
        "output_attentions": request.with_attentions,
        "output_hidden_states": request.with_states,
    }
    if any(asked.values()):
        raise ConfigError(
            f"torch.export: {', '.join(name for name, is_asked in asked.items() if is_asked)} cannot be exported; give"
            " pixel_values only, of images that fill them (keep_aspect_ratio=False of the image processor)"
        )
    found = ImageGraph(networks.detector, networks.lightglue, networks.config.filter_threshold)(request.pixel_values)
    height, width = request.pixel_values.shape[3:]
    x, y = found.keypoints.unbind(-1)
    keypoints = torch.stack([x / width, y / height], dim=-1)
    matches = (*found.matches.unbind(1), *found.matching_scores.unbind(1))
    result = _from_graph(matches, keypoints, found.mask, len(networks.lightglue.layers))
    return result if request.as_output else result.to_tuple()


def _padded(detected: list[DetectedPoints], sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalised keypoints [B, 2, N, 2], positions, descriptors [B, 2, N, D] and mask [B, 2, N]."""
    flat = sizes.flatten(0, 1).flip(-1).float()  # [2 B, 2] (width, height)
    positions = []
    for each, size in zip(detected, flat, strict=True):
        centred = normalize_keypoints(each.positions[:, :2], size)
        positions.append(torch.cat([centred, each.positions[:, 2:]], dim=1))
    keypoints = [each.keypoints / size for each, size in zip(detected, flat, strict=True)]
    masks = [torch.ones(len(each.keypoints), dtype=torch.bool, device=sizes.device) for each in detected]
    parts = (keypoints, positions, [each.descriptors for each in detected], masks)
    padded = [nn.utils.rnn.pad_sequence(part, batch_first=True) for part in parts]  # [2 B, N, ...] each
    first, second, third, fourth = (part.view(len(part) // 2, 2, *part.shape[1:]) for part in padded)
    return first, second, third, fourth


def _from_graph(
    found: tuple[Tensor, ...], keypoints: Tensor, mask: Tensor, num_layers: int
) -> LightGlueKeypointMatchingOutput:
    """The results of `LightGlueGraph`, which runs all layers on all points, in the form of `transformers`."""
    matches0, matches1, scores0, scores1 = found
    is_matched = mask & mask.any(2).all(1)[:, None, None]  # no layer is needed if an image has no points
    return LightGlueKeypointMatchingOutput(
        matches=torch.stack([matches0, matches1], dim=1),
        matching_scores=torch.stack([scores0, scores1], dim=1),
        keypoints=keypoints,
        prune=is_matched.long() * num_layers,
        mask=mask.to(torch.int32),
    )


def _as_result(output: LightGlueOutput, keypoints: Tensor, mask: Tensor) -> LightGlueKeypointMatchingOutput:
    """The output of LightGlue in the form of `transformers`; states and attentions if they were requested."""
    prune = torch.stack([output.num_layers0, output.num_layers1], dim=1)
    return LightGlueKeypointMatchingOutput(
        matches=torch.stack([output.matches0, output.matches1], dim=1),
        matching_scores=torch.stack([output.matching_scores0, output.matching_scores1], dim=1),
        keypoints=keypoints,
        prune=prune,
        mask=mask.to(torch.int32),
        hidden_states=None if output.hidden_states is None else _hidden_states(output, prune),
        attentions=None if output.attentions is None else _attentions(output),
    )


def _hidden_states(output: LightGlueOutput, prune: Tensor) -> tuple[Tensor, ...]:
    """Seven tensors [2 B, N, ...] per layer, in the order of `transformers`."""
    assert output.hidden_states is not None and output.messages is not None  # both were requested
    result: list[Tensor] = []
    for index in range(len(output.hidden_states) - 1):
        message, update, across, update_across = output.messages[4 * index : 4 * index + 4]
        inside = (prune > index).flatten(1)[..., None]  # [B, 2 N, 1] points that were not pruned before the layer
        before = output.hidden_states[index] * inside
        between = before + update
        after = output.hidden_states[index + 1]
        result += [before, between, torch.cat([before, message], -1), update]
        result += [after, torch.cat([between, across], -1), update_across]
    num_points = prune.shape[2]
    return tuple(each.reshape(-1, num_points, each.shape[2]) for each in result)  # [B, 2 N, D] -> [2 B, N, D]


def _attentions(output: LightGlueOutput) -> tuple[Tensor, ...]:
    """Two tensors [2 B, H, N, N] per layer: self- and cross-attention."""
    assert output.attentions is not None  # they were requested
    pairs = zip(output.attentions[::2], output.attentions[1::2], strict=True)
    return tuple(torch.stack([first, second], dim=1).flatten(0, 1) for first, second in pairs)
