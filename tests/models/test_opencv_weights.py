"""The weights of the package in `cv2.LightGlueMatcher`, with features of `cv2.SIFT`, as the how-to page has it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sfm_lightglue.features import Features
from sfm_lightglue.huggingface.onnx_export import export_onnx
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from tests.helpers.photos import textured

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript", reason="the exporter of PyTorch needs onnxscript")
pytestmark = pytest.mark.skipif(
    not hasattr(cv2, "LightGlueMatcher"), reason=f"OpenCV {cv2.__version__} has no LightGlueMatcher"
)

SHIFT = (30, 18)
"""By which a point moves from the first image to the second."""


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return export_onnx("lightglue_sift", tmp_path_factory.mktemp("onnx") / "lightglue.onnx", "opencv")


@pytest.fixture(scope="module")
def matcher():
    config = LightGlueMatcherConfig(depth_confidence=-1, width_confidence=-1, precision="float32")
    return LightGlueMatcher(config, "cpu")


def detected(image: np.ndarray):
    return cv2.SIFT.create(200).detectAndCompute(image, None)


def described(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and descriptors for OpenCV's matcher."""
    keypoints, descriptors = detected(image)
    height, width = image.shape
    rest = [[keypoint.size, keypoint.angle, width, height] for keypoint in keypoints]
    return cv2.KeyPoint.convert(keypoints), np.hstack([descriptors, np.float32(rest)])


def features(image: np.ndarray) -> Features:
    """The same for ours."""
    keypoints, descriptors = detected(image)
    return Features(
        keypoints=cv2.KeyPoint.convert(keypoints) + np.float32(0.5),
        scores=np.float32([keypoint.response for keypoint in keypoints]),
        descriptors=np.sqrt(descriptors / descriptors.sum(1, keepdims=True)),
        scales=np.float32([keypoint.size for keypoint in keypoints]),
        orientations=np.float32([np.radians(keypoint.angle) for keypoint in keypoints]),
        image_size=(image.shape[1], image.shape[0]),
    )


def pair() -> tuple[np.ndarray, np.ndarray]:
    image = textured(320, 240, 3)
    return image, np.ascontiguousarray(image[SHIFT[1] :, SHIFT[0] :])


@pytest.mark.parametrize("gives_sizes", [False, True])
def test_opencv_finds_the_matches_of_the_matcher(file, matcher, gives_sizes) -> None:
    first, second = pair()
    (points0, descriptors0), (points1, descriptors1) = described(first), described(second)
    host = cv2.LightGlueMatcher.create(str(file), 0.1)
    sizes = [(image.shape[1], image.shape[0]) for image in (first, second)] if gives_sizes else []
    host.setPairInfo(points0, points1, *sizes)
    found = {(one.queryIdx, one.trainIdx) for one in host.match(descriptors0, descriptors1)}
    expected = {(int(one), int(other)) for one, other in matcher.match(features(first), features(second)).indices}
    assert len(expected) > 40
    assert len(found & expected) >= 0.99 * max(len(found), len(expected))
    shifts = np.array([points0[one] - points1[other] for one, other in found])
    assert np.median(np.abs(shifts - SHIFT), axis=0).max() < 0.5


def constant_model(path):
    """A model that returns the same rows for any input, to see what OpenCV does around it."""
    helper, types = onnx.helper, onnx.TensorProto
    names = {"kpts0": 2, "kpts1": 2, "desc0": 132, "desc1": 132}
    inputs = [
        helper.make_tensor_value_info(name, types.FLOAT, [1, f"n{name[-1]}", width]) for name, width in names.items()
    ]
    results = {
        "matches0": helper.make_tensor("rows", types.INT64, [1, 2], [0, -1]),
        "mscores0": helper.make_tensor("scores", types.FLOAT, [1], [0.5]),
    }
    nodes = [helper.make_node("Constant", [], [name], value=value) for name, value in results.items()]
    outputs = [helper.make_tensor_value_info(name, each.data_type, each.dims) for name, each in results.items()]
    graph = helper.make_graph(nodes, "constant", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)])
    model.ir_version = 9
    onnx.save(model, path)
    return path


def test_opencv_itself_needs_keypoints_in_the_second_image(tmp_path) -> None:
    """With any model, so no graph can mend it: the how-to page does not call it for images without keypoints."""
    host = cv2.LightGlueMatcher.create(str(constant_model(tmp_path / "constant.onnx")), 0.0)

    def matches(number0: int, number1: int):
        keypoints = [np.ones((number, 2), np.float32) for number in (number0, number1)]
        host.setPairInfo(*keypoints)
        return host.match(*(np.ones((number, 132), np.float32) for number in (number0, number1)))

    assert len(matches(3, 3)) == len(matches(0, 3)) == len(matches(0, 0)) == 0
    with pytest.raises(cv2.error, match="reshape"):
        matches(3, 0)
