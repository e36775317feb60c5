"""Options of a training run: what is trained, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.models.lightglue import LightGlueArchitecture
from sfm_lightglue.training.data.batches import BatchConfig
from sfm_lightglue.training.data.feature_kind import SIFT, FeatureKind
from sfm_lightglue.training.data.pair_pool import PoolConfig
from sfm_lightglue.training.time_plan import TimePlan

STATE_DIM = 128
"""Width of the states of the network; all heads together have this many dimensions."""


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What is trained. A run can only be resumed with the same values."""

    num_layers: int = 6
    """Number of layers of the network."""

    num_heads: int = 2
    """Number of attention heads; all heads together have 128 dimensions."""

    optimizer: str = "adamw"
    """"adamw", or "muon" for the weight matrices (torch 2.9 or newer)."""

    learning_rate: float = 8e-4
    """Learning rate after the warm-up."""

    num_warmup_steps: int = 500
    """Number of first steps in which the learning rate rises from 0."""

    weight_decay: float = 0.01
    """Of the weight matrices; biases, norms and the position projection do not decay."""

    gradient_clip: float = 1.0
    """Largest norm of the gradient; the confidence heads are clipped separately."""

    confidence_share: float = 0.125
    """Fraction of each batch that trains the confidence heads."""

    ema_decay: float = 0.998
    """Decay of the moving average of the weights, which is validated and exported; 0 uses the weights themselves."""

    seed: int = 0
    """Seed of the initial weights, of the order of the pairs and of the sampling of keypoints."""

    batches: BatchConfig = field(default_factory=BatchConfig)
    """How batches are made of pairs."""

    features: FeatureKind = SIFT
    """The features that the network matches."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.gradient_clip <= 0 or self.num_warmup_steps < 0 or self.weight_decay < 0:
            raise ConfigError(
                "train: learning_rate and gradient_clip must be positive; num_warmup_steps and weight_decay must not be"
                " negative"
            )
        if self.optimizer not in ("adamw", "muon"):
            raise ConfigError(f"train: optimizer must be adamw or muon, got {self.optimizer!r}")
        if not (0 <= self.ema_decay < 1 and 0 <= self.confidence_share <= 1):
            raise ConfigError("train: ema_decay must lie in [0, 1), confidence_share in [0, 1]")
        if self.num_layers < 1 or self.num_heads < 1 or STATE_DIM % (2 * self.num_heads):
            raise ConfigError(f"train: num_layers must be positive, and num_heads must divide {STATE_DIM // 2}")
        if not self.features.is_mirrorable and max(self.batches.mirrored_share, self.batches.turned_share) > 0:
            raise ConfigError(
                f"train: mirrored_share and turned_share must be 0 for {self.features.name}, whose descriptors do not"
                " follow from those of another image"
            )

    @property
    def architecture(self) -> LightGlueArchitecture:
        """Architecture of the network."""
        return LightGlueArchitecture(
            self.features.descriptor_dim,
            STATE_DIM,
            self.num_layers,
            self.num_heads,
            use_scale_orientation=self.features.has_scale_orientation,
        )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How long a run trains and what it reports; the values may differ between sessions of one run."""

    num_steps: int = 20_000
    """Number of steps of the whole run, including earlier sessions."""

    num_decay_steps: int = 4_000
    """Number of last steps in which the learning rate falls to 0."""

    plan: TimePlan | None = None
    """A plan of wall time that replaces the numbers of steps; None trains for `num_steps`."""

    log_every: int = 50
    """Steps between two rows of the log."""

    validate_every: int = 1_000
    """Steps between two validations; the last step is also validated."""

    checkpoint_every: int = 200
    """Steps between two checkpoints."""

    num_held_out_shards: int = 1
    """Number of shards, the first ones, that are used for validation only."""

    num_held_out_pairs: int = 128
    """Number of pairs of these shards that are used for validation."""

    pool: PoolConfig = field(default_factory=PoolConfig)
    """How many pairs are kept on the device."""

    device: str = "auto"
    """"auto", "cpu" or "cuda"."""

    bfloat16: bool | None = None
    """Compute matrix products in bfloat16; states, assignment and weights stay float32. None chooses what is faster."""

    compile: bool = False
    """Compile the layers, and on a GPU the loss: takes one or two minutes at the start; then steps are a quarter faster
    on a CPU, and take half of the time on a GPU."""

    num_parts: int = 1
    """Number of parts of each batch that are computed one after the other; their gradients are added up. More parts
    need less memory."""

    def __post_init__(self) -> None:
        if not 0 <= self.num_decay_steps <= self.num_steps:
            raise ConfigError("train: num_decay_steps must be between 0 and num_steps")
        if min(self.log_every, self.validate_every, self.checkpoint_every, self.num_parts) < 1:
            raise ConfigError("train: log_every, validate_every, checkpoint_every and num_parts must be positive")
        if self.num_held_out_shards < 0:
            raise ConfigError("train: num_held_out_shards must not be negative")

    @property
    def held_out_shards(self) -> frozenset[int]:
        """Indices of the shards that are used for validation only."""
        return frozenset(range(self.num_held_out_shards))


def learning_rate(step: int, config: TrainingConfig, options: RunOptions) -> float:
    """Learning rate of the step that follows `step` finished steps."""
    rising = min(1.0, (step + 1) / max(1, config.num_warmup_steps))
    falling = min(1.0, (options.num_steps - step) / max(1, options.num_decay_steps))
    return config.learning_rate * rising * max(0.0, falling)
