"""All options of the jobs over a scene, in one frozen value for each job."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.config import ExecutorConfig
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.lookalikes.config import LookalikesConfig
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.density_config import DensityConfig
from sfm_lightglue.messages import shown_path
from sfm_lightglue.pairs.transitive import TransitiveConfig
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.registry.components import (
    check_device,
    check_num_threads,
    check_seed,
    config_from_tables,
    default_choice,
    tables_from_config,
)
from sfm_lightglue.registry.fitting_weights import with_fitting_weights
from sfm_lightglue.registry.known_poses import mapper_of_poses, pairs_of_poses
from sfm_lightglue.registry.matching_steps import quick_first
from sfm_lightglue.registry.registry import Choice
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.stages.second_chance import SecondChanceConfig
from sfm_lightglue.two_view.config import TwoViewConfig


@dataclass(frozen=True, slots=True)
class DatabaseConfig:
    """What `add_to_database` does, and how: everything of a reconstruction but the mapping.

    Example:
        >>> config = sfm_lightglue.DatabaseConfig.from_mapping({"pairs": {"name": "sequential", "window": 5}})
        >>> config.pairs.name
        'sequential'
    """

    extractor: Choice = field(default_factory=lambda: default_choice("extractor"))
    """The local features."""

    matcher: Choice = field(default_factory=lambda: default_choice("matcher"))
    """What matches them. A LightGlue without weights gets the weights that fit the extractor."""

    pairs: Choice = field(default_factory=lambda: default_choice("pairs"))
    """Which images are matched."""

    transitive: TransitiveConfig = field(default_factory=TransitiveConfig)
    """Pairs that are matched after the selected ones, because verified pairs suggest them."""

    cameras: CameraConfig = field(default_factory=CameraConfig)
    """Which images share a camera, and what is known of the cameras."""

    masks: str = ""
    """Folder of the masks of the images: the mask of `a/b.jpg` is `a/b.jpg.png` (or `a/b.png`), and black pixels get no
    features. "" uses a folder `masks` of the scene if it has one."""

    image_list: str = ""
    """Text file with the names of the images to use, one a line, as COLMAP's `image_list_path`. "" uses all images."""

    positions: str = ""
    """Table of the positions of the images, with a header: name, latitude, longitude, altitude (degrees and metres of
    WGS84), or name, x, y, z (metres of any frame). They replace those of the EXIF data. "" uses the EXIF data."""

    two_view: TwoViewConfig = field(default_factory=TwoViewConfig)
    """Thresholds of two-view geometry."""

    seed: int = 0
    """Of everything random."""

    num_threads: int = 0
    """Images, pairs and mapping threads that run at the same time, 0 for one per core. With 1, two runs give the same
    bytes. OpenCV and torch use threads of their own within one image or pair."""

    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    """Which processes extract, match and verify."""

    device: str = "auto"
    """Where networks run: "cpu", "cuda", "cuda:1", or "auto" for CUDA if there is any."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "matcher", with_fitting_weights(self.matcher, self.extractor))
        check_num_threads(self.num_threads)
        for name, kind in (("masks", "folder"), ("image_list", "file"), ("positions", "file")):
            if not isinstance(value := getattr(self, name), str):
                raise ConfigError(f"`{name}` {value!r}: expected the path of a {kind}")
        check_device(self.device)
        check_seed(self.seed)

    @property
    def mask_folder(self) -> Path | None:
        """`masks` as a path, None for a folder of the scene."""
        return Path(self.masks) if self.masks else None

    @property
    def image_list_file(self) -> Path | None:
        """`image_list` as a path, None for all images."""
        return Path(self.image_list) if self.image_list else None

    @property
    def positions_file(self) -> Path | None:
        """`positions` as a path, None for those of the EXIF data."""
        return Path(self.positions) if self.positions else None

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """From nested mappings, as a TOML file holds them.

        Tables `extractor`, `matcher`, `pairs` and `mapping` have a `name` and options; tables `cameras`,
        `two_view`, `transitive`, `executor`, `checks`, `density`, `lookalikes` and `refine` have options only;
        everything else is a single value.

        Raises:
            ConfigError: for an unknown table or option (the nearest one is named), or a bad value.
        """
        return config_from_tables(cls, values)

    def as_mapping(self) -> dict[str, Any]:
        """Nested mappings of plain values: what `from_mapping` takes."""
        return tables_from_config(self)


@dataclass(frozen=True, slots=True)
class ReconstructConfig(DatabaseConfig):
    """What `reconstruct` does, and how.

    Example:
        >>> config = sfm_lightglue.ReconstructConfig.from_mapping({"extractor": {"max_keypoints": 4096}, "seed": 1})
        >>> config.extractor.name, config.extractor.config.max_keypoints
        ('sift', 4096)
    """

    mapping: Choice = field(default_factory=lambda: default_choice("mapping"))
    """What builds models from the verified pairs."""

    rig: str = ""
    """COLMAP's `rig_config.json`: cameras that are mounted together, with their poses in the rig, which are kept. ""
    for none."""

    poses: str = ""
    """Known cameras and poses, which are not changed: `transforms.json` of nerfstudio, `bundle.out` of Bundler,
    `reconstruction.json` of OpenSfM, or the folder of a COLMAP model. The default of the pairs is frusta then, and the
    mapper is known_poses. "" if the poses are to be found."""

    checks: ChecksConfig = field(default_factory=ChecksConfig)
    """Limits of the judgement of pairs and models."""

    density: DensityConfig = field(default_factory=DensityConfig)
    """How many points a model gets after mapping."""

    lookalikes: LookalikesConfig = field(default_factory=LookalikesConfig)
    """What is done about places that look alike."""

    second_chance: SecondChanceConfig = field(default_factory=SecondChanceConfig)
    """Help for images that are in no model, and new pairs between models."""

    refine: RefinementConfig = field(default_factory=RefinementConfig)
    """Refinement of the keypoints of finished models to sub-pixel precision."""

    def __post_init__(self) -> None:
        DatabaseConfig.__post_init__(self)
        object.__setattr__(self, "matcher", quick_first(self.matcher))
        if not isinstance(self.rig, str):
            raise ConfigError(f"`rig` {self.rig!r}: expected the path of a file")
        if not isinstance(self.poses, str):
            raise ConfigError(f"`poses` {self.poses!r}: expected the path of a file or folder")
        given = {"rig": self.rig, "positions": self.positions, "cameras.params": self.cameras.params}
        excluded = [name for name, value in given.items() if self.poses and value]
        if excluded:
            raise ConfigError(f"`{excluded[0]}` and `poses` exclude each other: `poses` gives all of it; leave out one")
        object.__setattr__(self, "mapping", mapper_of_poses(self.mapping, self.poses))
        object.__setattr__(self, "pairs", pairs_of_poses(self.pairs, self.poses))
        if self.poses:  # no image is left over: each has its pose
            object.__setattr__(self, "second_chance", SecondChanceConfig(max_images=0, max_pairs_between=0))

    @property
    def poses_file(self) -> Path | None:
        """`poses` as a path, None if the poses are to be found."""
        return Path(self.poses) if self.poses else None

    @property
    def rig_file(self) -> Path | None:
        """`rig` as a path, None for no rigs."""
        return Path(self.rig) if self.rig else None

    @property
    def max_keypoints_dense(self) -> int:
        """About the number of places per image of the dense layer; 0 for none."""
        return int(getattr(self.extractor.config, "max_keypoints_dense", 0)) * self.density.keypoints_factor


def read_config_file(path: Path, config_type: type[Any] = ReconstructConfig) -> dict[str, Any]:
    """The tables of a TOML file, or the configuration in the `run.json` of an earlier run.

    Args:
        path: the file; one with the suffix .json is a record.
        config_type: of the job, a dataclass. A record also contains the tables of other jobs, which are left out.

    Raises:
        ConfigError: if the file cannot be read, or is neither of these.
    """
    shown = shown_path(path)
    data = read_input_file(path, _MAX_CONFIG_BYTES, ConfigError)
    try:
        text = data.decode("utf-8-sig")
        if path.suffix.lower() == ".json":
            return _recorded_tables(text, config_type, shown)
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown}: cannot be read (not UTF-8 text)") from error
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError; an integer of 5,000 digits too
        raise ConfigError(f"{shown}: not a TOML file ({error})") from error


def _recorded_tables(text: str, config_type: type[Any], shown: str) -> dict[str, Any]:
    """The tables of a job in a record of a run."""
    try:
        recorded = json.loads(text)["config"]
        others = {field.name for field in fields(ReconstructConfig)} - {field.name for field in fields(config_type)}
        return {key: value for key, value in recorded.items() if key not in others}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(f"{shown}: not the run.json of a run") from error


_MAX_CONFIG_BYTES = 100_000_000
"""A record of a run lists all images."""
