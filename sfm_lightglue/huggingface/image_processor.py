"""Image processor: model input from pairs of images, and matches in pixels of the original images."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as PilImage
from torch import Tensor

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.drawing import draw_pair
from sfm_lightglue.huggingface.image_inputs import CHANNELS_FIRST, CHANNELS_LAST, ImageLike, as_pairs, channels_first
from sfm_lightglue.huggingface.letterbox import fit_within, sizes_in_frame, to_original_pixels
from sfm_lightglue.huggingface.outputs import ImageBatch
from sfm_lightglue.weights.hub import find_file, read_json, write_json

CONFIG_FILE = "preprocessor_config.json"

_GREY = (0.2989, 0.5870, 0.1140)
"""Weights of red, green and blue (ITU-R BT.601), with the digits of torchvision and `transformers`."""
_TORCH_MODES = {0: "nearest-exact", 2: "bilinear", 3: "bicubic"}

_LOGGER = logging.getLogger(__name__)

ProcessorT = TypeVar("ProcessorT", bound="LightGlueImageProcessor")


@dataclass(frozen=True, slots=True)
class ProcessorOptions:
    """Steps of the preparation of an image, in this order.

    Raises:
        ValueError: on an impossible size, filter or factor.
    """

    do_resize: bool = True
    """Resize the image to fit into `size`; False only pads it to the largest image of the batch."""
    size: Any = None
    """{"height", "width"} or (height, width) of the model input; None is 480 x 640."""
    resample: int = 2
    """One of `PIL.Image.Resampling`: 2 bilinear, 3 bicubic, 0 nearest, 1 Lanczos, ..."""
    keep_aspect_ratio: bool = True
    """Keep the aspect ratio, and pad at the right and below; False stretches the image, as in `transformers`."""
    do_rescale: bool = True
    """Multiply values by `rescale_factor`."""
    rescale_factor: float = 1 / 255
    """Factor from values of the image to [0, 1]."""
    do_grayscale: bool = True
    """Convert the image to grey, in three equal channels."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", _as_size(self.size))
        object.__setattr__(self, "resample", int(self.resample))
        if self.resample not in {int(each) for each in PilImage.Resampling}:
            raise ValueError(f"resample: expected one of PIL.Image.Resampling, got {self.resample}")
        if not 0 < self.rescale_factor < float("inf"):
            raise ValueError(f"rescale_factor: must be positive, got {self.rescale_factor}")

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of the model input."""
        return self.size["height"], self.size["width"]


class LightGlueImageProcessor:
    """Prepares pairs of images with Pillow, and converts the model output to matches in pixels.

    Keywords are the fields of `ProcessorOptions`. They can also be given to `preprocess`, for one call.

    Raises:
        ValueError: on impossible options.

    Example:
        >>> processor = sfm_lightglue.LightGlueImageProcessor()
        >>> images = [sfm_lightglue.Image.read(name).rgb() for name in ("left.jpg", "right.jpg")]
        >>> inputs = processor(images, return_tensors="pt")
        >>> tuple(inputs["pixel_values"].shape)
        (1, 2, 3, 480, 640)
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values", "image_sizes"]

    def __init__(self, **options: Any) -> None:
        self.options = ProcessorOptions(**options)

    def __getattr__(self, name: str) -> Any:
        if name in {field.name for field in fields(ProcessorOptions)}:
            return getattr(self.options, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        if name in {field.name for field in fields(ProcessorOptions)}:
            self.options = replace(self.options, **{name: value})
        else:
            super().__setattr__(name, value)

    def __call__(self, images: Any, **options: Any) -> ImageBatch:
        """Same as `preprocess`."""
        return self.preprocess(images, **options)

    def preprocess(
        self,
        images: Any,
        *,
        return_tensors: str | None = None,
        data_format: str = CHANNELS_FIRST,
        input_data_format: str | None = None,
        **options: Any,
    ) -> ImageBatch:
        """Prepare pairs of images.

        Args:
            images: a pair or a list of pairs of PIL images, arrays or tensors, grey or colour, of any sizes.
            return_tensors: "pt" for tensors, "np" for arrays, None for a list of arrays [2, 3, H, W].
            data_format: of the result, "channels_first" or "channels_last".
            input_data_format: of arrays and tensors, likewise; None detects it.
            options: fields of `ProcessorOptions` for this call; None values are ignored.

        Returns:
            `pixel_values` [B, 2, 3, H, W], and `image_sizes` [B, 2, 2], (height, width) of the images at its upper
            left; stretched images fill it.

        Raises:
            ValueError: if `images` are not pairs of images, and on impossible options.
        """
        kind = getattr(return_tensors, "value", return_tensors)
        layout = str(getattr(data_format, "value", data_format))
        if kind not in (None, "pt", "np") or layout not in (CHANNELS_FIRST, CHANNELS_LAST):
            raise ValueError(
                f"preprocess: expected return_tensors 'pt', 'np' or None and data_format {CHANNELS_FIRST!r} or"
                f" {CHANNELS_LAST!r}, got {kind!r} and {layout!r}"
            )
        chosen, device = self._for_this_call(options)
        pairs, _ = as_pairs(images)
        prepared = [self._prepare(image, chosen, device, input_data_format) for pair in pairs for image in pair]
        sizes = torch.tensor([image.shape[1:] for image in prepared]).reshape(-1, 2, 2)
        height, width = chosen.frame if chosen.do_resize else (int(sizes[..., 0].max()), int(sizes[..., 1].max()))
        padded = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in prepared]
        pixels = torch.stack(padded).view(-1, 2, 3, height, width)  # [2 B, ...] -> [B, 2, ...]
        if layout == CHANNELS_LAST:
            pixels = pixels.movedim(2, -1).contiguous()
        batch = ImageBatch(pixel_values=pixels, image_sizes=sizes.to(pixels.device))
        return batch if kind == "pt" else ImageBatch({key: self._as_kind(each, kind) for key, each in batch.items()})

    def post_process_keypoint_matching(
        self, outputs: Any, target_sizes: Tensor | Sequence[Any], threshold: float = 0.0
    ) -> list[dict[str, Tensor]]:
        """Matches in pixels of the original images.

        Args:
            outputs: of `LightGlueForKeypointMatching`.
            target_sizes: [B, 2, 2] or a list of pairs of (height, width) of the original images.
            threshold: only matches with a score above this are returned.

        Returns:
            For each pair `keypoints0` [M, 2] and `keypoints1` [M, 2] float (x, y) in pixels, with the centre of
            the first pixel at 0; `matching_scores` [M]; `matching_indices` [M, 2] into the points of the output.

        Raises:
            ValueError: if `target_sizes` does not have two sizes for each pair.
        """
        mask = outputs.mask > 0
        sizes = _as_sizes(target_sizes, len(mask)).to(mask.device)
        keypoints, seen = outputs.keypoints, getattr(outputs, "image_sizes", None)
        frame, filled = getattr(outputs, "input_size", None), getattr(outputs, "filled_sizes", None)
        if seen is None and frame is not None and filled is not None:
            # The model got no `image_sizes`, perhaps from another processor. An image is treated as padded if the
            # input outside of its fitted size is black.
            whole, fitted = torch.tensor(frame).to(sizes), sizes_in_frame(sizes, frame).to(sizes)
            seen = torch.where((filled <= fitted).all(-1, keepdim=True), fitted, whole)  # [B, 2, 2]
            keypoints = keypoints * (whole / seen).flip(-1)[:, :, None]
        pixels = to_original_pixels(keypoints, sizes, seen)
        results = []
        for points, valid, matches, scores in zip(
            pixels, mask, outputs.matches[:, 0], outputs.matching_scores[:, 0], strict=True
        ):
            is_match = valid[0] & (matches >= 0) & (scores > threshold)
            idx0 = is_match.nonzero()[:, 0]
            idx1 = matches[idx0].long()
            results.append(
                {
                    "keypoints0": points[0, idx0],
                    "keypoints1": points[1, idx1],
                    "matching_scores": scores[idx0],
                    "matching_indices": torch.stack([idx0, idx1], dim=1),
                }
            )
        return results

    def visualize_keypoint_matching(
        self, images: Any, keypoint_matching_output: Sequence[Mapping[str, Tensor]]
    ) -> list[PilImage.Image]:
        """Draw the images of each pair side by side with their matches, from red (score 0) to green (score 1).

        Args:
            images: as for `preprocess`, with values from 0 to 255, or floats from 0 to 1.
            keypoint_matching_output: of `post_process_keypoint_matching`.

        Raises:
            ValueError: if the numbers of pairs differ.
        """
        pairs, _ = as_pairs(images)
        if len(pairs) != len(keypoint_matching_output):
            raise ValueError(
                f"visualize: got {len(pairs)} pairs of images, but matches of {len(keypoint_matching_output)} pairs"
            )
        return [
            draw_pair((channels_first(first), channels_first(second)), matches)
            for (first, second), matches in zip(pairs, keypoint_matching_output, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """The content of a preprocessor_config.json."""
        return {**asdict(self.options), "image_processor_type": type(self).__name__}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a preprocessor_config.json, which `transformers` can read.

        Raises:
            StoreError: if the file cannot be written.
        """
        write_json(Path(folder) / CONFIG_FILE, self.to_dict())

    @classmethod
    def from_pretrained(cls: type[ProcessorT], name_or_path: str | Path, **options: Any) -> ProcessorT:
        """Read the preprocessor_config.json of a folder, or of a repository on the hub.

        Args:
            name_or_path: the folder or the repository; the file may be written by `transformers`.
            options: replace those of the file.

        Raises:
            ConfigError: if the file cannot be read, or has impossible options.
            WeightsError: if the file is missing.
        """
        path = find_file(name_or_path, CONFIG_FILE)
        names = {field.name for field in fields(ProcessorOptions)}
        values = {key: value for key, value in read_json(path).items() if key in names and value is not None}
        try:
            return cls(**{**values, **options})
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{path}: {error}") from error

    def _for_this_call(self, options: Mapping[str, Any]) -> tuple[ProcessorOptions, torch.device | None]:
        """The options for a call, and the device; None for a class without device."""
        given = {key: value for key, value in options.items() if value is not None}
        return replace(self.options, **given), None

    def _prepare(
        self, image: ImageLike, options: ProcessorOptions, device: torch.device | None, input_data_format: str | None
    ) -> Tensor:
        """An image [3, h, w] float32 in its final size, without padding."""
        del device
        pixels = channels_first(image, input_data_format)
        if options.do_resize:
            height, width = _target_size(pixels.shape[1:], options)
            pixels = np.stack([_resized(channel, (width, height), options.resample) for channel in pixels])
        return _as_input(torch.from_numpy(pixels), options)

    def _as_kind(self, values: Tensor, kind: str | None) -> Any:
        return values.cpu().numpy() if kind == "np" else [each.cpu().numpy() for each in values]


class LightGlueImageProcessorFast(LightGlueImageProcessor):
    """As `LightGlueImageProcessor`, but with torch on any device; resampled values differ by rounding.

    Args:
        device: of the preparation and the result; None for that of a given tensor, else the CPU.
        options: fields of `ProcessorOptions`; `resample` is nearest (0), bilinear (2) or bicubic (3).

    Raises:
        ValueError: on impossible options.

    Example:
        >>> processor = sfm_lightglue.LightGlueImageProcessorFast(device="cpu")
        >>> images = [sfm_lightglue.Image.read(name).rgb() for name in ("left.jpg", "right.jpg")]
        >>> inputs = processor(images, return_tensors="pt")
        >>> tuple(inputs["pixel_values"].shape)
        (1, 2, 3, 480, 640)
    """

    def __init__(self, device: torch.device | str | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.device = device
        _torch_mode(self.options)

    def _for_this_call(self, options: Mapping[str, Any]) -> tuple[ProcessorOptions, torch.device | None]:
        device = options.get("device") or self.device
        chosen, _ = super()._for_this_call({key: value for key, value in options.items() if key != "device"})
        _torch_mode(chosen)
        return chosen, None if device is None else torch.device(device)

    def _prepare(
        self, image: ImageLike, options: ProcessorOptions, device: torch.device | None, input_data_format: str | None
    ) -> Tensor:
        if isinstance(image, Tensor) and image.ndim == 3 and input_data_format == CHANNELS_FIRST:
            pixels = image  # without copy
        else:
            home = image.device if isinstance(image, Tensor) else None
            pixels = torch.from_numpy(channels_first(image, input_data_format)).to(home)
        pixels = pixels.to(device) if device is not None else pixels
        if options.do_resize:
            target, mode = _target_size(pixels.shape[1:], options), _torch_mode(options)
            smooth = {} if mode == "nearest-exact" else {"antialias": True, "align_corners": False}
            resized = F.interpolate(pixels[None].float(), target, mode=mode, **smooth)[0]
            pixels = resized if pixels.is_floating_point() else resized.round().clamp(0, 255)
        return _as_input(pixels, options)

    def _as_kind(self, values: Tensor, kind: str | None) -> Any:
        return values.cpu().numpy() if kind == "np" else list(values)


def _as_size(size: Any) -> dict[str, int]:
    if size is None:
        return {"height": 480, "width": 640}
    values = size
    if isinstance(size, Mapping) and set(size) == {"height", "width"}:
        values = (size["height"], size["width"])
    if isinstance(values, Sequence) and len(values) == 2 and all(isinstance(each, int) and each > 0 for each in values):
        return {"height": values[0], "width": values[1]}
    raise ValueError(f'size: expected {{"height": H, "width": W}} or (height, width), got {size!r}')


def _as_sizes(target_sizes: Any, num_pairs: int) -> Tensor:
    try:
        sizes = torch.as_tensor(np.asarray(target_sizes.cpu() if isinstance(target_sizes, Tensor) else target_sizes))
    except ValueError as error:
        raise ValueError("target_sizes: expected two sizes (height, width) for each pair") from error
    if tuple(sizes.shape) != (num_pairs, 2, 2):
        raise ValueError(
            f"target_sizes: expected [{num_pairs}, 2, 2], (height, width) of both images of each pair, got"
            f" {list(sizes.shape)}"
        )
    return sizes


def _target_size(size: Sequence[int], options: ProcessorOptions) -> tuple[int, int]:
    return fit_within((size[0], size[1]), options.frame) if options.keep_aspect_ratio else options.frame


def _resized(channel: np.ndarray[Any, Any], size: tuple[int, int], resample: int) -> np.ndarray[Any, Any]:
    """A channel [h, w] of uint8 or float32 in another size (width, height)."""
    return np.asarray(PilImage.fromarray(channel).resize(size, PilImage.Resampling(resample)))


def _torch_mode(options: ProcessorOptions) -> str:
    if options.resample not in _TORCH_MODES:
        raise ValueError(
            f"resample: torch supports {sorted(_TORCH_MODES)}, got {options.resample}; use LightGlueImageProcessor"
        )
    return _TORCH_MODES[options.resample]


def _as_input(pixels: Tensor, options: ProcessorOptions) -> Tensor:
    """Input of the model [3, h, w] float32 from pixels [1 or 3, h, w]."""
    is_float = pixels.is_floating_point()
    values = pixels.float()
    if options.do_rescale:
        if is_float and options.rescale_factor < 0.1 and float(values.amax()) <= 1.0:
            _LOGGER.warning(
                "images already have values in [0, 1], and rescaling makes them black; give do_rescale=False"
            )
        values = values * options.rescale_factor
    if len(values) == 1:
        return values.expand(3, -1, -1)
    if options.do_grayscale and not bool((values == values[:1]).all()):
        red, green, blue = values
        grey: Tensor = _GREY[0] * red + _GREY[1] * green + _GREY[2] * blue
        return grey.expand(3, -1, -1)
    return values[:3]
