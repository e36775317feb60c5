"""The key names of other people's checkpoints, and ours: pure renaming and reshaping of state dicts.

Our LightGlue fuses the projections of an attention into one matrix (rows q, k, v; or qk, v where
cross-attention is tied). The original interleaves its `Wqkv` as (head, head_dim, qkv); Hugging Face keeps
three matrices, and stores a tied projection twice. Our SuperPoint has the original's names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.models.lightglue_types import LightGlueArchitecture
from sfm_lightglue.models.superpoint import SuperPointArchitecture

StateDict = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]

# Patterns of whole keys without ".weight" or ".bias".
_OWN_RULES: Rules = (
    (r"((position|input)_projection)", r"\1"),
    (r"(layers\.\d+\.(self|cross)_(attention\.(projection|output)|mlp\.(fc1|norm|fc2)))", r"\1"),
    (r"(assignments\.\d+\.(projection|matchability)|confidences\.\d+)", r"\1"),
)
_ORIGINAL_RULES: Rules = (
    (r"posenc\.Wr", r"position_projection"),
    (r"input_proj", r"input_projection"),
    (r"self_attn\.(\d+)\.Wqkv", r"layers.\1.self_attention.interleaved"),
    (r"(self|cross)_attn\.(\d+)\.(?:out_proj|to_out)", r"layers.\2.\1_attention.output"),
    (r"cross_attn\.(\d+)\.to_(qk|v)", r"layers.\1.cross_attention.\2"),
    (r"(self|cross)_attn\.(\d+)\.ffn\.0", r"layers.\2.\1_mlp.fc1"),
    (r"(self|cross)_attn\.(\d+)\.ffn\.1", r"layers.\2.\1_mlp.norm"),
    (r"(self|cross)_attn\.(\d+)\.ffn\.3", r"layers.\2.\1_mlp.fc2"),
    (r"log_assignment\.(\d+)\.matchability", r"assignments.\1.matchability"),
    (r"log_assignment\.(\d+)\.final_proj", r"assignments.\1.projection"),
    (r"token_confidence\.(\d+)\.token\.0", r"confidences.\1"),
)
_HUGGING_FACE_RULES: Rules = (
    (r"positional_encoder\.projector", r"position_projection"),
    (r"input_projection", r"input_projection"),
    (r"transformer_layers\.(\d+)\.(self|cross)_attention\.([qkv])_proj", r"layers.\1.\2_attention.\3"),
    (r"transformer_layers\.(\d+)\.(self|cross)_attention\.o_proj", r"layers.\1.\2_attention.output"),
    (r"transformer_layers\.(\d+)\.(self|cross)_mlp\.(fc1|fc2)", r"layers.\1.\2_mlp.\3"),
    (r"transformer_layers\.(\d+)\.(self|cross)_mlp\.layer_norm", r"layers.\1.\2_mlp.norm"),
    (r"match_assignment_layers\.(\d+)\.matchability", r"assignments.\1.matchability"),
    (r"match_assignment_layers\.(\d+)\.final_projection", r"assignments.\1.projection"),
    (r"token_confidence\.(\d+)\.token", r"confidences.\1"),
)
_SUPERPOINT_OWN_RULES: Rules = ((r"(conv[1-4][ab]|conv[PD][ab])", r"\1"),)
_SUPERPOINT_HUGGING_FACE_RULES: Rules = (
    *((rf"encoder\.conv_blocks\.{i}\.conv_([ab])", rf"conv{i + 1}\1") for i in range(4)),
    (r"keypoint_decoder\.conv_score_([ab])", r"convP\1"),
    (r"descriptor_decoder\.conv_descriptor_([ab])", r"convD\1"),
)


def lightglue_to_own(state: Mapping[str, Tensor], source: str) -> StateDict:
    """Any known layout of LightGlue -> ours.

    Args:
        state: a state dict of the original (both spellings; glue-factory puts them below `matcher.`), of
            Hugging Face (whose keypoint detector is passed over), or of ours.
        source: where it comes from, for messages.

    Raises:
        WeightsError: on keys that no layout has, and on parts of a projection that are missing or do not fit.
    """
    state = without_prefix(state, "module.")
    if any(key.startswith("matcher.") for key in state):
        state = without_prefix({k: v for k, v in state.items() if not k.startswith("extractor.")}, "matcher.")
    if any(key.startswith(("layers.", "assignments.")) for key in state):
        return _rename(state, _OWN_RULES, source)
    if any(key.startswith("transformer_layers.") for key in state):
        own = {key: value for key, value in state.items() if not key.startswith("keypoint_detector.")}
        return _fuse(_rename(own, _HUGGING_FACE_RULES, source), source)
    state = {re.sub(r"^transformers\.(\d+)\.(self|cross)_attn\.", r"\2_attn.\1.", k): v for k, v in state.items()}
    thresholds = state.pop("confidence_thresholds", None)
    own = _fuse(_rename(state, _ORIGINAL_RULES, source), source)
    if thresholds is not None:
        _check_confidence_thresholds(thresholds, _count(own, "layers"), source)
    return own


def lightglue_to_hugging_face(state: Mapping[str, Tensor], arch: LightGlueArchitecture) -> StateDict:
    """Our LightGlue -> the layout of Hugging Face, without its keypoint detector.

    Raises:
        ValueError: where Hugging Face has no such network: 4 entries of a position, or missing heads.
    """
    if arch.use_scale_orientation or not arch.has_confidence or not arch.has_layer_assignments:
        raise ValueError("lightglue_to_hugging_face: needs 2-d positions and all confidence and assignment heads")
    d, kv = arch.descriptor_dim, arch.kv_heads * arch.head_dim
    result: StateDict = {}
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        if name.endswith("attention.projection"):
            tied = "cross" in name and arch.cross_is_tied
            parts = torch.split(value, [d, d] if tied else [d, kv, kv])
            prefix = "transformer_" + name.removesuffix("projection")
            for letter, part in zip("qkv", (parts[0], parts[0], parts[1]) if tied else parts, strict=True):
                result[f"{prefix}{letter}_proj.{kind}"] = part.clone()
            continue
        for pattern, replacement in (
            (r"^position_projection", "positional_encoder.projector"),
            (r"^layers\.(.*)_attention\.output", r"transformer_layers.\1_attention.o_proj"),
            (r"^layers\.(.*)_mlp\.norm", r"transformer_layers.\1_mlp.layer_norm"),
            (r"^layers\.", "transformer_layers."),
            (r"^assignments\.(\d+)\.projection", r"match_assignment_layers.\1.final_projection"),
            (r"^assignments\.", "match_assignment_layers."),
            (r"^confidences\.(\d+)", r"token_confidence.\1.token"),
        ):
            name = re.sub(pattern, replacement, name)
        result[f"{name}.{kind}"] = value.clone()
    return result


def lightglue_architecture(state: Mapping[str, Tensor], source: str) -> LightGlueArchitecture:
    """Reads the sizes of a LightGlue off the shapes of our layout; the rotations tell the width of a head.

    Raises:
        WeightsError: where a telling key is missing or no network has such shapes.
    """
    positions = _require(state, "position_projection.weight", source)
    qkv = _require(state, "layers.0.self_attention.projection.weight", source)
    cross = _require(state, "layers.0.cross_attention.projection.weight", source)
    if min(positions.ndim, qkv.ndim, cross.ndim) != 2 or positions.shape[1] not in (2, 4):
        raise WeightsError(f"{source}: its projections have shapes that no LightGlue has")
    dim, head_dim = qkv.shape[1], 2 * positions.shape[0]
    if dim % head_dim or (qkv.shape[0] - dim) % (2 * head_dim) or qkv.shape[0] <= dim:
        raise WeightsError(
            f"{source}: states {dim} wide with {qkv.shape[0]} rows of queries, keys and values do not divide "
            f"into heads {head_dim} wide"
        )
    num_heads, kv_heads = dim // head_dim, (qkv.shape[0] - dim) // (2 * head_dim)
    num_layers = _count(state, "layers")
    inputs = state.get("input_projection.weight")
    try:
        return LightGlueArchitecture(
            input_dim=dim if inputs is None else inputs.shape[-1],
            descriptor_dim=dim,
            num_layers=num_layers,
            num_heads=num_heads,
            num_key_value_heads=None if kv_heads == num_heads else kv_heads,
            attention_bias="layers.0.self_attention.projection.bias" in state,
            tied_cross_attention=kv_heads != num_heads or cross.shape[0] == 2 * dim,
            use_scale_orientation=positions.shape[1] == 4,
            has_confidence=_count(state, "confidences") > 0 or num_layers == 1,
            has_layer_assignments=_count(state, "assignments") > 1 or num_layers == 1,
        )
    except ValueError as error:
        raise WeightsError(f"{source}: {error}") from error


def superpoint_to_own(state: Mapping[str, Tensor], source: str) -> StateDict:
    """Any known layout of SuperPoint -> ours, which is the original's.

    Args:
        state: of the original, of Hugging Face, or of Hugging Face's LightGlue, which holds a SuperPoint.
        source: where it comes from, for messages.

    Raises:
        WeightsError: on keys that no layout has.
    """
    state = without_prefix(state, "module.")
    if any(key.startswith("keypoint_detector.") for key in state):
        state = {key: value for key, value in state.items() if key.startswith("keypoint_detector.")}
        state = without_prefix(state, "keypoint_detector.")
    if any(key.startswith("encoder.") for key in state):
        return _rename(state, _SUPERPOINT_HUGGING_FACE_RULES, source)
    return _rename(state, _SUPERPOINT_OWN_RULES, source)


def superpoint_architecture(state: Mapping[str, Tensor], source: str) -> SuperPointArchitecture:
    """Reads the channels of a SuperPoint off the shapes of our layout.

    Raises:
        WeightsError: where a telling key is missing.
    """
    c1, c2, c3, c4 = (len(_require(state, f"conv{i}b.weight", source)) for i in (1, 2, 3, 4))
    return SuperPointArchitecture(
        encoder_channels=(c1, c2, c3, c4),
        decoder_channels=len(_require(state, "convPa.weight", source)),
        descriptor_dim=len(_require(state, "convDb.weight", source)),
    )


def without_prefix(state: Mapping[str, Tensor], prefix: str) -> StateDict:
    """The state dict with a prefix removed from the keys that have it."""
    return {key.removeprefix(prefix): value for key, value in state.items()}


def summarise(keys: Iterable[str], limit: int = 8) -> str:
    """Keys for a message: sorted, the first few, and how many more."""
    keys = sorted(keys)
    more = f" and {len(keys) - limit} more" if len(keys) > limit else ""
    return ", ".join(keys[:limit]) + more


def _rename(state: Mapping[str, Tensor], rules: Rules, source: str) -> StateDict:
    result: StateDict = {}
    unexpected = []
    for key, value in state.items():
        name, _, kind = key.rpartition(".")
        matches = [(match, new) for old, new in rules if (match := re.fullmatch(old, name)) is not None]
        if kind not in ("weight", "bias") or not matches:
            unexpected.append(key)
            continue
        match, new = matches[0]
        result[f"{match.expand(new)}.{kind}"] = value
    if unexpected:
        raise WeightsError(f"{source}: unexpected keys: {summarise(unexpected)}")
    return result


def _fuse(state: StateDict, source: str) -> StateDict:
    """Replaces the parts of each attention's projection by one matrix or bias."""
    result: StateDict = {}
    parts_of: dict[tuple[str, str], StateDict] = {}
    for key, value in state.items():
        name, part, kind = key.rsplit(".", 2) if key.count(".") > 1 else ("", "", "")
        if part in ("q", "k", "v", "qk", "interleaved"):
            parts_of.setdefault((name, kind), {})[part] = value
        else:
            result[key] = value
    tied = all(
        torch.equal(parts["q"], parts["k"])
        for (name, _), parts in parts_of.items()
        if name.endswith("cross_attention") and "q" in parts and "k" in parts
    )
    for (name, kind), parts in parts_of.items():
        if "interleaved" in parts:
            rows = parts["interleaved"]
            if rows.ndim == 0 or rows.shape[0] % 3:
                raise WeightsError(f"{source}: {name} Wqkv has shape {list(rows.shape)}, not 3 D rows")
            # [3 D, ...] as (head, head_dim, qkv) -> (qkv, head, head_dim)
            result[f"{name}.projection.{kind}"] = rows.reshape(-1, 3, *rows.shape[1:]).transpose(0, 1).flatten(0, 1)
            continue
        wanted = ["qk", "v"] if "qk" in parts or (set(parts) == {"v"} and tied) else ["q", "k", "v"]
        missing = [f"{name}.{part}.{kind}" for part in wanted if part not in parts]
        if missing:
            raise WeightsError(f"{source}: missing keys: {summarise(missing)}")
        if wanted[0] == "q" and tied and name.endswith("cross_attention"):
            wanted = ["q", "v"]
        if len({tuple(parts[part].shape[1:]) for part in wanted}) > 1:
            raise WeightsError(f"{source}: parts of {name}.{kind} have different widths")
        result[f"{name}.projection.{kind}"] = torch.cat([parts[part] for part in wanted])
    return result


def _check_confidence_thresholds(values: Tensor, num_layers: int, source: str) -> None:
    """The original stores the thresholds that we compute; a file with others needs another network."""
    wanted = torch.tensor([0.8 + 0.1 * math.exp(-4.0 * i / max(num_layers, 1)) for i in range(num_layers)])
    if values.shape != wanted.shape or not torch.allclose(values.float(), wanted, atol=1e-4):
        raise WeightsError(f"{source}: confidence_thresholds are not 0.8 + 0.1 exp(-4 i / {num_layers})")


def _count(state: Mapping[str, Tensor], name: str) -> int:
    """One more than the highest index below a name, 0 where there is none."""
    found = (re.match(rf"{name}\.(\d+)\.", key) for key in state)
    return max((int(match[1]) + 1 for match in found if match is not None), default=0)


def _require(state: Mapping[str, Tensor], key: str, source: str) -> Tensor:
    if key not in state or state[key].ndim == 0:
        raise WeightsError(f"{source}: missing keys: {key}; it has {summarise(state) or 'none at all'}")
    return state[key]
