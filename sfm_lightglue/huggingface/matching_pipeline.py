"""Matching in one line: `pipeline("keypoint-matching")([image0, image1])`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import nn

from sfm_lightglue.huggingface.foreign_models import folder_of, require_matcher, run_foreign, single_pairs
from sfm_lightglue.huggingface.image_batch import ImageBatch
from sfm_lightglue.huggingface.image_inputs import as_pairs, image_size
from sfm_lightglue.huggingface.image_loading import load_image
from sfm_lightglue.huggingface.image_processor import LightGlueImageProcessor, default_processor, load_processor
from sfm_lightglue.huggingface.loading_options import NeverUploads, split_keywords
from sfm_lightglue.huggingface.modeling import LightGlueForKeypointMatching
from sfm_lightglue.huggingface.pipeline_arguments import (
    TASK,
    PipelineArguments,
    as_device,
    require_counts,
    sort_arguments,
    sort_parts,
)
from sfm_lightglue.huggingface.point_positions import matches_in_pixels
from sfm_lightglue.huggingface.processor_base import CONFIG_FILE as PROCESSOR_FILE
from sfm_lightglue.huggingface.processor_base import ImageProcessorBase, find_config
from sfm_lightglue.huggingface.processor_options import ProcessorOptions
from sfm_lightglue.weights.hub import knows_only_local_files

_LOGGER = logging.getLogger(__name__)
_DEFAULT_MODEL = "lightglue_sift"
"""Weights that are included in the package."""


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
    task: str | None = TASK,
    model: Any = None,
    image_processor: Any = None,
    *,
    device: torch.device | str | int | None = None,
    dtype: torch.dtype | str | None = None,
    trust_remote_code: bool | None = None,
    **keywords: Any,
) -> KeypointMatchingPipeline:
    """Make a pipeline that matches pairs of images.

    Args:
        task: must be "keypoint-matching".
        model: a model, also one of `transformers`; or a name or path for
            `LightGlueForKeypointMatching.from_pretrained`. None is SIFT with the weights of this package, which are
            not downloaded. A given model is not copied: `device` and `dtype` change it, and it is set to evaluation
            mode.
        image_processor: a processor, or a name or path for its `from_pretrained`; None uses that of the model.
        device: such as "cuda" or "cpu"; numbers are CUDA devices, and -1 is the CPU. None is CUDA if available, and
            that of a given model.
        dtype: type of the weights; None and "auto" do not change a given model.
        trust_remote_code: True is refused.
        keywords: `batch_size`, `num_workers`, `threshold` and `timeout` of the calls; `config`, `processor`,
            `feature_extractor`, `framework="pt"`, `model_kwargs` and `pipeline_class` as in `transformers`; keywords
            of `from_pretrained` such as `revision`; and fields of the configuration, such as `filter_threshold`.

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
    if task not in (TASK, None):
        raise ValueError(f"task: expected {TASK!r}, got {task!r}")
    arguments = sort_arguments(model, image_processor, device, dtype, trust_remote_code, keywords)
    if arguments.is_loaded:
        network: Any = LightGlueForKeypointMatching.from_pretrained(model or _DEFAULT_MODEL, **arguments.loading)
    else:
        require_matcher(model)
        network = model if arguments.dtype is None else model.to(arguments.dtype)
    processor = _find_processor(arguments, model, network)
    make = arguments.pipeline_class or KeypointMatchingPipeline
    made: KeypointMatchingPipeline = make(network, processor, device=arguments.device, **arguments.calls)
    return made


class KeypointMatchingPipeline(NeverUploads):
    """Matches pairs of images given as paths, URLs, PIL images, arrays or tensors.

    Args:
        model: `LightGlueForKeypointMatching`, or a matcher of `transformers`; set to evaluation mode.
        image_processor: makes the model input; None is the default for the model.
        task: must be "keypoint-matching" or empty.
        device: that the model is moved to; None leaves it.
        batch_size: number of pairs in one batch of the model. Pairs go to a model of `transformers` one by one.
        num_workers: number of threads that read images; 0 reads them one by one.
        threshold: only matches with a score above this are returned, unless the call gives another.
        timeout: timeout of downloads in seconds; None is 60.
        keywords: as in `transformers`: `processor` or `feature_extractor` instead of `image_processor`, and `dtype` or
            `torch_dtype` of the weights; `tokenizer`, `video_processor` and `binary_output` must be empty.

    Raises:
        ConfigError: if `model` is no model, or this machine does not have the device.
        TypeError: on an unknown keyword.
        ValueError: on another task, or if a number is out of range.

    Example:
        >>> model = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained("lightglue_sift")
        >>> matcher = sfm_lightglue.KeypointMatchingPipeline(model, threshold=0.2)
        >>> matches = matcher(["left.jpg", "right.jpg"])
        >>> min(match["score"] for match in matches) > 0.2
        True
    """

    framework = "pt"
    tokenizer = feature_extractor = processor = video_processor = None

    def __init__(
        self,
        model: Any,
        image_processor: Any = None,
        *,
        task: str = TASK,
        device: torch.device | str | int | None = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
        threshold: float | None = None,
        timeout: float | None = None,
        **keywords: Any,
    ) -> None:
        if task not in (TASK, ""):
            raise ValueError(f"task: expected {TASK!r}, got {task!r}")
        require_matcher(model)
        require_counts(batch_size, num_workers)
        self.task = TASK
        chosen, dtype = sort_parts(image_processor, keywords)
        self.model: nn.Module = (model if dtype is None else model.to(dtype)).eval()
        self.model = self.model if device is None else self.model.to(as_device(device))
        self.image_processor = _default_for(model) if chosen is None else chosen
        self._batch_size = batch_size or 1
        self._num_workers = num_workers or 0
        self._threshold = 0.0 if threshold is None else threshold
        self._timeout = timeout

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.model.parameters()).dtype

    torch_dtype = dtype

    def __repr__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        return f"KeypointMatchingPipeline({type(self.model).__name__}, dtype={dtype}, device={self.device})"

    def __call__(
        self,
        inputs: Any,
        threshold: float | None = None,
        timeout: float | None = None,
        batch_size: int | None = None,
        num_workers: int | None = None,
    ) -> list[KeypointMatch] | list[list[KeypointMatch]]:
        """Match one pair of images or a sequence of pairs. Arguments that are None are those of the pipeline.

        Args:
            inputs: two images, or a sequence of such pairs. An image is a path, a URL (http or https), a PIL image,
                an array or a tensor. Images other than arrays and tensors are rotated by their EXIF orientation;
                keypoints are in the rotated image.
            threshold: only matches with a score above this are returned.
            timeout: timeout of downloads in seconds.
            batch_size: number of pairs in one batch of the model.
            num_workers: number of threads that read images.

        Returns:
            The matches of the pair by descending score; for several pairs, a list of such lists. One pair in a list
            is one pair, as in `transformers`.

        Raises:
            ValueError: if `inputs` are not pairs of images, or a number is out of range.
            DataError: if an image cannot be read or downloaded.
        """
        pairs, _ = as_pairs(inputs)
        require_counts(batch_size, num_workers)
        size, workers = batch_size or self._batch_size, self._num_workers if num_workers is None else num_workers
        load = partial(load_image, timeout=self._timeout if timeout is None else timeout)
        least = self._threshold if threshold is None else threshold
        results: list[list[KeypointMatch]] = []
        for start in range(0, len(pairs), size):
            images = [image for pair in pairs[start : start + size] for image in pair]
            loaded = _loaded(images, load, workers)
            results += self._match([loaded[i : i + 2] for i in range(0, len(loaded), 2)], least)
        return results[0] if len(pairs) == 1 else results

    def predict(self, inputs: Any) -> list[KeypointMatch] | list[list[KeypointMatch]]:
        """Same as a call with `inputs` alone."""
        return self(inputs)

    def transform(self, inputs: Any) -> list[KeypointMatch] | list[list[KeypointMatch]]:
        """Same as a call with `inputs` alone."""
        return self(inputs)

    def save_pretrained(self, save_directory: str | Path, **keywords: Any) -> None:
        """Write model and processor into a folder, for `pipeline(model=folder)`.

        Args:
            save_directory: is created.
            keywords: of the model's `save_pretrained`.

        Raises:
            StoreError: if a file cannot be written.
        """
        save: Any = self.model
        save.save_pretrained(save_directory, **keywords)
        self.image_processor.save_pretrained(save_directory)

    def _match(self, pairs: list[list[Any]], threshold: float) -> list[list[KeypointMatch]]:
        batch = self.image_processor(pairs, return_tensors="pt")
        sizes = [[image_size(image) for image in pair] for pair in pairs]
        if isinstance(self.model, LightGlueForKeypointMatching):
            with torch.inference_mode():
                outputs = self.model(**batch.to(self.device))
            return [_as_matches(each) for each in self._positions(outputs, sizes, threshold, batch)]
        found = []
        for single, size in zip(single_pairs(batch), sizes, strict=True):
            with torch.inference_mode():
                outputs = run_foreign(self.model, single)
            found += [_as_matches(each) for each in self._positions(outputs, [size], threshold, single)]
        return found

    def _positions(self, outputs: Any, sizes: Any, threshold: float, batch: ImageBatch) -> list[dict[str, Any]]:
        processor = self.image_processor
        if isinstance(processor, LightGlueImageProcessor):
            tells = isinstance(self.model, LightGlueForKeypointMatching)
            more = {} if tells else {"inputs": batch}
            return processor.post_process_keypoint_matching(outputs, sizes, threshold, **more)
        # A processor of `transformers` stretches images, and its post-processing rounds points to integers.
        return matches_in_pixels(outputs, sizes, threshold, ProcessorOptions(keep_aspect_ratio=False), batch, True)


def _find_processor(arguments: PipelineArguments, model: Any, network: Any) -> Any:
    """The processor that is given or lies with the model; None if there is none."""
    given = arguments.image_processor
    if isinstance(given, (str, Path)):
        return load_processor(given, **arguments.access)
    if given is not None or not arguments.is_loaded or model is None:
        return given
    if find_config(model, **arguments.access) is not None:
        return load_processor(model, **arguments.access)
    hub, _ = split_keywords(arguments.access, TASK)
    detector = network.config.keypoint_detector_config.model_type
    if detector == "sift" or not knows_only_local_files(model, hub):
        return None
    _LOGGER.warning(
        "%s: its %s is not on this machine, and downloads are forbidden: images are stretched to 480 x 640, as files"
        " of transformers do; give image_processor=... for another processor",
        model,
        PROCESSOR_FILE,
    )
    return default_processor(detector, keep_aspect_ratio=False)


def _default_for(model: Any) -> ImageProcessorBase:
    if isinstance(model, LightGlueForKeypointMatching):
        return default_processor(model.config.keypoint_detector_config.model_type)
    folder = folder_of(model)
    if folder is not None and find_config(folder) is not None:
        return load_processor(folder)
    return LightGlueImageProcessor(keep_aspect_ratio=False)  # that of `transformers`


def _loaded(images: Sequence[Any], load: Any, num_workers: int) -> list[Any]:
    if num_workers < 1:
        return [load(image) for image in images]
    with ThreadPoolExecutor(num_workers) as threads:
        return list(threads.map(load, images))


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
