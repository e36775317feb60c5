"""All choices of the main job in one frozen value."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sfm_lightglue.config import config_from_mapping
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.mapping.incremental import MappingConfig
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS, PAIR_SELECTORS
from sfm_lightglue.registry.fitting_weights import with_fitting_weights
from sfm_lightglue.registry.registry import Choice, Registry
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.two_view.config import TwoViewConfig

MAX_THREADS = 1024

DEFAULT_MATCHER = "lightglue"


@dataclass(frozen=True, slots=True)
class ReconstructConfig:
    """What `reconstruct` is to do, and how."""

    extractor: Choice = field(default_factory=lambda: EXTRACTORS.choose("sift"))
    """The local features."""

    matcher: Choice = field(default_factory=lambda: MATCHERS.choose(DEFAULT_MATCHER))
    """What matches them. A LightGlue without weights gets those that fit the extractor."""

    pairs: Choice = field(default_factory=lambda: PAIR_SELECTORS.choose("exhaustive"))
    """Which images are matched."""

    cameras: CameraConfig = field(default_factory=CameraConfig)
    """How photos share cameras, and what is known of them."""

    two_view: TwoViewConfig = field(default_factory=TwoViewConfig)
    """When two images count as seeing the same thing."""

    mapping: MappingConfig = field(default_factory=MappingConfig)
    """Thresholds of the incremental mapping."""

    seed: int = 0
    """Of everything random."""

    num_threads: int = 0
    """Photos, pairs and mapping threads under way at a time, 0 for one per core; with 1, two runs give the same
    bytes. What OpenCV, BLAS and torch do within one photo or pair has threads of its own."""

    device: str = "auto"
    """Where networks run: "cpu", "cuda", "cuda:1", or "auto" for CUDA where there is any."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "matcher", with_fitting_weights(self.matcher, self.extractor))
        if not 0 <= self.num_threads <= MAX_THREADS:
            raise ConfigError(f"num_threads must lie in [0, {MAX_THREADS}], got {self.num_threads}")
        if not re.fullmatch(r"auto|cpu|(cuda|xpu|mps)(:\d+)?", self.device):
            raise ConfigError(f"device {self.device!r}: expected auto, cpu, cuda, or cuda:1 and the like")
        if not 0 <= self.seed < 2**31:
            raise ConfigError(f"seed must lie in [0, 2^31), got {self.seed}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> ReconstructConfig:
        """From nested mappings, as a TOML file holds them.

        Tables `extractor`, `matcher` and `pairs` have a `name` and options; tables `cameras`, `two_view` and
        `mapping` have options only; everything else is a single value.

        Raises:
            ConfigError: for an unknown key (the nearest one is named), or a bad value.
        """
        registries: dict[str, Registry[Any]] = {
            "extractor": EXTRACTORS,
            "matcher": MATCHERS,
            "pairs": PAIR_SELECTORS,
        }
        sections: dict[str, type[Any]] = {
            "cameras": CameraConfig,
            "two_view": TwoViewConfig,
            "mapping": MappingConfig,
        }
        defaults = cls()
        known = [item.name for item in fields(cls)]
        plain: dict[str, Any] = {}
        for key, value in values.items():
            if key not in known:
                raise ConfigError(f"unknown option {key!r}{nearest_hint(key, known)}; there are {', '.join(known)}")
            if key in registries or key in sections:
                if not isinstance(value, Mapping):
                    raise ConfigError(f"{key}: expected a table, got {value!r}")
                options = dict(value)
                if key in registries:
                    name = options.pop("name", getattr(defaults, key).name)
                    if not isinstance(name, str):
                        raise ConfigError(f"{key}: name: expected str, got {name!r}")
                    plain[key] = registries[key].choose(name, options)
                else:
                    plain[key] = config_from_mapping(sections[key], options, key)
        if "matcher" not in plain:  # not the default's, whose weights fit the default extractor
            plain["matcher"] = MATCHERS.choose(DEFAULT_MATCHER)
        simple = {key: value for key, value in values.items() if key not in plain}
        checked = config_from_mapping(cls, simple, "configuration")
        return cls(**{name: plain.get(name, getattr(checked, name)) for name in known})

    def as_mapping(self) -> dict[str, Any]:
        """Nested mappings of plain values: what `from_mapping` takes."""
        components = {"extractor": self.extractor, "matcher": self.matcher, "pairs": self.pairs}
        return {
            **{table: {"name": choice.name, **asdict(choice.config)} for table, choice in components.items()},
            "cameras": asdict(self.cameras),
            "two_view": asdict(self.two_view),
            "mapping": asdict(self.mapping),
            "seed": self.seed,
            "num_threads": self.num_threads,
            "device": self.device,
        }


def read_config_file(path: Path) -> dict[str, Any]:
    """The tables of a TOML file, or the configuration in the `run.json` of an earlier run.

    Raises:
        ConfigError: where it cannot be read, or is neither.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            return dict(json.loads(text)["config"])
        return tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not a TOML file ({error})") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not the run.json of a run") from error
