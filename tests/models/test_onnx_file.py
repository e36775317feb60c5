"""ONNX files of LightGlue, run by onnxruntime and by OpenCV: the matches are those of the matcher."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from pipelines.weights import main as run_weights
from sfm_lightglue.colmap.features import colmap_features
from sfm_lightglue.features import Features
from sfm_lightglue.matchers.lightglue import LightGlueMatcher, LightGlueMatcherConfig
from sfm_lightglue.models.checkpoints import save_lightglue
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.lightglue_hosts import LAYOUTS
from sfm_lightglue.models.onnx_file import onnx_model

pytest.importorskip("onnxscript", reason="the exporter of PyTorch needs onnxscript")
onnxruntime = pytest.importorskip("onnxruntime")

SIZES = ((2400, 1600), (640, 480))
"""SIFT shrinks the first image to 1600 px."""

THRESHOLD = 1e-5
"""Scores of a network with random weights are small."""


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small LightGlue for SIFT, whose random weights match equal descriptors."""
    torch.manual_seed(0)
    network = LightGlue(
        LightGlueArchitecture(input_dim=128, descriptor_dim=32, num_layers=1, num_heads=2, use_scale_orientation=True)
    )
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    for layer in (network.input_projection, network.assignments[-1].projection):
        torch.nn.init.normal_(layer.weight, std=0.5)
    network.position_projection.weight.data *= 0.02
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_lightglue(network, path, thresholds={"filter_threshold": THRESHOLD})
    return path, network.eval()


@pytest.fixture(scope="module")
def matcher(weights):
    return LightGlueMatcher(
        LightGlueMatcherConfig(
            str(weights[0]), depth_confidence=-1, width_confidence=-1, filter_threshold=THRESHOLD, precision="float32"
        ),
        "cpu",
    )


def features_of(number: int, size: tuple[int, int], seed: int) -> Features:
    """SIFT-like features, as the extractor gives them."""
    rng = np.random.default_rng(seed)
    factor = max(1.0, max(size) / 1600)
    descriptors = np.floor(rng.exponential(30, (number, 128)))  # as cv2.SIFT gives them: whole numbers
    return Features(
        keypoints=(rng.uniform(0.1, 0.9, (number, 2)) * size).astype(np.float32),
        scores=rng.uniform(size=number).astype(np.float32),
        descriptors=np.sqrt(descriptors / descriptors.sum(1, keepdims=True)).astype(np.float32),
        scales=rng.uniform(2, 20, number).astype(np.float32),
        orientations=rng.uniform(0, 2 * np.pi, number).astype(np.float32),
        image_size=size,
        shrink_factor=factor,
    )


def exported(network: LightGlue, layout: str, folder, threshold: float = THRESHOLD):
    """Path of a file in a layout."""
    module = LAYOUTS[layout](network, threshold).eval()
    model = onnx_model(
        module, module.example(), module.input_names, module.output_names, module.dynamic_axes(), {"layout": layout}
    )
    path = folder / f"{layout}.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="module")
def files(weights, tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    files = {layout: exported(weights[1], layout, folder) for layout in ("plain", "colmap")}
    code = run_weights(["export", str(weights[0]), "--onnx", str(folder / "by_command.onnx"), "--layout", "opencv"])
    assert code == 0
    return files | {"opencv": folder / "by_command.onnx"}


PAIRS = [(60, 45), (33, 71)]


def pair_of(numbers: tuple[int, int]) -> tuple[Features, Features]:
    """Two images, whose first descriptors are equal."""
    first, second = features_of(numbers[0], SIZES[0], numbers[0]), features_of(numbers[1], SIZES[1], numbers[1])
    second.descriptors[:25] = first.descriptors[:25][::-1]
    return first, second


def expected_pairs(matcher: LightGlueMatcher, pair: tuple[Features, Features]) -> set[tuple[int, int]]:
    matches = matcher.match(*pair)
    assert len(matches) > 3
    return {(int(first), int(second)) for first, second in matches.indices}


def run(path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    named = {name: np.ascontiguousarray(value, np.float32) for name, value in inputs.items()}
    return dict(zip((one.name for one in session.get_outputs()), session.run(None, named), strict=True))


@pytest.mark.parametrize("numbers", PAIRS)
def test_the_plain_layout_gives_the_matches_of_the_matcher(files, matcher, numbers) -> None:
    pair = pair_of(numbers)
    inputs = {}
    for side, one in enumerate(pair):
        inputs |= {
            f"keypoints{side}": one.keypoints[None],
            f"descriptors{side}": one.descriptors[None],
            f"image_size{side}": [one.image_size],
            f"scales{side}": one.scales[None],
            f"orientations{side}": one.orientations[None],
        }
    found = run(files["plain"], inputs)
    rows = np.flatnonzero(found["matches0"][0] >= 0)
    assert {(int(row), int(found["matches0"][0, row])) for row in rows} == expected_pairs(matcher, pair)
    assert all(found["matches1"][0, found["matches0"][0, row]] == row for row in rows)
    scores = dict(zip(map(tuple, matcher.match(*pair).indices.tolist()), matcher.match(*pair).scores, strict=True))
    for row in rows:
        wanted = scores[int(row), int(found["matches0"][0, row])]
        assert found["scores0"][0, row] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("numbers", PAIRS)
def test_the_layout_of_colmap_takes_what_its_source_gives(files, matcher, numbers) -> None:
    """The features as a database of COLMAP has them, prepared as in `onnx_matchers.cc`."""
    pair, inputs = pair_of(numbers), {}
    for side, one in enumerate(pair):
        keypoints, stored = colmap_features(one)
        assert stored is not None
        fractions = stored.astype(np.float64) / stored.sum(1, keepdims=True)
        inputs |= {
            f"kpts{side}": keypoints[None, :, :2] - 0.5,
            f"desc{side}": np.sqrt(fractions)[None],
            f"image_size{side}": [one.image_size],
            f"scales{side}": keypoints[None, :, 2],
            f"oris{side}": keypoints[None, :, 3],
        }
    session = onnxruntime.InferenceSession(str(files["colmap"]), providers=["CPUExecutionProvider"])
    names = ("kpts", "desc", "image_size", "scales", "oris")
    assert [one.name for one in session.get_inputs()] == [f"{name}{side}" for name in names for side in (0, 1)]
    assert [len(one.shape) for one in session.get_inputs()] == [3, 3, 3, 3, 2, 2, 2, 2, 2, 2]
    assert [(one.name, len(one.shape)) for one in session.get_outputs()] == [("matches0", 1), ("mscores0", 1)]
    found = run(files["colmap"], inputs)["matches0"]
    pairs = {(row, int(other)) for row, other in enumerate(found) if other >= 0}
    wanted = expected_pairs(matcher, pair)
    assert len(pairs & wanted) >= 0.8 * max(len(pairs), len(wanted)), "descriptors were rounded to bytes"


def described_for_opencv(one: Features) -> tuple[np.ndarray, np.ndarray]:
    """Keypoints and descriptors as the how-to page makes them of the results of cv2.SIFT."""
    squares = one.descriptors.astype(np.float64) ** 2
    rest = np.column_stack(
        [
            one.scales * one.shrink_factor,
            np.degrees(one.orientations),
            np.full((len(one), 2), one.image_size),
        ]
    )
    return one.keypoints - np.float32(0.5), np.hstack([squares * 1000, rest]).astype(np.float32)


@pytest.mark.parametrize("gives_sizes", [False, True])
@pytest.mark.parametrize("numbers", PAIRS)
def test_opencv_runs_its_layout_with_the_same_matches(files, matcher, numbers, gives_sizes) -> None:
    if not hasattr(cv2, "LightGlueMatcher"):
        pytest.skip(f"OpenCV {cv2.__version__} has no LightGlueMatcher")
    pair = pair_of(numbers)
    (keypoints0, descriptors0), (keypoints1, descriptors1) = (described_for_opencv(one) for one in pair)
    host = cv2.LightGlueMatcher.create(str(files["opencv"]), 0.0)
    host.setPairInfo(keypoints0, keypoints1, *(SIZES if gives_sizes else ()))
    found = host.match(descriptors0, descriptors1)
    assert {(one.queryIdx, one.trainIdx) for one in found} == expected_pairs(matcher, pair)


@pytest.mark.parametrize("numbers", [(0, 40), (40, 0), (0, 0)])
def test_an_image_without_keypoints_has_no_matches(files, numbers) -> None:
    shared = {"image_size": (1, 2)}
    shapes = {"keypoints": (1, -1, 2), "descriptors": (1, -1, 128), "scales": (1, -1), "orientations": (1, -1)}
    for layout, names in (
        ("plain", {}),
        ("colmap", {"keypoints": "kpts", "descriptors": "desc", "orientations": "oris"}),
    ):
        inputs = {}
        for side, number in enumerate(numbers):
            for name, shape in (shapes | shared).items():
                inputs[f"{names.get(name, name)}{side}"] = np.ones([number if n == -1 else n for n in shape])
        found = run(files[layout], inputs)
        assert found["matches0"].shape[-1] == numbers[0] and (found["matches0"] == -1).all()


def test_the_file_names_no_path_of_this_machine(files) -> None:
    for path in files.values():
        content = path.read_bytes()
        assert b"/site-packages/" not in content
        assert b"lightglue_graph.py" not in content
