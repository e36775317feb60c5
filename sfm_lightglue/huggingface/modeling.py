"""`LightGlueForKeypointMatching`: matches of pairs of images, with the names and shapes of `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfm_lightglue.execution.devices import resolve_device
from sfm_lightglue.huggingface import checkpoints
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.detectors import DetectedPoints, draw_weights, make_detector
from sfm_lightglue.huggingface.loss import labels_as_tensor, matching_loss
from sfm_lightglue.huggingface.outputs import LightGlueKeypointMatchingOutput
from sfm_lightglue.models.initialization import draw_normal
from sfm_lightglue.models.lightglue import LightGlue, LightGlueOutput, Side, normalize_keypoints


class LightGlueForKeypointMatching(nn.Module):
    """A detector and LightGlue.

    Thresholds are read from `config` in every call. A new model has random weights and is in training mode. A model
    of `from_pretrained` is in evaluation mode.

    Args:
        config: sizes and thresholds.

    Raises:
        ConfigError: on an impossible configuration.

    Example:
        >>> model = sfm_lightglue.LightGlueForKeypointMatching.from_pretrained("lightglue_sift")
        >>> model.config.num_hidden_layers
        4
    """

    def __init__(self, config: LightGlueConfig | None = None) -> None:
        super().__init__()
        self.config = config or LightGlueConfig()
        self.config.validate()
        self.keypoint_detector = make_detector(self.config.keypoint_detector_config)
        self.lightglue = LightGlue(self.config.architecture())
        draw_weights(self.lightglue, self.config.initializer_range)
        draw_normal(
            self.lightglue.position_projection.weight
        )  # with smaller weights, positions are hardly distinguished

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.lightglue.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.lightglue.parameters()).dtype

    def num_parameters(self) -> int:
        """Number of parameters, including those of the detector."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(
        self,
        pixel_values: Tensor,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        image_sizes: Tensor | None = None,
    ) -> LightGlueKeypointMatchingOutput | tuple[Any, ...]:
        """Detect keypoints and match them. Only the loss has a gradient, and only for the weights of LightGlue.

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

        Raises:
            ValueError: on other shapes, and on labels that do not fit the points.
        """
        if pixel_values.ndim != 5 or pixel_values.shape[1] != 2:
            raise ValueError(
                f"pixel_values: expected [batch, 2, channels, height, width], got {list(pixel_values.shape)}"
            )
        config = self.config
        with_attentions = config.output_attentions if output_attentions is None else output_attentions
        with_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        sizes = _checked_sizes(pixel_values, image_sizes)
        detected = self._detect(pixel_values.to(self.device), sizes)
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
            result.filled_sizes = _filled_sizes(pixel_values).to(self.device)
        else:
            result.image_sizes = sizes.to(self.device)
        as_output = config.return_dict if return_dict is None else return_dict
        return result if as_output else result.to_tuple()

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        config: LightGlueConfig | None = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        keypoint_detector_weights: str | Path | None = None,
        **overrides: Any,
    ) -> LightGlueForKeypointMatching:
        """Read a model, in evaluation mode.

        Args:
            name_or_path: a folder with config.json and weights, as written by `save_pretrained` here or in
                `transformers`; the name of such a repository on the hub; or a single file of LightGlue weights with
                any key layout, whose sizes select the detector.
            config: configuration instead of that of the weights.
            dtype: such as torch.bfloat16 or "bfloat16"; None and "auto" are float32.
            device: such as "cuda"; None is the CPU.
            keypoint_detector_weights: file of SuperPoint or DISK, if a single file does not contain the detector.
            overrides: fields of the configuration; also `torch_dtype` and `device_map`, the names of `dtype` and
                `device` in `transformers`.

        Raises:
            ConfigError: if the configuration is not that of a LightGlue, or an option is unknown.
            WeightsError: if files are missing, damaged, or do not fit the configuration.
        """
        dtype, device = overrides.pop("torch_dtype", dtype), overrides.pop("device_map", device)
        loaded = checkpoints.load(name_or_path, config, keypoint_detector_weights, overrides)
        with torch.device("meta"):
            model = cls(loaded.config)
        model.keypoint_detector = loaded.detector
        model.lightglue = loaded.lightglue
        return model.to(resolve_device(str(device or "cpu")), checkpoints.dtype_from(dtype)).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors, which `transformers` can read if the detector is SuperPoint.

        Raises:
            StoreError: if a file cannot be written.
        """
        checkpoints.save(self.config, self.keypoint_detector, self.lightglue, folder)

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

    def _detect(self, pixel_values: Tensor, sizes: Tensor) -> list[DetectedPoints]:
        """The points of all 2 B images; images of one size are one batch of the detector."""
        images = pixel_values.flatten(0, 1)  # [B, 2, C, H, W] -> [2 B, C, H, W]
        flat = [(int(height), int(width)) for height, width in sizes.flatten(0, 1).tolist()]
        from_row: dict[int, DetectedPoints] = {}
        for height, width in sorted(set(flat)):
            rows = [row for row, size in enumerate(flat) if size == (height, width)]
            with torch.no_grad():
                points = self.keypoint_detector(images[rows, :, :height, :width])
            from_row |= dict(zip(rows, points, strict=True))
        return [from_row[row] for row in range(len(flat))]


def _checked_sizes(pixel_values: Tensor, image_sizes: Tensor | None) -> Tensor:
    """Sizes [B, 2, 2] (height, width) of the images, on the CPU."""
    batch, _, _, height, width = pixel_values.shape
    frame = torch.tensor((height, width))
    if image_sizes is None:
        return frame.expand(batch, 2, 2)
    sizes = torch.as_tensor(image_sizes).cpu().long()
    if tuple(sizes.shape) != (batch, 2, 2) or bool(((sizes < 1) | (sizes > frame)).any()):
        raise ValueError(f"image_sizes: expected [{batch}, 2, 2] within {height} x {width}, got {sizes.tolist()}")
    return sizes


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


def _filled_sizes(pixel_values: Tensor) -> Tensor:
    """Numbers of rows and columns up to the last one that is not black: [B, 2, 2]."""
    bright = (pixel_values != 0).any(2)  # [B, 2, H, W]
    sizes = []
    for lines in (bright.any(3), bright.any(2)):
        numbers = torch.arange(1, lines.shape[2] + 1, device=lines.device)
        sizes.append((lines * numbers).amax(2))
    return torch.stack(sizes, dim=-1)


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
