"""LightGlue as a `Matcher`: any checkpoint, for the features that it was trained with."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.processor import has_bfloat16_instructions, may_have_cuda
from sfm_lightglue.execution.threads import num_cores_of_this_thread, num_usable_cores
from sfm_lightglue.identity import Identity
from sfm_lightglue.types import Features, Matches
from sfm_lightglue.weights.lookup import file_sha256, require_weights
from sfm_lightglue.weights.recommended_thresholds import PAPERS_THRESHOLDS, check_thresholds, recommended_thresholds

if TYPE_CHECKING:
    import torch

    from sfm_lightglue.models.lightglue import LightGlue, LightGlueArchitecture

DEFAULT_WEIGHTS = "lightglue_sift"
"""Our own, for SIFT."""

_BFLOAT16_MULTIPLE = 128
"""Points of an image stay in such lots: on CPUs, a product in bfloat16 of a shape that was not seen before costs a
millisecond for its kernel, and a layer has a dozen."""


@dataclass(frozen=True, slots=True)
class LightGlueMatcherConfig:
    """Options of LightGlue at work; its architecture is read off its weights."""

    weights: str = ""
    """File of weights, in the layout of the authors, of Hugging Face or of our own; or a name that
    `sfm-lightglue weights list` shows. Where it is empty, our own for SIFT."""

    depth_confidence: float | None = None
    """A pair stops at the layer where this share of its points is confident; -1 runs all layers. None takes what the
    weights recommend, 0.95 where they say nothing."""

    width_confidence: float | None = None
    """Points less matchable than 1 minus this are dropped on the way; -1 keeps all. None takes what the weights
    recommend, 0.99 where they say nothing."""

    filter_threshold: float | None = None
    """Matches with a lower score are dropped. None takes what the weights recommend, 0.1 where they say nothing."""

    batch_size: int = 0
    """Pairs that go through the network together; 0 is 1 on the CPU, where more gain nothing, and 16 on CUDA."""

    memory_mb: int = 1024
    """What a batch may take beside the weights, in MiB; one that would take more is split. A pair is never split:
    one of 2 x 4096 points takes some 400."""

    precision: str = "auto"
    """Of the matrix products: "float32", "bfloat16", or "auto": bfloat16 where pairs go one by one through a CPU that
    has instructions for it. In bfloat16 a batch is the same as its pairs alone but for rounding, which changes a match
    in some hundred. Positions, states, scores and the assignment are float32 in any case; by their positions' angles,
    queries and keys are turned in bfloat16."""

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"lightglue: precision is auto, float32 or bfloat16, not {self.precision!r}")
        try:
            check_thresholds(self.given_thresholds())
        except ValueError as error:
            raise ConfigError(f"lightglue: {error}") from error
        if self.batch_size < 0 or self.memory_mb < 1:
            raise ConfigError("lightglue: batch_size must not be negative, memory_mb must be positive")

    def given_thresholds(self) -> dict[str, float]:
        """Those of the thresholds that are not left to the weights."""
        return {name: value for name in PAPERS_THRESHOLDS if (value := getattr(self, name)) is not None}


class LightGlueMatcher:
    """LightGlue with weights from a file.

    The network is loaded when the first pair is matched, so that a run which finds all in the store never
    loads it.

    Args:
        config: with the path or the name of the weights, which are found, or downloaded, at once; its thresholds
            that are None become those that the weights recommend.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: where the file is missing (the message says which one to put where), or its recommended
            thresholds cannot be read.

    Source: Lindenberger, Sarlin and Pollefeys, LightGlue: Local Feature Matching at Light Speed, 2023.
    """

    def __init__(self, config: LightGlueMatcherConfig | None = None, device: str = "auto") -> None:
        config = config or LightGlueMatcherConfig()
        self._path = require_weights(config.weights, "matcher lightglue", "--matcher-weights", DEFAULT_WEIGHTS)
        thresholds = {**PAPERS_THRESHOLDS, **recommended_thresholds(self._path), **config.given_thresholds()}
        self.config = replace(config, **thresholds)  # type: ignore[arg-type]
        self._digest = file_sha256(self._path)
        self._device_name = device
        self._network: LightGlue | None = None
        self._lock, self._loading = threading.Lock(), threading.Lock()

    @property
    def identity(self) -> Identity:
        """Name, thresholds and the digest of the weights; where the file lies does not matter."""
        thresholds = (
            self.config.depth_confidence,
            self.config.width_confidence,
            self.config.filter_threshold,
            self._precision(),
        )
        return Identity("lightglue", 4, thresholds, self._digest)

    @property
    def batch_size(self) -> int:
        """Pairs that go through the network together."""
        if self.config.batch_size:
            return self.config.batch_size
        from sfm_lightglue.execution.devices import resolve_device

        return 1 if resolve_device(self._device_name).type == "cpu" else 16

    @property
    def architecture(self) -> LightGlueArchitecture:
        """Of the network, which is loaded for it."""
        return self._load()[0].architecture

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches with the network's scores, in the order of the first image's features."""
        return self.match_batch([(features0, features1)])[0]

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs of any sizes, each as if it were alone (in float32: see `precision`).

        They go through the network `batch_size` at a time, fewer where the memory asks for it. Of a pair the same
        image goes first, whichever the caller names first: swapped images give swapped matches, bit for bit.
        """
        from sfm_lightglue.execution.devices import torch_threads

        if not pairs:
            return []
        num_cores, device = num_cores_of_this_thread(), self._load()[1]
        shares_cores = device.type == "cpu" and num_cores < num_usable_cores()
        # Pairs side by side on a core each are faster than one pair on all cores; but two pairs that both spread
        # over all cores would only wait for each other.
        is_swapped = [_goes_second(*pair) for pair in pairs]
        ordered = [pair[::-1] if swapped else pair for pair, swapped in zip(pairs, is_swapped, strict=True)]
        with nullcontext() if shares_cores else self._lock, torch_threads(num_cores):
            found = [one for start, stop in self._batches(ordered) for one in self._match(ordered[start:stop])]
        return [one.swapped() if swapped else one for one, swapped in zip(found, is_swapped, strict=True)]

    def _batches(self, pairs: Sequence[tuple[Features, Features]]) -> list[tuple[int, int]]:
        """First and last row + 1 of consecutive pairs that fit into a batch."""
        architecture, budget = self._load()[0].architecture, self.config.memory_mb * 2**20
        batches, start, longest0, longest1 = [], 0, 0, 0
        for row, (features0, features1) in enumerate(pairs):
            longest0, longest1 = max(longest0, len(features0)), max(longest1, len(features1))
            size = row + 1 - start
            if size > 1 and (size > self.batch_size or batch_bytes(size, longest0, longest1, architecture) > budget):
                batches.append((start, row))
                start, longest0, longest1 = row, len(features0), len(features1)
        return [*batches, (start, len(pairs))]

    def _match(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        import torch

        network, device = self._load()
        is_bfloat16 = self._precision() == "bfloat16"
        sides = [_pad([pair[side] for pair in pairs], network, device) for side in (0, 1)]
        (keypoints0, descriptors0, mask0), (keypoints1, descriptors1, mask1) = sides
        try:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16):
                output = network(keypoints0, keypoints1, descriptors0, descriptors1, mask0, mask1, self._thresholds())
        except torch.cuda.OutOfMemoryError:
            if len(pairs) == 1:
                raise
            torch.cuda.empty_cache()
            middle = len(pairs) // 2
            return self._match(pairs[:middle]) + self._match(pairs[middle:])
        matches0 = output.matches0.cpu().numpy()
        scores0 = output.matching_scores0.float().cpu().numpy()
        stop_layers = output.stop_layer.cpu().numpy()
        return [
            _as_matches(row, scores, int(stop))
            for row, scores, stop in zip(matches0, scores0, stop_layers, strict=True)
        ]

    def _load(self) -> tuple[LightGlue, torch.device]:
        from sfm_lightglue.execution.devices import resolve_device
        from sfm_lightglue.models.checkpoints import load_lightglue

        device = resolve_device(self._device_name)
        with self._loading:
            if self._network is None:
                self._network = load_lightglue(self._path).to(device)
            return self._network, device

    def _precision(self) -> str:
        """What "auto" is here: part of the store's keys, so that no store mixes them."""
        if self.config.precision != "auto":
            return self.config.precision
        is_cpu = self._device_name == "cpu" or (self._device_name == "auto" and not may_have_cuda())
        if self.config.batch_size > 1 or not has_bfloat16_instructions():
            return "float32"
        if not is_cpu:
            from sfm_lightglue.execution.devices import resolve_device

            is_cpu = resolve_device(self._device_name).type == "cpu"
        return "bfloat16" if is_cpu else "float32"

    def _thresholds(self) -> object:
        from sfm_lightglue.models.lightglue import LightGlueThresholds

        depth, width, threshold = (self.config.given_thresholds()[name] for name in PAPERS_THRESHOLDS)
        multiple = _BFLOAT16_MULTIPLE if self._precision() == "bfloat16" else 1
        return LightGlueThresholds(None if depth == -1 else depth, None if width == -1 else width, threshold, multiple)


def batch_bytes(num_pairs: int, num_points0: int, num_points1: int, architecture: LightGlueArchitecture) -> int:
    """What a padded batch takes at most beside the weights.

    Counted are four matrices of scores [N0, N1] (a double softmax and its parts), attention weights of a block of
    512 queries a head, and twenty vectors of the width a point, all in float32; measured, on CPUs, is 0.8 of it.

    Args:
        num_pairs: B.
        num_points0: N0, the largest of the batch.
        num_points1: N1.
        architecture: of the network.
    """
    scores = 4 * num_points0 * num_points1
    weights = 3 * architecture.num_heads * 512 * max(num_points0, num_points1)
    states = 20 * architecture.descriptor_dim * (num_points0 + num_points1)
    return 4 * num_pairs * (scores + weights + states)


def _goes_second(features0: Features, features1: Features) -> bool:
    """Whether the first of two images is the second one for the network, which rounds their messages differently.

    The image with fewer points goes first, so that batches are padded least; among equals the bytes decide.
    """
    if len(features0) != len(features1):
        return len(features0) > len(features1)
    if not np.array_equal(features0.keypoints, features1.keypoints):
        return features0.keypoints.tobytes() > features1.keypoints.tobytes()
    return _rest_of(features0) > _rest_of(features1)


def _rest_of(features: Features) -> tuple[tuple[int, int], int, list[bytes]]:
    arrays = (features.descriptors, features.scales, features.orientations)
    return features.image_size, features.quarter_turns, [one.tobytes() for one in arrays if one is not None]


def _pad(
    features: Sequence[Features], network: LightGlue, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Positions [B, N, 2 or 4], descriptors [B, N, D] and mask [B, N] of one side, None where nothing is padded."""
    import torch

    architecture = network.architecture
    longest = max(len(one) for one in features)
    positions = np.zeros((len(features), longest, architecture.position_dim), np.float32)
    descriptors = np.zeros((len(features), longest, architecture.input_dim), np.float32)
    mask = np.zeros((len(features), longest), np.bool_)
    for row, one in enumerate(features):
        if len(one) and one.descriptors.shape[1] != architecture.input_dim:
            raise ConfigError(
                f"matcher lightglue: the weights are for descriptors of {architecture.input_dim} dimensions,"
                f" the features have {one.descriptors.shape[1]}; choose the --extractor that they were trained with"
            )
        positions[row, : len(one)] = upright_positions(one, architecture.use_scale_orientation)
        descriptors[row, : len(one)] = one.descriptors
        mask[row, : len(one)] = True
    return (
        torch.from_numpy(positions).to(device),
        torch.from_numpy(descriptors).to(device),
        None if mask.all() else torch.from_numpy(mask).to(device),
    )


def upright_positions(features: Features, with_scale_orientation: bool) -> Float32Array:
    """What the network is told of places: in the upright picture, relative to its centre.

    Args:
        features: of one image.
        with_scale_orientation: also tell scales and orientations.

    Returns:
        [N, 2] (x, y) in [-1, 1], or [N, 4] with scale in pixels and orientation in radians.

    Raises:
        ConfigError: where scales or orientations are asked for and the features have none.
    """
    width, height = features.image_size
    centred = (features.keypoints.astype(np.float64) - (width / 2, height / 2)) / (max(width, height) / 2)
    for _ in range(features.quarter_turns):
        centred = np.stack([-centred[:, 1], centred[:, 0]], axis=1)
    if not with_scale_orientation:
        return centred.astype(np.float32)
    if features.scales is None or features.orientations is None:
        raise ConfigError(
            "matcher lightglue: the weights want scales and orientations, which these features lack;"
            " choose the --extractor that they were trained with"
        )
    angles = np.mod(features.orientations + features.quarter_turns * np.pi / 2, 2 * np.pi)
    return np.concatenate([centred, features.scales[:, None], angles[:, None]], axis=1).astype(np.float32)


def _as_matches(matches0: IndexArray, scores0: Float32Array, stop_layer: int) -> Matches:
    idx0 = np.flatnonzero(matches0 >= 0)
    indices = np.stack([idx0, matches0[idx0]], axis=1).astype(np.int32)
    return Matches(indices, scores0[idx0].astype(np.float32), stop_layer)
