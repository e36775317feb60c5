"""Key names of published checkpoints and of our own, and the conversion between them.

Our LightGlue fuses the projections of an attention into one matrix (rows q, k, v; or qk, v if cross-attention is
tied). The original interleaves its `Wqkv` as (head, head_dim, qkv). Hugging Face keeps three matrices, and stores
a tied projection twice. Our SuperPoint has the names of the original.

A layout maps each of our keys to its names in a file, so that messages use the names of the file. Layout and sizes
are decided by the majority of the keys, so that a single wrong key is always detected.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture
from sfm_lightglue.models.superpoint import SuperPoint, SuperPointArchitecture
from sfm_lightglue.weights.state_dict import StateDict, is_dense

Architecture = LightGlueArchitecture | SuperPointArchitecture
Rules = tuple[tuple[str, tuple[str, ...]], ...]
"""Patterns of our names without ".weight" or ".bias", and their names in another layout. The first matching
pattern is used; a name without a pattern is equal in both layouts."""

SELF_DEFINING = re.compile(r"(input_projection|confidences\.\d+|convDb)\.(weight|bias)")
"""Our keys whose existence or size can be inferred only from the two keys of their own module."""
SIZE_DEFINING = ("position_projection.weight", "input_projection.weight")
"""Keys that are the only source of a size; if their shape is wrong, no expected shape can be reported."""
THRESHOLDS = "confidence_thresholds"
"""A buffer that files of the original may have."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Names of our keys in a file; the default is our own layout."""

    rules: Rules = ()
    prefix: str = ""
    """Beginning of every name."""
    others: str = "(?!)"
    """Pattern of the beginnings of keys of other networks, which are ignored."""

    def names(self, key: str) -> tuple[str, ...]:
        """The names of one of our keys; several if our tensor is fused."""
        name, _, kind = key.rpartition(".")
        for pattern, templates in self.rules:
            if re.fullmatch(pattern, name):
                return tuple(f"{self.prefix}{re.sub(pattern, template, name)}.{kind}" for template in templates)
        return (self.prefix + key,)

    def optional(self) -> set[str]:
        """Names that a file may have although no network needs them."""
        return {self.prefix + THRESHOLDS} if self.rules in _ORIGINAL_RULES else set()


def _original_rules(block: str) -> Rules:
    """Names of the original; `block` is the replacement for a block of a layer, with `{}` for self or cross."""
    rules: list[tuple[str, tuple[str, ...]]] = [
        (r"position_projection", ("posenc.Wr",)),
        (r"input_projection", ("input_proj",)),
        (r"assignments\.(\d+)\.projection", (r"log_assignment.\1.final_proj",)),
        (r"assignments\.(\d+)\.matchability", (r"log_assignment.\1.matchability",)),
        (r"confidences\.(\d+)", (r"token_confidence.\1.token.0",)),
    ]
    for side, projections, output in (("self", ["Wqkv"], "out_proj"), ("cross", ["to_qk", "to_v"], "to_out")):
        for ours, theirs in (
            ("attention.projection", projections),
            ("attention.output", [output]),
            ("mlp.fc1", ["ffn.0"]),
            ("mlp.norm", ["ffn.1"]),
            ("mlp.fc2", ["ffn.3"]),
        ):
            names = tuple(f"{block.format(side)}.{name}" for name in theirs)
            rules.append((rf"layers\.(\d+)\.{side}_{re.escape(ours)}", names))
    return tuple(rules)


# Names in published files, and names in the memory of the original code, from which some files were saved.
_ORIGINAL_RULES = (_original_rules(r"{}_attn.\1"), _original_rules(r"transformers.\1.{}_attn"))
_HUGGING_FACE_RULES: Rules = (
    (r"position_projection", ("positional_encoder.projector",)),
    (
        r"layers\.(\d+)\.(self|cross)_attention\.projection",
        tuple(rf"transformer_layers.\1.\2_attention.{letter}_proj" for letter in "qkv"),
    ),
    (r"layers\.(\d+)\.(self|cross)_attention\.output", (r"transformer_layers.\1.\2_attention.o_proj",)),
    (r"layers\.(\d+)\.(self|cross)_mlp\.norm", (r"transformer_layers.\1.\2_mlp.layer_norm",)),
    (r"layers\.(\d+)\.(self|cross)_mlp\.(fc1|fc2)", (r"transformer_layers.\1.\2_mlp.\3",)),
    (r"assignments\.(\d+)\.projection", (r"match_assignment_layers.\1.final_projection",)),
    (r"assignments\.(\d+)\.matchability", (r"match_assignment_layers.\1.matchability",)),
    (r"confidences\.(\d+)", (r"token_confidence.\1.token",)),
)
SUPERPOINT_HUGGING_FACE_RULES: Rules = (
    *((rf"conv{i + 1}([ab])", (rf"encoder.conv_blocks.{i}.conv_\1",)) for i in range(9)),
    (r"convP([ab])", (r"keypoint_decoder.conv_score_\1",)),
    (r"convD([ab])", (r"descriptor_decoder.conv_descriptor_\1",)),
)


def lightglue_layout(keys: Iterable[str]) -> Layout:
    """The layout of most keys of a file: of the original (two spellings), of Hugging Face or of this project.

    glue-factory stores a LightGlue below `matcher.` and an extractor below `extractor.`. Hugging Face stores a
    detector below `keypoint_detector.`. Keys of extractors and detectors are ignored.
    """
    return _most_known(keys, _lightglue_layouts())


def superpoint_layout(keys: Iterable[str]) -> Layout:
    """The layout of most keys of a file: of the original, or of Hugging Face, alone or within its LightGlue."""
    return _most_known(keys, _superpoint_layouts())


def shapes_in_file(
    shapes: Mapping[str, tuple[int, ...]], layout: Layout, arch: Architecture
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes of the tensors in a file, by our key and the name in the file.

    Args:
        shapes: of our tensors, by our key.
        layout: of the file.
        arch: of the network.
    """
    result: dict[str, dict[str, tuple[int, ...]]] = {}
    for key, shape in shapes.items():
        names = layout.names(key)
        rows = [shape[0]] if len(names) == 1 else _rows(key, shape[0], len(names), arch)
        result[key] = {name: (n, *shape[1:]) for name, n in zip(names, rows, strict=True)}
    return result


def fuse(key: str, parts: Mapping[str, Tensor], arch: Architecture, source: str) -> Tensor:
    """Makes one of our tensors from the tensors of a file.

    Args:
        key: our key.
        parts: tensors of the file by name, in the order of the layout and in the right shapes.
        arch: of the network.
        source: origin of the weights, for messages.

    Raises:
        WeightsError: queries differ from keys, but the network has one projection for both.
    """
    names, values = list(parts), list(parts.values())
    if len(values) == 1:
        if names[0].rpartition(".")[0].endswith("Wqkv"):
            # [3 D, ...] as (head, head_dim, qkv) -> (qkv, head, head_dim)
            return values[0].reshape(-1, 3, *values[0].shape[1:]).transpose(0, 1).flatten(0, 1)
        return values[0]
    if len(values) == 3 and _is_tied(key, arch):
        if not torch.equal(values[0], values[1]):
            raise WeightsError(f"{source}: {names[1]} differs from {names[0]}, but this network ties them")
        del values[1]
    return torch.cat(values)


def lightglue_to_hugging_face(state: Mapping[str, Tensor], arch: LightGlueArchitecture) -> StateDict:
    """Our LightGlue -> the layout of Hugging Face, without its keypoint detector.

    Raises:
        ValueError: Hugging Face has no such network: positions have 4 entries, or heads are missing.
    """
    if arch.use_scale_orientation or not arch.has_confidence or not arch.has_layer_assignments:
        raise ValueError("lightglue_to_hugging_face: needs 2-d positions and all confidence and assignment heads")
    layout = Layout(_HUGGING_FACE_RULES)
    result: StateDict = {}
    for key, value in state.items():
        names = layout.names(key)
        if len(names) == 1:
            result[names[0]] = value.clone()
            continue
        rows = _rows(key, len(value), 3, arch)
        end, start = rows[0], len(value) - rows[2]
        parts = (value[:end], value[:end] if _is_tied(key, arch) else value[end:start], value[start:])
        result |= {name: part.clone() for name, part in zip(names, parts, strict=True)}
    return result


def lightglue_architecture(state: Mapping[str, Tensor], layout: Layout, source: str) -> LightGlueArchitecture:
    """Infers the sizes of a LightGlue from its keys and shapes; the positions define the width of a head.

    Args:
        state: a state dict; it may be faulty, since the majority of the keys decides.
        layout: of the state dict.
        source: origin of the weights, for messages.

    Raises:
        WeightsError: no network has such sizes.
    """
    num_layers = max(_count_layers(state, layout), 1)
    keys = [key.replace(".0.", f".{i}.", 1) for key in _lightglue_keys() for i in range(num_layers)]
    found = _PresentKeys(state, layout, keys)
    dim = _most_common(
        found.sizes(r".*(\.output|\.fc2|assignments\.\d+\.projection)\.(weight|bias)")
        + found.sizes(r".*_attention\.projection\.weight", axis=1),
        256,
    )
    kv, tied = _key_value_rows(found, dim)
    positions = _shape(state.get(layout.names("position_projection.weight")[0]))
    head_dim = 2 * positions[0] if len(positions) == 2 and positions[1] in (2, 4) else 0
    if head_dim == 0 or dim % head_dim or kv % head_dim:
        head_dim, positions = math.gcd(dim, kv), ()  # any valid network, to compare the other keys with
    inputs = [name in state for kind in ("weight", "bias") for name in layout.names(f"input_projection.{kind}")]
    input_shape = _shape(state.get(layout.names("input_projection.weight")[0]))
    input_dim = input_shape[1] if len(input_shape) == 2 and input_shape[1] > 0 else dim + 1
    try:
        return LightGlueArchitecture(
            input_dim=input_dim if any(inputs) else dim,
            descriptor_dim=dim,
            num_layers=num_layers,
            num_heads=dim // head_dim,
            num_key_value_heads=None if kv == dim else kv // head_dim,
            attention_bias=found.share(r".*_attention\.(projection|output)\.bias") > 0.5,
            tied_cross_attention=tied,
            use_scale_orientation=positions[1:] == (4,),
            has_confidence=found.share(r"confidences\..*", range(num_layers - 1)) >= 0.5,
            has_layer_assignments=found.share(r"assignments\..*", range(1, num_layers)) >= 0.5,
        )
    except ValueError as error:
        raise WeightsError(f"{source}: {error}") from error


def superpoint_architecture(state: Mapping[str, Tensor], layout: Layout) -> SuperPointArchitecture:
    """Infers the channels of a SuperPoint with four stages from its shapes.

    Args:
        state: a state dict; it may be faulty, since the majority of the keys decides.
        layout: of the state dict.
    """
    found = _PresentKeys(state, layout, _superpoint_keys())
    usual = SuperPointArchitecture()
    return SuperPointArchitecture(
        encoder_channels=tuple(
            _most_common(found.sizes(rf"conv{stage}[ab]\..*"), channels)
            for stage, channels in enumerate(usual.encoder_channels, start=1)
        ),
        decoder_channels=_most_common(found.sizes(r"conv[PD]a\..*"), usual.decoder_channels),
        descriptor_dim=_most_common(found.sizes(r"convDb\..*"), usual.descriptor_dim),
    )


def are_thresholds(values: Tensor, num_layers: int) -> bool:
    """Whether stored confidence thresholds are those that our network computes; it supports no others."""
    wanted = torch.tensor([0.8 + 0.1 * math.exp(-4.0 * i / max(num_layers, 1)) for i in range(num_layers)])
    return values.shape == wanted.shape and torch.allclose(values.detach().cpu().float(), wanted, atol=1e-4)


class _PresentKeys:
    """The tensors of a state dict for our keys.

    Args:
        state: may be faulty.
        layout: of the state dict.
        keys: our keys.
    """

    def __init__(self, state: Mapping[str, Tensor], layout: Layout, keys: Iterable[str]) -> None:
        self.values = {key: [state.get(name) for name in layout.names(key)] for key in keys}

    def sizes(self, pattern: str, axis: int = 0, part: int = 0) -> list[int]:
        """Length of an axis of a part, for each present key that matches the pattern."""
        shapes = (_shape(values[part]) for key, values in self.values.items() if re.fullmatch(pattern, key))
        return [shape[axis] for shape in shapes if len(shape) > axis and shape[axis] > 0]

    def share(self, pattern: str, indices: range | None = None) -> float:
        """Fraction of the keys with this pattern and these indices that are present; 1 if there is no such key."""
        is_present = [
            value is not None
            for key, values in self.values.items()
            if re.fullmatch(pattern, key) and (indices is None or int(_index(key) or 0) in indices)
            for value in values
        ]
        return sum(is_present) / len(is_present) if len(is_present) > 0 else 1.0


def _key_value_rows(found: _PresentKeys, dim: int) -> tuple[int, bool]:
    """Number of rows of the keys, equal to those of the values, and whether cross-attention is tied."""
    parts = max(len(values) for key, values in found.values.items() if "cross_attention.projection" in key)
    if parts == 2:
        return dim, True  # the original has no other variant
    projection = r".*{}_attention\.projection\.(weight|bias)"
    if parts == 3:
        rows = [n for part in (1, 2) for n in found.sizes(projection.format("self"), part=part)]
        rows += found.sizes(projection.format("cross"), part=2)
        cross = [values for key, values in found.values.items() if re.fullmatch(projection.format("cross"), key)]
        pairs = [(q, k) for q, k, _ in cross if q is not None and k is not None and is_dense(q) and is_dense(k)]
        tied = all(torch.equal(q.float(), k.float()) for q, k in pairs if q.shape == k.shape)
    else:
        across = found.sizes(projection.format("cross"))
        # Self-attention counts twice: 2 D rows across are q and v, or q, k and v with half as many heads for k and v.
        rows = [(n - dim) // 2 for n in 2 * found.sizes(projection.format("self")) if (n - dim) % 2 == 0]
        rows += [dim if n == 2 * dim else (n - dim) // 2 for n in across if (n - dim) % 2 == 0]
        tied = _most_common(across, 2 * dim) == 2 * dim
    kv = _most_common([n for n in rows if n > 0 and dim % n == 0], dim)
    return kv, tied and kv == dim


def _rows(key: str, rows: int, parts: int, arch: Architecture) -> list[int]:
    """Rows of each part of a projection with `rows` rows: q, k, v; or q and k in one, v."""
    assert isinstance(arch, LightGlueArchitecture)  # SuperPoint has no projections
    dim = arch.descriptor_dim
    if parts == 2:
        return [dim, rows - dim]
    return [dim, dim, rows - dim] if _is_tied(key, arch) else [dim, (rows - dim) // 2, (rows - dim) // 2]


def _is_tied(key: str, arch: Architecture) -> bool:
    return isinstance(arch, LightGlueArchitecture) and arch.cross_is_tied and "cross_attention" in key


def _count_layers(state: Iterable[str], layout: Layout) -> int:
    """Number of layers that have at least half of their keys; a stray index does not count as a layer."""
    known = {_zeroed(name) for key in _lightglue_keys() if key.startswith("layers.") for name in layout.names(key)}
    counts = Counter(_index(key) for key in state if _zeroed(key) in known)
    return sum(2 * count >= max(counts.values()) for count in counts.values())


def _most_known(keys: Iterable[str], candidates: Sequence[tuple[Layout, frozenset[str]]]) -> Layout:
    zeroed = [_zeroed(key) for key in keys]
    return max(candidates, key=lambda candidate: sum(key in candidate[1] for key in zeroed))[0]


@cache
def _lightglue_layouts() -> list[tuple[Layout, frozenset[str]]]:
    """All layouts of a LightGlue and the names in them, with index 0 if the name has one."""
    result = []
    for module in ("", "module."):
        for matcher, others in (("", []), ("matcher.", [f"{module}extractor."])):
            prefix = module + matcher
            for rules in ((), _HUGGING_FACE_RULES, *_ORIGINAL_RULES):
                mine = [*others, f"{prefix}keypoint_detector."] if rules is _HUGGING_FACE_RULES else others
                pattern = "|".join(re.escape(other) for other in mine) or "(?!)"
                result.append(_with_names(Layout(rules, prefix, pattern), _lightglue_keys()))
    return result


@cache
def _superpoint_layouts() -> list[tuple[Layout, frozenset[str]]]:
    result = []
    for prefix in ("", "module.", "keypoint_detector.", "module.keypoint_detector."):
        others = f"(?!{re.escape(prefix)})" if prefix.endswith("detector.") else "(?!)"
        layouts = (Layout(rules, prefix, others) for rules in ((), SUPERPOINT_HUGGING_FACE_RULES))
        result += [_with_names(layout, _superpoint_keys()) for layout in layouts]
    return result


def _with_names(layout: Layout, keys: Iterable[str]) -> tuple[Layout, frozenset[str]]:
    return layout, frozenset(_zeroed(name) for key in keys for name in layout.names(key))


@cache
def _lightglue_keys() -> tuple[str, ...]:
    """Our keys of a LightGlue with all heads, with index 0 if the key has one."""
    with torch.device("meta"):
        model = LightGlue(LightGlueArchitecture(input_dim=4, descriptor_dim=2, num_layers=2, num_heads=1))
    return tuple(key for key in model.state_dict() if _index(key) in (None, "0"))


@cache
def _superpoint_keys() -> tuple[str, ...]:
    with torch.device("meta"):
        return tuple(SuperPoint(SuperPointArchitecture((1, 1, 1, 1), 1, 1)).state_dict())


def _zeroed(key: str) -> str:
    return re.sub(r"\.[0-9]+\.", ".0.", key, count=1)


def _index(key: str) -> str | None:
    """The first index of a key; as text, since the number of its digits is unlimited."""
    match = re.search(r"\.([0-9]+)\.", key)
    return None if match is None else match[1]


def _shape(value: object) -> tuple[int, ...]:
    return tuple(value.shape) if is_dense(value) and isinstance(value, Tensor) else ()


def _most_common(values: Sequence[int], default: int) -> int:
    return Counter(values).most_common(1)[0][0] if values else default
