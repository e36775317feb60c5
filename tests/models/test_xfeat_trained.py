"""Trained XFeat and LighterGlue on real images: parity with onnxruntime, and correct matches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sfm_lightglue.extractors.xfeat import XFeatConfig, XFeatExtractor
from sfm_lightglue.geometry.epipolar import squared_sampson_errors
from sfm_lightglue.geometry.transforms import cross_matrix
from sfm_lightglue.images.image import Image
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.matchers.nearest import NearestConfig, NearestMatcher
from sfm_lightglue.models.checkpoints import save_lightglue
from sfm_lightglue.models.xfeat import XFeat, load_xfeat
from sfm_lightglue.types import Features, Matches
from tests.helpers.shared_data import shared_data
from tests.helpers.trained_onnx import read_lighterglue

CORRECT_PX = 5.0
"""Largest distance of a correct match to its true position; keypoints are whole pixels of a shrunk image."""
CORRECT_EPIPOLAR_PX = 2.5
"""Largest distance of a correct match to the epipolar geometry."""


def published_state(path: Path) -> dict[str, torch.Tensor]:
    """The initialisers of `xfeat.onnx` under the names of `xfeat.pt`.

    Batch normalisation is folded into weights and biases without names, in the order of the graph. A mean of minus
    the bias and a variance of one are equivalent.
    """
    graph = onnx.load(str(path)).graph
    arrays = {init.name: torch.tensor(onnx.numpy_helper.to_array(init)) for init in graph.initializer}
    folded = [node.input[1:] for node in graph.node if node.op_type == "Conv" and node.input[1].isdigit()]
    order = ("block1", "block2", "block3", "block4", "block5", "block_fusion", "heatmap_head", "keypoint_head")
    state = {key: value for key, value in arrays.items() if "." in key}
    stems = [
        key.removesuffix(".layer.0.weight")
        for part in order
        for key in XFeat().state_dict()
        if key.startswith(f"{part}.") and key.endswith(".layer.0.weight")
    ]
    for stem, (weight, bias) in zip(stems, folded, strict=True):
        state[f"{stem}.layer.0.weight"] = arrays[weight]
        state[f"{stem}.layer.1.running_mean"] = -arrays[bias]
        state[f"{stem}.layer.1.running_var"] = torch.full_like(arrays[bias], 1 - 1e-5)
    return state


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("xfeat") / "xfeat.pt"
    torch.save(published_state(shared_data("weights", "xfeat.onnx")), path)
    return path


@pytest.fixture(scope="module")
def extractor(weights) -> XFeatExtractor:
    return XFeatExtractor(XFeatConfig(weights=str(weights)), "cpu")


@pytest.fixture(scope="module")
def matcher(tmp_path_factory) -> LightGlueMatcher:
    path = tmp_path_factory.mktemp("lighterglue") / "lighterglue.safetensors"
    save_lightglue(read_lighterglue(shared_data("weights", "lighterglue_L3.onnx")), path)
    return LightGlueMatcher(LightGlueMatcherConfig(weights=str(path)), "cpu")


@torch.no_grad()
@pytest.mark.parametrize("photo", ["scenes/fountain_p11/images/0004.jpg", "homographies/graf/img3.png"])
def test_all_maps_of_an_image_equal_onnxruntime(weights, photo):
    pixels = Image.read(shared_data(*photo.split("/"))).rgb()
    top = (pixels.shape[0] - 640) // 2
    batch = np.ascontiguousarray(pixels[None, top : top + 640, :640].transpose(0, 3, 1, 2), dtype=np.float32) / 255
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(shared_data("weights", "xfeat.onnx")), sess_options=options, providers=["CPUExecutionProvider"]
    )
    expected = session.run(None, {"input": batch})
    maps = load_xfeat(weights).maps(torch.from_numpy(batch))
    for name, ours, theirs in zip(maps._fields, maps, expected, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-3, rtol=1e-4, err_msg=name)
        assert theirs.std() > 0.05, name


def correct_on_graf(matches: Matches, first: Features, second: Features, number: int) -> np.ndarray:
    """[M] whether each match is correct by the homography, which is in OpenCV's pixels."""
    H = np.loadtxt(shared_data("homographies", "graf", f"H1to{number}p"))
    points0 = first.keypoints[matches.indices[:, 0]] - 0.5
    points1 = second.keypoints[matches.indices[:, 1]] - 0.5
    moved = np.column_stack([points0, np.ones(len(points0))]) @ H.T
    return np.linalg.norm(moved[:, :2] / moved[:, 2:] - points1, axis=1) < CORRECT_PX


@pytest.fixture(scope="module")
def graf(extractor) -> dict[int, Features]:
    return {
        number: extractor.extract(Image.read(shared_data("homographies", "graf", f"img{number}.png")))
        for number in (1, 2, 3)
    }


@pytest.mark.parametrize(("number", "least_correct", "least_precision"), [(2, 600, 0.85), (3, 450, 0.8)])
def test_lighterglue_finds_more_on_graf_than_nearest_neighbours(graf, matcher, number, least_correct, least_precision):
    pair = graf[1], graf[number]
    learned = correct_on_graf(matcher.match(*pair), *pair, number)
    assert learned.sum() >= least_correct and learned.mean() >= least_precision
    nearest = NearestMatcher(
        NearestConfig(ratio=1.0, max_distance=2.0)
    )  # mutual neighbours, as in the code of the authors
    plain = correct_on_graf(nearest.match(*pair), *pair, number)
    assert plain.sum() >= 0.7 * learned.sum()
    assert learned.sum() > plain.sum() and learned.mean() > plain.mean() + 0.1


def test_lighterglue_finds_matches_on_the_fountain(extractor, matcher):
    root = shared_data("scenes", "fountain_p11")
    cameras = json.loads((root / "cameras.json").read_text())
    names = ("0003.jpg", "0005.jpg")
    features = [extractor.extract(Image.read(root / "images" / name)) for name in names]
    matches = matcher.match(*features)
    (K0, R0, t0), (K1, R1, t1) = [[np.array(cameras[name][key]) for key in "KRt"] for name in names]
    R = R1 @ R0.T
    F = np.linalg.inv(K1).T @ cross_matrix(t1 - R @ t0) @ R @ np.linalg.inv(K0)
    points = [each.keypoints[matches.indices[:, side]] - 0.5 for side, each in enumerate(features)]
    correct = squared_sampson_errors(F, *points) < CORRECT_EPIPOLAR_PX**2
    assert correct.sum() >= 500 and correct.mean() > 0.75, (correct.sum(), correct.mean())
