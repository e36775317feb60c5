"""Names become components, and the error for an unknown name proposes the nearest known one."""

import dataclasses
import importlib
import json

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.matchers.nearest import NearestConfig, NearestMatcher
from sfm_lightglue.pairs.exhaustive import ExhaustivePairs
from sfm_lightglue.registry.builtin import EXPORTERS, EXTRACTORS, MAPPERS, MATCHERS, PAIR_SELECTORS
from sfm_lightglue.registry.registry import Choice, Entry, Registry
from sfm_lightglue.store.store import make_key

REGISTRIES = (EXTRACTORS, MATCHERS, PAIR_SELECTORS, MAPPERS, EXPORTERS)
ALL = [(registry, name) for registry in REGISTRIES for name in registry.names]


@dataclasses.dataclass(frozen=True)
class EchoConfig:
    word: str = "hello"


def build_echo(config, device=None):
    return config.word, device


ECHO = Registry(
    "echo",
    {
        "plain": Entry(f"{__name__}:EchoConfig", f"{__name__}:build_echo"),
        "on-device": Entry(f"{__name__}:EchoConfig", f"{__name__}:build_echo", takes_device=True),
    },
)


def test_known_names():
    assert {"sift", "superpoint"} <= set(EXTRACTORS.names)
    assert {"nearest", "lightglue"} <= set(MATCHERS.names)
    assert {"exhaustive", "sequential", "file"} <= set(PAIR_SELECTORS.names)
    assert "incremental" in MAPPERS.names
    for registry in REGISTRIES:
        assert list(registry.names) == sorted(registry.names)


@pytest.mark.parametrize(("registry", "name"), ALL, ids=[f"{r.kind}-{name}" for r, name in ALL])
def test_every_component_has_a_frozen_configuration_that_a_key_can_hold(registry, name):
    config = registry.choose(name).config
    assert dataclasses.is_dataclass(config)
    assert type(config).__dataclass_params__.frozen
    assert len(make_key(config)) == 64
    json.dumps(dataclasses.asdict(config))  # as in the record of a run
    assert config == registry.choose(name, {}).config


@pytest.mark.parametrize(("registry", "name"), ALL, ids=[f"{r.kind}-{name}" for r, name in ALL])
def test_every_component_can_be_imported(registry, name):
    module, _, attribute = registry._entries[name].build.partition(":")
    assert callable(getattr(importlib.import_module(module), attribute))


def test_components_are_built():
    choice = EXTRACTORS.choose("sift", {"max_keypoints": 9})
    assert choice == Choice("sift", SiftConfig(max_keypoints=9))
    extractor = EXTRACTORS.build(choice)
    assert isinstance(extractor, SiftExtractor)
    assert extractor.config.max_keypoints == 9
    matcher = MATCHERS.build(MATCHERS.choose("nearest", {"ratio": 1}))
    assert isinstance(matcher, NearestMatcher)
    assert matcher.config == NearestConfig(ratio=1.0)
    assert isinstance(PAIR_SELECTORS.build(PAIR_SELECTORS.choose("exhaustive")), ExhaustivePairs)


def test_the_device_is_passed_to_components_that_take_it():
    options = {"word": "hi"}
    assert ECHO.build(ECHO.choose("plain", options), "cuda:1") == ("hi", None)
    assert ECHO.build(ECHO.choose("on-device", options), "cuda:1") == ("hi", "cuda:1")
    assert ECHO.build(ECHO.choose("on-device")) == ("hello", "cpu")


def test_the_error_for_an_unknown_name_proposes_the_nearest():
    with pytest.raises(ConfigError, match=r"unknown extractor 'sfit' \(did you mean 'sift'\?\); choose one of .*sift"):
        EXTRACTORS.choose("sfit")
    with pytest.raises(ConfigError, match=r"unknown matcher 'lightgleu' \(did you mean 'lightglue'\?\)"):
        MATCHERS.choose("lightgleu")
    with pytest.raises(ConfigError, match=r"unknown pairs 'xyz'; choose one of .*exhaustive, file"):
        PAIR_SELECTORS.build(Choice("xyz", None))


def test_the_error_for_an_unknown_option_names_the_component():
    with pytest.raises(ConfigError, match=r"extractor sift: unknown option 'max_keypoint' \(did you mean"):
        EXTRACTORS.choose("sift", {"max_keypoint": 9})
    with pytest.raises(ConfigError, match="pairs exhaustive: unknown option 'a'; it has no options"):
        PAIR_SELECTORS.choose("exhaustive", {"a": 1})
    with pytest.raises(ConfigError, match=r"`matcher\.ratio` must lie in"):
        MATCHERS.choose("nearest", {"ratio": 2.0})


@pytest.mark.parametrize(
    ("registry", "name", "others"),
    [(EXTRACTORS, "sift", "aliked, disk, doghardnet, superpoint, xfeat"), (MATCHERS, "nearest", "lightglue")],
)
def test_the_error_for_unusable_weights_lists_components_with_weights(registry, name, others):
    with pytest.raises(ConfigError, match=f"^{registry.kind} {name} has no weights: .*: {others}$"):
        registry.choose(name, {"weights": "mine.pth"})


def test_weights_are_an_unknown_option_if_no_component_has_weights():
    with pytest.raises(ConfigError, match="exhaustive: unknown option 'weights'"):
        PAIR_SELECTORS.choose("exhaustive", {"weights": "mine.pth"})
