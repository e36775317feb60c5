"""Matching in one line: `pipeline("keypoint-matching")([image0, image1])`."""

from __future__ import annotations

import io
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from PIL import Image as PilImage
from PIL import ImageOps

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.execution.devices import resolve_device
from sfm_lightglue.huggingface import checkpoints
from sfm_lightglue.huggingface.image_inputs import as_pairs, image_size, is_image
from sfm_lightglue.huggingface.image_processor import CONFIG_FILE, LightGlueImageProcessor
from sfm_lightglue.huggingface.modeling import LightGlueForKeypointMatching
from sfm_lightglue.weights.hub import find_file_or_none

TASK = "keypoint-matching"

TIMEOUT_S = 60.0
"""Default timeout for images from a URL."""
MAX_DOWNLOAD_BYTES = 256 * 1024 * 1024
"""Largest size of an image from a URL."""

_DEFAULT_MODEL = "lightglue_sift"
"""Weights that are included in the package."""
_SIFT_SIZE = {"height": 1024, "width": 1024}
"""Model input for SIFT, which finds too few keypoints in 640 x 480."""


class Keypoint(TypedDict):
    """A point in pixels of the original image; the centre of the first pixel is at 0."""

    x: float
    y: float


class KeypointMatch(TypedDict):
    """A match of two points."""

    keypoint_image_0: Keypoint
    keypoint_image_1: Keypoint
    score: float


def pipeline(
    task: str = TASK,
    model: LightGlueForKeypointMatching | str | Path | None = None,
    image_processor: LightGlueImageProcessor | str | Path | None = None,
    *,
    device: torch.device | str | int | None = None,
    dtype: torch.dtype | str | None = None,
    trust_remote_code: bool | None = None,
    **model_options: Any,
) -> KeypointMatchingPipeline:
    """Make a pipeline that matches pairs of images.

    Args:
        task: must be "keypoint-matching".
        model: a model, or a name or path for `LightGlueForKeypointMatching.from_pretrained`; None is SIFT with the
            weights of this package, which are not downloaded. A given model is not copied: `device` and `dtype`
            change it, and it is set to evaluation mode.
        image_processor: a processor, or a name or path for its `from_pretrained`; None uses that of the model.
        device: such as "cuda" or "cpu"; numbers are CUDA devices, and -1 is the CPU.
        dtype: type of the weights; None and "auto" do not change a given model, and are float32 for others.
        trust_remote_code: always refused.
        model_options: fields of the configuration, such as `filter_threshold`.

    Raises:
        ValueError: on another task.
        ConfigError: on impossible options.
        WeightsError: if the weights are missing or do not fit.

    Example:
        >>> matcher = sfm_lightglue.pipeline("keypoint-matching")
        >>> matches = matcher(["left.jpg", "right.jpg"], threshold=0.2)
        >>> sorted(matches[0])
        ['keypoint_image_0', 'keypoint_image_1', 'score']
    """
    if task != TASK:
        raise ValueError(f"task: expected {TASK!r}, got {task!r}")
    if trust_remote_code:
        raise ConfigError("trust_remote_code=True is refused: code that comes with weights is not run")
    location = None if isinstance(model, LightGlueForKeypointMatching) else model
    if isinstance(model, LightGlueForKeypointMatching):
        if model_options:
            raise ConfigError(f"{', '.join(sorted(model_options))}: set in the configuration of the model instead")
        network = model if dtype in (None, "auto") else model.to(checkpoints.dtype_from(dtype))
    else:
        source = _DEFAULT_MODEL if model is None else model
        network = LightGlueForKeypointMatching.from_pretrained(source, dtype=dtype, **model_options)
    if device is not None:
        name = ("cpu" if device < 0 else f"cuda:{device}") if isinstance(device, int) else str(device)
        network = network.to(resolve_device(name))
    if isinstance(image_processor, (str, Path)):
        image_processor = LightGlueImageProcessor.from_pretrained(image_processor)
    if image_processor is None and location is not None and find_file_or_none(location, CONFIG_FILE) is not None:
        image_processor = LightGlueImageProcessor.from_pretrained(location)
    if image_processor is None:
        detector = network.config.keypoint_detector_config.model_type
        image_processor = LightGlueImageProcessor(
            size=_SIFT_SIZE if detector == "sift" else None, do_grayscale=detector != "disk"
        )
    return KeypointMatchingPipeline(network.eval(), image_processor)


class KeypointMatchingPipeline:
    """Matches pairs of images given as paths, URLs, PIL images, arrays or tensors.

    Args:
        model: in evaluation mode.
        image_processor: makes the model input.
    """

    task = TASK

    def __init__(self, model: LightGlueForKeypointMatching, image_processor: LightGlueImageProcessor) -> None:
        self.model = model
        self.image_processor = image_processor

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.model.device

    def __call__(
        self, inputs: Any, threshold: float = 0.0, timeout: float | None = None, batch_size: int = 1
    ) -> list[KeypointMatch] | list[list[KeypointMatch]]:
        """Match one pair of images or a sequence of pairs.

        Args:
            inputs: two images, or a sequence of such pairs. An image is a path, a URL (http or https), a PIL image,
                an array or a tensor. Images other than arrays and tensors are rotated by their EXIF orientation;
                keypoints are in the rotated image.
            threshold: only matches with a score above this are returned.
            timeout: timeout of downloads in seconds; None is `TIMEOUT_S`.
            batch_size: number of pairs in one batch of the model.

        Returns:
            The matches of the pair by descending score; for a sequence of pairs, a list of such lists.

        Raises:
            ValueError: if `inputs` are not pairs of images.
            DataError: if an image cannot be read or downloaded.
        """
        pairs, is_single = as_pairs(inputs, _is_input)
        if batch_size < 1:
            raise ValueError(f"batch_size: must be positive, got {batch_size}")
        results: list[list[KeypointMatch]] = []
        for start in range(0, len(pairs), batch_size):
            loaded = [[load_image(image, timeout) for image in pair] for pair in pairs[start : start + batch_size]]
            results += self._match(loaded, threshold)
        return results[0] if is_single else results

    def _match(self, pairs: Sequence[Sequence[Any]], threshold: float) -> list[list[KeypointMatch]]:
        batch = self.image_processor(pairs, return_tensors="pt")
        with torch.inference_mode():
            outputs = self.model(**batch.to(self.model.device))
        sizes = [[image_size(image) for image in pair] for pair in pairs]
        processed = self.image_processor.post_process_keypoint_matching(outputs, sizes, threshold)
        return [_as_matches(each) for each in processed]


def load_image(image: Any, timeout: float | None = None) -> Any:
    """Load an image; paths, URLs and PIL images become PIL images rotated by their EXIF orientation.

    Raises:
        DataError: if the image cannot be read or downloaded.
    """
    if isinstance(image, (np.ndarray, torch.Tensor)):
        return image
    if isinstance(image, PilImage.Image):
        return ImageOps.exif_transpose(image)
    data = _download(image, timeout) if _is_url(image) else _read(Path(image))
    try:
        with PilImage.open(io.BytesIO(data)) as opened:
            opened.load()
            return ImageOps.exif_transpose(opened)
    except (OSError, ValueError, SyntaxError, PilImage.DecompressionBombError) as error:
        raise DataError(f"{image}: cannot be decoded as an image ({error})") from error


def _is_input(value: Any) -> bool:
    return isinstance(value, (str, Path)) or is_image(value)


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.lower().startswith(("http://", "https://"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def _download(url: str, timeout: float | None) -> bytes:
    request = urllib.request.Request(url, headers={"User-Agent": "sfm-lightglue"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S if timeout is None else timeout) as response:
            data: bytes = response.read(MAX_DOWNLOAD_BYTES + 1)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DataError(
            f"{url}: cannot be downloaded ({reason}); download it in another way and give its path"
        ) from error
    if len(data) > MAX_DOWNLOAD_BYTES:
        raise DataError(
            f"{url}: larger than {MAX_DOWNLOAD_BYTES // 2**20} MiB; download it in another way and give its path"
        )
    return data


def _as_matches(processed: dict[str, torch.Tensor]) -> list[KeypointMatch]:
    rows = zip(
        processed["keypoints0"].tolist(),
        processed["keypoints1"].tolist(),
        processed["matching_scores"].tolist(),
        strict=True,
    )
    matches = [
        KeypointMatch(keypoint_image_0=Keypoint(x=x0, y=y0), keypoint_image_1=Keypoint(x=x1, y=y1), score=score)
        for (x0, y0), (x1, y1), score in rows
    ]
    return sorted(matches, key=lambda match: match["score"], reverse=True)
