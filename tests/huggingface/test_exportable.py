"""SuperPoint and LightGlue as one graph: `torch.export` and ONNX give the keypoints and matches of the model."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

import sfm_lightglue
from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.huggingface.exportable import ExportableKeypointMatching
from sfm_lightglue.huggingface.onnx_export import export_onnx
from tests.helpers.exported_models import BLACK_SCORE, SCALE, exact_model, images


@pytest.fixture(scope="module")
def model():
    return exact_model()


def assert_same(found, expected) -> None:
    """Results of a graph in pixels, and outputs of the model; sizes are those of `images(..., 64, 96)`."""
    torch.testing.assert_close(found.keypoints, expected.keypoints * SCALE, atol=1e-3, rtol=0)
    assert torch.equal(found.mask, expected.mask.bool()) and torch.equal(found.matches, expected.matches)
    torch.testing.assert_close(found.matching_scores, expected.matching_scores, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("limit", [-1, 25, 77, 5000])
def test_it_gives_keypoints_and_matches_of_the_model_in_its_order(limit) -> None:
    """Also if some images have more points than the limit and others fewer, or fewer pixels than the limit."""
    model, pixels = exact_model(max_keypoints=limit), images(3, 64, 96)
    with torch.no_grad():
        found, expected = ExportableKeypointMatching(model)(pixels), model(pixels)
    numbers = expected.mask.sum(-1).flatten().tolist()
    assert len(set(numbers)) > 1 or limit == 25
    assert max(numbers) == found.mask.shape[2] and (found.matches >= 0).sum() > 5
    assert_same(found, expected)


def test_the_number_of_points_can_be_limited_for_the_graph_alone(model) -> None:
    pixels = images(1, 64, 96)
    with torch.no_grad():
        few = ExportableKeypointMatching(model, num_points=7)(pixels)
        expected = exact_model(max_keypoints=7)(pixels)
    assert few.keypoints.shape == (1, 2, 7, 2) and model.config.keypoint_detector_config.max_keypoints == -1
    assert_same(few, expected)


def test_images_without_keypoints_have_no_matches(model) -> None:
    pixels = images(2, 64, 96)
    pixels[0, 1] = 0
    exportable = ExportableKeypointMatching(model)
    with torch.no_grad():
        found, nothing = exportable(pixels), exportable(pixels[:1, 1:].expand(1, 2, -1, -1, -1))
        assert_same(found, model(pixels))
    assert not found.mask[0, 1].any() and found.mask[1].any(1).all()
    assert (found.matches[0] == -1).all() and (found.matches[1] >= 0).any()
    assert nothing.mask.shape == (1, 2, 1) and not nothing.mask.any() and (nothing.matches == -1).all()
    assert (nothing.matching_scores == 0).all() and (nothing.keypoints == 0).all()


def dynamic_shapes() -> dict[int, torch.export.Dim]:
    return {0: torch.export.Dim("pairs"), 3: torch.export.Dim("height", min=16), 4: torch.export.Dim("width", min=16)}


@pytest.mark.parametrize("limit", [-1, 25])
def test_an_exported_program_takes_other_sizes_and_numbers(limit) -> None:
    exportable = ExportableKeypointMatching(exact_model(max_keypoints=limit)).eval()
    program = torch.export.export(exportable, (images(2, 64, 96),), dynamic_shapes=(dynamic_shapes(),))
    numbers = set()
    for shape in ((3, 80, 72), (2, 40, 48)):
        pixels = images(*shape)
        with torch.no_grad():
            for found, expected in zip(program.module()(pixels), exportable(pixels), strict=True):
                torch.testing.assert_close(found, expected)
        numbers.add(found.shape[2])
    assert len(numbers) == 2 and (limit < 0 or max(numbers) == limit)


def test_the_model_itself_is_exported(model) -> None:
    """The user does nothing but `torch.export.export(model, ...)`; the program can be saved."""
    program = torch.export.export(model, (), {"pixel_values": images(2, 64, 96)}, dynamic_shapes=(dynamic_shapes(),))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    again = torch.export.load(buffer).module()
    for shape in ((1, 64, 96), (3, 80, 72)):
        pixels = images(*shape)
        with torch.no_grad():
            found, expected = again(pixel_values=pixels), model(pixels)
        assert type(found) is sfm_lightglue.LightGlueKeypointMatchingOutput and list(found) == list(expected)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-4)


def test_the_model_of_transformers_is_not_exported() -> None:
    """Its number of keypoints decides on the flow."""
    references = pytest.importorskip("tests.helpers.matching_references")
    with pytest.raises(Exception, match=r"(?i)data-dependent|unsupported|symbol|guard"):
        torch.export.export(references.make_reference(), (references.make_inputs(1),))


def test_what_an_exported_model_does_not_have_is_refused(model) -> None:
    pixels, sizes = images(1, 64, 96), torch.tensor([[[64, 96], [64, 96]]])
    for options in ({"image_sizes": sizes}, {"output_attentions": True}, {"output_hidden_states": True}):
        with pytest.raises(ConfigError, match=rf"torch.export: {next(iter(options))} cannot be exported"):
            torch.export.export(model, (pixels,), options)
    sift = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained("lightglue_sift")
    with pytest.raises(ConfigError, match="only models with SuperPoint can be exported"):
        torch.export.export(sift, (pixels,))


@pytest.mark.parametrize("limit", [-1, 25])
def test_an_onnx_file_has_a_dynamic_number_of_keypoints(tmp_path, limit) -> None:
    pytest.importorskip("onnxscript", reason="the exporter of PyTorch needs onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    model = exact_model(max_keypoints=limit)
    model.save_pretrained(tmp_path / "model")
    path = export_onnx(tmp_path / "model", tmp_path / "new" / "model.onnx", "images")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["keypoints", "matches", "matching_scores", "mask"]
    empty = torch.zeros(1, 2, 1, 64, 96)
    half = torch.cat([images(1, 64, 96)[:, :1], empty[:, :1]], dim=1)
    for pixels in (images(1, 64, 96), images(2, 80, 72), half, empty):
        scale = torch.tensor([pixels.shape[4], pixels.shape[3]])
        with torch.no_grad():
            expected = model(pixels)
        keypoints, matches, scores, mask = session.run(None, {"pixel_values": pixels.numpy()})
        if expected.mask.shape[2] == 0:
            assert mask.shape == (1, 2, 1) and not mask.any() and (matches == -1).all()
            continue
        assert (expected.matches >= 0).any() or pixels is half
        np.testing.assert_array_equal(mask, expected.mask.bool())
        np.testing.assert_allclose(keypoints, expected.keypoints * scale, atol=1e-3)
        np.testing.assert_array_equal(matches, expected.matches)
        np.testing.assert_allclose(scores, expected.matching_scores, atol=1e-6, rtol=1e-3)
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["layout"] == "images"
    assert metadata["producer"].startswith("sfm_lightglue ")


def test_other_detectors_and_layouts_are_refused(tmp_path, model) -> None:
    with pytest.raises(ConfigError, match="only models with SuperPoint"):
        ExportableKeypointMatching(sfm_lightglue.LightGlueForKeypointMatching.from_pretrained("lightglue_sift"))
    with pytest.raises(ConfigError, match="unknown layout 'tensorrt'; known are plain, colmap, opencv, images"):
        export_onnx("lightglue_sift", tmp_path / "x.onnx", "tensorrt")
    with pytest.raises(ConfigError, match="for the layout images only"):
        export_onnx("lightglue_sift", tmp_path / "x.onnx", "plain", num_points=5)
    with pytest.raises(ConfigError, match="must be positive, got 0"):
        ExportableKeypointMatching(model, num_points=0)
    with pytest.raises(ConfigError, match="max_keypoints is 0"):
        ExportableKeypointMatching(exact_model(max_keypoints=0))
    with pytest.raises(ConfigError, match=r"only models in float32 can be exported, not in torch.bfloat16"):
        ExportableKeypointMatching(exact_model().bfloat16())
    with pytest.raises(WeightsError, match="missing"):
        export_onnx(tmp_path / "missing.safetensors", tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_black_images_have_the_score_that_the_tests_assume(model) -> None:
    with torch.no_grad():
        scores = model.keypoint_detector.network.score(
            model.keypoint_detector.network.encode(torch.zeros(1, 1, 64, 96))
        )
    assert float(scores.max()) == pytest.approx(BLACK_SCORE)
    assert float(scores.max()) < model.config.keypoint_detector_config.keypoint_threshold
