"""What the image processors share: options as attributes, the preparation of images, and their files."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.image_batch import ImageBatch
from sfm_lightglue.huggingface.image_inputs import CHANNELS_LAST, ImageLike, as_pixels
from sfm_lightglue.huggingface.image_loading import load_image
from sfm_lightglue.huggingface.loading_options import NeverUploads, refuse_keywords, split_keywords
from sfm_lightglue.huggingface.pixel_steps import as_model_input, resized_by_pillow
from sfm_lightglue.huggingface.processor_options import (
    KEYS_OF_FILES,
    OPTION_NAMES,
    ProcessorOptions,
    options_of,
    require_known,
)
from sfm_lightglue.messages import nearest_hint
from sfm_lightglue.weights.hub import find_file, find_file_or_none, read_json, write_json

CONFIG_FILE = "preprocessor_config.json"
NESTED_CONFIG_FILE = "processor_config.json"
"""File of newer processors, which can contain the values of the image processor."""

_NESTED_KEY = "image_processor"
_LOGGER = logging.getLogger(__name__)

ProcessorT = TypeVar("ProcessorT", bound="ImageProcessorBase")


class ImageProcessorBase(NeverUploads):
    """Options, files, and the preparation of images with Pillow.

    Options are read and set as attributes.

    Raises:
        TypeError: on an unknown option.
        ValueError: on an impossible option.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values", "image_sizes"]
    default_options: ClassVar[Mapping[str, Any]] = {}
    """Options that differ from `ProcessorOptions`."""

    options: ProcessorOptions
    other_values: dict[str, Any]
    """Values of a file that are no options here; they are written again."""
    has_other_geometry: bool
    """Whether a call had another size or padding than the options, so that they do not tell where images lie; also
    after one of these options is set between calls."""
    has_prepared: bool
    """Whether images were prepared with the options."""

    def __init__(self, **options: Any) -> None:
        self.options = options_of(options, self.default_options)
        self.other_values = {}
        self.has_other_geometry = False
        self.has_prepared = False

    def __getattr__(self, name: str) -> Any:
        if name in OPTION_NAMES:
            return getattr(self.options, name)
        if name in self.__dict__.get("other_values", {}):
            return self.other_values[name]
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in OPTION_NAMES:
            self.options = replace(self.options, **{name: value})
            return
        if name == "options" and self.__dict__.get("has_prepared"):
            # The outputs to come may be of images that were prepared before.
            self.has_other_geometry = self.has_other_geometry or value.geometry != self.options.geometry
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"

    def __call__(self, images: Any, *args: Any, **options: Any) -> ImageBatch:
        """Same as `preprocess`."""
        return self.preprocess(images, *args, **options)

    def preprocess(
        self,
        images: Any,
        do_resize: bool | None = None,
        size: Any = None,
        resample: Any = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_grayscale: bool | None = None,
        return_tensors: Any = None,
        data_format: Any = None,
        input_data_format: Any = None,
        **options: Any,
    ) -> ImageBatch:
        """Prepare images. Options that are None are those of the processor.

        Args:
            images: an image is a path, an address (http or https), a PIL image, an array or a tensor, grey or colour,
                of any size. Images of paths and addresses are turned by their EXIF orientation.
            do_resize: see `ProcessorOptions`, as for the following.
            size: of the model input.
            resample: filter.
            do_rescale: whether to multiply values by `rescale_factor`.
            rescale_factor: to [0, 1].
            do_grayscale: whether to convert to grey.
            return_tensors: "pt" for tensors, "np" for arrays; None for a list of arrays, unless the processor has one.
            data_format: of the result.
            input_data_format: of arrays and tensors.
            options: further fields of `ProcessorOptions`.

        Returns:
            `pixel_values` [..., 3, H, W] float32, and `image_sizes` [..., 2], (height, width) of the images at its
            upper left; stretched images fill it.

        Raises:
            DataError: if a path or an address cannot be read.
            TypeError: on unknown options.
            ValueError: if a value is no image, and on impossible options.
        """
        named = {"do_resize": do_resize, "size": size, "resample": resample, "do_rescale": do_rescale}
        named |= {"rescale_factor": rescale_factor, "do_grayscale": do_grayscale, "data_format": data_format}
        named |= {"return_tensors": return_tensors}
        chosen = self._options_for({**named, "input_data_format": input_data_format, **options})
        kind = chosen.return_tensors
        pixels, sizes = self._prepared(self._flat(images), chosen)
        if chosen.data_format == CHANNELS_LAST:
            pixels = pixels.movedim(1, -1).contiguous()
        values = {"pixel_values": self._grouped(pixels), "image_sizes": self._grouped(sizes)}
        if kind is None:
            return ImageBatch({key: self._as_list(each) for key, each in values.items()})
        return ImageBatch(values, tensor_type=kind)

    def _flat(self, images: Any) -> list[ImageLike]:
        """The images in their order."""
        raise NotImplementedError

    def _grouped(self, values: Tensor) -> Tensor:
        """Values [N, ...] of the images in the shape of the result."""
        raise NotImplementedError

    def _options_for(self, changes: Mapping[str, Any]) -> ProcessorOptions:
        given = {key: value for key, value in changes.items() if value is not None}
        require_known(given, "preprocess")
        options = replace(self.options, **given)
        self.has_other_geometry = self.has_other_geometry or options.geometry != self.options.geometry
        self.has_prepared = True
        if options.do_center_crop:
            _LOGGER.warning("do_center_crop: not done, as in transformers: matches near the border would be lost")
        return options

    def _prepared(self, images: Sequence[ImageLike], options: ProcessorOptions) -> tuple[Tensor, Tensor]:
        """Model input [N, 3, H, W] float32, and (height, width) [N, 2] of each image at its upper left."""
        device = None if options.device is None else torch.device(options.device)
        prepared = []
        for image in images:
            loaded = load_image(image) if isinstance(image, (str, Path)) else image
            pixels = as_pixels(loaded, options.input_data_format, bool(options.do_convert_rgb))
            prepared.append(self._one(pixels, options, device))
        sizes = [(image.shape[1], image.shape[2]) for image in prepared]
        height, width = options.frame(sizes)
        padded = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in prepared]
        return torch.stack(padded), torch.tensor(sizes, device=padded[0].device)

    def _one(self, pixels: Tensor, options: ProcessorOptions, device: torch.device | None) -> Tensor:
        """An image [3, h, w] float32 in its final size, without padding, from pixels [1 or 3, h, w]."""
        resized = pixels.cpu()
        if options.do_resize:
            resized = resized_by_pillow(resized, options.resized(pixels.shape[1:]), options.resample)
        return as_model_input(resized, options, exactly=True).to(device)

    def _as_list(self, values: Tensor) -> list[Any]:
        return [each.cpu().numpy() for each in values]

    def to_dict(self) -> dict[str, Any]:
        """The content of a preprocessor_config.json.

        Options that are None are left out, and so is `device`: another machine may not have it.
        """
        values = {key: value for key, value in asdict(self.options).items() if value is not None and key != "device"}
        return {**self.other_values, **values, "image_processor_type": type(self).__name__}

    def to_json_string(self) -> str:
        """`to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | Path) -> None:
        """Write `to_dict` to a file.

        Raises:
            StoreError: if the file cannot be written.
        """
        write_json(Path(json_file_path), self.to_dict())

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **keywords: Any) -> list[str]:
        """Write a preprocessor_config.json, which `transformers` can read, and return its path in a list.

        Args:
            save_directory: is created.
            push_to_hub: True is refused: nothing is uploaded.
            keywords: are for uploads.

        Raises:
            ConfigError: if an upload is requested.
            StoreError: if the file cannot be written.
        """
        refuse_keywords({**keywords, "push_to_hub": push_to_hub}, f"{type(self).__name__}.save_pretrained")
        path = Path(save_directory) / CONFIG_FILE
        self.to_json_file(path)
        return [str(path)]

    @classmethod
    def from_dict(cls, image_processor_dict: Mapping[str, Any], **keywords: Any) -> Any:
        """A processor from the content of a preprocessor_config.json.

        Args:
            image_processor_dict: values; without `keep_aspect_ratio`, images are stretched, as in `transformers`.
                Unknown values are kept and written again; `device` is passed over.
            keywords: options that replace those of the dictionary. With `return_unused_kwargs=True`, the result is
                the processor and a dictionary of the unknown ones; else a warning names them.

        Raises:
            ValueError: on an impossible option.
        """
        returns_unused = bool(keywords.pop("return_unused_kwargs", False))
        unused = {key: value for key, value in keywords.items() if key not in OPTION_NAMES}
        known = {key: value for key, value in image_processor_dict.items() if key in OPTION_NAMES and key != "device"}
        changes = {key: value for key, value in keywords.items() if key in OPTION_NAMES and value is not None}
        processor = cls(**{"keep_aspect_ratio": False, **known, **changes})
        processor.other_values = {
            key: value
            for key, value in image_processor_dict.items()
            if key not in OPTION_NAMES and key not in KEYS_OF_FILES and value is not None
        }
        if returns_unused:
            return processor, unused
        for name in sorted(unused):
            hint = nearest_hint(name, OPTION_NAMES)
            _LOGGER.warning("%s: %s is no option%s, and is without effect", cls.__name__, name, hint)
        return processor

    @classmethod
    def from_json_file(cls: type[ProcessorT], json_file: str | Path) -> ProcessorT:
        """Read a file of `to_json_file`, or a preprocessor_config.json.

        Raises:
            ConfigError: if the file cannot be read, or has impossible options.
        """
        path = Path(json_file)
        try:
            processor: ProcessorT = cls.from_dict(read_json(path))
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path}: {error}") from error
        return processor

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: str | Path, **keywords: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The values of the file of a processor, and the keywords that do not choose a file.

        Args:
            pretrained_model_name_or_path: as for `from_pretrained`.
            keywords: those of `from_pretrained`; also `image_processor_filename`.

        Raises:
            ConfigError: if the file cannot be read, or on refused keywords.
            WeightsError: if the file is missing.
        """
        _, values, left = cls._read(pretrained_model_name_or_path, keywords)
        return values, left

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **keywords: Any) -> Any:
        """Read the processor of a folder, or of a repository on the hub.

        Args:
            pretrained_model_name_or_path: a folder or a repository with preprocessor_config.json or
                processor_config.json, or such a file; it may be written by `transformers`, and then stretches images.
            keywords: options that replace those of the file, `return_unused_kwargs` as in `from_dict`, and the
                keywords that choose a file: `revision`, `token`, `cache_dir`, `subfolder`, `local_files_only`,
                `force_download`.

        Raises:
            ConfigError: if the file cannot be read, or has impossible options.
            WeightsError: if the file is missing.
        """
        path, values, left = cls._read(pretrained_model_name_or_path, keywords)
        try:
            return cls.from_dict(values, **left)
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def _read(
        cls, name_or_path: str | Path, keywords: Mapping[str, Any]
    ) -> tuple[Path, dict[str, Any], dict[str, Any]]:
        hub, left = split_keywords(keywords, f"{cls.__name__}.from_pretrained")
        file_name = left.pop("image_processor_filename", CONFIG_FILE)
        if Path(name_or_path).is_file():
            path = Path(name_or_path)
            values = read_json(path)
            return path, values.get(_NESTED_KEY, values), left
        plain = find_file_or_none(name_or_path, file_name, hub)
        nested = None if plain is None else plain.with_name(NESTED_CONFIG_FILE)
        if nested is None or not nested.is_file():
            nested = None if plain is not None else find_file_or_none(name_or_path, NESTED_CONFIG_FILE, hub)
        inner = None if nested is None else read_json(nested).get(_NESTED_KEY)
        if nested is not None and isinstance(inner, dict):
            return nested, inner, left
        path = plain or find_file(name_or_path, file_name, hub)
        return path, read_json(path), left


def find_config(name_or_path: str | Path, **keywords: Any) -> Path | None:
    """File of the processor of a model, or None if it has none; keywords as for `from_pretrained`.

    Raises:
        ConfigError: on impossible keywords.
        WeightsError: if a repository cannot be reached.
    """
    hub, _ = split_keywords(keywords, "pipeline")
    found = (find_file_or_none(name_or_path, name, hub) for name in (CONFIG_FILE, NESTED_CONFIG_FILE))
    return next((path for path in found if path is not None), None)
