"""A call of a model in `torch.compile`: what depends on values stays in Python, the rest is one graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from sfm_lightglue.huggingface.matching_steps import (
    Networks,
    Points,
    Request,
    checked_request,
    find_points,
    match_points,
)
from sfm_lightglue.huggingface.outputs import LightGlueKeypointMatchingOutput
from sfm_lightglue.models.lightglue import LightGlue
from sfm_lightglue.models.lightglue_graph import LightGlueGraph

_GRAPHS: WeakKeyDictionary[LightGlue, LightGlueGraph] = WeakKeyDictionary()
"""The graph of each network that was called; a new one would be compiled again."""


def match(
    networks: Networks,
    pixel_values: Tensor,
    labels: Any,
    flags: tuple[bool | None, bool | None, bool | None],
    image_sizes: Tensor | None,
    keywords: Mapping[str, Any],
) -> LightGlueKeypointMatchingOutput | tuple[Any, ...]:
    """The output of a model; arguments as in `checked_request`."""
    request, points, graph = _begin(networks, pixel_values, labels, flags, image_sizes, keywords)
    found = None
    if graph is not None:
        first, second = points.sides
        masks = first.mask, second.mask
        found = graph(first.keypoints, second.keypoints, first.descriptors, second.descriptors, *masks)
    output: LightGlueKeypointMatchingOutput | tuple[Any, ...] = _end(networks, request, points, found)
    return output


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _begin(networks: Networks, *arguments: Any) -> tuple[Request, Points, LightGlueGraph | None]:
    """The points, and the graph that matches them; None if layers depend on values, or are requested."""
    request = checked_request(networks.config, *arguments)
    points, thresholds = find_points(networks, request), networks.config.thresholds()
    is_adaptive = thresholds.depth_confidence is not None or thresholds.width_confidence is not None
    is_exact = next(networks.lightglue.parameters()).dtype in (torch.float32, torch.float64)
    if is_adaptive or not is_exact or request.with_states or request.with_attentions:
        return request, points, None
    for side in points.sides:
        for value in side:
            torch._dynamo.maybe_mark_dynamic(value, 1)
    graph = _GRAPHS.get(networks.lightglue)
    if graph is None:
        graph = _GRAPHS[networks.lightglue] = LightGlueGraph(networks.lightglue, thresholds.filter_threshold)
    graph.filter_threshold = thresholds.filter_threshold
    return request, points, graph


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _end(*arguments: Any) -> LightGlueKeypointMatchingOutput | tuple[Any, ...]:
    return match_points(*arguments)
