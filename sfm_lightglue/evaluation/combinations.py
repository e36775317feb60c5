"""Combinations of extractors, matchers and estimators whose weights and libraries are available."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfm_lightglue.config import config_from_mapping
from sfm_lightglue.errors import ConfigError, SfmError, WeightsError
from sfm_lightglue.extractors.base import Extractor
from sfm_lightglue.matchers.base import Matcher
from sfm_lightglue.registry.builtin import EXTRACTORS, MATCHERS
from sfm_lightglue.registry.fitting_weights import with_fitting_weights
from sfm_lightglue.registry.registry import Choice, Registry
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.two_view.estimators.base import load_estimator


@dataclass(frozen=True, slots=True, order=True)
class Combination:
    """An extractor, a matcher and an estimator, by their names in the table."""

    extractor: str
    matcher: str
    estimator: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A component that could not be evaluated, and the error that is the reason."""

    what: str
    error: SfmError

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {"what": self.what, "reason": str(self.error)}


@dataclass(frozen=True, slots=True)
class Candidates:
    """Components to combine, by their names in the table.

    Args:
        extractors: with their options.
        matchers: with their options.
        estimators: configurations that differ in the robust estimator.
        left_out: estimators whose library is missing.
        device: on which networks run.
    """

    extractors: Mapping[str, Choice]
    matchers: Mapping[str, Choice]
    estimators: Mapping[str, TwoViewConfig]
    left_out: tuple[LeftOut, ...] = ()
    device: str = "auto"


def choose_candidates(
    extractors: Sequence[str],
    matchers: Sequence[str],
    estimators: Sequence[str],
    extractor_options: Mapping[str, Any],
    device: str = "auto",
) -> Candidates:
    """Parse the options of the command.

    Args:
        extractors: "NAME" of the registry or "NAME=WEIGHTS", each also with options: "NAME,OPTION=VALUE"; "all" stands
            for all names of the registry.
        matchers: the same.
        estimators: names, as in `TwoViewConfig.estimator`.
        extractor_options: options of all extractors, such as `max_keypoints`.
        device: on which networks run.

    Raises:
        ConfigError: if a name or an option is unknown; not if a library is missing.
    """
    configs: dict[str, TwoViewConfig] = {}
    left_out = []
    for name in dict.fromkeys(estimators):
        config = config_from_mapping(TwoViewConfig, {"estimator": name}, "two_view")
        try:
            load_estimator(config.estimator)
        except ConfigError as error:
            left_out.append(LeftOut(name, error))
        else:
            configs[name] = config
    return Candidates(
        _choose(EXTRACTORS, extractors, extractor_options),
        _choose(MATCHERS, matchers, {}),
        configs,
        tuple(left_out),
        device,
    )


def build_extractor(extractor: Choice, device: str) -> Extractor:
    """Build an extractor.

    Raises:
        WeightsError: if its weights are missing.
    """
    return EXTRACTORS.build(extractor, device)


def build_matcher(extractor: Choice, matcher: Choice, device: str) -> Matcher:
    """Build a matcher for the features of an extractor.

    Raises:
        WeightsError: if its weights are missing.
        ConfigError: if it is LightGlue and no weights for these features are known.
    """
    return MATCHERS.build(with_fitting_weights(matcher, extractor), device)


def require_any(num_left: int, left_out: Sequence[LeftOut]) -> None:
    """Raise an error if nothing was evaluated.

    Raises:
        SfmError: with all reasons; of the class of the errors if they have the same class, else `WeightsError`.
    """
    if num_left > 0:
        return
    kinds = {type(one.error) for one in left_out}
    kind = kinds.pop() if len(kinds) == 1 else WeightsError
    raise kind(f"nothing is left to evaluate ({'; '.join(f'{one.what}: {one.error}' for one in left_out)})")


def _choose(registry: Registry[Any], items: Sequence[str], options: Mapping[str, Any]) -> dict[str, Choice]:
    every = registry.names if "all" in items else ()
    wanted = list(dict.fromkeys((*every, *(item for item in items if item != "all"))))
    parsed = [_parse(registry.kind, item) for item in wanted]
    names = [name for name, _ in parsed]
    chosen: dict[str, Choice] = {}
    for item, (name, own) in zip(wanted, parsed, strict=True):
        label = name if names.count(name) == 1 else _label(name, own)
        if label in chosen:
            raise ConfigError(f"{registry.kind} {item}: another one is already called {label!r}")
        # An option that a component does not have is ignored for "all", and an error for a named component.
        known = options if item in items else _known(registry, name, options)
        chosen[label] = registry.choose(name, {**known, **own})
    return chosen


def _known(registry: Registry[Any], name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    config = registry.choose(name).config
    return {key: value for key, value in options.items() if hasattr(config, key)}


def _parse(kind: str, item: str) -> tuple[str, dict[str, Any]]:
    """NAME[=WEIGHTS][,OPTION=VALUE...] -> name and options."""
    head, *rest = item.split(",")
    name, _, weights = head.partition("=")
    options: dict[str, Any] = {"weights": weights} if weights else {}
    for text in rest:
        key, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"{kind} {item}: expected OPTION=VALUE, got {text!r}")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = value
    return name, options


def _label(name: str, options: Mapping[str, Any]) -> str:
    parts = [Path(value).stem if key == "weights" else f"{key}={value}" for key, value in options.items()]
    return " ".join([name, *parts])
