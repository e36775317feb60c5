"""`LightGlueForKeypointMatching`: parity with `transformers`, and correct results where it has errors."""

from __future__ import annotations

import pytest
import torch

from sfm_lightglue import LightGlueConfig, LightGlueForKeypointMatching
from tests.helpers.matching_references import both_outputs, make_both, make_inputs, make_reference

TheirModel = pytest.importorskip("transformers").LightGlueForKeypointMatching

pytestmark = pytest.mark.usefixtures("torch_seed")

NAMES = ["matches", "matching_scores", "keypoints", "prune", "mask"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return make_both(tmp_path_factory.mktemp("reference"))


def assert_same_matches(ours, theirs, at_least: int) -> None:
    """Outputs of `transformers` are [2 B, N] without adaptivity."""
    assert int((ours.matches[:, 0] >= 0).sum()) >= at_least
    assert torch.equal(ours.keypoints, theirs.keypoints)
    assert torch.equal(ours.mask, theirs.mask)
    assert torch.equal(ours.matches, theirs.matches.view_as(ours.matches))
    scores = theirs.matching_scores.view_as(ours.matching_scores)
    torch.testing.assert_close(ours.matching_scores, scores, atol=2e-4, rtol=0)


def test_names_shapes_and_values_are_those_of_transformers(both):
    theirs, ours = both_outputs(*both, make_inputs(2), output_hidden_states=True, output_attentions=True)
    assert_same_matches(ours, theirs, at_least=20)
    assert list(ours) == list(theirs.keys()) == [*NAMES, "hidden_states", "attentions"]
    points = ours.mask.flatten(0, 1).bool()
    assert torch.equal(ours.prune.flatten(0, 1)[points], theirs.prune.flatten(0, 1)[points].long())
    assert len(ours.hidden_states) == len(theirs.hidden_states) == 7 * 3
    for mine, their in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        assert mine.shape == their.shape
        torch.testing.assert_close(mine[points], their[points], atol=1e-4, rtol=0)
    assert len(ours.attentions) == len(theirs.attentions) == 2 * 3
    for mine, their in zip(ours.attentions, theirs.attentions, strict=True):
        assert mine.shape == their.shape
        rows = points[:, None, :, None].expand_as(mine)
        torch.testing.assert_close(mine[rows], their[rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "options",
    [
        {"num_key_value_heads": 1},
        {"attention_bias": False, "hidden_act": "relu"},
        {"descriptor_dim": 48, "num_attention_heads": 4, "hidden_act": "silu"},
        {"max_keypoints": 40, "nms_radius": 2},
    ],
)
def test_every_architecture_equals_that_of_transformers(tmp_path, options):
    theirs, ours = both_outputs(*make_both(tmp_path, **options), make_inputs(1))
    assert_same_matches(ours, theirs, at_least=5)
    assert ours.mask.shape[2] == (40 if "max_keypoints" in options else theirs.mask.shape[2])


LAYERS = 8


def make_adaptive(folder, **options):
    """Models of both libraries whose pairs stop early and whose points are pruned."""
    reference = make_reference(num_hidden_layers=LAYERS, depth_confidence=0.7, width_confidence=0.9, **options)
    with torch.no_grad():
        for head in reference.token_confidence:
            head.token.bias.fill_(1.5)
        for assignment in reference.match_assignment_layers:
            assignment.matchability.weight.mul_(6.0)
            assignment.matchability.bias.fill_(0.0)
    reference.save_pretrained(folder)
    return reference, LightGlueForKeypointMatching.from_pretrained(folder)


def test_an_adaptive_pair_equals_that_of_transformers(tmp_path):
    """One pair; the last point of each image is not compared, because `transformers` overwrites it with padding."""
    theirs, ours = both_outputs(*make_adaptive(tmp_path), make_inputs(1, seed=2))
    assert 1 < int(ours.prune.max()) < LAYERS and int((ours.prune < ours.prune.max()).sum()) > 10
    points = ours.mask.bool()
    points[:, :, -1] = False
    assert torch.equal(ours.prune[points], theirs.prune[points])
    assert torch.equal(ours.matches[points], theirs.matches[points])
    torch.testing.assert_close(ours.matching_scores[points], theirs.matching_scores[points], atol=2e-4, rtol=0)
    assert int((ours.matches >= 0).sum()) >= 10


def test_pairs_of_a_batch_keep_their_order_when_they_stop_early(tmp_path):
    _, ours = make_adaptive(tmp_path)
    strengths = torch.tensor([0.15, 1.0, 0.3, 0.6])
    inputs = make_inputs(4) * strengths[:, None, None, None, None]
    with torch.no_grad():
        together = ours(inputs)
        stops = together.prune.amax((1, 2)).tolist()
        assert stops[1] < stops[2] < stops[0]  # they stop in another order, a permutation that is not its own inverse
        for row in range(len(inputs)):
            alone = ours(inputs[row : row + 1])
            for side in (0, 1):
                n = int(alone.mask[0, side].sum())
                assert int(together.mask[row, side].sum()) == n > 0
                assert torch.equal(together.matches[row, side, :n], alone.matches[0, side, :n])
                assert torch.equal(together.prune[row, side, :n], alone.prune[0, side, :n])


def test_adaptive_depth_and_width_work_separately(tmp_path):
    _, ours = make_adaptive(tmp_path)
    inputs = make_inputs(2)
    with torch.no_grad():
        ours.config.width_confidence = -1.0
        depth = ours(inputs)
        ours.config.depth_confidence, ours.config.width_confidence = -1.0, 0.9999
        width = ours(inputs)
        ours.config.width_confidence = 0.0
        neither = ours(inputs)
    points = depth.mask.bool()
    stops = depth.prune.amax((1, 2), keepdim=True)
    assert int(stops.min()) > 1 and int(stops.max()) < LAYERS
    assert torch.equal(depth.prune, stops * points)
    assert int(width.prune.max()) == LAYERS and int((width.prune[points] < LAYERS).sum()) > 10
    assert torch.equal(neither.prune, LAYERS * points)
    assert all(int((each.matches >= 0).sum()) > 0 for each in (depth, width, neither))
    assert bool((width.matches[width.prune < LAYERS] == -1).all())


def test_points_at_all_four_borders_are_removed(tmp_path):
    _, ours = make_both(tmp_path)
    ours.config.keypoint_detector_config.border_removal_distance = 12
    inputs = make_inputs(1)
    sizes = torch.tensor([[[64, 88], [48, 72]]])  # the second image is padded
    with torch.no_grad():
        output = ours(inputs, image_sizes=sizes)
    for side, (height, width) in enumerate(sizes[0].tolist()):
        pixels = output.keypoints[0, side][output.mask[0, side].bool()] * torch.tensor([width, height])
        assert len(pixels) > 3
        assert float(pixels.min()) >= 12
        assert bool((pixels < torch.tensor([width, height]) - 12 + 1e-3).all())


def test_padding_changes_nothing(both):
    """Points, matches and scores of an image do not depend on padding."""
    _, ours = both
    inputs, size = make_inputs(1), (48, 72)
    padded = torch.zeros(2, 2, 3, 96, 88)
    padded[0, :, :, : size[0], : size[1]] = inputs[0, :, :, : size[0], : size[1]]
    padded[1, :, :, :64, :88] = make_inputs(1, seed=5)[0]
    sizes = torch.tensor([[size, size], [(64, 88), (64, 88)]])
    with torch.no_grad():
        alone = ours(padded[:1, :, :, : size[0], : size[1]])
        within = ours(padded, image_sizes=sizes)
    n = alone.mask.shape[2]
    assert torch.equal(within.mask[:1, :, :n], alone.mask) and int(within.mask[0, :, n:].sum()) == 0
    assert torch.equal(within.keypoints[:1, :, :n], alone.keypoints)
    assert torch.equal(within.matches[:1, :, :n], alone.matches)
    torch.testing.assert_close(within.matching_scores[:1, :, :n], alone.matching_scores, atol=1e-4, rtol=0)


def test_black_images_have_no_points(both):
    _, ours = both
    ours.config.keypoint_detector_config.keypoint_threshold = 0.99
    with torch.no_grad():
        output = ours(torch.zeros(2, 2, 3, 32, 40), output_hidden_states=True, output_attentions=True)
    ours.config.keypoint_detector_config.keypoint_threshold = 0.01
    assert output.matches.shape == output.prune.shape == (2, 2, 0) and output.keypoints.shape == (2, 2, 0, 2)


def test_outputs_are_read_by_attribute_key_and_position(both):
    _, ours = both
    inputs = make_inputs(1)
    with torch.no_grad():
        output, plain = ours(inputs), ours(inputs, return_dict=False)
    assert output[0] is output["matches"] is output.matches and len(output) == len(plain) == 5
    assert torch.equal(plain[2], output.keypoints) and list(output) == NAMES and "loss" not in output
    assert torch.equal(output.keypoints0, output.keypoints[:, 0])
    assert torch.equal(output.keypoints1, output.keypoints[:, 1])
    assert torch.equal(output["matches1"], output.matches[:, 1])
    assert output.matching_scores0.shape == output.mask1.shape == output.prune0.shape == output.matches0.shape
    for key in ("image_sizes", "nothing", "loss0"):
        with pytest.raises(KeyError):
            output[key]


def test_transformers_reads_saved_models(tmp_path, both):
    reference, ours = both
    ours.save_pretrained(tmp_path)
    back = TheirModel.from_pretrained(tmp_path)
    expected = reference.state_dict()
    assert back.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in back.state_dict().items())
    assert back.config.depth_confidence == -1.0 and back.config.keypoint_detector_config.descriptor_decoder_dim == 64


def test_a_new_model_loads_a_state_dict_of_transformers():
    reference = make_reference()
    ours = LightGlueForKeypointMatching(LightGlueConfig.from_dict(reference.config.to_dict())).eval()
    assert ours.num_parameters() == sum(parameter.numel() for parameter in reference.parameters())
    ours.load_state_dict(reference.state_dict())
    theirs, mine = both_outputs(reference, ours, make_inputs(1))
    assert_same_matches(mine, theirs, at_least=5)
    own = ours.state_dict()
    assert set(ours.load_state_dict(own).missing_keys) == set()


def test_half_precision_gives_exact_points(tmp_path, both):
    _, ours = both
    ours.save_pretrained(tmp_path)
    half = LightGlueForKeypointMatching.from_pretrained(tmp_path, dtype="bfloat16")
    assert half.dtype == torch.bfloat16
    with torch.no_grad():
        output = half(make_inputs(1))
    pixels = output.keypoints * torch.tensor([88, 64])
    torch.testing.assert_close(pixels, pixels.round(), atol=1e-3, rtol=0)
    assert output.keypoints.dtype == torch.float32 and int((output.matches >= 0).sum()) > 5


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (1, 3, 3, 64, 64), (1, 2, 64, 64)])
def test_other_shapes_are_refused(both, shape):
    with pytest.raises(ValueError, match="pixel_values: expected"):
        both[1](torch.zeros(shape))


def test_sizes_beyond_the_input_are_refused(both):
    with pytest.raises(ValueError, match="image_sizes: expected"):
        both[1](torch.zeros(1, 2, 3, 32, 32), image_sizes=torch.full((1, 2, 2), 33))
