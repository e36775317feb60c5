"""Laws of our ALIKED, and parity with kornia; `test_aliked_trained.py` tests real images."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from sfm_lightglue.errors import ConfigError, WeightsError
from sfm_lightglue.extractors.aliked import MODELS, AlikedConfig, AlikedExtractor
from sfm_lightglue.images.image import Image
from sfm_lightglue.models.aliked import (
    ARCHITECTURES,
    Aliked,
    AlikedArchitecture,
    aliked_from_state_dict,
    detect_keypoints,
    load_aliked,
)
from sfm_lightglue.models.keypoints import Limits, suppress_neighbours
from tests.helpers.photos import textured
from tests.helpers.shared_data import shared_data
from tests.helpers.untrained import write_aliked

PUBLISHED = ("n16", "n16rot", "n32")
"""The models whose weights are in the shared data."""

pytestmark = pytest.mark.usefixtures("torch_seed")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_aliked(tmp_path_factory.mktemp("aliked") / "aliked.safetensors")


@pytest.fixture(scope="module")
def network(weights) -> Aliked:
    return load_aliked(weights)


def picture(width: int, height: int, seed: int = 0) -> torch.Tensor:
    """[1, 3, H, W] in [0, 1], with a different texture in each channel."""
    channels = [textured(width, height, 3 * seed + channel) for channel in range(3)]
    return torch.from_numpy(np.stack(channels)).float()[None] / 255


def dense(network: Aliked, images: torch.Tensor) -> torch.Tensor:
    """Features of all pixels [B, D, H, W]."""
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in images.shape[2:]), indexing="ij")
    return torch.stack([features.at(rows, columns).permute(2, 0, 1) for features in network.encode(images)[0]])


def with_random_weights(architecture: AlikedArchitecture) -> Aliked:
    network = Aliked(architecture).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return network


# Parity with kornia.


def assert_same_as_kornia(model: str, ours: Aliked, images: torch.Tensor, threshold: float) -> None:
    """Compares scores and features of all pixels, and the keypoints of kornia with their scores and descriptors.

    The implementations are independent. They differ in one point on purpose: kornia keeps only strict maxima. Ours,
    like the code of the authors, also keeps points that were suppressed only by suppressed neighbours.
    """
    kornia = pytest.importorskip("kornia", reason="needs kornia, the second implementation of ALIKED")
    theirs = kornia.feature.ALIKED(f"aliked-{model}", detection_threshold=threshold).eval()
    keys = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert keys.missing_keys == ["dkd.hw_grid"] and not keys.unexpected_keys
    their_features, their_scores = theirs.extract_dense_map(images)
    torch.testing.assert_close(dense(ours, images), their_features, atol=1e-5, rtol=0)
    scores = ours.encode(images)[1]
    torch.testing.assert_close(scores, their_scores[:, 0], atol=1e-5, rtol=0)
    strict = (F.max_pool2d(scores, 5, 1, 2) == scores) & (scores > threshold)
    for mine, other, maxima in zip(ours(images, Limits(threshold, 2)), theirs(images), strict, strict=True):
        distances = torch.cdist(other.keypoints, mine.keypoints, compute_mode="donot_use_mm_for_euclid_dist")
        nearest, index = distances.min(dim=1)
        assert len(mine.keypoints) > len(other.keypoints) == int(maxima[2:-2, 2:-2].sum()) > 50
        assert float(nearest.max()) < 1e-3
        assert len(set(index.tolist())) == len(index)
        torch.testing.assert_close(mine.scores[index], other.keypoint_scores, atol=1e-4, rtol=0)
        torch.testing.assert_close(mine.descriptors[index], other.descriptors, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("model", "size"), [("t16", (131, 97)), ("n16", (96, 64)), ("n32", (75, 122))])
def test_parity_with_kornia_on_random_weights(model, size):
    network = with_random_weights(ARCHITECTURES[model])
    network.score_head[-1].weight.mul_(20)  # otherwise all scores are near 0.5
    images = torch.cat([picture(*size), picture(*size, seed=1)])
    assert_same_as_kornia(model, network, images, 0.3)


@torch.no_grad()
@pytest.mark.parametrize("model", PUBLISHED)
def test_parity_with_kornia_on_published_weights(model):
    ours = load_aliked(shared_data("weights", f"aliked-{model}.pth"))
    photo = cv2.resize(cv2.imread(str(shared_data("homographies", "graf", "img1.png"))), (233, 170))
    images = torch.from_numpy(photo[:, :, ::-1].transpose(2, 0, 1).copy())[None].float() / 255
    assert_same_as_kornia(model, ours, images, 0.1)


# Weights.


@pytest.mark.parametrize("model", MODELS)
def test_sizes_are_inferred_from_the_weights(model, tmp_path):
    network = Aliked(ARCHITECTURES[model])
    save_file(network.state_dict(), tmp_path / "aliked.safetensors")
    assert load_aliked(tmp_path / "aliked.safetensors").architecture == ARCHITECTURES[model]


def test_other_weights_are_refused(network, tmp_path):
    state = network.state_dict()
    with pytest.raises(WeightsError, match=r"unexpected keys: head\.weight"):
        aliked_from_state_dict(state | {"head.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"wrong shapes: conv2\.weight"):
        aliked_from_state_dict(state | {"conv2.weight": torch.zeros(8, 9, 1, 1)})
    with pytest.raises(WeightsError, match=r"NaN or infinite: block3\.conv1\.offset_conv\.bias"):
        aliked_from_state_dict(state | {"block3.conv1.offset_conv.bias": torch.full((18,), torch.nan)})
    save_file({"conv1a.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "superpoint.safetensors")
    with pytest.raises(WeightsError, match=r"superpoint\.safetensors: not the weights of an ALIKED"):
        load_aliked(tmp_path / "superpoint.safetensors")
    for key, shape in (("block1.conv1.weight", ()), ("desc_head.agg_weights", (4, 4)), ("block2.conv1.weight", (0,))):
        with pytest.raises(WeightsError, match=r"not the weights of (an ALIKED|this Aliked)"):
            aliked_from_state_dict(state | {key: torch.zeros(shape)})


def test_impossible_architectures_are_refused():
    with pytest.raises(ValueError, match="4 blocks"):
        AlikedArchitecture(channels=(8, 8, 8))
    with pytest.raises(ValueError, match="divide by 4"):
        AlikedArchitecture(descriptor_dim=30)
    with pytest.raises(ValueError, match="odd"):
        AlikedArchitecture(patch_size=2)


# Images.


@torch.no_grad()
def test_batch_equals_single_images(network):
    images = torch.cat([picture(90, 70, seed) for seed in range(2)] + [torch.zeros(1, 3, 70, 90)])
    batch = network(images, Limits(0.4, 2))
    assert len({len(points.keypoints) for points in batch}) > 1
    for index, points in enumerate(batch):
        (alone,) = network(images[index : index + 1], Limits(0.4, 2))
        torch.testing.assert_close(points.keypoints, alone.keypoints, atol=1e-4, rtol=0)
        torch.testing.assert_close(points.scores, alone.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(points.descriptors, alone.descriptors, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("size", [(96, 64), (97, 65), (95, 63), (70, 90)])
def test_padding_repeats_the_border_equally_on_all_sides(network, size):
    """The scores equal those of an image that is padded before, then cropped."""
    images = picture(*size)
    width, height = size
    right, down = -width % 32, -height % 32
    padding = (right // 2, right - right // 2, down // 2, down - down // 2)
    scores = network.encode(F.pad(images, padding, mode="replicate"))[1]
    inner = scores[:, down // 2 : down // 2 + height, right // 2 : right // 2 + width]
    assert network.encode(images)[1].shape == (1, height, width)
    torch.testing.assert_close(network.encode(images)[1], inner, atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1), (4, 4), (4, 300), (5, 5), (7, 6), (31, 9), (33, 32)])
def test_tiny_images_have_points_if_a_window_fits(network, size):
    (points,) = network(picture(*size), Limits(0.0, 2))
    n = len(points.keypoints)
    assert (n > 0) or min(size) < 9
    assert n == 0 or min(size) >= 5
    assert points.keypoints.shape == (n, 2) and points.descriptors.shape == (n, 32)
    assert bool(points.descriptors.isfinite().all())
    assert bool((points.keypoints >= 0).all()) and bool((points.keypoints <= torch.tensor(size) - 1).all())


def test_wrong_input_is_refused(network):
    for shape in ((1, 1, 16, 16), (3, 16, 16), (1, 3, 0, 16)):
        with pytest.raises(ValueError, match="images: expected"):
            network(torch.zeros(shape))
    with pytest.raises(ValueError, match="nms_radius_px: must be at least 1"):
        network(torch.zeros(1, 3, 16, 16), Limits(0.2, 0))
    assert network(torch.zeros(0, 3, 16, 16)) == []


@torch.no_grad()
def test_bfloat16_autocast_gives_float32_points_near_the_exact_ones(network):
    images = picture(96, 64)
    exact = network(images, Limits(0.4, 2))[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        points = network(images, Limits(0.4, 2))[0]
    assert {tensor.dtype for tensor in points} == {torch.float32}
    near = torch.cdist(exact.keypoints[:30], points.keypoints).min(dim=1).values < 1
    assert float(near.float().mean()) > 0.7


def test_gradients_reach_every_weight(network):
    """Keypoints, scores and descriptors are differentiable, as training requires."""
    twin = aliked_from_state_dict(network.state_dict())
    (points,) = twin(picture(64, 48), Limits(0.4, 2))
    # Random weights, since the sum of squares of a unit vector is always 1.
    sum((tensor * torch.randn_like(tensor)).sum() for tensor in points).backward()
    for name, parameter in twin.named_parameters():
        assert parameter.grad is not None and float(parameter.grad.abs().max()) > 0, name
        assert bool(parameter.grad.isfinite().all()), name


# Detection.


def test_points_are_the_mean_positions_of_their_windows():
    """The soft maximum of each window, computed pixel by pixel."""
    scores = torch.rand(20, 24).double()
    keypoints, values = detect_keypoints(scores, Limits(0.3, 2))
    peaks = suppress_neighbours(scores[None], 2)[0]
    expected = []
    for row, column in itertools.product(range(2, 18), range(2, 22)):
        if peaks[row, column] <= 0.3:
            continue
        total, x, y = 0.0, 0.0, 0.0
        for i, j in itertools.product(range(row - 2, row + 3), range(column - 2, column + 3)):
            weight = math.exp((float(scores[i, j]) - 1) / 0.1)
            total, x, y = total + weight, x + weight * j, y + weight * i
        expected.append((x / total, y / total))
    assert len(expected) == len(keypoints) > 20
    found = sorted(keypoints.tolist())
    np.testing.assert_allclose(found, sorted(expected), atol=1e-9)
    assert bool((values.diff() <= 0).all())
    grid = torch.stack([keypoints[:, 0] / 23, keypoints[:, 1] / 19], dim=-1) * 2 - 1
    read = F.grid_sample(scores[None, None], grid[None, None], align_corners=True)[0, 0, 0]
    torch.testing.assert_close(values, read, atol=1e-12, rtol=0)


@pytest.mark.parametrize("center", [(11.0, 30.0), (11.3, 29.8), (12.6, 30.4)])
def test_a_bump_is_found_between_the_pixels(center):
    rows, columns = np.mgrid[:40, :56]
    bump = np.exp(-((columns - center[0]) ** 2 + (rows - center[1]) ** 2) / 4)
    keypoints, values = detect_keypoints(torch.from_numpy(bump).float(), Limits(0.2, 2))
    assert keypoints.shape == (1, 2)
    # The window is centred at a pixel, which biases the result towards that pixel.
    np.testing.assert_allclose(keypoints[0], center, atol=0.15)
    assert float(values[0]) > 0.88


def test_the_border_is_free_of_peaks_on_all_four_sides():
    scores = torch.zeros(30, 40)
    for row, column in ((1, 20), (28, 20), (15, 1), (15, 38), (2, 2), (27, 37)):
        scores[row, column] = 0.9
    keypoints, _ = detect_keypoints(scores, Limits(0.2, 2))
    assert sorted(keypoints.round().tolist()) == [[2, 2], [37, 27]]


def test_a_constant_map_has_no_peak_and_equal_neighbours_give_one():
    assert len(detect_keypoints(torch.full((30, 40), 0.7), Limits(0.2, 2))[0]) == 0
    scores = torch.zeros(30, 40)
    scores[10, 20] = scores[10, 21] = 0.8
    scores[20, 5] = 0.6
    keypoints, values = detect_keypoints(scores, Limits(0.2, 2))
    assert len(keypoints) == 2
    assert len(np.unique(np.floor(keypoints.numpy() + 0.5), axis=0)) == 2
    assert values[0] > values[1]


def test_points_are_best_first_and_limited(network):
    with torch.no_grad():
        everything = network(picture(96, 64), Limits(0.3, 2))[0]
        few = network(picture(96, 64), Limits(0.3, 2, 7))[0]
        none = network(picture(96, 64), Limits(0.3, 2, 0))[0]
    assert len(everything.keypoints) > 30
    assert bool((everything.scores.diff() <= 0).all())
    for whole, part in zip(everything, few, strict=True):
        assert len(part) == 7
        torch.testing.assert_close(part, whole[:7], atol=1e-5, rtol=0)
    assert none.descriptors.shape == (0, 32)


@torch.no_grad()
def test_features_between_pixels_are_bilinear_and_end_at_the_border(network):
    images = picture(50, 40)
    points = torch.rand(200, 2) * torch.tensor([60.0, 50.0]) - 5
    points[:3] = torch.tensor([[0.0, 0.0], [49.0, 39.0], [-3.0, 90.0]])
    (features,), _ = network.encode(images)
    grid = 2 * points / torch.tensor([49, 39]) - 1
    expected = F.grid_sample(dense(network, images), grid[None, None], align_corners=True)[0, :, 0].T
    torch.testing.assert_close(features.between(points), expected, atol=1e-5, rtol=0)
    assert not features.between(points[2]).any()


# The extractor.


def test_the_extractor_uses_colour_and_shifts_by_half_a_pixel(network, weights):
    pixels = np.stack([textured(80, 64, seed) for seed in range(3)], axis=-1)
    config = AlikedConfig(weights=str(weights), max_keypoints=60, detection_threshold=0.3)
    features = AlikedExtractor(config, "cpu").extract(Image.from_array(pixels))
    with torch.no_grad():
        (points,) = network(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, Limits(0.3, 2, 60))
    assert len(features) == 60
    np.testing.assert_allclose(features.keypoints, points.keypoints.numpy() + 0.5, atol=1e-4)
    np.testing.assert_allclose(features.descriptors, points.descriptors.numpy(), atol=1e-4)
    other = AlikedExtractor(config, "cpu").extract(Image.from_array(np.ascontiguousarray(pixels[:, :, ::-1])))
    assert other.digest != features.digest


def test_without_weights_the_message_names_the_model():
    with pytest.raises(WeightsError, match=r"extractor aliked.*aliked-t16.*extractor\.weights"):
        AlikedExtractor(AlikedConfig(model="t16"), "cpu")


@pytest.mark.parametrize(
    "options",
    [
        {"model": "n17"},
        {"max_keypoints": 0},
        {"max_image_size": 4},
        {"detection_threshold": 1.5},
        {"detection_threshold": -0.1},
        {"nms_radius_px": 0},
    ],
)
def test_invalid_options_are_refused(options):
    with pytest.raises(ConfigError, match=f"`extractor.{next(iter(options))}`"):
        AlikedConfig(**options)
