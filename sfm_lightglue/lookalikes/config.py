"""What is done about places that look alike."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sfm_lightglue.errors import ConfigError

LookalikesMode = Literal["auto", "off", "strict"]
"""What is done with a doubtful pair, see `LookalikesConfig`."""


@dataclass(frozen=True, slots=True)
class LookalikesConfig:
    """Which verified pairs take part in mapping, where places look alike."""

    mode: LookalikesMode = "auto"
    """auto: a doubtful pair takes part if independent other pairs support it; if fewer than three pairs without
    support have a score below 0.1, all pairs take part. strict: a doubtful pair takes no part. off: scores are not
    estimated, and every pair that the others do not contradict takes part."""

    min_probability: float = 0.5
    """A pair whose score is smaller is doubtful. The score, 0 to 1, tells how likely both images show the same place.
    In a scene without twins, the score of a doubtful pair is smaller than its calibrated probability."""

    trust_pairs: str = ""
    """Text file with two names of images a line: verified pairs that always take part in mapping. "" for none."""

    def __post_init__(self) -> None:
        if self.mode not in ("auto", "off", "strict"):
            raise ConfigError(f"`lookalikes.mode` {self.mode!r}: expected auto, off or strict")
        if not 0 <= self.min_probability <= 1:
            raise ConfigError(f"`lookalikes.min_probability` must lie in [0, 1], got {self.min_probability}")
        if not isinstance(self.trust_pairs, str):
            raise ConfigError(f"`lookalikes.trust_pairs` {self.trust_pairs!r}: expected the path of a file")

    @property
    def trust_pairs_file(self) -> Path | None:
        """`trust_pairs` as a path, None for no trusted pairs."""
        return Path(self.trust_pairs) if self.trust_pairs else None


LOOKALIKES_OFF = LookalikesConfig("off")
"""Nothing is done about places that look alike."""
