"""Parity of our LightGlue and SuperPoint with `transformers` on random weights, in every checkpoint layout."""

from __future__ import annotations

import pytest
import torch

from sfm_lightglue.models.checkpoints import lightglue_from_state_dict, superpoint_from_state_dict
from sfm_lightglue.models.key_layouts import lightglue_to_hugging_face
from sfm_lightglue.models.lightglue import (
    LightGlue,
    LightGlueOutput,
    LightGlueThresholds,
    Side,
    normalize_keypoints,
)
from sfm_lightglue.models.superpoint import SuperPointThresholds

transformers = pytest.importorskip("transformers")

ALL_LAYERS = LightGlueThresholds(depth_confidence=None, width_confidence=None)
WIDTH, HEIGHT = 640, 480

pytestmark = pytest.mark.usefixtures("torch_seed")


def make_reference(
    *,
    dim: int = 64,
    layers: int = 3,
    kv_heads: int | None = None,
    bias: bool = True,
    tied: bool = False,
    descriptor_dim: int = 256,
    depth: float = -1.0,
    width: float = -1.0,
) -> transformers.LightGlueForKeypointMatching:
    config = transformers.LightGlueConfig(
        keypoint_detector_config=transformers.SuperPointConfig(descriptor_decoder_dim=descriptor_dim),
        descriptor_dim=dim,
        num_hidden_layers=layers,
        num_key_value_heads=kv_heads,
        attention_bias=bias,
        depth_confidence=depth,
        width_confidence=width,
    )
    model = transformers.LightGlueForKeypointMatching(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("keypoint_detector."):
                continue
            if "layer_norm" in name:
                parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.2)
            elif name.endswith("bias"):
                parameter.normal_(0.0, 0.1)
            elif "projector" in name:
                parameter.normal_(0.0, 1.0)
            else:
                parameter.normal_(0.0, parameter.shape[1] ** -0.5)
        for assignment in model.match_assignment_layers:
            assignment.final_projection.weight.mul_(2.0)
            assignment.matchability.bias.add_(3.0)
        if tied:
            for layer in model.transformer_layers:
                layer.cross_attention.k_proj.load_state_dict(layer.cross_attention.q_proj.state_dict())
    return model


def make_pairs(batch: int, n: int, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints [B, 2, N, 2] in pixels and descriptors [B, 2, N, D], 80 % of them matches."""
    keypoints0 = torch.rand(batch, n, 2) * torch.tensor([WIDTH, HEIGHT])
    descriptors0 = torch.randn(batch, n, dim)
    order = torch.stack([torch.randperm(n) for _ in range(batch)])
    rows = torch.arange(batch)[:, None]
    keypoints1 = keypoints0[rows, order] + torch.randn(batch, n, 2)
    descriptors1 = descriptors0[rows, order] + 0.02 * torch.randn(batch, n, dim)
    descriptors1[:, : n // 5] = torch.randn(batch, n // 5, dim)
    return torch.stack([keypoints0, keypoints1], 1), torch.stack([descriptors0, descriptors1], 1)


def match_ours(model: LightGlue, keypoints, descriptors, mask=None, **options) -> LightGlueOutput:
    normalized = normalize_keypoints(keypoints, (WIDTH, HEIGHT))
    masks = (None, None) if mask is None else (mask[:, 0], mask[:, 1])
    sides = (Side(normalized[:, side], descriptors[:, side], masks[side]) for side in (0, 1))
    return model(*sides, **options)


def match_reference(model, keypoints, descriptors, mask=None, **options):
    mask = torch.ones(keypoints.shape[:3], dtype=torch.bool) if mask is None else mask
    with torch.no_grad():
        matches, scores, prune, hidden, attentions = model._match_image_pair(
            keypoints.clone(), descriptors, HEIGHT, WIDTH, mask=mask.int(), **options
        )
    return matches.view(keypoints.shape[:3]), scores.view(keypoints.shape[:3]), prune, hidden, attentions


def assert_same(ours: LightGlueOutput, matches, scores, at_least: int) -> None:
    assert int((matches[:, 0] >= 0).sum()) >= at_least
    assert torch.equal(ours.matches0, matches[:, 0])
    assert torch.equal(ours.matches1, matches[:, 1])
    torch.testing.assert_close(ours.matching_scores0, scores[:, 0], atol=1e-4, rtol=0)
    torch.testing.assert_close(ours.matching_scores1, scores[:, 1], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("options", "batch", "n"),
    [
        ({"dim": 256, "layers": 9, "tied": True}, 1, 400),
        ({"dim": 256, "layers": 3}, 1, 300),
        ({"dim": 64, "layers": 4, "tied": True}, 2, 200),
        ({"dim": 64, "layers": 4, "bias": False}, 1, 1100),
        ({"dim": 64, "layers": 3, "kv_heads": 1}, 2, 150),
        ({"dim": 64, "layers": 3, "kv_heads": 2}, 1, 300),
        ({"dim": 64, "layers": 3, "kv_heads": 2, "bias": False}, 2, 150),
    ],
)
def test_every_layer_equals_the_reference(options, batch, n):
    reference = make_reference(**options)
    model = lightglue_from_state_dict(reference.state_dict())
    assert model.architecture.num_key_value_heads == options.get("kv_heads")
    assert model.architecture.attention_bias == options.get("bias", True)
    keypoints, descriptors = make_pairs(batch, n, 256)
    mask = torch.ones(batch, 2, n, dtype=torch.bool)

    ours = match_ours(
        model,
        keypoints,
        descriptors,
        thresholds=ALL_LAYERS,
        return_hidden_states=True,
        return_attentions=True,
    )
    plain = match_ours(model, keypoints, descriptors, thresholds=ALL_LAYERS)
    matches, scores, _, hidden, _ = match_reference(reference, keypoints, descriptors, output_hidden_states=True)
    assert_same(ours, matches, scores, at_least=100)
    assert_same(plain, matches, scores, at_least=100)

    normalized = normalize_keypoints(keypoints, (WIDTH, HEIGHT))
    with torch.no_grad():
        sides = (Side(normalized[:, side], descriptors[:, side]) for side in (0, 1))
        predictions = model.forward_all_layers(*sides)
    layers = options["layers"]
    assert len(predictions) == layers and len(ours.hidden_states) == layers + 1
    for index in range(layers):
        expected = hidden[7 * index + 4]  # [2 B, N, D] after the layer
        got = ours.hidden_states[index + 1].view(2 * batch, n, -1)
        torch.testing.assert_close(got, expected, atol=2e-4, rtol=1e-4)
        with torch.no_grad():
            log_assignment = reference.match_assignment_layers[index](expected, mask.view(2 * batch, n).int())
            torch.testing.assert_close(predictions[index].log_assignment, log_assignment, atol=1e-4, rtol=1e-5)
            if index < layers - 1:
                confidence = reference.token_confidence[index](expected).view(batch, 2, n)
                torch.testing.assert_close(predictions[index].confidence_logits0.sigmoid(), confidence[:, 0])
                torch.testing.assert_close(predictions[index].confidence_logits1.sigmoid(), confidence[:, 1])


def test_attention_weights_equal_the_reference():
    reference = make_reference(dim=64, layers=2)
    reference.set_attn_implementation({"": "eager", "keypoint_detector_config": "eager"})
    model = lightglue_from_state_dict(reference.state_dict())
    keypoints, descriptors = make_pairs(1, 130, 256)
    ours = match_ours(model, keypoints, descriptors, thresholds=ALL_LAYERS, return_attentions=True)
    attentions = match_reference(reference, keypoints, descriptors, output_attentions=True)[4]
    assert len(ours.attentions) == 8 and len(attentions) == 4
    for index, expected in enumerate(attentions):  # [2, H, N, N]: self, cross, self, cross
        got = torch.cat(ours.attentions[2 * index : 2 * index + 2])
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_padded_batch_equals_the_reference():
    reference = make_reference(dim=64, layers=3)
    model = lightglue_from_state_dict(reference.state_dict())
    keypoints, descriptors = make_pairs(2, 200, 256)
    mask = torch.ones(2, 2, 200, dtype=torch.bool)
    mask[0, 1, 170:] = False
    mask[1, 0, 120:] = False
    ours = match_ours(model, keypoints, descriptors, mask, thresholds=ALL_LAYERS)
    matches, scores, *_ = match_reference(reference, keypoints, descriptors, mask)
    assert torch.equal(ours.matches0[mask[:, 0]], matches[:, 0][mask[:, 0]])
    torch.testing.assert_close(ours.matching_scores0[mask[:, 0]], scores[:, 0][mask[:, 0]], atol=1e-4, rtol=0)
    assert int((ours.matches0 >= 0).sum()) > 100


def test_adaptive_pair_equals_the_reference():
    """One pair at a time, since the reference mixes the pairs of a batch.

    The last point of each image is not compared, since the reference overwrites it with its padding, index -1.
    """
    reference = make_reference(dim=64, layers=6, depth=0.95, width=0.99)
    with torch.no_grad():
        for index, head in enumerate(reference.token_confidence):
            head.token.bias.fill_(0.5 + 0.9 * index)
        for assignment in reference.match_assignment_layers:
            assignment.matchability.weight.mul_(3.0)
            assignment.matchability.bias.fill_(0.0)
    model = lightglue_from_state_dict(reference.state_dict())
    keypoints, descriptors = make_pairs(1, 700, 256)
    ours = match_ours(model, keypoints, descriptors, thresholds=LightGlueThresholds())
    matches, scores, prune, *_ = match_reference(reference, keypoints, descriptors)
    assert 1 < int(ours.stop_layer) < 6
    assert int((ours.num_layers0 < ours.stop_layer).sum()) > 10
    assert torch.equal(torch.stack([ours.num_layers0, ours.num_layers1], 1), prune.long())
    assert int((matches[:, 0] >= 0).sum()) >= 100
    assert torch.equal(torch.stack([ours.matches0, ours.matches1], 1)[..., :-1], matches[..., :-1])
    ours_scores = torch.stack([ours.matching_scores0, ours.matching_scores1], 1)
    torch.testing.assert_close(ours_scores[..., :-1], scores[..., :-1], atol=1e-4, rtol=0)


def original_layout(reference, spelling: str) -> dict[str, torch.Tensor]:
    """The state dict of the same network in the layout of the authors."""
    state = {}
    for key, value in reference.state_dict().items():
        if key.startswith("keypoint_detector.") or ".k_proj." in key or ".v_proj." in key:
            continue
        name = (
            key.replace("positional_encoder.projector", "posenc.Wr")
            .replace("input_projection", "input_proj")
            .replace("match_assignment_layers", "log_assignment")
            .replace("final_projection", "final_proj")
        )
        if name.startswith("token_confidence"):
            name = name.replace(".token.", ".token.0.")
        if name.startswith("transformer_layers."):
            _, index, module, part, kind = name.split(".")
            side = module.split("_")[0]
            prefix = f"{side}_attn.{index}" if spelling == "lists" else f"transformers.{index}.{side}_attn"
            part = {"fc1": "ffn.0", "layer_norm": "ffn.1", "fc2": "ffn.3"}.get(part, part)
            if part == "o_proj":
                part = "out_proj" if side == "self" else "to_out"
            if part == "q_proj" and side == "self":
                part = "Wqkv"
                qkv = [reference.state_dict()[key.replace("q_proj", f"{c}_proj")] for c in "qkv"]
                value = torch.stack(qkv, dim=1).flatten(0, 1)  # 3 [D, ...] -> [D, 3, ...] -> [3 D, ...]
            elif part == "q_proj":
                part = "to_qk"
                state[f"{prefix}.to_v.{kind}"] = reference.state_dict()[key.replace("q_proj", "v_proj")]
            name = f"{prefix}.{part}.{kind}"
        state[name] = value
    return state


@pytest.mark.parametrize("spelling", ["lists", "transformers"])
@pytest.mark.parametrize("dim", [64, 256])
def test_original_layout_equals_the_reference(spelling, dim):
    reference = make_reference(dim=dim, layers=2, tied=True)
    state = original_layout(reference, spelling)
    assert ("input_proj.weight" in state) == (dim != 256)
    if spelling == "lists":
        state["confidence_thresholds"] = 0.8 + 0.1 * torch.exp(-4.0 * torch.arange(2) / 2)
    model = lightglue_from_state_dict(state)
    assert model.architecture.cross_is_tied
    keypoints, descriptors = make_pairs(1, 200, 256)
    ours = match_ours(model, keypoints, descriptors, thresholds=ALL_LAYERS)
    matches, scores, *_ = match_reference(reference, keypoints, descriptors)
    assert_same(ours, matches, scores, at_least=100)


@pytest.mark.parametrize(
    "options", [{"tied": True}, {"tied": False}, {"kv_heads": 2}, {"dim": 256, "bias": False, "kv_heads": 1}]
)
def test_export_equals_the_state_dict_of_the_reference(options):
    reference = make_reference(layers=2, **options)
    expected = {k: v for k, v in reference.state_dict().items() if not k.startswith("keypoint_detector.")}
    model = lightglue_from_state_dict(reference.state_dict())
    exported = lightglue_to_hugging_face(model.state_dict(), model.architecture)
    assert exported.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(exported[key], value), key


def make_superpoint(**options) -> transformers.SuperPointForKeypointDetection:
    reference = transformers.SuperPointForKeypointDetection(
        transformers.SuperPointConfig(border_removal_distance=0, **options)
    ).eval()
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.ndim == 4:
                parameter.normal_(0.0, (2.0 / parameter[0].numel()) ** 0.5)
            else:
                parameter.normal_(0.0, 0.1)
    return reference


@pytest.mark.parametrize(
    ("size", "threshold", "max_num", "prefix"),
    [
        ((160, 200), 0.005, None, ""),
        ((123, 165), 0.02, None, ""),
        ((160, 128), 0.005, 100, "keypoint_detector."),
    ],
)
def test_superpoint_equals_the_reference(size, threshold, max_num, prefix):
    reference = make_superpoint(
        keypoint_threshold=threshold, max_keypoints=-1 if max_num is None else max_num, nms_radius=4
    )
    model = superpoint_from_state_dict({prefix + key: value for key, value in reference.state_dict().items()})
    images = torch.rand(2, 1, *size)
    with torch.no_grad():
        ours = model(
            images,
            SuperPointThresholds(score_threshold=threshold, nms_radius_px=4, border_px=0, max_num_keypoints=max_num),
        )
        expected = reference(images.expand(-1, 3, -1, -1))
    assert torch.equal(ours.mask, expected.mask.bool())
    assert int(ours.mask.sum()) >= 100
    scale = torch.tensor([size[1], size[0]])
    for index in range(2):
        valid = ours.mask[index]
        keypoints = (expected.keypoints[index][valid] * scale).round()
        # The reference keeps the reading order unless it limits the number; ours are always sorted by score.
        order = torch.sort(expected.scores[index][valid], descending=True, stable=True).indices
        assert torch.equal(ours.keypoints[index][valid], keypoints[order])
        torch.testing.assert_close(ours.scores[index][valid], expected.scores[index][valid][order])
        torch.testing.assert_close(
            ours.descriptors[index][valid], expected.descriptors[index][valid][order], atol=1e-5, rtol=0
        )
