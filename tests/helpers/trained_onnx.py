"""Published networks, read from ONNX files."""

from __future__ import annotations

import onnx
import torch

from sfm_lightglue.models.checkpoints import lightglue_from_state_dict
from sfm_lightglue.models.lightglue import LightGlue


def read_lighterglue(path) -> LightGlue:
    """Reads a LighterGlue from the initialisers of a graph, with the names of the original layout.

    Weights of linear layers have no names and are transposed, but the node that uses one is named after its module.
    """
    graph = onnx.load(str(path)).graph
    arrays = {init.name: onnx.numpy_helper.to_array(init) for init in graph.initializer}
    state = {
        name.removeprefix("net."): torch.tensor(array) for name, array in arrays.items() if name.startswith("net.")
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in arrays and node.input[1].startswith("onnx::"):
            module = node.name.removeprefix("/net/").removesuffix("/MatMul").replace("/", ".")
            weight = torch.tensor(arrays[node.input[1]]).T
            state.setdefault(f"{module.replace('ffn.ffn.', 'ffn.')}.weight", weight)
    # Both images use the same modules; the second pass has other names for the same weights.
    state = {key: value for key, value in state.items() if "_1." not in key}
    return lightglue_from_state_dict(
        {key.replace("log_assignment.2", "log_assignment.0"): value for key, value in state.items()}, str(path)
    )
