"""Options of a training run: what is trained, and for how long."""

from __future__ import annotations

from dataclasses import dataclass, field

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.models.lightglue import LightGlueArchitecture
from sfm_lightglue.training.data.batches import DESCRIPTOR_DIM, BatchConfig
from sfm_lightglue.training.data.data_loader import LoaderConfig


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

    loader: LoaderConfig = field(default_factory=LoaderConfig)
    """How the data loader mixes shards."""

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
        if self.num_layers < 1 or self.num_heads < 1 or DESCRIPTOR_DIM % (2 * self.num_heads):
            raise ConfigError(f"train: num_layers must be positive, and num_heads must divide {DESCRIPTOR_DIM // 2}")

    @property
    def architecture(self) -> LightGlueArchitecture:
        """Architecture of the network."""
        return LightGlueArchitecture(
            DESCRIPTOR_DIM, DESCRIPTOR_DIM, self.num_layers, self.num_heads, use_scale_orientation=True
        )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How long a run trains and what it reports; the values may differ between sessions of one run."""

    num_steps: int = 20_000
    """Number of steps of the whole run, including earlier sessions."""

    num_decay_steps: int = 4_000
    """Number of last steps in which the learning rate falls to 0."""

    log_every: int = 50
    """Steps between two rows of the log."""

    validate_every: int = 1_000
    """Steps between two validations; the last step is also validated."""

    checkpoint_every: int = 200
    """Steps between two checkpoints."""

    held_out_shard: int | None = 0
    """Index of the shard that is used for validation only; None trains on all shards."""

    num_held_out_pairs: int = 128
    """Number of pairs of this shard that are used for validation."""

    device: str = "auto"
    """"auto", "cpu" or "cuda"."""

    bfloat16: bool = True
    """Compute matrix products in bfloat16; states, assignment and weights stay float32."""

    compile: bool = False
    """Compile the layers: takes one or two minutes at the start; then steps are a quarter faster on a CPU."""

    def __post_init__(self) -> None:
        if not 0 <= self.num_decay_steps <= self.num_steps:
            raise ConfigError("train: num_decay_steps must be between 0 and num_steps")
        if min(self.log_every, self.validate_every, self.checkpoint_every) < 1:
            raise ConfigError("train: log_every, validate_every and checkpoint_every must be positive")


def learning_rate(step: int, config: TrainingConfig, options: RunOptions) -> float:
    """Learning rate of the step that follows `step` finished steps."""
    rising = min(1.0, (step + 1) / max(1, config.num_warmup_steps))
    falling = min(1.0, (options.num_steps - step) / max(1, options.num_decay_steps))
    return config.learning_rate * rising * max(0.0, falling)
