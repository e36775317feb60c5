"""Networks as ONNX files, by the exporter of PyTorch; needs the packages onnx and onnxscript."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import install_hint

if TYPE_CHECKING:
    import onnx

OPSET = 18
"""Version of the operators; the oldest one that the exporter writes, which most programs can read."""


def onnx_model(
    module: nn.Module,
    example: tuple[Tensor, ...],
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: Sequence[Mapping[int, str]],
    metadata: Mapping[str, str],
) -> onnx.ModelProto:
    """Export a module.

    Args:
        module: in evaluation mode.
        example: arguments with which it is traced.
        input_names: of the arguments.
        output_names: of the results.
        dynamic_axes: for each argument, the axes whose size is dynamic, and the name of the size.
        metadata: texts that the file carries, such as the licence.

    Raises:
        ConfigError: if onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (the exporter imports it)
    except ImportError as error:
        raise ConfigError(
            f"the export to ONNX needs packages that are not installed: {install_hint('onnx')}"
        ) from error
    sizes = {name: torch.export.Dim(name) for axes in dynamic_axes for name in axes.values()}
    shapes = tuple({axis: sizes[name] for axis, name in axes.items()} for axes in dynamic_axes)
    with _quiet(), torch.no_grad():
        program: Any = torch.onnx.export(
            module,
            example,
            dynamo=True,
            opset_version=OPSET,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_shapes=shapes,
            verbose=False,
        )
    model: onnx.ModelProto = program.model_proto
    for key, value in sorted(metadata.items()):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
    for node in model.graph.node:  # traces of the source files, with their paths
        del node.metadata_props[:]
    onnx.checker.check_model(model)
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter warns of packages that it could use, and of its own names of sizes."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
