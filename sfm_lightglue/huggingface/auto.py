"""The auto classes of `transformers`: the class of a configuration, a model or a processor from its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface import checkpoints
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.configuration_base import CONFIG_FILE, Configuration
from sfm_lightglue.huggingface.detection_processor import SuperPointImageProcessor, SuperPointImageProcessorFast
from sfm_lightglue.huggingface.detector_configuration import SuperPointConfig
from sfm_lightglue.huggingface.image_processor import (
    LightGlueImageProcessor,
    LightGlueImageProcessorFast,
    default_processor,
)
from sfm_lightglue.huggingface.loading_options import split_keywords
from sfm_lightglue.huggingface.modeling import LightGlueForKeypointMatching
from sfm_lightglue.huggingface.placement import dtype_from
from sfm_lightglue.huggingface.pretrained_model import PretrainedModel
from sfm_lightglue.huggingface.superpoint_model import SuperPointForKeypointDetection
from sfm_lightglue.weights.hub import find_file, find_source, read_json
from sfm_lightglue.weights.hub_options import HubOptions

_CONFIGS: dict[str, type[Configuration]] = {"lightglue": LightGlueConfig, "superpoint": SuperPointConfig}
_PROCESSORS = {
    "lightglue": (LightGlueImageProcessor, LightGlueImageProcessorFast),
    "superpoint": (SuperPointImageProcessor, SuperPointImageProcessorFast),
}
"""For each model type the processor with Pillow and that with torch."""


class _Auto:
    """Base class: auto classes have no instances."""

    def __init__(self, *arguments: Any, **keywords: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__} has no instances; use {type(self).__name__}.from_pretrained")


class AutoConfig(_Auto):
    """The configuration of a model, of the class that its files name.

    Example:
        >>> config = sfm_lightglue.AutoConfig.from_pretrained("lightglue_sift")
        >>> type(config).__name__
        'LightGlueConfig'
    """

    @classmethod
    def for_model(cls, model_type: str, **values: Any) -> Any:
        """A configuration from its model type and values.

        Raises:
            ConfigError: on an unknown model type or impossible values.
        """
        return _of_type(_CONFIGS, model_type, "model_type")(**values)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **keywords: Any) -> Any:
        """Read a configuration; arguments and errors as in `LightGlueConfig.from_pretrained`.

        A single file of LightGlue's weights has the configuration that its sizes imply.
        """
        hub, left = split_keywords(keywords, "AutoConfig.from_pretrained")
        source = find_source(pretrained_model_name_or_path, hub)
        if isinstance(source, Path) and source.is_file() and source.suffix != ".json":
            is_asked = left.pop("return_unused_kwargs", False)
            request = checkpoints.LoadRequest(hub, overrides=left)
            config = checkpoints.load(pretrained_model_name_or_path, request).config
            return (config, {}) if is_asked else config
        kind = _of_type(_CONFIGS, _model_type(source, hub), str(pretrained_model_name_or_path))
        return kind.from_pretrained(source, **checkpoints.hub_keywords(hub), **left)


class AutoModel(_Auto):
    """A model of the class that its files name.

    Example:
        >>> model = sfm_lightglue.AutoModel.from_pretrained("lightglue_sift")
        >>> type(model).__name__
        'LightGlueForKeypointMatching'
    """

    models: ClassVar[Mapping[str, type[PretrainedModel]]] = {
        "lightglue": LightGlueForKeypointMatching,
        "superpoint": SuperPointForKeypointDetection,
    }
    """The classes by model type; the first is that of a single file of weights."""

    @classmethod
    def from_config(cls, config: Any, **keywords: Any) -> Any:
        """A model with untrained weights.

        Args:
            config: of this library or of `transformers`.
            keywords: `dtype`; others of `from_pretrained` have no effect.

        Raises:
            ConfigError: if there is no model of this configuration, or a keyword is refused.
        """
        _, left = split_keywords(keywords, f"{cls.__name__}.from_config")
        dtype = left.pop("dtype", left.pop("torch_dtype", None))
        if left:
            raise ConfigError(f"{cls.__name__}.from_config: unknown option {min(left)!r}; set it in the configuration")
        model_type = str(getattr(config, "model_type", type(config).__name__))
        model: Any = _of_type(cls.models, model_type, cls.__name__)(config)
        return model.to(dtype_from(dtype))

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *, config: Any = None, **keywords: Any) -> Any:
        """Read a model; arguments, results and errors as in `LightGlueForKeypointMatching.from_pretrained`."""
        asks_code = {"trust_remote_code": True} if keywords.get("trust_remote_code") else {}  # refused before downloads
        files = {key: value for key, value in keywords.items() if key in _FILES}
        hub, _ = split_keywords(files | asks_code, cls.__name__)
        if config is not None and not isinstance(config, (str, Path)):
            model_type = str(getattr(config, "model_type", type(config).__name__))
        else:
            source = find_source(pretrained_model_name_or_path if config is None else config, hub)
            is_file = isinstance(source, Path) and source.is_file() and source.suffix != ".json"
            model_type = next(iter(cls.models)) if is_file else _model_type(source, hub)
        kind: Any = _of_type(cls.models, model_type, f"{pretrained_model_name_or_path} as {cls.__name__}")
        return kind.from_pretrained(pretrained_model_name_or_path, config=config, **keywords)


class AutoModelForKeypointMatching(AutoModel):
    """A matcher of keypoints of the class that its files name.

    Example:
        >>> model = sfm_lightglue.AutoModelForKeypointMatching.from_pretrained("lightglue_sift")
        >>> model.config.keypoint_detector_config.model_type
        'sift'
    """

    models: ClassVar[Mapping[str, type[PretrainedModel]]] = {"lightglue": LightGlueForKeypointMatching}


class AutoModelForKeypointDetection(AutoModel):
    """A detector of keypoints of the class that its files name.

    Example:
        >>> config = sfm_lightglue.SuperPointConfig(descriptor_decoder_dim=64)
        >>> type(sfm_lightglue.AutoModelForKeypointDetection.from_config(config)).__name__
        'SuperPointForKeypointDetection'
    """

    models: ClassVar[Mapping[str, type[PretrainedModel]]] = {"superpoint": SuperPointForKeypointDetection}


class AutoImageProcessor(_Auto):
    """The image processor of a model, of the class that its files name.

    Example:
        >>> processor = sfm_lightglue.AutoImageProcessor.from_pretrained("lightglue_sift")
        >>> processor.size
        {'height': 1024, 'width': 1024}
    """

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        use_fast: bool | None = None,
        backend: str | None = None,
        **keywords: Any,
    ) -> Any:
        """Read a processor.

        Args:
            pretrained_model_name_or_path: a folder or a repository with a preprocessor_config.json or a
                processor_config.json; or a file of LightGlue's weights, which gets the processor of its detector.
            use_fast: True prepares images with torch, False with Pillow; None is as the file says.
            backend: the same by its names in `transformers` 5: "torchvision" or "pil".
            keywords: as in `LightGlueImageProcessor.from_pretrained`.

        Raises:
            ConfigError: if the file cannot be read or names another processor, and on impossible options.
            WeightsError: if the file is missing.
        """
        hub, left = split_keywords(keywords, "AutoImageProcessor.from_pretrained")
        if backend not in (None, *_BACKENDS):
            raise ConfigError(f"backend: expected 'pil' or 'torchvision', got {backend!r}")
        use_fast = use_fast if backend is None else _BACKENDS[backend]
        is_repository = not Path(pretrained_model_name_or_path).expanduser().exists() and "/" in str(
            pretrained_model_name_or_path
        )  # it has a file of the processor, also where its weights are a single file of the catalogue
        source = pretrained_model_name_or_path if is_repository else find_source(pretrained_model_name_or_path, hub)
        if isinstance(source, Path) and source.is_file() and source.suffix != ".json":
            config = checkpoints.load(pretrained_model_name_or_path, checkpoints.LoadRequest(hub)).config
            options = {**default_processor(config.keypoint_detector_config.model_type).to_dict(), **left}
            options.pop("image_processor_type")
            return _PROCESSORS["lightglue"][bool(use_fast)](**options)
        access = checkpoints.hub_keywords(hub)
        values, _ = LightGlueImageProcessor.get_image_processor_dict(source, **access)
        named = str(values.get("image_processor_type") or "")
        stem = named.removesuffix("Fast").removesuffix("Pil")
        found = next((key for key, kinds in _PROCESSORS.items() if kinds[0].__name__ == stem), None)
        if named and found is None:
            raise ConfigError(f"{pretrained_model_name_or_path}: image_processor_type {named!r} is not built in")
        kinds: Any = _of_type(_PROCESSORS, found or _model_type(source, hub), str(pretrained_model_name_or_path))
        is_fast = named.endswith("Fast") if use_fast is None else use_fast
        return kinds[bool(is_fast)].from_pretrained(source, **access, **left)


_BACKENDS = {"pil": False, "torchvision": True}
"""Names of the ways to prepare images, and whether they use torch."""
_FILES = frozenset(HubOptions.__dataclass_fields__) | {"use_auth_token"}


def _model_type(source: Path | str, hub: HubOptions) -> str:
    """The model type in a config.json, which may be the source itself."""
    path = source if isinstance(source, Path) and source.is_file() else find_file(source, CONFIG_FILE, hub)
    model_type = read_json(path).get("model_type")
    if not isinstance(model_type, str):
        raise ConfigError(f"{path}: has no model_type; use the class of the model itself")
    return model_type


def _of_type(kinds: Mapping[str, Any], model_type: str, what: str) -> Any:
    """The entry of a model type.

    Raises:
        ConfigError: if there is none.
    """
    if model_type not in kinds:
        raise ConfigError(f"{what}: {model_type!r} is not built in here; known are {', '.join(sorted(kinds))}")
    return kinds[model_type]
