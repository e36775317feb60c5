"""What a training run is, and how long it goes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.models.lightglue import LightGlueArchitecture
from sfm_lightglue.training.data.batches import DESCRIPTOR_DIM, BatchConfig
from sfm_lightglue.training.data.feed import FeedConfig


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """What makes a run what it is; a run is only resumed with the same."""

    num_layers: int = 6
    """Layers of the network."""

    num_heads: int = 2
    """Heads of its attention, over 128 dimensions in all."""

    optimizer: str = "adamw"
    """"adamw", or "muon" for the matrices (torch 2.9 or newer)."""

    learning_rate: float = 8e-4
    """After the warm-up."""

    num_warmup_steps: int = 500
    """Steps in which the learning rate rises from 0."""

    weight_decay: float = 0.01
    """Of the matrices; biases, norms and the frequencies of positions do not decay."""

    gradient_clip: float = 1.0
    """Largest norm of the gradient; the confidence heads have a norm of their own."""

    confidence_share: float = 0.125
    """Share of each batch that teaches the confidence heads."""

    ema_decay: float = 0.998
    """Of the running mean of the weights, which is what is validated and exported; 0 takes the weights."""

    seed: int = 0
    """Of the first weights, of the order of the data and of what is drawn from it."""

    batches: BatchConfig = field(default_factory=BatchConfig)
    """How pairs become batches."""

    feed: FeedConfig = field(default_factory=FeedConfig)
    """How shards are mixed."""

    def __post_init__(self) -> None:
        if self.learning_rate <= 0 or self.gradient_clip <= 0 or self.num_warmup_steps < 0 or self.weight_decay < 0:
            raise ConfigError("train: learning_rate and gradient_clip must be positive, the others not negative")
        if self.optimizer not in ("adamw", "muon"):
            raise ConfigError(f"train: the optimizer is adamw or muon, not {self.optimizer!r}")
        if not (0 <= self.ema_decay < 1 and 0 <= self.confidence_share <= 1):
            raise ConfigError("train: ema_decay must lie in [0, 1), confidence_share in [0, 1]")
        if self.num_layers < 1 or self.num_heads < 1 or DESCRIPTOR_DIM % (2 * self.num_heads):
            raise ConfigError(f"train: expected layers, and a number of heads that divides {DESCRIPTOR_DIM // 2}")

    @property
    def architecture(self) -> LightGlueArchitecture:
        """Of the network."""
        return LightGlueArchitecture(
            DESCRIPTOR_DIM, DESCRIPTOR_DIM, self.num_layers, self.num_heads, use_scale_orientation=True
        )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How long a run goes on and what it tells; may change from one sitting to the next."""

    num_steps: int = 20_000
    """Of the whole run, those of earlier sittings included."""

    num_decay_steps: int = 4_000
    """The last ones, in which the learning rate falls to 0."""

    log_every: int = 50
    """Steps."""

    validate_every: int = 1_000
    """Steps; the last step is validated too."""

    checkpoint_every: int = 200
    """Steps."""

    held_out_shard: int | None = 0
    """Index of the shard that is never trained on and validates; None has none."""

    num_held_out_pairs: int = 128
    """Pairs of it that are looked at."""

    device: str = "auto"
    """"auto", "cpu" or "cuda"."""

    bfloat16: bool = True
    """Matrix products in bfloat16; the states, the assignment and the weights stay float32."""

    compile: bool = False
    """Compile the layers: a minute or two at the start, then a quarter faster on a CPU."""

    def __post_init__(self) -> None:
        if not 0 <= self.num_decay_steps <= self.num_steps:
            raise ConfigError("train: the decay must be a part of the steps")
        if min(self.log_every, self.validate_every, self.checkpoint_every) < 1:
            raise ConfigError("train: log_every, validate_every and checkpoint_every must be positive")


def learning_rate(step: int, config: TrainingConfig, options: RunOptions) -> float:
    """Of the step that follows after `step` steps."""
    rising = min(1.0, (step + 1) / max(1, config.num_warmup_steps))
    falling = min(1.0, (options.num_steps - step) / max(1, options.num_decay_steps))
    return config.learning_rate * rising * max(0.0, falling)
