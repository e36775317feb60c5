"""Base class of configurations: checked fields, further keys that are kept, and the methods of `transformers`."""

from __future__ import annotations

import copy
import inspect
import json
import logging
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast, dataclass_transform

import torch

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.loading_options import NeverUploads, refuse_keywords, split_keywords
from sfm_lightglue.huggingface.value_types import as_type
from sfm_lightglue.weights.hub import find_file, read_json, write_json

CONFIG_FILE = "config.json"

_COMMON: dict[str, Any] = {
    "architectures": None,
    "attn_implementation": None,
    "auto_map": None,
    "chunk_size_feed_forward": 0,
    "dtype": None,
    "id2label": {0: "LABEL_0", 1: "LABEL_1"},
    "is_encoder_decoder": False,
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "name_or_path": "",
    "output_attentions": False,
    "output_hidden_states": False,
    "problem_type": None,
    "return_dict": True,
    "transformers_version": None,
}
"""Keys that every configuration of `transformers` has, with their values unless they are set."""
_NEVER_WRITTEN = {"attn_implementation", "auto_map", "name_or_path", "transformers_version"}
_INTERNAL = {"_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal", "_commit_hash"}
"""Keys in dictionaries of `transformers` that are not kept."""
_FORMER_NAMES = {"torch_dtype": "dtype", "_name_or_path": "name_or_path"}

_LOGGER = logging.getLogger(__name__)

ConfigurationT = TypeVar("ConfigurationT", bound="Configuration")


@dataclass_transform()
class Configuration(NeverUploads):
    """Base class; mutable, because code for `transformers` sets fields.

    Subclasses are dataclasses. The types of fields are checked when they are set. Other keys are kept as attributes,
    as in `transformers`; a name that is nearly that of a field is refused.

    Raises:
        ConfigError: on values of a wrong type, impossible values and misspelt names.
    """

    model_type: ClassVar[str]
    sub_configs: ClassVar[dict[str, Any]] = {}
    """Names of configurations within this one; the name and meaning are those of `transformers`."""
    derived: ClassVar[frozenset[str]] = frozenset()
    """Keys in files that follow from the fields, or that are fixed here."""

    def __init_subclass__(cls) -> None:
        dataclass(init=False, repr=False, eq=False)(cls)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        chosen = [inspect.Parameter(each.name, kind, default=each.default) for each in _fields(cls)]
        further = inspect.Parameter("further", inspect.Parameter.VAR_KEYWORD)
        cls.__signature__ = inspect.Signature([*chosen, further])  # type: ignore[attr-defined]

    def __init__(self, *arguments: Any, **values: Any) -> None:
        names = [each.name for each in _fields(type(self))]
        given = dict(zip(names, arguments, strict=False))
        repeated = given.keys() & values.keys()
        if len(arguments) > len(names) or repeated:
            raise TypeError(f"{type(self).__name__}: too many positional values, or {sorted(repeated)} given twice")
        given |= values
        for each in _fields(type(self)):
            setattr(self, each.name, given.pop(each.name, each.default))
        self._keep(given)
        self.validate()

    def validate(self) -> None:
        """Check all values; called again when a model is built.

        Raises:
            ConfigError: on impossible values; the message names the field.
        """

    def __setattr__(self, name: str, value: Any) -> None:
        name = _FORMER_NAMES.get(name, name)
        if name in {"model_type", *self.derived}:
            if value == getattr(self, name, None):
                return
            raise ConfigError(f"{self.model_type}: {name} is fixed or follows from other options; it cannot be set")
        declared = type(self).__dataclass_fields__.get(name)  # type: ignore[attr-defined]
        if declared is not None:
            value = as_type(declared.type, value, f"{self.model_type}: {name}")
        elif name not in vars(self) and not hasattr(type(self), name) and name not in _COMMON:
            self.refuse_misspelt({name: value})
        if name == "num_labels":
            self.id2label = {index: f"LABEL_{index}" for index in range(value)}
            self.label2id = {label: index for index, label in self.id2label.items()}
            return
        super().__setattr__(name, value)

    if not TYPE_CHECKING:  # otherwise a misspelt attribute would have a type

        def __getattr__(self, name: str) -> Any:
            name = _FORMER_NAMES.get(name, name)
            if name == "num_labels":
                return len(self.id2label)
            if name in vars(self):
                return vars(self)[name]
            if name in _COMMON:
                return copy.copy(_COMMON[name])
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def dtype(self) -> torch.dtype | None:
        """Type of the saved weights; None if it is unknown. Names of types are taken, too."""
        return cast(torch.dtype | None, vars(self).get("dtype"))

    @dtype.setter
    def dtype(self, value: Any) -> None:
        vars(self)["dtype"] = _dtype(value) if isinstance(value, str) else value

    @property
    def name_or_path(self) -> str:
        """Where the configuration was read from; "" for a new one."""
        return str(vars(self).get("name_or_path", ""))

    @name_or_path.setter
    def name_or_path(self, value: Any) -> None:
        vars(self)["name_or_path"] = str(value)

    @property
    def use_return_dict(self) -> bool:
        """Same as `return_dict`."""
        return bool(vars(self).get("return_dict", True))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    def to_dict(self) -> dict[str, Any]:
        """All fields and kept keys as values of JSON."""
        written = {key: value for key, value in vars(self).items() if key not in _NEVER_WRITTEN}
        return {"model_type": self.model_type, **{key: _as_json(value) for key, value in written.items()}}

    def to_diff_dict(self) -> dict[str, Any]:
        """As `to_dict`, without keys of all configurations that have their default."""
        return {key: value for key, value in self.to_dict().items() if key not in _COMMON or value != _COMMON[key]}

    def to_json_string(self, use_diff: bool = True) -> str:
        """`to_diff_dict` as JSON, or `to_dict` without `use_diff`."""
        values = self.to_diff_dict() if use_diff else self.to_dict()
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = True) -> None:
        """Write `to_json_string` to a file.

        Raises:
            StoreError: if the file cannot be written.
        """
        write_json(Path(json_file_path), self.to_diff_dict() if use_diff else self.to_dict())

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set several fields or other keys; `derived` ones have no effect. Nothing changes if one is impossible.

        Raises:
            ConfigError: on values of a wrong type, impossible values and misspelt names.
        """
        known = self.known_keys() | vars(self).keys()
        self.refuse_misspelt({key: value for key, value in config_dict.items() if key not in known})
        changed = copy.copy(self)
        for key, value in config_dict.items():
            if key not in self.derived:
                setattr(changed, key, value)
        changed.validate()
        vars(self).update(vars(changed))

    def update_from_string(self, update_str: str) -> None:
        """Set fields from text such as "num_hidden_layers=4,attention_bias=false".

        Raises:
            ConfigError: on unknown names and impossible values.
        """
        values: dict[str, Any] = {}
        for entry in update_str.split(","):
            name, _, text = entry.partition("=")
            if name in self.derived or not isinstance(getattr(self, name, None), (bool, int, float, str)):
                raise ConfigError(f"{self.model_type}: {name!r} is no number, switch or text that can be set so")
            values[name] = text if isinstance(getattr(self, name), str) else _from_text(name, text)
        self.update(values)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **keywords: Any) -> None:
        """Write a config.json, which `transformers` can read if it has the detector.

        Args:
            save_directory: the folder; it is created.
            push_to_hub: refused if true.
            keywords: those of `transformers`; none has an effect.

        Raises:
            ConfigError: if an upload is requested.
            StoreError: if the file cannot be written.
        """
        refuse_keywords({**keywords, "push_to_hub": push_to_hub}, f"{type(self).__name__}.save_pretrained")
        self.to_json_file(Path(save_directory) / CONFIG_FILE)

    @classmethod
    def from_dict(
        cls: type[ConfigurationT], config_dict: Mapping[str, Any], return_unused_kwargs: bool = False, **overrides: Any
    ) -> Any:
        """From the content of a config.json of `transformers` or this library.

        Args:
            config_dict: fields and other keys, which are kept.
            return_unused_kwargs: whether to return the overrides that are no fields, too.
            overrides: replace values; a dictionary replaces single values of a configuration within this one.

        Returns:
            The configuration; with `return_unused_kwargs`, a tuple of it and a dictionary.

        Raises:
            ConfigError: on another type of model, misspelt names and impossible values.
        """
        values = dict(config_dict)
        unused = {key: value for key, value in overrides.items() if key not in {*cls.known_keys(), *values}}
        if not return_unused_kwargs:
            cls.refuse_misspelt(unused)
            if unused:
                _LOGGER.warning("%s: no such option, without effect: %s", cls.model_type, ", ".join(sorted(unused)))
        for key, value in overrides.items():
            if key in unused or (key in ("dtype", "torch_dtype") and value == "auto"):
                continue
            values[key] = _merged(values.get(key), value) if key in cls.sub_configs else value
        config = cls(**values)
        return (config, unused) if return_unused_kwargs else config

    @classmethod
    def from_json_file(cls: type[ConfigurationT], json_file: str | Path) -> ConfigurationT:
        """From a JSON file.

        Raises:
            ConfigError: if the file cannot be read, or is another configuration.
        """
        try:
            return cast(ConfigurationT, cls.from_dict(read_json(Path(json_file))))
        except ConfigError as error:
            raise ConfigError(f"{json_file}: {error}") from error

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | Path, **keywords: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The content of a config.json, and the keywords that are not about finding it.

        Raises:
            ConfigError: if the file cannot be read, or a keyword is refused.
            WeightsError: if the file is missing.
        """
        path, left = cls._find(pretrained_model_name_or_path, keywords)
        return read_json(path), left

    @classmethod
    def from_pretrained(cls: type[ConfigurationT], pretrained_model_name_or_path: str | Path, **keywords: Any) -> Any:
        """Read the config.json of a folder, or of a repository on the hub.

        Args:
            pretrained_model_name_or_path: the folder, the repository, or the file itself.
            keywords: `revision`, `token`, `cache_dir`, `subfolder`, `local_files_only` and `force_download`;
                `return_unused_kwargs`; others replace values of the file.

        Returns:
            As `from_dict`.

        Raises:
            ConfigError: if the file is another configuration, or a keyword is refused.
            WeightsError: if the file is missing.
        """
        path, left = cls._find(pretrained_model_name_or_path, keywords)
        try:
            found = cls.from_dict(cls.part_of(read_json(path)), **left)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error
        config = found[0] if isinstance(found, tuple) else found
        config.name_or_path = str(pretrained_model_name_or_path)
        return found

    @classmethod
    def of(cls: type[ConfigurationT], value: Any) -> ConfigurationT:
        """A configuration of this class from one of this class or of `transformers`.

        Raises:
            ConfigError: on anything else.
        """
        if isinstance(value, cls):
            return value
        if value is None or isinstance(value, Mapping) or not hasattr(value, "to_dict"):
            raise ConfigError(f"config: expected a {cls.__name__}, got {type(value).__name__}; see {cls.__name__}()")
        return cast(ConfigurationT, cls.from_dict(value.to_dict()))

    @classmethod
    def part_of(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The content of a file for this class: the file itself, or a configuration within it."""
        if values.get("model_type", cls.model_type) == cls.model_type:
            return values
        parts = [each for each in values.values() if isinstance(each, dict)]
        return next((each for each in parts if each.get("model_type") == cls.model_type), values)

    @classmethod
    def known_keys(cls) -> set[str]:
        """Names of the fields, and of the keys that all configurations have."""
        return {*_COMMON, *_FORMER_NAMES, "num_labels", *(each.name for each in _fields(cls))}

    @classmethod
    def refuse_misspelt(cls, values: Mapping[str, Any]) -> None:
        """Refuse names that are nearly those of fields.

        Raises:
            ConfigError: with the nearest field.
        """
        names = [each.name for each in _fields(cls)]
        for key in sorted(values):
            near = get_close_matches(key, names, n=1, cutoff=0.85)
            if near:
                raise ConfigError(f"{cls.model_type}: unknown option {key!r} (did you mean {near[0]!r}?)")

    @classmethod
    def _find(cls, name_or_path: str | Path, keywords: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
        hub, left = split_keywords(keywords, f"{cls.__name__}.from_pretrained")
        path = Path(name_or_path).expanduser()
        is_file = path.suffix == ".json" and path.is_file()
        return path if is_file else find_file(name_or_path, CONFIG_FILE, hub), left

    def _keep(self, values: Mapping[str, Any]) -> None:
        """Keep keys that are no fields as attributes."""
        model_type = values.get("model_type", self.model_type)
        if model_type != self.model_type:
            raise ConfigError(f"model_type: expected {self.model_type!r}, got {model_type!r}")
        others = {_FORMER_NAMES.get(key, key): value for key, value in values.items() if value is not None}
        for key in {*_INTERNAL, *self.derived, "model_type"} & others.keys():
            del others[key]
        number = others.pop("num_labels", None)
        if isinstance(number, int) and "id2label" not in others:
            self.num_labels = number
        if isinstance(labels := others.get("id2label"), Mapping):
            others["id2label"] = {int(key): label for key, label in labels.items()}  # JSON has text as keys
        unknown = others.keys() - _COMMON.keys()
        self.refuse_misspelt({key: others[key] for key in unknown})
        if unknown:
            _LOGGER.warning("%s: kept, but without effect: %s", self.model_type, ", ".join(sorted(unknown)))
        for key, value in others.items():
            if key not in _COMMON or value != _COMMON[key]:
                setattr(self, key, value)


def _fields(kind: type[Any]) -> tuple[Field[Any], ...]:
    return fields(kind)


def _merged(former: Any, value: Any) -> Any:
    """A configuration within another one: a dictionary replaces single values unless it is for another model."""
    if not isinstance(value, Mapping) or not isinstance(former, Mapping):
        return value
    model_type = former.get("model_type")
    return {**former, **value} if value.get("model_type", model_type) == model_type else value


def _as_json(value: Any) -> Any:
    if isinstance(value, Configuration):
        return value.to_dict()
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    return [_as_json(each) for each in value] if isinstance(value, (tuple, list)) else value


def _dtype(name: str) -> torch.dtype:
    found = getattr(torch, name.removeprefix("torch."), None)
    if not isinstance(found, torch.dtype):
        raise ConfigError(f"dtype: expected the name of a type of torch, got {name!r}")
    return found


def _from_text(name: str, text: str) -> Any:
    try:
        return json.loads(text.lower())
    except ValueError as error:
        raise ConfigError(f"{name}: expected a number, true or false, got {text!r}") from error
