"""`LightGlueForKeypointMatching`: matches of pairs of images, with the names and shapes of `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface import checkpoints
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.configuration_base import Configuration
from sfm_lightglue.huggingface.detectors import make_detector, untrained_lightglue
from sfm_lightglue.huggingface.loading_options import split_keywords
from sfm_lightglue.huggingface.matching_steps import (
    Networks,
    checked_request,
    exported_matches,
    find_points,
    match_points,
)
from sfm_lightglue.huggingface.outputs import LightGlueKeypointMatchingOutput
from sfm_lightglue.huggingface.placement import dtype_from, one_device, require_values
from sfm_lightglue.huggingface.pretrained_model import PretrainedModel, require_config


class LightGlueForKeypointMatching(PretrainedModel):
    """A detector and LightGlue.

    Thresholds are read from `config` in every call. A new model has random weights and is in training mode. A model
    of `from_pretrained` is in evaluation mode.

    Args:
        config: sizes and thresholds; also a configuration of `transformers`.

    Raises:
        ConfigError: on an impossible configuration.

    Example:
        >>> model = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained("lightglue_sift")
        >>> model.config.num_hidden_layers
        4
    """

    config_class: ClassVar[type[Configuration]] = LightGlueConfig
    base_model_prefix: ClassVar[str] = "lightglue"
    supports_gradient_checkpointing: ClassVar[bool] = True

    def __init__(self, config: Any = None) -> None:
        super().__init__(require_config(config, LightGlueConfig))
        self.keypoint_detector = make_detector(self.config.keypoint_detector_config)
        self.lightglue = untrained_lightglue(self.config)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.lightglue.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.lightglue.parameters()).dtype

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether training computes layers again for their gradient."""
        return self.lightglue.recomputes_layers

    def forward(
        self,
        pixel_values: Tensor,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        image_sizes: Tensor | None = None,
        **keywords: Any,
    ) -> LightGlueKeypointMatchingOutput | tuple[Any, ...]:
        """Detect keypoints and match them. Only the loss has a gradient, and only for the weights of LightGlue.

        In `torch.export`, and so in the exporter to ONNX, all layers and all points are computed: `depth_confidence`
        and `width_confidence` have no effect. In `torch.compile`, detectors and adaptive layers stay in Python; without
        adaptive depth and width, LightGlue is one graph.

        Args:
            pixel_values: [B, 2, C, H, W] in [0, 1]; SuperPoint and SIFT use only the first channel.
            labels: [B, 2, N], or two sequences per pair: for each point of the output, the index of the matching
                point in the other image, -1 for no match, -100 for unknown. The points are those of a call without
                labels. The loss is that of the paper, with deep supervision.
            output_attentions: whether to add the attention weights of all layers; None as in the configuration.
            output_hidden_states: whether to add the states of all layers; None as in the configuration.
            return_dict: False returns the tuple of the values that are not None; None as in the configuration.
            image_sizes: [B, 2, 2] (height, width) of the images at the upper left of their inputs, from the image
                processor; None if they fill the input. Padding does not change the result of an image.
            keywords: have no effect, as in `transformers`.

        Raises:
            TypeError: if `pixel_values` are no floating-point numbers, and on a misspelt keyword.
            ValueError: on other shapes, and on labels that do not fit the points.
            ConfigError: in `torch.export`, on another detector than SuperPoint, and on arguments without effect there.
        """
        flags = (output_attentions, output_hidden_states, return_dict)
        networks = Networks(self.config, self.keypoint_detector, self.lightglue)
        if torch.compiler.is_exporting():
            request = checked_request(self.config, pixel_values, labels, flags, image_sizes, keywords)
            return exported_matches(networks, request)
        if torch.compiler.is_compiling():
            from sfm_lightglue.huggingface import compiled_matching  # imports the compiler

            return compiled_matching.match(networks, pixel_values, labels, flags, image_sizes, keywords)
        request = checked_request(self.config, pixel_values, labels, flags, image_sizes, keywords)
        return match_points(networks, request, find_points(networks, request))

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *,
        config: Any = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        keypoint_detector_weights: str | Path | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
        device_map: Any = None,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        variant: str | None = None,
        **keywords: Any,
    ) -> Any:
        """Read a model, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder with config.json and weights, as written by `save_pretrained` here
                or in `transformers`; the name of such a repository on the hub; or a single file of LightGlue weights
                with any key layout, whose sizes select the detector. None needs `config` and `state_dict`.
            config: configuration instead of that of the weights, or its name or path; also one of `transformers`.
            dtype: such as torch.bfloat16 or "bfloat16"; None and "auto" are that of config.json, else that of the
                weights, and float32 for a single file. Also `torch_dtype`.
            device: such as "cuda"; None is the default device of torch, the CPU.
            keypoint_detector_weights: file of SuperPoint or DISK, if a single file does not contain the detector.
            state_dict: weights instead of those of the file, with the keys of this library or of `transformers`.
            device_map: the device by its name in `transformers`: a name, a number, "auto", or {"": name}.
            output_loading_info: whether to return a tuple of the model and a dictionary of missing, unexpected and
                mismatched keys, too.
            ignore_mismatched_sizes: whether weights of LightGlue that do not fit the configuration stay untrained, with
                a warning; those of the detector must fit.
            variant: part of the names of the files, such as "fp16" in model.fp16.safetensors.
            keywords: `revision`, `token`, `cache_dir`, `subfolder`, `local_files_only` and `force_download`; and
                fields that replace those of the configuration.

        Returns:
            The model; with `output_loading_info`, a tuple of it and a dictionary.

        Raises:
            ConfigError: if the configuration is not that of a LightGlue, or an option is unknown or refused.
            WeightsError: if files are missing, damaged, or do not fit the configuration.
        """
        require_values(f"{cls.__name__}.from_pretrained")
        hub, overrides = split_keywords(keywords, f"{cls.__name__}.from_pretrained")
        former = overrides.pop("torch_dtype", None)
        unknown = overrides.keys() - LightGlueConfig.known_keys()
        LightGlueConfig.refuse_misspelt(dict.fromkeys(unknown))
        if unknown:
            raise ConfigError(f"{cls.__name__}.from_pretrained: unknown option {min(unknown)!r}; remove it")
        request = checkpoints.LoadRequest(
            hub, config, keypoint_detector_weights, state_dict, variant, ignore_mismatched_sizes, overrides
        )
        loaded = checkpoints.load(pretrained_model_name_or_path, request)
        with torch.device("meta"):
            model = cls(loaded.config)
        model.keypoint_detector = loaded.detector
        model.lightglue = loaded.lightglue
        chosen = dtype_from(former if dtype is None else dtype, loaded.saved_dtype)
        model = model.to(one_device(device, device_map), chosen).eval()
        model.config.dtype = chosen
        model.config.name_or_path = str(pretrained_model_name_or_path or "")
        return (model, loaded.mismatches.as_loading_info()) if output_loading_info else model

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict, as in torch; the keys of `transformers` are accepted too.

        Raises:
            WeightsError: if a state dict of `transformers` does not fit.
        """
        if "positional_encoder.projector.weight" in state_dict:
            state_dict = checkpoints.state_from_transformers(
                state_dict, self.lightglue.architecture, self.keypoint_detector
            )
        return super().load_state_dict(state_dict, strict, assign)

    def _recompute_layers(self, enabled: bool) -> None:
        self.lightglue.recomputes_layers = enabled

    def _state_for_transformers(self) -> dict[str, Tensor]:
        return checkpoints.state_for_transformers(self.keypoint_detector, self.lightglue)

    def _state_to_write(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        return checkpoints.state_to_write(self.config, self.keypoint_detector, self.lightglue)
