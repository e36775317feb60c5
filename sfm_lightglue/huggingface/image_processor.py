"""Image processors of LightGlue: model input from pairs of images, and matches in pixels of the original images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image as PilImage
from torch import Tensor

from sfm_lightglue.huggingface.drawing import draw_pair
from sfm_lightglue.huggingface.image_inputs import ImageLike, as_pairs, channels_first
from sfm_lightglue.huggingface.image_loading import load_image
from sfm_lightglue.huggingface.pixel_steps import as_model_input, resized_by_torch, torch_mode
from sfm_lightglue.huggingface.point_positions import matches_in_pixels
from sfm_lightglue.huggingface.processor_base import ImageProcessorBase
from sfm_lightglue.huggingface.processor_options import ProcessorOptions


class LightGlueImageProcessor(ImageProcessorBase):
    """Prepares pairs of images with Pillow, and converts the model output to matches in pixels.

    Keywords are the fields of `ProcessorOptions`. They can also be given to `preprocess`, for one call. Files of
    `transformers` stretch images; a new processor keeps their aspect ratio. `preprocess` takes a pair of images or a
    list of pairs, and returns `pixel_values` [B, 2, 3, H, W].

    Raises:
        TypeError: on unknown options.
        ValueError: on impossible options.

    Example:
        >>> processor = sfm_lightglue.LightGlueImageProcessor()
        >>> images = [sfm_lightglue.Image.read(name).rgb() for name in ("left.jpg", "right.jpg")]
        >>> inputs = processor(images, return_tensors="pt")
        >>> tuple(inputs["pixel_values"].shape)
        (1, 2, 3, 480, 640)
    """

    def _flat(self, images: Any) -> list[ImageLike]:
        return [image for pair in as_pairs(images)[0] for image in pair]

    def _grouped(self, values: Tensor) -> Tensor:
        return values.view(-1, 2, *values.shape[1:])  # [2 B, ...] -> [B, 2, ...]

    def post_process_keypoint_matching(
        self,
        outputs: Any,
        target_sizes: Tensor | Sequence[Any],
        threshold: float = 0.0,
        inputs: Mapping[str, Any] | None = None,
    ) -> list[dict[str, Tensor]]:
        """Matches in pixels of the original images.

        Args:
            outputs: of `LightGlueForKeypointMatching`, or of a matcher of `transformers`.
            target_sizes: [B, 2, 2] or a list of pairs of (height, width) of the original images.
            threshold: only matches with a score above this are returned.
            inputs: the batch that the model got. It is needed for outputs of `transformers`, which lack the sizes, if
                the images were padded.

        Returns:
            For each pair `keypoints0` [M, 2] and `keypoints1` [M, 2] float (x, y) in pixels, with the centre of
            the first pixel at 0; `matching_scores` [M]; `matching_indices` [M, 2] into the points of the output.

        Raises:
            ValueError: if `target_sizes` does not have two sizes (height, width) for each pair; if the outputs do not
                tell how the images were resized; and if `transformers.pipeline` calls with unknown sizes.
        """
        is_certain = not self.has_other_geometry
        return matches_in_pixels(outputs, target_sizes, threshold, self.options, inputs, is_certain)

    def visualize_keypoint_matching(
        self, images: Any, keypoint_matching_output: Sequence[Mapping[str, Tensor]]
    ) -> list[PilImage.Image]:
        """Draw the images of each pair side by side with their matches, from red (score 0) to green (score 1).

        Args:
            images: as for `preprocess`, with values from 0 to 255, or floats from 0 to 1.
            keypoint_matching_output: of `post_process_keypoint_matching`.

        Raises:
            DataError: if a path or an address cannot be read.
            ValueError: if the numbers of pairs differ.
        """
        pairs, _ = as_pairs(images)
        if len(pairs) != len(keypoint_matching_output):
            raise ValueError(
                f"visualize: got {len(pairs)} pairs of images, but matches of {len(keypoint_matching_output)} pairs"
            )
        return [
            draw_pair((_drawable(first), _drawable(second)), matches)
            for (first, second), matches in zip(pairs, keypoint_matching_output, strict=True)
        ]


class FastSteps(ImageProcessorBase):
    """The steps of a processor with torch on any device, instead of Pillow."""

    def __init__(self, device: torch.device | str | None = None, **options: Any) -> None:
        super().__init__(device=device, **options)
        torch_mode(self.options.resample)

    def _options_for(self, changes: Mapping[str, Any]) -> ProcessorOptions:
        options = super()._options_for(changes)
        torch_mode(options.resample)
        return options

    def _one(self, pixels: Tensor, options: ProcessorOptions, device: torch.device | None) -> Tensor:
        resized = pixels.to(device)
        if options.do_resize:
            resized = resized_by_torch(resized, options.resized(pixels.shape[1:]), options.resample)
        return as_model_input(resized, options)

    def _as_list(self, values: Tensor) -> list[Any]:
        return list(values)


class LightGlueImageProcessorFast(FastSteps, LightGlueImageProcessor):
    """As `LightGlueImageProcessor`, but with torch on any device; resampled values differ by rounding.

    Args:
        device: of the preparation and the result; None for that of a given tensor, else the CPU.
        options: fields of `ProcessorOptions`; `resample` is nearest (0), bilinear (2) or bicubic (3).

    Raises:
        TypeError: on unknown options.
        ValueError: on impossible options.

    Example:
        >>> processor = sfm_lightglue.LightGlueImageProcessorFast(device="cpu")
        >>> images = [sfm_lightglue.Image.read(name).rgb() for name in ("left.jpg", "right.jpg")]
        >>> inputs = processor(images, return_tensors="pt")
        >>> tuple(inputs["pixel_values"].shape)
        (1, 2, 3, 480, 640)
    """


def _drawable(image: Any) -> Any:
    return channels_first(load_image(image) if isinstance(image, str) or hasattr(image, "read_bytes") else image)


def load_processor(name_or_path: str | Path, **keywords: Any) -> LightGlueImageProcessor:
    """The processor of a folder or a repository, of the class that its file names; keywords as in `from_pretrained`.

    Raises:
        ConfigError: if the file cannot be read, or has impossible options.
        WeightsError: if the file is missing.
    """
    values, _ = LightGlueImageProcessor.get_image_processor_dict(name_or_path, **keywords)
    is_fast = str(values.get("image_processor_type", "")).endswith("Fast")
    kind = LightGlueImageProcessorFast if is_fast else LightGlueImageProcessor
    processor: LightGlueImageProcessor = kind.from_pretrained(name_or_path, **keywords)
    return processor


def default_processor(detector: str, keep_aspect_ratio: bool = True) -> LightGlueImageProcessor:
    """The processor of a model that has no file of one.

    Args:
        detector: model type of its detector. SIFT finds too few keypoints in 640 x 480; DISK sees colours.
        keep_aspect_ratio: False stretches images, as the files of `transformers` do.
    """
    size = {"height": 1024, "width": 1024} if detector == "sift" else None
    return LightGlueImageProcessor(size=size, do_grayscale=detector != "disk", keep_aspect_ratio=keep_aspect_ratio)
