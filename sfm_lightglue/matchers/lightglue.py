"""LightGlue as a `Matcher`: any checkpoint, for the features it was trained with."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sfm_lightglue.arrays import Float32Array
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.processor import has_bfloat16_instructions
from sfm_lightglue.execution.threads import num_cores_of_this_thread, num_usable_cores
from sfm_lightglue.identity import Identity
from sfm_lightglue.matchers.encoded_images import EncodedImages, padded, with_rows
from sfm_lightglue.matchers.first_keypoints import (
    TWO_STEPS_VERSION,
    FirstKeypoints,
    FoundMatches,
    KeptRows,
    SecondStep,
    in_all_keypoints,
    is_settled,
    may_have_more,
    num_matched,
    settled_limits,
)
from sfm_lightglue.matchers.pair_order import comes_second
from sfm_lightglue.matchers.point_layers import PointLayers
from sfm_lightglue.models.lazy_network import LazyNetwork
from sfm_lightglue.types import Features, Matches
from sfm_lightglue.weights.lookup import require_weights
from sfm_lightglue.weights.recommended_thresholds import PAPERS_THRESHOLDS, check_thresholds, recommended_thresholds

if TYPE_CHECKING:
    import torch

    from sfm_lightglue.models.lightglue import (
        EncodedSide,
        LightGlue,
        LightGlueArchitecture,
        LightGlueOutput,
        LightGlueThresholds,
    )

DEFAULT_WEIGHTS = "lightglue_sift"
"""Name of the weights for SIFT that come with the package."""

_BFLOAT16_MULTIPLE = 128
"""The number of remaining points of an image is a multiple of this: on CPUs, the first bfloat16 product of a new shape
costs a millisecond for its kernel, and a layer has a dozen products."""


@dataclass(frozen=True, slots=True)
class LightGlueMatcherConfig:
    """Options of LightGlue; its architecture is inferred from its weights."""

    weights: str = ""
    """File of weights in the layout of the authors, of Hugging Face or of this project, or a name from
    `sfm-lightglue weights list`; "" for the weights for SIFT that come with the package."""

    depth_confidence: float | None = None
    """A pair stops at the layer at which this fraction of its points is confident; -1 runs all layers. None uses the
    recommendation of the weights, else 0.95."""

    width_confidence: float | None = None
    """Points whose matchability is below 1 minus this are removed between layers; -1 keeps all. None uses the
    recommendation of the weights, else 0.99."""

    filter_threshold: float | None = None
    """Matches with a lower score are removed. None uses the recommendation of the weights, else 0.1."""

    first_keypoints: int | None = None
    """Each pair is first matched with this number of keypoints of each image, the best-spread ones. Only where the
    scores of these matches add up to less than `enough_matches`, and the ten best have a mean score of at least
    `min_best_score`, it is matched again with the keypoints near those first ones that may have a match: at least 1,024
    of each image, at most two thirds of all if that is more; with all if all first ones may have one. 0 matches all at
    once. None is 640 in `reconstruct`, `localize` and what uses their configuration, and 0 elsewhere: a database of
    COLMAP gets all matches."""

    enough_matches: float | None = None
    """Sum of the scores of the first keypoints' matches, their expected number of correct ones, that is enough. None is
    40 in `reconstruct`, and 80 elsewhere."""

    min_best_score: float | None = None
    """Two images have no common view if the mean score of the ten best matches of their first keypoints is lower. None
    is 0.6 in `reconstruct`, and 0.5 elsewhere."""

    batch_size: int = 0
    """Number of pairs per run of the network; 0 means 1 on the CPU, where more is not faster, and 16 on CUDA."""

    memory_mb: int = 1024
    """Memory for the matching of pairs without the weights, in MiB. A quarter of it keeps what the network computed
    from single images, for their next pairs. A batch that needs more than the rest is split, but a pair is never
    split; a pair of 2 x 4096 points takes about 400."""

    precision: str = "auto"
    """Precision of the matrix products: "float32", "bfloat16" or "auto". "auto" is bfloat16 on a CPU with instructions
    for it if pairs are matched one by one. In bfloat16, a batch equals its single pairs except for rounding, which
    changes about one match in a hundred. Positions, states, scores and the assignment are always float32; rotary
    encoding is applied to queries and keys in bfloat16."""

    def __post_init__(self) -> None:
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"`matcher.precision` must be auto, float32 or bfloat16, got {self.precision!r}")
        try:
            check_thresholds(self.given_thresholds())
        except ValueError as error:
            raise ConfigError(f"lightglue: {error}") from error
        if (self.first_keypoints or 0) < 0:
            raise ConfigError("`matcher.first_keypoints` must not be negative")
        if not 0 <= (self.enough_matches or 0) < np.inf or not 0 <= (self.min_best_score or 0) <= 1:
            raise ConfigError(
                "`matcher.enough_matches` must not be negative, `matcher.min_best_score` must be from 0 to 1"
            )
        if self.batch_size < 0 or self.memory_mb < 1:
            raise ConfigError("`matcher.batch_size` must not be negative, `matcher.memory_mb` must be positive")

    def given_thresholds(self) -> dict[str, float]:
        """Thresholds that are set, by name; the others come from the weights."""
        return {name: value for name in PAPERS_THRESHOLDS if (value := getattr(self, name)) is not None}


class LightGlueMatcher:
    """LightGlue with weights from a file.

    The file is located or downloaded at once, but the network is loaded at the first pair.

    Args:
        config: options; thresholds that are None are replaced by the recommendation of the weights.
        device: "auto", "cpu", "cuda", ...

    Raises:
        WeightsError: the file is missing, or its recommended thresholds cannot be read.

    Source: Lindenberger, Sarlin and Pollefeys, LightGlue: Local Feature Matching at Light Speed, 2023.
    """

    def __init__(self, config: LightGlueMatcherConfig | None = None, device: str = "auto") -> None:
        config = config or LightGlueMatcherConfig()
        path = require_weights(config.weights, "matcher lightglue", "matcher.weights", DEFAULT_WEIGHTS)
        thresholds = {**PAPERS_THRESHOLDS, **recommended_thresholds(path), **config.given_thresholds()}
        self.config = replace(config, **thresholds)  # type: ignore[arg-type]
        self._network = LazyNetwork(path, self._load, device)
        self._running = threading.Lock()
        self._first = FirstKeypoints(self.config.first_keypoints or 0)
        self._settles = settled_limits(config.enough_matches, config.min_best_score)
        self._encoded = EncodedImages(self.config.memory_mb * 2**20 // 4)

    @property
    def identity(self) -> Identity:
        """Name, thresholds, steps, precision and the digest of the weights, but not the path of the file."""
        config, precision = self.config, self._precision()
        options = (config.depth_confidence, config.width_confidence, config.filter_threshold, precision)
        steps = (TWO_STEPS_VERSION, config.first_keypoints, *self._settles) if config.first_keypoints else ()
        return Identity("lightglue", 5, options + steps, self._network.digest)

    @property
    def batch_size(self) -> int:
        """Number of pairs per run of the network."""
        return self.config.batch_size or (1 if self._network.is_on_cpu() else 16)

    @property
    def architecture(self) -> LightGlueArchitecture:
        """Architecture of the network; loads the network."""
        return self._network.get()[0].architecture

    def prepare(self) -> None:
        """Import torch and load the network now, see `PreparedMatcher`."""
        from sfm_lightglue.execution.devices import torch_threads

        with torch_threads(1):
            self._network.get()

    def match(self, features0: Features, features1: Features) -> Matches:
        """Matches with the scores of the network, in the order of the first image's features."""
        return self.match_batch([(features0, features1)])[0]

    def point_layers(self, features0: Features, features1: Features) -> PointLayers:
        """How many layers each point of a pair went through when all points are matched.

        The network runs once more for it: nothing of it is kept otherwise.
        """
        if comes_second(features0, features1):
            swapped = self.point_layers(features1, features0)
            return PointLayers(swapped.num_layers1, swapped.num_layers0, swapped.stop_layer, swapped.network_layers)
        with self._running:
            output = self._run([(features0, features1)], [None])
        layers0, layers1 = (each[0].cpu().numpy().astype(np.int64) for each in (output.num_layers0, output.num_layers1))
        return PointLayers(layers0, layers1, int(output.stop_layer[0]), self.architecture.num_layers)

    def with_limits(self, enough_matches: float, min_best_score: float) -> LightGlueMatcher:
        """A matcher with the same network, and other limits of the pairs that end with their first keypoints."""
        other = copy.copy(self)  # what is kept of images is shared
        other.config = replace(self.config, enough_matches=enough_matches, min_best_score=min_best_score)
        other._settles = (enough_matches, min_best_score)
        return other

    def may_have_more(self, matches: Matches) -> bool:
        """Whether a pair that a matcher with other limits ended with its first keypoints would have more matches."""
        return may_have_more(matches, self.config.first_keypoints or 0, *self._settles)

    def match_batch(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of several pairs of any sizes. In float32, each pair gives the same result as alone.

        The network runs `batch_size` pairs at a time, fewer if `memory_mb` requires it. The order of the two images
        inside the network does not depend on the order of the arguments: swapped images give swapped matches, bit
        for bit.
        """
        from sfm_lightglue.execution.devices import torch_threads

        if not pairs:
            return []
        num_cores, device = num_cores_of_this_thread(), self._network.get()[1]
        shares_cores = device.type == "cpu" and num_cores < num_usable_cores()
        is_swapped = [comes_second(*pair) for pair in pairs]
        ordered = [pair[::-1] if swapped else pair for pair, swapped in zip(pairs, is_swapped, strict=True)]
        # Several pairs on one core each are faster than one pair on all cores; but if every pair uses all cores, run
        # one at a time.
        with nullcontext() if shares_cores else self._running, torch_threads(num_cores):
            found = self._match_in_steps(ordered)
        return [one.swapped() if swapped else one for one, swapped in zip(found, is_swapped, strict=True)]

    def _match_in_steps(self, pairs: Sequence[tuple[Features, Features]]) -> list[Matches]:
        """Matches of the first keypoints; for the pairs that need more, of those that may be in the common view."""
        config, found, steps = self.config, dict[int, Matches](), dict[int, SecondStep]()
        limit = config.first_keypoints
        if limit:
            longer = [row for row, pair in enumerate(pairs) if min(map(len, pair)) > limit]
            selected = [(self._first.of(pairs[row][0]), self._first.of(pairs[row][1])) for row in longer]
            firsts = self._match_all([(one.features, other.features) for one, other in selected], [None] * len(longer))
            for row, both, first in zip(longer, selected, firsts, strict=True):
                if is_settled(first.matches, *self._settles):
                    num0, num1 = map(len, pairs[row])
                    found[row] = in_all_keypoints(first.matches, (both[0].rows, both[1].rows), (num0, num1))
                else:
                    steps[row] = SecondStep.after(both, first, pairs[row])
        missing = [row for row in range(len(pairs)) if row not in found]
        kept = [steps[row].rows if row in steps else None for row in missing]
        more = self._match_all([pairs[row] for row in missing], kept)
        for row, (matches, _) in zip(missing, more, strict=True):
            found[row] = steps[row].result(matches) if row in steps else matches
        return [found[row] for row in range(len(pairs))]

    def _match_all(
        self, pairs: Sequence[tuple[Features, Features]], kept: Sequence[KeptRows | None]
    ) -> list[FoundMatches]:
        """What the network finds of the keypoints of some rows of both images; of all where there are no rows."""
        batches = self._batches([num_matched(*each) for each in zip(pairs, kept, strict=True)]) if pairs else []
        return [one for start, stop in batches for one in self._match(pairs[start:stop], kept[start:stop])]

    def _batches(self, sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
        """Ranges (start, stop) of consecutive pairs that fit into a batch, from their numbers of keypoints."""
        architecture, budget = self.architecture, self.config.memory_mb * 2**20 * 3 // 4
        batches, start, longest0, longest1 = [], 0, 0, 0
        for row, (num0, num1) in enumerate(sizes):
            longest0, longest1 = max(longest0, num0), max(longest1, num1)
            size = row + 1 - start
            if size > 1 and (size > self.batch_size or batch_bytes(size, longest0, longest1, architecture) > budget):
                batches.append((start, row))
                start, longest0, longest1 = row, num0, num1
        return [*batches, (start, len(sizes))]

    def _match(self, pairs: Sequence[tuple[Features, Features]], kept: Sequence[KeptRows | None]) -> list[FoundMatches]:
        import torch

        try:
            output = self._run(pairs, kept)
        except torch.cuda.OutOfMemoryError:
            if len(pairs) == 1:
                raise
            torch.cuda.empty_cache()
            middle = len(pairs) // 2
            return self._match(pairs[:middle], kept[:middle]) + self._match(pairs[middle:], kept[middle:])
        scores, sizes = output.matching_scores0.float(), map(num_matched, pairs, kept)
        each = (output.matches0, scores, output.stop_layer, output.is_wanted0, output.is_wanted1)
        return [
            FoundMatches.of(matches0, scores0, int(stop), (wanted0[:num0], wanted1[:num1]))
            for matches0, scores0, stop, wanted0, wanted1, (num0, num1) in zip(
                *(one.cpu().numpy() for one in each), sizes, strict=True
            )
        ]

    def _run(self, pairs: Sequence[tuple[Features, Features]], kept: Sequence[KeptRows | None]) -> LightGlueOutput:
        import torch

        network, device = self._network.get()
        is_bfloat16 = self._precision() == "bfloat16"
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=is_bfloat16):
            side0, side1 = (
                padded(
                    [
                        with_rows(self._encoded.get(pair[side], lambda one: _encode(one, network, device)), rows[side])
                        for pair, rows in zip(pairs, [each or (None, None) for each in kept], strict=True)
                    ]
                )
                for side in (0, 1)
            )
            return network.match_encoded(side0, side1, self._thresholds())

    def _load(self, path: Path) -> LightGlue:
        from sfm_lightglue.models.checkpoints import load_lightglue
        from sfm_lightglue.models.lightglue_inference import for_inference_in_bfloat16

        network = load_lightglue(path)
        is_quick = self._precision() == "bfloat16" and self._network.is_on_cpu()
        return for_inference_in_bfloat16(network) if is_quick else network

    def _precision(self) -> str:
        """The precision that is used; part of the keys of the store, so that entries are never mixed."""
        if self.config.precision != "auto":
            return self.config.precision
        if self.config.batch_size > 1 or not has_bfloat16_instructions():
            return "float32"
        return "bfloat16" if self._network.is_on_cpu() else "float32"

    def _thresholds(self) -> LightGlueThresholds:
        from sfm_lightglue.models.lightglue import LightGlueThresholds

        depth, width, threshold = (self.config.given_thresholds()[name] for name in PAPERS_THRESHOLDS)
        multiple = _BFLOAT16_MULTIPLE if self._precision() == "bfloat16" else 1
        return LightGlueThresholds(None if depth == -1 else depth, None if width == -1 else width, threshold, multiple)


def batch_bytes(num_pairs: int, num_points0: int, num_points1: int, architecture: LightGlueArchitecture) -> int:
    """Upper bound in bytes of the memory of a padded batch, without the weights.

    It is the sum of four matrices of scores [N0, N1] (a double softmax and its parts), attention weights of 512 queries
    for each head, of which fused kernels keep fewer, and twenty states for each point, all in float32. With weights of
    512 queries, the measured memory on CPUs was 0.8 of it.

    Args:
        num_pairs: B.
        num_points0: N0, the largest number of the batch.
        num_points1: N1, the largest number of the batch.
        architecture: of the network.
    """
    scores = 4 * num_points0 * num_points1
    weights = 3 * architecture.num_heads * 512 * max(num_points0, num_points1)
    states = 20 * architecture.descriptor_dim * (num_points0 + num_points1)
    return 4 * num_pairs * (scores + weights + states)


def _encode(features: Features, network: LightGlue, device: torch.device) -> EncodedSide:
    """The part of the network that depends on this image only, as a batch of one pair."""
    import torch

    from sfm_lightglue.models.lightglue import Side

    architecture = network.architecture
    if len(features) and features.descriptors.shape[1] != architecture.input_dim:
        raise ConfigError(
            f"matcher lightglue: the weights are for descriptors of {architecture.input_dim} dimensions,"
            f" the features have {features.descriptors.shape[1]};"
            " choose the extractor of these weights with `extractor.name`"
        )
    positions = upright_positions(features, architecture.use_scale_orientation)
    descriptors = features.descriptors.reshape(len(features), architecture.input_dim)  # of no points, of any width
    side = (torch.tensor(array, dtype=torch.float32, device=device)[None] for array in (positions, descriptors))
    return network.encode(Side(*side))


def upright_positions(features: Features, with_scale_orientation: bool) -> Float32Array:
    """Positions as input of the network: in the upright image, relative to its centre.

    Args:
        features: of one image.
        with_scale_orientation: also return scales and orientations.

    Returns:
        [N, 2] (x, y) in [-1, 1], or [N, 4] with scale in pixels and orientation in radians.

    Raises:
        ConfigError: the features have no scales or orientations, but these are required.
    """
    width, height = features.image_size
    centred = (features.keypoints.astype(np.float64) - (width / 2, height / 2)) / (max(width, height) / 2)
    for _ in range(features.quarter_turns):
        centred = np.stack([-centred[:, 1], centred[:, 0]], axis=1)
    if not with_scale_orientation:
        return centred.astype(np.float32)
    if features.scales is None or features.orientations is None:
        raise ConfigError(
            "matcher lightglue: the weights need scales and orientations, which these features do not have;"
            " choose the extractor of these weights with `extractor.name`"
        )
    angles = np.mod(features.orientations + features.quarter_turns * np.pi / 2, 2 * np.pi)
    return np.concatenate([centred, features.scales[:, None], angles[:, None]], axis=1).astype(np.float32)
