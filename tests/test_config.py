"""From options and TOML files to frozen configurations: unknown options and values of wrong types are refused."""

from dataclasses import FrozenInstanceError, dataclass, fields
from typing import Literal

import pytest

from sfm_lightglue.config import config_from_mapping
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.reconstruction.config import ReconstructConfig, read_config_file


@dataclass(frozen=True)
class Sample:
    count: int = 3
    limit: float = 0.5
    name: str = "a"
    flag: bool = False
    mode: Literal["fast", "good"] = "fast"
    params: tuple[float, ...] = ()
    optional: float | None = None


@dataclass(frozen=True)
class Nothing:
    pass


def sample(**values):
    return config_from_mapping(Sample, values, "sample")


def test_fields_are_set_and_the_others_are_at_their_defaults():
    assert sample() == Sample()
    values = {
        "count": 5,
        "limit": 0.25,
        "name": "b",
        "flag": True,
        "mode": "good",
        "params": (1.0, 2.0),
        "optional": 3.0,
    }
    assert sample(**values) == Sample(**values)
    assert values.keys() == {field.name for field in fields(Sample)}


def test_integers_are_accepted_as_floats_and_lists_as_tuples():
    found = sample(limit=2, params=[1, 2.5], optional=3)
    assert found == Sample(limit=2.0, params=(1.0, 2.5), optional=3.0)
    assert [type(value) for value in (found.limit, found.optional, *found.params)] == [float] * 4
    assert sample(optional=None).optional is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 1.5}, "sample: count: expected int, got 1.5"),
        ({"count": "3"}, "expected int, got '3'"),
        ({"count": True}, "expected int, got True"),
        ({"count": None}, "expected int, got None"),
        ({"limit": "0.5"}, "expected float"),
        ({"limit": False}, "expected float, got False"),
        ({"limit": float("nan")}, "limit: expected a number, got nan"),
        ({"params": [1.0, float("nan")]}, "params: expected a number, got nan"),
        ({"name": 3}, "expected str"),
        ({"flag": 1}, "expected bool"),
        ({"flag": "yes"}, "expected bool"),
        ({"mode": "slow"}, "mode: expected one of fast, good, got 'slow'"),
        ({"mode": ["fast"]}, "expected one of"),
        ({"params": 1.0}, "params: expected a list, got 1.0"),
        ({"params": "12"}, "expected a list"),
        ({"params": [1.0, "2"]}, "expected float, got '2'"),
        ({"optional": "3"}, "expected float"),
        ({"optional": {}}, "expected float"),
    ],
)
def test_values_of_wrong_types_are_refused(values, message):
    with pytest.raises(ConfigError) as error:
        sample(**values)
    assert message in str(error.value)


def test_the_error_for_an_unknown_option_proposes_the_nearest_one():
    with pytest.raises(ConfigError) as error:
        sample(cuont=1)
    assert str(error.value) == (
        "sample: unknown option 'cuont' (did you mean 'count'?);"
        " it has count, limit, name, flag, mode, params, optional"
    )
    with pytest.raises(ConfigError, match="unknown option 'zzz'; it has count"):
        sample(zzz=1)
    with pytest.raises(ConfigError, match="nothing: unknown option 'a'; it has no options"):
        config_from_mapping(Nothing, {"a": 1}, "nothing")


def test_nearest_hint():
    assert nearest_hint("superpint", ["sift", "superpoint"]) == " (did you mean 'superpoint'?)"
    assert nearest_hint("xyz", ["sift", "superpoint"]) == ""
    assert nearest_hint("a", []) == ""


def test_a_reconstruct_config_from_nested_tables():
    config = ReconstructConfig.from_mapping(
        {
            "extractor": {"name": "sift", "max_keypoints": 500},
            "matcher": {"filter_threshold": 0.2},
            "pairs": {"name": "sequential", "window": 4},
            "cameras": {"model": "OPENCV", "params": [1, 2, 3, 4, 5, 6, 7, 8]},
            "two_view": {"max_error_px": 3},
            "mapping": {"min_model_size": 5},
            "seed": 7,
            "num_threads": 2,
            "device": "cpu",
        }
    )
    default = ReconstructConfig()
    assert config.extractor.config.max_keypoints == 500
    assert config.matcher.config.filter_threshold == 0.2
    assert config.matcher.name == default.matcher.name  # options of the default component need no name
    assert config.pairs.config.window == 4
    assert config.cameras.params == (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
    assert config.two_view.max_error_px == 3.0
    assert config.mapping.config.min_model_size == 5
    assert (config.seed, config.num_threads, config.device) == (7, 2, "cpu")
    assert ReconstructConfig.from_mapping({}) == default
    with pytest.raises(FrozenInstanceError):
        config.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"extracter": {}}, "unknown table 'extracter' (did you mean 'extractor'?)"),
        ({"sed": 3}, "unknown option 'sed' (did you mean 'seed'?)"),
        ({"mapping": {"name": "incremantal"}}, "unknown mapping 'incremantal' (did you mean 'incremental'?)"),
        ({"extractor": "sift"}, "extractor: expected a table, got 'sift'"),
        ({"cameras": 3}, "cameras: expected a table, got 3"),
        ({"extractor": {"name": "shift"}}, "unknown extractor 'shift' (did you mean 'sift'?)"),
        ({"extractor": {"name": 3}}, "extractor: name: expected str, got 3"),
        ({"extractor": {"name": ["sift"]}}, "extractor: name: expected str, got ['sift']"),
        ({"extractor": {"name": "sift", "max_keypoint": 3}}, "did you mean 'max_keypoints'?"),
        ({"extractor": {"name": "sift", "max_keypoints": "many"}}, "max_keypoints: expected int, got 'many'"),
        ({"two_view": {"max_err_px": 3}}, "two_view: unknown option 'max_err_px' (did you mean 'max_error_px'?)"),
        ({"two_view": {"max_error_px": -1}}, "`two_view.max_error_px` must be positive"),
        ({"mapping": {"min_model_size": 1}}, "`mapping.min_model_size` must be at least 2"),
        ({"cameras": {"mode": "solo"}}, "expected one of auto, single, per-folder, per-image, got 'solo'"),
        ({"seed": -1}, "`seed` must lie in"),
        ({"seed": 2**31}, "`seed` must lie in"),
        ({"seed": 1.0}, "seed: expected int"),
        ({"num_threads": -1}, "`num_threads` must lie in"),
        ({"device": 0}, "device: expected str"),
    ],
)
def test_mistakes_in_a_reconstruct_config_are_refused(values, message):
    with pytest.raises(ConfigError) as error:
        ReconstructConfig.from_mapping(values)
    assert message in str(error.value)


def test_a_toml_file_is_read(tmp_path):
    path = tmp_path / "ü.toml"
    path.write_text('seed = 3\n[extractor]\nname = "sift"\nmax_keypoints = 10\n', encoding="utf-8")
    values = read_config_file(path)
    assert values == {"seed": 3, "extractor": {"name": "sift", "max_keypoints": 10}}
    assert ReconstructConfig.from_mapping(values).extractor.config.max_keypoints == 10


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"seed = ", "not a TOML file"), (b"a = 1\na = 2", "not a TOML file"), (b"\xff\xfe", "cannot be read")],
)
def test_a_file_that_is_not_toml_is_named(tmp_path, content, message):
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"bad\.toml: {message}"):
        read_config_file(path)


def test_a_missing_file_is_named(tmp_path):
    for path in (tmp_path / "missing.toml", tmp_path):
        with pytest.raises(ConfigError, match=f"{path.name}: cannot be read"):
            read_config_file(path)
