"""A trained LightGlue on real images: parity with onnxruntime on the same weights."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F

from sfm_lightglue.models.checkpoints import load_lightglue, save_lightglue
from sfm_lightglue.models.keypoints import suppress_neighbours
from sfm_lightglue.models.lightglue import LightGlue, LightGlueThresholds, Side, normalize_keypoints
from tests.helpers.shared_data import shared_data
from tests.helpers.trained_onnx import read_lighterglue

SIZE = 640
"""Side of the fixed input of XFeat in pixels."""


def session(*parts: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    return onnxruntime.InferenceSession(
        str(shared_data(*parts)), sess_options=options, providers=["CPUExecutionProvider"]
    )


def xfeat_features(xfeat: onnxruntime.InferenceSession, path, num: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The best points of an image resized to the input: normalised [N, 2], descriptors [N, 64]."""
    image = cv2.resize(cv2.imread(str(path)), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    batch = np.ascontiguousarray(image[None, :, :, ::-1].transpose(0, 3, 1, 2), dtype=np.float32) / 255
    dense, logits, reliability = (torch.tensor(array) for array in xfeat.run(None, {"input": batch}))
    heat = F.pixel_shuffle(logits.softmax(1)[:, :-1], 8)[:, 0]  # [1, 65, 80, 80] -> [1, 640, 640]
    heat = suppress_neighbours(heat, 2) * F.interpolate(reliability, scale_factor=8, mode="bilinear")[:, 0]
    best = heat.flatten().topk(num).indices
    keypoints = torch.stack([best % SIZE, best // SIZE], -1).float()
    normalized = normalize_keypoints(keypoints, (SIZE, SIZE))
    descriptors = F.grid_sample(F.normalize(dense, dim=1), normalized[None, None], align_corners=False)
    return normalized, F.normalize(descriptors[0, :, 0].T, dim=1)  # [1, 64, 1, N] -> [N, 64]


@pytest.fixture(scope="module")
def network() -> LightGlue:
    return read_lighterglue(shared_data("weights", "lighterglue_L3.onnx"))


@pytest.fixture(scope="module")
def features() -> list[tuple[torch.Tensor, torch.Tensor]]:
    xfeat = session("weights", "xfeat.onnx")
    photos = shared_data("scenes", "fountain_p11", "images")
    counts = {"0000.jpg": 900, "0001.jpg": 700, "0002.jpg": 1000, "0004.jpg": 512}
    return [xfeat_features(xfeat, photos / name, num) for name, num in counts.items()]


def match(network: LightGlue, one, other, threshold: float):
    return network(
        Side(one[0][None], one[1][None]),
        Side(other[0][None], other[1][None]),
        thresholds=LightGlueThresholds(filter_threshold=threshold),
    )


def test_architecture_is_the_published_one(network):
    arch = network.architecture
    assert (arch.input_dim, arch.descriptor_dim, arch.num_layers, arch.num_heads) == (64, 96, 3, 1)
    assert arch.cross_is_tied and not arch.has_confidence and not arch.has_layer_assignments


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 2), (2, 3), (3, 0)])
def test_matches_of_real_photos_equal_onnxruntime(network, features, first, second):
    one, other = features[first], features[second]
    inputs = {"kpts0": one[0], "kpts1": other[0], "desc0": one[1], "desc1": other[1]}
    pairs, scores = session("weights", "lighterglue_L3.onnx").run(
        None, {name: value[None].numpy() for name, value in inputs.items()}
    )
    expected = {(int(i), int(j)): float(score) for (i, j), score in zip(pairs, scores, strict=True)}
    output = match(network, one, other, 0.0)
    ours = {
        (i, int(j)): float(output.matching_scores0[0, i]) for i, j in enumerate(output.matches0[0].tolist()) if j >= 0
    }
    good = {pair for pair, score in expected.items() if score > 0.1}
    assert len(good) >= 100, len(good)
    assert {pair for pair, score in ours.items() if score > 0.1} == good
    # Mutual neighbours with any score; those with negligible scores may differ by rounding.
    assert all(max(expected.get(pair, 0.0), ours.get(pair, 0.0)) < 1e-4 for pair in expected.keys() ^ ours.keys())
    for pair in expected.keys() & ours.keys():
        assert abs(expected[pair] - ours[pair]) < 1e-4, pair


def test_trained_network_in_a_batch_with_its_own_file(network, features, tmp_path):
    """Padded pairs of real images equal each pair alone, with weights saved in our own format."""
    save_lightglue(network, tmp_path / "lighterglue.safetensors")
    loaded = load_lightglue(tmp_path / "lighterglue.safetensors")
    pairs = [(features[0], features[1]), (features[1], features[2]), (features[2], features[3])]
    sides = []
    for side in (0, 1):
        keypoints, descriptors = (
            torch.nn.utils.rnn.pad_sequence([pair[side][part] for pair in pairs], batch_first=True) for part in (0, 1)
        )
        counts = torch.tensor([len(pair[side][0]) for pair in pairs])
        sides.append(Side(keypoints, descriptors, torch.arange(keypoints.shape[1]) < counts[:, None]))
    exact = read_lighterglue(shared_data("weights", "lighterglue_L3.onnx")).double()
    batch = loaded(*sides)
    exact_batch = exact(*(Side(side.keypoints.double(), side.descriptors.double(), side.mask) for side in sides))
    for index, (one, other) in enumerate(pairs):
        alone = match(network, one, other, 0.1)
        n = len(one[0])
        assert int((alone.matches0 >= 0).sum()) >= 100
        assert torch.equal(batch.matches0[index, :n], alone.matches0[0])
        # Trained similarities are large, so float32 rounds their exponentials to about 1e-5; float64 is more exact.
        torch.testing.assert_close(batch.matching_scores0[index, :n], alone.matching_scores0[0], atol=1e-4, rtol=0)
        exact_alone = match(exact, *((k.double(), d.double()) for k, d in (one, other)), 0.1)
        torch.testing.assert_close(
            exact_batch.matching_scores0[index, :n], exact_alone.matching_scores0[0], atol=1e-11, rtol=0
        )
