"""Options of the image processors, with the names and defaults of `transformers`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from PIL import Image as PilImage

from sfm_lightglue.huggingface.frame_size import DEFAULT_SIZE, as_size, frame_of, resized_size
from sfm_lightglue.huggingface.image_inputs import CHANNELS_FIRST, CHANNELS_LAST
from sfm_lightglue.messages import nearest_hint

KEYS_OF_FILES = ("image_processor_type", "feature_extractor_type", "processor_class")
"""Keys of a preprocessor_config.json that are no options."""


@dataclass(frozen=True, slots=True)
class ProcessorOptions:
    """Steps of the preparation of an image, in this order.

    Raises:
        ValueError: on an impossible size, filter, factor or type.
    """

    do_convert_rgb: bool | None = None
    """Blend transparent images onto white; without, transparency is dropped."""
    do_resize: bool = True
    """Resize the image to `size`; False only pads it to the largest image of the batch."""
    size: Any = None
    """Of the model input: {"height", "width"} or (height, width); None is 480 x 640. {"shortest_edge"},
    {"longest_edge"}, both, and {"max_height", "max_width"} keep the aspect ratio, and the model input is the largest
    image of the batch. One number is the shortest edge."""
    default_to_square: bool = False
    """One number as `size` is height and width, instead of the shortest edge."""
    resample: int = 2
    """One of `PIL.Image.Resampling`: 2 bilinear, 3 bicubic, 0 nearest, 1 Lanczos, ..."""
    keep_aspect_ratio: bool = True
    """Keep the aspect ratio, and pad at the right and below; False stretches the image, as in `transformers`. Files
    without this key were written by `transformers`, and stretch."""
    do_center_crop: bool | None = None
    """Not done, as in `transformers`: matches near the border would be lost. A warning tells it."""
    crop_size: Any = None
    """Size of the crop that is not done."""
    do_rescale: bool = True
    """Multiply values by `rescale_factor`."""
    rescale_factor: float = 1 / 255
    """Factor from values of the image to [0, 1]."""
    do_grayscale: bool = True
    """Convert the image to grey, in three equal channels."""
    do_normalize: bool | None = None
    """Subtract `image_mean` and divide by `image_std`. The detectors are made for images without this step."""
    image_mean: Any = None
    """One number, or one for each channel."""
    image_std: Any = None
    """One number, or one for each channel."""
    do_pad: bool | None = None
    """Pad the images to `pad_size`."""
    pad_size: Any = None
    """Size of the padded model input; None is the smallest that fits."""
    data_format: Any = None
    """Axis of the channels in the result, "channels_first" or "channels_last"; None is "channels_first"."""
    input_data_format: Any = None
    """Axis of the channels of given arrays and tensors; None detects it."""
    return_tensors: Any = None
    """Type of the result: "pt" for tensors, "np" for arrays; None is a list of arrays."""
    device: Any = None
    """Device of the result; None is that of a given tensor for `LightGlueImageProcessorFast`, else the CPU."""
    disable_grouping: bool | None = None
    """Without effect: images are prepared one by one."""
    image_seq_length: int | None = None
    """Without effect: it is for models of text."""

    def __post_init__(self) -> None:
        for name in _FLAGS:
            value = getattr(self, name)
            if not isinstance(value, bool) and not (value is None and name in _OPTIONAL_FLAGS):
                raise ValueError(f"{name}: expected True or False, got {value!r}")
        size = DEFAULT_SIZE if self.size is None else self.size
        object.__setattr__(self, "size", as_size(size, "size", is_square=self.default_to_square))
        for name in ("crop_size", "pad_size"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, as_size(getattr(self, name), name))
        object.__setattr__(self, "resample", _as_filter(self.resample))
        if not 0 < self.rescale_factor < float("inf"):
            raise ValueError(f"rescale_factor: must be positive, got {self.rescale_factor}")
        if self.do_pad and self.pad_size is not None and "height" not in self.pad_size:
            raise ValueError(f'pad_size: expected {{"height": H, "width": W}}, got {self.pad_size!r}')
        for name in ("data_format", "input_data_format"):
            object.__setattr__(self, name, _as_format(getattr(self, name), name))
        object.__setattr__(self, "return_tensors", getattr(self.return_tensors, "value", self.return_tensors))
        if self.return_tensors not in (None, "pt", "np"):
            raise ValueError(f"return_tensors: expected 'pt', 'np' or None, got {self.return_tensors!r}")
        self._check_normalization()

    @property
    def padded_size(self) -> dict[str, int] | None:
        """{"height", "width"} to pad to; None if there is none."""
        return self.pad_size if self.do_pad else None

    @property
    def geometry(self) -> tuple[Any, ...]:
        """What decides on size and place of an image in the model input."""
        return self.do_resize, self.size, self.keep_aspect_ratio, self.padded_size

    def resized(self, image_size: Any) -> tuple[int, int]:
        """(height, width) of an image of size (height, width) after the resize."""
        if not self.do_resize:
            return int(image_size[0]), int(image_size[1])
        return resized_size(image_size, self.size, self.keep_aspect_ratio)

    def frame(self, sizes: Any) -> tuple[int, int]:
        """(height, width) of the model input for images that have the given sizes after the resize.

        Raises:
            ValueError: if an image is larger than `pad_size`.
        """
        return frame_of(sizes, self.size if self.do_resize else None, self.padded_size)

    def normalization(self, num_channels: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation [C, 1, 1] float32."""
        values = (torch.as_tensor(each, dtype=torch.float32).reshape(-1) for each in (self.image_mean, self.image_std))
        mean, std = (each.expand(num_channels).reshape(-1, 1, 1) for each in values)
        return mean, std

    def _check_normalization(self) -> None:
        for name in ("image_mean", "image_std"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, (int, float)):
                object.__setattr__(self, name, tuple(float(each) for each in value))
        if not self.do_normalize:
            return
        for value in (self.image_mean, self.image_std):
            if value is None or (isinstance(value, tuple) and len(value) not in (1, 3)):
                raise ValueError("do_normalize: needs image_mean and image_std, each one number or three")
        if float(torch.as_tensor(self.image_std).min()) <= 0:
            raise ValueError(f"image_std: must be positive, got {self.image_std}")


OPTION_NAMES = tuple(field.name for field in fields(ProcessorOptions))

_OPTIONAL_FLAGS = ("do_convert_rgb", "do_center_crop", "do_normalize", "do_pad", "disable_grouping")
_FLAGS = (
    *("do_resize", "default_to_square", "keep_aspect_ratio", "do_rescale", "do_grayscale"),
    *_OPTIONAL_FLAGS,
)


def require_known(names: Iterable[str], caller: str) -> None:
    """Check names of options.

    Raises:
        TypeError: if one is unknown.
    """
    for name in names:
        if name not in OPTION_NAMES:
            raise TypeError(f"{caller}: unknown option {name!r}{nearest_hint(name, OPTION_NAMES)}")


def options_of(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> ProcessorOptions:
    """Options of a constructor; a dictionary from a file of `transformers` stretches images.

    Raises:
        TypeError: on an unknown option.
        ValueError: on an impossible value.
    """
    is_file = any(key in values for key in KEYS_OF_FILES)
    given = {key: value for key, value in values.items() if key not in KEYS_OF_FILES and value is not None}
    require_known(given, "image processor")
    return ProcessorOptions(**{**defaults, **({"keep_aspect_ratio": False} if is_file else {}), **given})


def _as_filter(value: Any) -> int:
    """A filter of Pillow; those of torchvision have its name as their value."""
    name = getattr(value, "value", value)
    if isinstance(name, str):
        name = _FILTER_FROM_NAME.get(name, name)
    if isinstance(name, bool) or name not in {int(each) for each in PilImage.Resampling}:
        raise ValueError(f"resample: expected one of PIL.Image.Resampling, got {value!r}")
    return int(name)


_FILTER_FROM_NAME = {
    "nearest": 0, "nearest-exact": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5,
}  # fmt: skip


def _as_format(value: Any, option: str) -> str | None:
    name = getattr(value, "value", value)
    if name not in (None, CHANNELS_FIRST, CHANNELS_LAST) and not (name == "none" and option == "input_data_format"):
        raise ValueError(f"{option}: expected {CHANNELS_FIRST!r} or {CHANNELS_LAST!r}, got {name!r}")
    return None if name in (None, "none") else str(name)
