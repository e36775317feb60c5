"""Laws of our SuperPoint; `test_lightglue_parity.py` compares it with a second implementation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sfm_lightglue.models.keypoints import suppress_neighbours
from sfm_lightglue.models.superpoint import (
    SuperPoint,
    SuperPointArchitecture,
    SuperPointThresholds,
    remove_borders,
    sample_descriptors,
    select_keypoints,
)

SMALL = SuperPointArchitecture(encoder_channels=(8, 8, 16, 16), decoder_channels=32, descriptor_dim=24)

pytestmark = pytest.mark.usefixtures("torch_seed")


def make_network() -> SuperPoint:
    network = SuperPoint(SMALL).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.normal_(0.0, (2.0 / parameter[0].numel()) ** 0.5)
    return network


@torch.no_grad()
def test_batch_equals_single_images():
    network, images = make_network(), torch.rand(3, 1, 64, 88)
    images[2] = 0.0  # a black image has fewer points, only at its border
    thresholds = SuperPointThresholds(score_threshold=0.03)
    batch = network(images, thresholds)
    counts = batch.mask.sum(1).tolist()
    assert len(set(counts)) > 1 and min(counts[:2]) > 10
    for index in range(3):
        alone = network(images[index : index + 1], thresholds)
        n = counts[index]
        assert torch.equal(batch.mask[index], torch.arange(batch.mask.shape[1]) < n)
        assert torch.equal(batch.keypoints[index, :n], alone.keypoints[0])
        torch.testing.assert_close(batch.scores[index, :n], alone.scores[0])
        torch.testing.assert_close(batch.descriptors[index, :n], alone.descriptors[0], atol=1e-5, rtol=0)
        assert (batch.descriptors[index, n:] == 0).all()


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 88), (67, 93)])
@pytest.mark.parametrize("border", [0, 1, 4, 9])
def test_the_border_is_free_of_points_on_all_four_sides(height, width, border):
    network, images = make_network(), torch.rand(4, 1, height, width)
    output = network(images, SuperPointThresholds(score_threshold=0.0, nms_radius_px=0, border_px=border))
    points = output.keypoints[output.mask]
    right, bottom = (min(size // 8 * 8, size - border) - 1 for size in (width, height))
    assert points[:, 0].min() == border and points[:, 1].min() == border
    assert points[:, 0].max() == right and points[:, 1].max() == bottom


def test_a_border_wider_than_the_image_removes_all_points():
    assert not remove_borders(torch.ones(1, 16, 16), 20, 16, 16).any()


@torch.no_grad()
def test_points_are_best_first_above_the_threshold_and_limited():
    network, images = make_network(), torch.rand(1, 1, 64, 88)
    everything = network(images, SuperPointThresholds(score_threshold=0.01))
    assert (everything.scores[0].diff() <= 0).all() and float(everything.scores.min()) > 0.01
    few = network(images, SuperPointThresholds(score_threshold=0.01, max_num_keypoints=7))
    assert few.keypoints.shape == (1, 7, 2)
    assert torch.equal(few.keypoints, everything.keypoints[:, :7])
    none = network(images, SuperPointThresholds(score_threshold=0.01, max_num_keypoints=0))
    assert none.keypoints.shape == (1, 0, 2) and none.descriptors.shape == (1, 0, 24)
    norms = everything.descriptors.norm(dim=-1)
    torch.testing.assert_close(norms, torch.ones_like(norms))


@pytest.mark.parametrize("radius", [1, 3, 4])
def test_kept_points_are_isolated_and_include_all_strict_maxima(radius):
    scores = torch.rand(2, 60, 50) + 0.01
    kept = suppress_neighbours(scores, radius)
    peaks = kept > 0
    assert torch.equal(kept[peaks], scores[peaks])
    window = 2 * radius + 1
    count = F.avg_pool2d(peaks.float()[:, None], window, 1, radius, count_include_pad=True) * window**2
    assert (count[:, 0][peaks] < 1.5).all()  # no other point in the window of a kept point
    strict = F.max_pool2d(scores[:, None], window, 1, radius)[:, 0] == scores
    assert (peaks | ~strict).all()  # all strict maxima are kept
    assert int(peaks.sum()) > int(strict.sum())  # so are others, considered again after suppression


def test_a_single_peak_has_the_coordinates_of_its_pixel():
    scores = torch.zeros(40, 56)
    scores[30, 11], scores[5, 50] = 0.4, 0.9
    keypoints, values = select_keypoints(scores, SuperPointThresholds())
    assert keypoints.tolist() == [[50.0, 5.0], [11.0, 30.0]]
    torch.testing.assert_close(values, torch.tensor([0.9, 0.4]))


def test_score_map_puts_each_cell_s_channels_in_reading_order():
    network = make_network()
    with torch.no_grad():
        for layer in (network.convPa, network.convPb):
            layer.weight.zero_(), layer.bias.zero_()
        network.convPb.bias[3 * 8 + 5] = 20.0  # row 3, column 5 of every cell
        scores = network.score(torch.rand(1, 16, 2, 3))
    assert scores.shape == (1, 16, 24)
    rows, columns = torch.nonzero(scores[0] > 0.5, as_tuple=True)
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(r, c) for r in (3, 11) for c in (5, 13, 21)]


def test_descriptors_are_interpolated_linearly_between_cells():
    """At the centres of cells, the result is the descriptor of the map; halfway between two, their mean."""
    descriptor_map = F.normalize(torch.randn(24, 5, 7), dim=0)
    corners = torch.tensor([[3.5, 3.5], [7 * 8 - 1.0, 5 * 8 - 1.0], [3.5 + (7 * 8 - 4.5) / 12, 3.5]])
    first, last, middle = sample_descriptors(corners, descriptor_map)
    torch.testing.assert_close(first, descriptor_map[:, 0, 0])
    torch.testing.assert_close(last, descriptor_map[:, -1, -1])
    mean = F.normalize(descriptor_map[:, 0, 0] + descriptor_map[:, 0, 1], dim=0)
    torch.testing.assert_close(middle, mean, atol=1e-5, rtol=0)
    assert sample_descriptors(torch.zeros(0, 2), descriptor_map).shape == (0, 24)


@torch.no_grad()
@pytest.mark.parametrize("shape", [(1, 1, 7, 40), (2, 1, 40, 3), (0, 1, 40, 40)])
def test_images_without_a_cell_have_no_points(shape):
    output = make_network()(torch.rand(shape))
    assert output.keypoints.shape == (shape[0], 0, 2) and output.descriptors.shape == (shape[0], 0, 24)


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="images: expected"):
        make_network()(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match="border_px"):
        SuperPointThresholds(border_px=-1)
    with pytest.raises(ValueError, match="2 stages or more"):
        SuperPointArchitecture(encoder_channels=(8,))


@torch.no_grad()
@pytest.mark.parametrize("channels", [(8, 16), (8, 8, 16), (8, 8, 16, 16, 16)])
def test_with_other_numbers_of_stages_points_are_in_pixels_of_the_image(channels):
    """A bright spot is found where it is; the map of scores has 8 x 8 entries for each pixel of the features."""
    network = SuperPoint(SuperPointArchitecture(channels, decoder_channels=32, descriptor_dim=24)).eval()
    side = 2 ** (len(channels) - 1)
    assert network.architecture.cell_px == side
    images = torch.rand(1, 1, 96, 128)
    features = network.encode(images)
    assert features.shape == (1, channels[-1], 96 // side, 128 // side)
    network.score = lambda features: torch.zeros(1, features.shape[2] * 8, features.shape[3] * 8).index_put_(
        (torch.tensor([0]), torch.tensor([40 * 8 // side]), torch.tensor([64 * 8 // side])), torch.tensor([0.5])
    )
    (point,) = network(images, SuperPointThresholds(border_px=4)).keypoints[0]
    pixel = side / 8
    expected = torch.tensor([(64 / pixel + 0.5) * pixel - 0.5, (40 / pixel + 0.5) * pixel - 0.5])
    torch.testing.assert_close(point, expected)
    assert network(images, SuperPointThresholds(border_px=45)).keypoints.shape[1] == 0


@torch.no_grad()
def test_bfloat16_autocast_gives_float32_scores():
    network, images = make_network(), torch.rand(1, 1, 64, 88)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(images)
    assert output.scores.dtype == output.descriptors.dtype == output.keypoints.dtype == torch.float32
    exact = network(images)
    near = (torch.cdist(exact.keypoints[0, :20], output.keypoints[0]).min(1).values < 3).float().mean()
    assert float(near) > 0.7
