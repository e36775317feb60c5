"""Small networks of every architecture, and their weights in every published layout."""

from __future__ import annotations

import torch

from sfm_lightglue.models.checkpoints import lightglue_from_state_dict, superpoint_from_state_dict
from sfm_lightglue.models.key_layouts import lightglue_to_hugging_face
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.superpoint import SuperPoint, SuperPointArchitecture

ARCHITECTURES = [
    LightGlueArchitecture(input_dim=16, descriptor_dim=32, num_layers=2, num_heads=4),
    LightGlueArchitecture(input_dim=32, descriptor_dim=32, num_layers=1, num_heads=2, attention_bias=False),
    LightGlueArchitecture(input_dim=8, descriptor_dim=24, num_layers=3, num_heads=3, num_key_value_heads=1),
    LightGlueArchitecture(
        input_dim=8,
        descriptor_dim=32,
        num_layers=2,
        num_heads=4,
        num_key_value_heads=2,
        use_scale_orientation=True,
    ),
    LightGlueArchitecture(input_dim=8, descriptor_dim=32, num_layers=2, num_heads=4, tied_cross_attention=False),
    LightGlueArchitecture(
        input_dim=8,
        descriptor_dim=16,
        num_layers=3,
        num_heads=1,
        has_confidence=False,
        has_layer_assignments=False,
    ),
]

SUPERPOINT = SuperPointArchitecture(encoder_channels=(4, 6, 8, 10), decoder_channels=12, descriptor_dim=14)


def assert_same_weights(one: torch.nn.Module, other: torch.nn.Module) -> None:
    state, expected = one.state_dict(), other.state_dict()
    assert state.keys() == expected.keys()
    for key in state:
        assert torch.equal(state[key], expected[key]), key


def to_original(state: dict[str, torch.Tensor], block: str) -> dict[str, torch.Tensor]:
    """Our LightGlue in the layout of the authors; `block` is a template for the names of its attention blocks."""
    result = {}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        if name.startswith("layers."):
            _, index, part, what = name.split(".")
            side, _, part = part.partition("_")
            name, what = f"{block.format(side=side, i=index)}.", f"{side} {part} {what}"
            if what == "cross attention projection":
                result[f"{name}to_qk.{kind}"], result[f"{name}to_v.{kind}"] = value.chunk(2)
                continue
            if what == "self attention projection":
                value = torch.stack(value.chunk(3), dim=1).flatten(0, 1)
            name += {
                "self attention projection": "Wqkv",
                "self attention output": "out_proj",
                "cross attention output": "to_out",
            }.get(what, {"fc1": "ffn.0", "norm": "ffn.1", "fc2": "ffn.3"}.get(what.split()[-1]))
        name = name.replace("position_projection", "posenc.Wr").replace("input_projection", "input_proj")
        name = name.replace("assignments", "log_assignment").replace("projection", "final_proj")
        if name.startswith("confidences"):
            name = name.replace("confidences", "token_confidence") + ".token.0"
        result[f"{name}.{kind}"] = value
    return result


def superpoint_to_hugging_face(state: dict[str, torch.Tensor], prefix: str = "") -> dict[str, torch.Tensor]:
    names = {f"conv{i + 1}{c}": f"encoder.conv_blocks.{i}.conv_{c}" for i in range(4) for c in "ab"}
    names |= {f"convP{c}": f"keypoint_decoder.conv_score_{c}" for c in "ab"}
    names |= {f"convD{c}": f"descriptor_decoder.conv_descriptor_{c}" for c in "ab"}
    return {f"{prefix}{names[key.split('.')[0]]}.{key.split('.')[1]}": value for key, value in state.items()}


def every_layout() -> dict[str, tuple]:
    """By name of the layout: the function that loads it, a state dict and the expected network."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network, detector = LightGlue(ARCHITECTURES[0]), SuperPoint(SUPERPOINT)
        variants = {f"variant{i}": LightGlue(architecture) for i, architecture in enumerate(ARCHITECTURES)}
        for name in ("variant0", "variant2"):  # already in the other layouts; the same with three layers
            variants.pop(name)
    own, conv = network.state_dict(), detector.state_dict()
    hugging = lightglue_to_hugging_face(own, network.architecture)
    below = superpoint_to_hugging_face(conv, "keypoint_detector.")
    lightglues = {
        "original": to_original(own, "{side}_attn.{i}"),
        "original in memory": to_original(own, "transformers.{i}.{side}_attn"),
        "hugging face": hugging,
        "glue-factory": {f"matcher.{k}": v for k, v in to_original(own, "transformers.{i}.{side}_attn").items()},
    }
    superpoints = {
        "superpoint": conv,
        "superpoint parallel": {f"module.{k}": v for k, v in conv.items()},
        "superpoint hugging face": superpoint_to_hugging_face(conv),
        "superpoint in lightglue": below,
    }
    result = {name: (lightglue_from_state_dict, state, network) for name, state in lightglues.items()}
    result |= {name: (superpoint_from_state_dict, state, detector) for name, state in superpoints.items()}
    for name, each in variants.items():
        result[f"ours {name}"] = (lightglue_from_state_dict, each.state_dict(), each)
        arch = each.architecture
        if arch.has_confidence and arch.has_layer_assignments and not arch.use_scale_orientation:
            state = lightglue_to_hugging_face(each.state_dict(), arch)
            result[f"hugging face {name}"] = (lightglue_from_state_dict, state, each)
    return result


LAYOUTS = every_layout()
