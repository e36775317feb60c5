"""Files of weights, and models with SuperPoint, as ONNX files for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.exportable import ExportableKeypointMatching, ExportedMatches
from sfm_lightglue.huggingface.modeling import LightGlueForKeypointMatching
from sfm_lightglue.models.checkpoints import load_lightglue
from sfm_lightglue.models.lightglue_hosts import LAYOUTS
from sfm_lightglue.models.onnx_file import onnx_model
from sfm_lightglue.store.atomic_file import atomic_write, store_errors
from sfm_lightglue.version import __version__
from sfm_lightglue.weights.catalog import CATALOG
from sfm_lightglue.weights.lookup import require_weights
from sfm_lightglue.weights.recommended_thresholds import PAPERS_THRESHOLDS, recommended_thresholds

IMAGES = "images"
"""Layout of a file that takes images: SuperPoint and LightGlue together."""

ONNX_LAYOUTS = (*LAYOUTS, IMAGES)
"""Names of all layouts."""


def export_onnx(source: str | Path, output: str | Path, layout: str = "plain", num_points: int | None = None) -> Path:
    """Write an ONNX file of a LightGlue: all layers, all points, dynamic numbers of keypoints.

    Args:
        source: name of weights of the catalogue, a file of LightGlue's weights, or the folder of a model; for the
            layout "images" a model with SuperPoint, as `LightGlueForKeypointMatching.from_pretrained` reads it.
        output: path of the file.
        layout: "plain" (see `PlainLayout`), "colmap", "opencv", or "images" (see `ExportableKeypointMatching`).
        num_points: most keypoints of an image, for the layout "images"; None for the limit of its configuration.

    Returns:
        The path of the file.

    Raises:
        ConfigError: for an unknown layout, if onnx or onnxscript is not installed, or for another detector.
        WeightsError: if the weights are missing or damaged.
        StoreError: if the file cannot be written.
    """
    if layout not in ONNX_LAYOUTS:
        raise ConfigError(f"unknown layout {layout!r}; known are {', '.join(ONNX_LAYOUTS)}")
    if num_points is not None and layout != IMAGES:
        raise ConfigError(f"a number of points is for the layout {IMAGES} only: others take any number")
    output = Path(output)
    content = _images(source, num_points) if layout == IMAGES else _matcher(source, layout)
    with store_errors(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(output) as file:
        file.write(content)
    return output


def _matcher(source: str | Path, layout: str) -> bytes:
    if Path(source).is_dir():
        model = LightGlueForKeypointMatching.from_pretrained(source, dtype=torch.float32)
        network, threshold = model.lightglue, float(model.config.filter_threshold)
    else:
        path = require_weights(str(source), "the export to ONNX", "weights", "")
        threshold = {**PAPERS_THRESHOLDS, **recommended_thresholds(path)}["filter_threshold"]
        network = load_lightglue(path)
    module = LAYOUTS[layout](network, threshold).eval()
    names, axes = (module.input_names, module.output_names), module.dynamic_axes()
    exported = onnx_model(module, module.example(), *names, axes, _metadata(str(source), layout))
    content: bytes = exported.SerializeToString()
    return content


def _images(source: str | Path, num_points: int | None) -> bytes:
    module = ExportableKeypointMatching(
        LightGlueForKeypointMatching.from_pretrained(source, dtype=torch.float32), num_points
    ).eval()
    example = torch.linspace(0, 1, 4 * 64 * 72).reshape(2, 2, 1, 64, 72)  # two pairs; only the shapes matter
    axes = [{0: "num_pairs", 3: "height", 4: "width"}]
    metadata = _metadata(str(source), IMAGES)
    exported = onnx_model(module, (example,), ["pixel_values"], ExportedMatches._fields, axes, metadata)
    content: bytes = exported.SerializeToString()
    return content


def _metadata(source: str, layout: str) -> Mapping[str, str]:
    """Texts that the file carries."""
    entry = CATALOG.get(source)
    licence = {} if entry is None else {"weights": entry.name, "licence": entry.licence}
    return {"producer": f"sfm_lightglue {__version__}", "layout": layout, **licence}
