"""`LightGlueForKeypointMatching`: matches of pairs of images, with the names and shapes of `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface import checkpoints
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.configuration_base import Configuration
from sfm_lightglue.huggingface.detectors import (
    DetectedPoints,
    checked_sizes,
    detect,
    filled_sizes,
    make_detector,
    untrained_lightglue,
)
from sfm_lightglue.huggingface.image_graph import ExportedMatches, ImageGraph
from sfm_lightglue.huggingface.loading_options import split_keywords
from sfm_lightglue.huggingface.loss import labels_as_tensor, matching_loss
from sfm_lightglue.huggingface.outputs import LightGlueKeypointMatchingOutput
from sfm_lightglue.huggingface.placement import dtype_from, one_device, require_values
from sfm_lightglue.huggingface.pretrained_model import (
    PretrainedModel,
    refuse_near_misses,
    require_config,
    require_pixels,
)
from sfm_lightglue.models.lightglue import LightGlueOutput, Side, normalize_keypoints

_ARGUMENTS = ("labels", "output_attentions", "output_hidden_states", "return_dict", "image_sizes")


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
        and `width_confidence` have no effect, and there are at least one row of `mask` and no `image_sizes`.

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
        refuse_near_misses(keywords, _ARGUMENTS)
        require_pixels(pixel_values, "[batch, 2, channels, height, width]", 5)
        if pixel_values.shape[1] != 2:
            raise ValueError(
                f"pixel_values: expected [batch, 2, channels, height, width], got {list(pixel_values.shape)}"
            )
        config = self.config
        with_attentions = config.output_attentions if output_attentions is None else output_attentions
        with_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        as_output = config.return_dict if return_dict is None else return_dict
        if torch.compiler.is_exporting():
            _refuse_in_export(
                labels=labels,
                image_sizes=image_sizes,
                output_attentions=with_attentions,
                output_hidden_states=with_states,
            )
            graph = ImageGraph(self.keypoint_detector, self.lightglue, config.filter_threshold)
            exported = _from_graph(graph(pixel_values), pixel_values, config.num_hidden_layers)
            return exported if as_output else exported.to_tuple()
        sizes = checked_sizes(pixel_values, image_sizes)
        images = pixel_values.to(self.device).flatten(0, 1)  # [B, 2, C, H, W] -> [2 B, C, H, W]
        detected = detect(self.keypoint_detector, images, sizes.flatten(0, 1))
        keypoints, positions, descriptors, mask = _padded(detected, sizes.to(self.device))
        descriptors = descriptors.to(self.dtype)
        sides = [Side(positions[:, side], descriptors[:, side], mask[:, side]) for side in (0, 1)]
        output = self.lightglue(
            *sides,
            thresholds=config.thresholds(),
            return_hidden_states=with_states,
            return_attentions=with_attentions,
            return_messages=with_states,
        )
        result = _as_result(output, keypoints, mask)
        if labels is not None:
            known = labels_as_tensor(labels, mask)
            result.loss = matching_loss(self.lightglue.forward_all_layers(*sides), known, mask)
        result.input_size = (pixel_values.shape[3], pixel_values.shape[4])
        if image_sizes is None:
            result.filled_sizes = filled_sizes(pixel_values).to(self.device)
        else:
            result.image_sizes = sizes.to(self.device)
        return result if as_output else result.to_tuple()

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


def _padded(detected: list[DetectedPoints], sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Normalised keypoints [B, 2, N, 2], positions, descriptors [B, 2, N, D] and mask [B, 2, N]."""
    flat = sizes.flatten(0, 1).flip(-1).float()  # [2 B, 2] (width, height)
    positions = []
    for each, size in zip(detected, flat, strict=True):
        centred = normalize_keypoints(each.positions[:, :2], size)
        positions.append(torch.cat([centred, each.positions[:, 2:]], dim=1))
    keypoints = [each.keypoints / size for each, size in zip(detected, flat, strict=True)]
    masks = [torch.ones(len(each.keypoints), dtype=torch.bool, device=sizes.device) for each in detected]
    parts = (keypoints, positions, [each.descriptors for each in detected], masks)
    padded = [nn.utils.rnn.pad_sequence(part, batch_first=True) for part in parts]  # [2 B, N, ...] each
    first, second, third, fourth = (part.view(len(part) // 2, 2, *part.shape[1:]) for part in padded)
    return first, second, third, fourth


def _refuse_in_export(**arguments: Any) -> None:
    """Refuse arguments that an exported graph does not have.

    Raises:
        ConfigError: if one is given.
    """
    given = [name for name, value in arguments.items() if value is not None and value is not False]
    if given:
        raise ConfigError(
            f"torch.export: {', '.join(given)} cannot be exported; give pixel_values only, of images that fill them"
            " (keep_aspect_ratio=False of the image processor)"
        )


def _from_graph(found: ExportedMatches, pixel_values: Tensor, num_layers: int) -> LightGlueKeypointMatchingOutput:
    """The results of `ImageGraph` in the form of `transformers`."""
    height, width = pixel_values.shape[3:]
    x, y = found.keypoints.unbind(-1)
    mask = found.mask.to(torch.int32)
    return LightGlueKeypointMatchingOutput(
        matches=found.matches,
        matching_scores=found.matching_scores,
        keypoints=torch.stack([x / width, y / height], dim=-1),
        prune=mask.long() * num_layers,
        mask=mask,
    )


def _as_result(output: LightGlueOutput, keypoints: Tensor, mask: Tensor) -> LightGlueKeypointMatchingOutput:
    """The output of LightGlue in the form of `transformers`; states and attentions if they were requested."""
    prune = torch.stack([output.num_layers0, output.num_layers1], dim=1)
    return LightGlueKeypointMatchingOutput(
        matches=torch.stack([output.matches0, output.matches1], dim=1),
        matching_scores=torch.stack([output.matching_scores0, output.matching_scores1], dim=1),
        keypoints=keypoints,
        prune=prune,
        mask=mask.to(torch.int32),
        hidden_states=None if output.hidden_states is None else _hidden_states(output, prune),
        attentions=None if output.attentions is None else _attentions(output),
    )


def _hidden_states(output: LightGlueOutput, prune: Tensor) -> tuple[Tensor, ...]:
    """Seven tensors [2 B, N, ...] per layer, in the order of `transformers`."""
    assert output.hidden_states is not None and output.messages is not None  # both were requested
    result: list[Tensor] = []
    for index in range(len(output.hidden_states) - 1):
        message, update, across, update_across = output.messages[4 * index : 4 * index + 4]
        inside = (prune > index).flatten(1)[..., None]  # [B, 2 N, 1] points that were not pruned before the layer
        before = output.hidden_states[index] * inside
        between = before + update
        after = output.hidden_states[index + 1]
        result += [before, between, torch.cat([before, message], -1), update]
        result += [after, torch.cat([between, across], -1), update_across]
    num_points = prune.shape[2]
    return tuple(each.reshape(-1, num_points, each.shape[2]) for each in result)  # [B, 2 N, D] -> [2 B, N, D]


def _attentions(output: LightGlueOutput) -> tuple[Tensor, ...]:
    """Two tensors [2 B, H, N, N] per layer: self- and cross-attention."""
    assert output.attentions is not None  # they were requested
    pairs = zip(output.attentions[::2], output.attentions[1::2], strict=True)
    return tuple(torch.stack([first, second], dim=1).flatten(0, 1) for first, second in pairs)
