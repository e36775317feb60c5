"""`SuperPointForKeypointDetection`: parity with `transformers`, files of both, and images of several sizes."""

from __future__ import annotations

import pytest
import torch

import sfm_lightglue
from sfm_lightglue.errors import ConfigError, WeightsError
from tests.helpers.both_libraries import LIBRARIES, SMALL_DETECTOR
from tests.helpers.matching_references import make_inputs, make_reference

theirs = LIBRARIES["theirs"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The SuperPoint of a model with random weights, written by `transformers`."""
    path = tmp_path_factory.mktemp("superpoint")
    make_reference().keypoint_detector.save_pretrained(path)
    return path


def images() -> torch.Tensor:
    return make_inputs(2).flatten(0, 1)


def both_outputs(folder, **options):
    with torch.no_grad():
        return [
            library.SuperPointForKeypointDetection.from_pretrained(folder)(images(), **options)
            for library in (sfm_lightglue, theirs)
        ]


@pytest.mark.parametrize("max_keypoints", [-1, 30])
def test_outputs_equal_those_of_transformers(folder, max_keypoints):
    outputs = []
    for library in (sfm_lightglue, theirs):
        model = library.SuperPointForKeypointDetection.from_pretrained(folder, max_keypoints=max_keypoints)
        with torch.no_grad():
            outputs.append(model(images(), output_hidden_states=True))
    ours, reference = outputs
    assert list(ours) == list(reference.keys()) == ["keypoints", "scores", "descriptors", "mask", "hidden_states"]
    assert torch.equal(ours.mask, reference.mask) and int(ours.mask.sum()) > 40
    assert ours.mask.dtype == reference.mask.dtype == torch.int32
    points = ours.mask.bool()
    torch.testing.assert_close(ours.keypoints[points], reference.keypoints[points], atol=1e-6, rtol=0)
    torch.testing.assert_close(ours.scores[points], reference.scores[points], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.descriptors[points], reference.descriptors[points], atol=1e-4, rtol=0)
    for mine, their in zip(ours.hidden_states, reference.hidden_states, strict=True):
        torch.testing.assert_close(mine, their, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("library", ["ours", "theirs"])
def test_objects_and_files_are_those_of_transformers(folder, tmp_path, library):
    kind = LIBRARIES[library].SuperPointForKeypointDetection
    model = kind.from_pretrained(folder)
    assert model.config_class is LIBRARIES[library].SuperPointConfig and model.base_model_prefix == "superpoint"
    assert type(LIBRARIES[library].AutoModelForKeypointDetection.from_pretrained(folder)) is kind
    with torch.no_grad():
        assert len(model(images(), return_dict=False)) == 4
    with pytest.raises(ValueError, match=r"labels|training"):
        model(images(), labels=torch.zeros(4))
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    for reader in LIBRARIES.values():
        back = reader.SuperPointForKeypointDetection.from_pretrained(tmp_path)
        assert back.num_parameters() == model.num_parameters() and back.config.descriptor_decoder_dim == 64
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1


def test_auto_model_knows_superpoint(folder):
    """`transformers` 5.23 knows it only as a detector, and its AutoModel raises ValueError."""
    assert type(sfm_lightglue.AutoModel.from_pretrained(folder)) is sfm_lightglue.SuperPointForKeypointDetection


def test_weights_have_two_spellings(folder):
    model = sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(folder)
    reference = theirs.SuperPointForKeypointDetection.from_pretrained(folder)
    state = model.state_dict(layout="transformers")
    assert state.keys() == reference.state_dict().keys()
    for spelling in (state, model.state_dict(), reference.state_dict()):
        fresh = sfm_lightglue.SuperPointForKeypointDetection(sfm_lightglue.SuperPointConfig(**SMALL_DETECTOR))
        fresh.load_state_dict(spelling)
        again = sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(
            None, config=fresh.config, state_dict=spelling
        )
        for other in (fresh, again):
            assert torch.equal(other.keypoint_detector.network.convPb.bias, state["keypoint_decoder.conv_score_b.bias"])
    with pytest.raises(WeightsError, match="but the configuration has"):
        sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(folder, descriptor_decoder_dim=32)
    with pytest.raises(ConfigError, match="unknown option 'layers'"):
        sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(folder, layers=3)


def test_the_superpoint_of_a_lightglue_is_read(tmp_path):
    reference = make_reference()
    reference.save_pretrained(tmp_path)
    model = sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(tmp_path)
    assert model.config.keypoint_threshold == 0.01
    one_file = sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(tmp_path / "model.safetensors")
    assert one_file.config.keypoint_threshold == 0.005 and one_file.config.encoder_hidden_sizes == (8, 8, 16, 16)
    bias = reference.state_dict()["keypoint_detector.keypoint_decoder.conv_score_b.bias"]
    for each in (model, one_file):
        assert torch.equal(each.keypoint_detector.network.convPb.bias, bias)


def test_padding_changes_nothing(folder):
    model = sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(folder)
    whole = images()[:1]
    padded = torch.zeros(1, 3, 96, 120)
    padded[:, :, :64, :88] = whole
    with torch.no_grad():
        alone, within = model(whole), model(padded, image_sizes=torch.tensor([[64, 88]]))
    assert torch.equal(alone.keypoints, within.keypoints) and torch.equal(alone.descriptors, within.descriptors)
    assert within.image_sizes.tolist() == [[64, 88]] and alone.filled_sizes.tolist() == [[64, 88]]
    for wrong in (torch.tensor([[97, 20]]), torch.tensor([64, 88])):
        with pytest.raises(ValueError, match="image_sizes: expected"):
            model(padded, image_sizes=wrong)


def test_points_at_all_borders_are_removed(folder):
    """`transformers` multiplies the size by 8 once too often, and keeps points at the right and lower borders."""
    margins = []
    for library in (sfm_lightglue, theirs):
        model = library.SuperPointForKeypointDetection.from_pretrained(folder, border_removal_distance=12)
        with torch.no_grad():
            output = model(images())
        pixels = output.keypoints[output.mask.bool()] * torch.tensor([88, 64])
        margins.append((torch.tensor([87, 63]) - pixels).min().item())
    ours, reference = margins
    assert ours >= 11 > reference


def test_other_numbers_of_stages_give_points_within_the_image(tmp_path):
    """`transformers` takes an output of 8 x 8 for the pixels of each cell, which is right for four stages only."""
    sizes = {"encoder_hidden_sizes": [8, 8, 16], "keypoint_threshold": 0.001, "max_keypoints": -1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs.SuperPointForKeypointDetection(theirs.SuperPointConfig(**{**SMALL_DETECTOR, **sizes})).save_pretrained(
            tmp_path
        )
    found = {}
    for name, library in LIBRARIES.items():
        model = library.SuperPointForKeypointDetection.from_pretrained(tmp_path).eval()
        with torch.no_grad():
            found[name] = model(images(), output_hidden_states=True)
        assert len(found[name].hidden_states) == 3 and int(found[name].mask.sum()) > 10
    assert float(found["theirs"].keypoints.max()) > 1.5 > 1 > float(found["ours"].keypoints.max())
    again = sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(tmp_path)
    again.save_pretrained(tmp_path / "again")
    back = sfm_lightglue.SuperPointForKeypointDetection.from_pretrained(tmp_path / "again")
    assert back.config == again.config and back.config.encoder_hidden_sizes == (8, 8, 16)
    with torch.no_grad():
        assert torch.equal(back(images()).keypoints, found["ours"].keypoints)
