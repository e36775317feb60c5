"""SuperPoint and LightGlue as one graph: `torch.export`, `torch.compile` and ONNX give the matches of the model."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

import sfm_lightglue
from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.huggingface.exportable import ExportableKeypointMatching
from sfm_lightglue.huggingface.onnx_export import export_onnx

NUM_POINTS = 40
DETECTOR = {
    "encoder_hidden_sizes": [8, 8, 16, 16],
    "decoder_hidden_size": 32,
    "descriptor_decoder_dim": 32,
    "max_keypoints": NUM_POINTS,
    "keypoint_threshold": 1e-6,
    "initializer_range": 0.1,
}


def small_model(**changes):
    torch.manual_seed(0)
    options = {
        "num_hidden_layers": 1,
        "descriptor_dim": 32,
        "num_attention_heads": 2,
        "depth_confidence": -1,
        "width_confidence": -1,
        "filter_threshold": 0.0,
        "initializer_range": 0.2,
        "keypoint_detector_config": DETECTOR,
    } | changes
    return sfm_lightglue.LightGlueForKeypointMatching(sfm_lightglue.LightGlueConfig(**options)).eval()


def images(num_pairs: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height)
    first = torch.rand(num_pairs, 1, 1, height, width, generator=generator)
    return torch.cat([first, first.roll(3, -1)], dim=1)


@pytest.fixture(scope="module")
def exportable():
    return ExportableKeypointMatching(small_model()).eval()


def test_it_gives_the_matches_of_the_model(exportable) -> None:
    pixels = images(2, 64, 96)
    with torch.no_grad():
        found, expected = exportable(pixels), small_model()(pixels)
    assert found.mask.all()
    torch.testing.assert_close(found.keypoints, expected.keypoints * torch.tensor([96, 64]))
    torch.testing.assert_close(found.matches, expected.matches)
    torch.testing.assert_close(found.matching_scores, expected.matching_scores, atol=1e-6, rtol=1e-4)
    assert (found.matches >= 0).sum() > 5


def test_images_with_few_points_have_padding_without_matches(exportable) -> None:
    pixels = images(1, 64, 96)
    pixels[:, 1] = 0
    with torch.no_grad():
        scores = exportable.network.score(exportable.network.encode(pixels.flatten(0, 1)))
        found = exportable(pixels)
    limit = exportable.detector_config.keypoint_threshold
    for side in range(2):
        assert found.mask[0, side].sum() <= (scores[side] > limit).sum()
    assert not (found.matches[~found.mask] >= 0).any()


def test_an_exported_program_takes_other_sizes(exportable) -> None:
    sizes = {name: torch.export.Dim(name, min=16) for name in ("height", "width")}
    sizes["pairs"] = torch.export.Dim("pairs")
    shapes = ({0: sizes["pairs"], 3: sizes["height"], 4: sizes["width"]},)
    program = torch.export.export(exportable, (images(2, 64, 96),), dynamic_shapes=shapes)
    pixels = images(3, 80, 72)
    with torch.no_grad():
        for found, expected in zip(program.module()(pixels), exportable(pixels), strict=True):
            torch.testing.assert_close(found, expected)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the default backend of torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of the compiler about itself
def test_a_compiled_graph_gives_the_same_results() -> None:
    exportable, pixels = ExportableKeypointMatching(small_model()).eval(), images(1, 64, 96)
    with torch.no_grad():
        expected = exportable(pixels)
        found = torch.compile(exportable)(pixels)
    torch.testing.assert_close(found.keypoints, expected.keypoints)
    torch.testing.assert_close(found.matches, expected.matches)
    torch.testing.assert_close(found.matching_scores, expected.matching_scores, atol=1e-6, rtol=1e-3)


def test_an_onnx_file_of_a_model_folder_takes_images(tmp_path, exportable) -> None:
    pytest.importorskip("onnxscript", reason="the exporter of PyTorch needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    small_model().save_pretrained(tmp_path / "model")
    path = export_onnx(tmp_path / "model", tmp_path / "new" / "model.onnx", "images")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["keypoints", "matches", "matching_scores", "mask"]
    for shape in ((1, 64, 96), (2, 80, 72)):
        pixels = images(*shape)
        with torch.no_grad():
            expected = exportable(pixels)
        found = session.run(None, {"pixel_values": pixels.numpy()})
        np.testing.assert_array_equal(found[0], expected.keypoints)
        np.testing.assert_array_equal(found[1], expected.matches)
        np.testing.assert_allclose(found[2], expected.matching_scores, atol=1e-6, rtol=1e-3)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["layout"] == "images"
    assert metadata["producer"].startswith("sfm_lightglue ")


def test_other_detectors_and_layouts_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="only models with SuperPoint"):
        ExportableKeypointMatching(sfm_lightglue.LightGlueForKeypointMatching.from_pretrained("lightglue_sift"))
    with pytest.raises(ConfigError, match="unknown layout 'tensorrt'; known are plain, colmap, opencv, images"):
        export_onnx("lightglue_sift", tmp_path / "x.onnx", "tensorrt")
    with pytest.raises(ConfigError, match="for the layout images only"):
        export_onnx("lightglue_sift", tmp_path / "x.onnx", "plain", num_points=5)
    with pytest.raises(ConfigError, match="must be positive, got 0"):
        ExportableKeypointMatching(small_model(), num_points=0)
    with pytest.raises(ConfigError, match=r"only models in float32 can be exported, not in torch.bfloat16"):
        ExportableKeypointMatching(small_model().bfloat16())
    with pytest.raises(WeightsError, match="missing"):
        export_onnx(tmp_path / "missing.safetensors", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
