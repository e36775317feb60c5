"""Image processors of SuperPoint: model input from single images, and keypoints in pixels of the original images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfm_lightglue.huggingface.image_inputs import ImageLike, as_single_images
from sfm_lightglue.huggingface.image_processor import FastSteps
from sfm_lightglue.huggingface.pixel_steps import grey_bytes
from sfm_lightglue.huggingface.point_positions import detections_in_pixels
from sfm_lightglue.huggingface.processor_base import ImageProcessorBase
from sfm_lightglue.huggingface.processor_options import ProcessorOptions


class SuperPointImageProcessor(ImageProcessorBase):
    """Prepares single images with Pillow, and converts the output of SuperPoint to keypoints in pixels.

    Keywords are the fields of `ProcessorOptions`. Images are stretched to 480 x 640 and keep their colours by
    default, as in `transformers`. `preprocess` takes an image, a list of images, or a list of such lists, and returns
    `pixel_values` [B, 3, H, W].

    Raises:
        TypeError: on unknown options.
        ValueError: on impossible options.

    Example:
        >>> processor = sfm_lightglue.SuperPointImageProcessor()
        >>> inputs = processor("left.jpg", return_tensors="pt")
        >>> tuple(inputs["pixel_values"].shape)
        (1, 3, 480, 640)
    """

    default_options: ClassVar[Mapping[str, Any]] = {"do_grayscale": False, "keep_aspect_ratio": False}

    def _flat(self, images: Any) -> list[ImageLike]:
        return as_single_images(images)

    def _grouped(self, values: Tensor) -> Tensor:
        return values

    def post_process_keypoint_detection(
        self, outputs: Any, target_sizes: Tensor | Sequence[Any], inputs: Mapping[str, Any] | None = None
    ) -> list[dict[str, Tensor]]:
        """Keypoints in pixels of the original images.

        Args:
            outputs: of `SuperPointForKeypointDetection`, here or in `transformers`.
            target_sizes: [B, 2] or a list of (height, width) of the original images.
            inputs: the batch that the model got; needed for outputs without sizes if the images were padded.

        Returns:
            For each image `keypoints` [N, 2] float (x, y) in pixels, with the centre of the first pixel at 0; `scores`
            [N]; `descriptors` [N, D].

        Raises:
            ValueError: if `target_sizes` does not have one size for each image, and if the outputs do not tell how the
                images were resized.
        """
        return detections_in_pixels(outputs, target_sizes, self.options, inputs, not self.has_other_geometry)


class SuperPointImageProcessorFast(FastSteps, SuperPointImageProcessor):
    """As `SuperPointImageProcessor`, but with torch on any device; resampled values differ by rounding.

    Args:
        device: of the preparation and the result; None for that of a given tensor, else the CPU.
        options: fields of `ProcessorOptions`; `resample` is nearest (0), bilinear (2) or bicubic (3).

    Raises:
        TypeError: on unknown options.
        ValueError: on impossible options.

    Example:
        >>> processor = sfm_lightglue.SuperPointImageProcessorFast(device="cpu")
        >>> inputs = processor(["left.jpg", "right.jpg"], return_tensors="pt")
        >>> tuple(inputs["pixel_values"].shape)
        (2, 3, 480, 640)
    """

    def _one(self, pixels: Tensor, options: ProcessorOptions, device: torch.device | None) -> Tensor:
        # The torchvision processor of `transformers` converts SuperPoint's images to grey before the resize.
        return super()._one(grey_bytes(pixels) if options.do_grayscale else pixels, options, device)
