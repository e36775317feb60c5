"""`LightGlueForKeypointMatching`: pairs of pictures in, matches out, with `transformers`' names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfm_lightglue.execution.devices import resolve_device
from sfm_lightglue.huggingface import checkpoints
from sfm_lightglue.huggingface.configuration import LightGlueConfig
from sfm_lightglue.huggingface.detectors import Found, draw_weights, make_detector
from sfm_lightglue.huggingface.loss import labels_as_tensor, matching_loss
from sfm_lightglue.huggingface.outputs import LightGlueKeypointMatchingOutput
from sfm_lightglue.models.initialization import draw_normal
from sfm_lightglue.models.lightglue import LightGlue, LightGlueOutput, normalize_keypoints


class LightGlueForKeypointMatching(nn.Module):
    """A detector and LightGlue.

    Thresholds are read from `config` at every call. A fresh model has random weights and is in training mode;
    one from `from_pretrained` is ready for use.

    Args:
        config: sizes and thresholds.

    Raises:
        ConfigError: on a configuration that no network can have.
    """

    def __init__(self, config: LightGlueConfig | None = None) -> None:
        super().__init__()
        self.config = config or LightGlueConfig()
        self.config.validate()
        self.keypoint_detector = make_detector(self.config.keypoint_detector_config)
        self.lightglue = LightGlue(self.config.architecture())
        draw_weights(self.lightglue, self.config.initializer_range)
        draw_normal(self.lightglue.position_projection.weight)  # smaller ones would blur all places into one

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.lightglue.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return next(self.lightglue.parameters()).dtype

    def num_parameters(self) -> int:
        """Numbers to learn, those of the detector included."""
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
        """Detects and matches; only the loss has gradients, and they reach LightGlue, not the detector.

        Args:
            pixel_values: [B, 2, C, H, W] in [0, 1], of which the first channel counts, as in `transformers`.
            labels: [B, 2, N], or two sequences a pair: for each point of the output the index of its match in
                the other image, -1 for none, -100 for unknown. The points are those that a call without labels
                gives. The loss is the paper's, with deep supervision.
            output_attentions: None as in the configuration, like the next two.
            output_hidden_states: whether to add the states of all layers.
            return_dict: False gives the tuple of what is there.
            image_sizes: [B, 2, 2] (height, width) of the pictures at the upper left of their inputs, as the image
                processor gives them; None where they fill it. Each is treated as if it were alone.

        Raises:
            ValueError: on other shapes, and labels that fit no points.
        """
        if pixel_values.ndim != 5 or pixel_values.shape[1] != 2:
            raise ValueError(
                f"pixel_values: expected [batch, 2, channels, height, width], got {list(pixel_values.shape)}"
            )
        config = self.config
        wants_attentions = config.output_attentions if output_attentions is None else output_attentions
        wants_states = config.output_hidden_states if output_hidden_states is None else output_hidden_states
        sizes = _checked_sizes(pixel_values, image_sizes)
        found = self._detect(pixel_values.to(self.device), sizes)
        keypoints, positions, descriptors, mask = _padded(found, sizes.to(self.device))
        descriptors = descriptors.to(self.dtype)
        inputs = (
            *(positions[:, 0], positions[:, 1], descriptors[:, 0], descriptors[:, 1]),
            *(mask[:, 0], mask[:, 1]),
        )
        output = self.lightglue(
            *inputs,
            thresholds=config.thresholds(),
            return_hidden_states=wants_states,
            return_attentions=wants_attentions,
            return_messages=wants_states,
        )
        loss = None
        if labels is not None:
            known = labels_as_tensor(labels, mask)
            loss = matching_loss(self.lightglue.forward_all_layers(*inputs), known, mask)
        prune = torch.stack([output.num_layers0, output.num_layers1], dim=1)
        result = LightGlueKeypointMatchingOutput(
            loss=loss,
            matches=torch.stack([output.matches0, output.matches1], dim=1),
            matching_scores=torch.stack([output.matching_scores0, output.matching_scores1], dim=1),
            keypoints=keypoints,
            prune=prune,
            mask=mask.to(torch.int32),
            hidden_states=_hidden_states(output, prune) if wants_states else None,
            attentions=_attentions(output) if wants_attentions else None,
            image_sizes=None if image_sizes is None else sizes.to(self.device),
            input_size=(pixel_values.shape[3], pixel_values.shape[4]),
            filled_sizes=_filled_sizes(pixel_values).to(self.device) if image_sizes is None else None,
        )
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
        """Reads a model, ready for use.

        Args:
            name_or_path: a folder with config.json and weights, as `save_pretrained` of ours or `transformers`
                writes it; the name of such a repository on the hub; or a single file of LightGlue's weights in
                any layout, whose sizes tell the detector.
            config: instead of the one beside the weights.
            dtype: such as torch.bfloat16 or "bfloat16"; None and "auto" are float32.
            device: such as "cuda"; None is the CPU.
            keypoint_detector_weights: SuperPoint's file, where a single file has none.
            overrides: fields of the configuration; also `torch_dtype` and `device_map`, the names that
                `transformers` has for `dtype` and `device`.

        Raises:
            ConfigError: where the configuration is no LightGlue's, or an option is unknown.
            WeightsError: where files are missing, damaged, or do not fit the configuration.
        """
        dtype, device = overrides.pop("torch_dtype", dtype), overrides.pop("device_map", device)
        loaded = checkpoints.load(name_or_path, config, keypoint_detector_weights, overrides)
        with torch.device("meta"):
            model = cls(loaded.config)
        model.keypoint_detector = loaded.detector
        model.lightglue = loaded.lightglue
        return model.to(resolve_device(str(device or "cpu")), checkpoints.dtype_from(dtype)).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes config.json and model.safetensors, which `transformers` reads too if the detector is SuperPoint.

        Raises:
            StoreError: where they cannot be written.
        """
        checkpoints.save(self.config, self.keypoint_detector, self.lightglue, folder)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As in torch; also takes the keys of `transformers`.

        Raises:
            WeightsError: where those do not fit.
        """
        if "positional_encoder.projector.weight" in state_dict:
            state_dict = checkpoints.own_state(state_dict, self.lightglue.architecture, self.keypoint_detector)
        return super().load_state_dict(state_dict, strict, assign)

    def _detect(self, pixel_values: Tensor, sizes: Tensor) -> list[Found]:
        """The points of all 2 B pictures; those of one size go through the detector together."""
        pictures = pixel_values.flatten(0, 1)  # [B, 2, C, H, W] -> [2 B, C, H, W]
        flat = [(int(height), int(width)) for height, width in sizes.flatten(0, 1).tolist()]
        found: dict[int, Found] = {}
        for height, width in sorted(set(flat)):
            rows = [row for row, size in enumerate(flat) if size == (height, width)]
            with torch.no_grad():
                points = self.keypoint_detector(pictures[rows, :, :height, :width])
            found |= dict(zip(rows, points, strict=True))
        return [found[row] for row in range(len(flat))]


def _checked_sizes(pixel_values: Tensor, image_sizes: Tensor | None) -> Tensor:
    """[B, 2, 2] (height, width) on the CPU."""
    batch, _, _, height, width = pixel_values.shape
    frame = torch.tensor((height, width))
    if image_sizes is None:
        return frame.expand(batch, 2, 2)
    sizes = torch.as_tensor(image_sizes).cpu().long()
    if tuple(sizes.shape) != (batch, 2, 2) or bool(((sizes < 1) | (sizes > frame)).any()):
        raise ValueError(f"image_sizes: expected [{batch}, 2, 2] within {height} x {width}, got {sizes.tolist()}")
    return sizes


def _padded(found: list[Found], sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keypoints [B, 2, N, 2] by the pictures' sizes, positions, descriptors [B, 2, N, D] and mask [B, 2, N]."""
    flat = sizes.flatten(0, 1).flip(-1).float()  # [2 B, 2] (width, height)
    positions = []
    for each, size in zip(found, flat, strict=True):
        centred = normalize_keypoints(each.positions[:, :2], size)
        positions.append(torch.cat([centred, each.positions[:, 2:]], dim=1))
    keypoints = [each.keypoints / size for each, size in zip(found, flat, strict=True)]
    masks = [torch.ones(len(each.keypoints), dtype=torch.bool, device=sizes.device) for each in found]
    parts = (keypoints, positions, [each.descriptors for each in found], masks)
    padded = [nn.utils.rnn.pad_sequence(part, batch_first=True) for part in parts]  # [2 B, N, ...] each
    first, second, third, fourth = (part.view(len(part) // 2, 2, *part.shape[1:]) for part in padded)
    return first, second, third, fourth


def _filled_sizes(pixel_values: Tensor) -> Tensor:
    """[B, 2, 2]: rows and columns up to the last that is not black."""
    bright = (pixel_values != 0).any(2)  # [B, 2, H, W]
    sizes = []
    for lines in (bright.any(3), bright.any(2)):
        numbers = torch.arange(1, lines.shape[2] + 1, device=lines.device)
        sizes.append((lines * numbers).amax(2))
    return torch.stack(sizes, dim=-1)


def _hidden_states(output: LightGlueOutput, prune: Tensor) -> tuple[Tensor, ...]:
    """Seven [2 B, N, ...] a layer, in the order of `transformers`."""
    assert output.hidden_states is not None and output.messages is not None  # asked for both
    result: list[Tensor] = []
    for index in range(len(output.hidden_states) - 1):
        message, update, across, update_across = output.messages[4 * index : 4 * index + 4]
        inside = (prune > index).flatten(1)[..., None]  # [B, 2 N, 1] points that the layer saw
        before = output.hidden_states[index] * inside
        between = before + update
        after = output.hidden_states[index + 1]
        result += [before, between, torch.cat([before, message], -1), update]
        result += [after, torch.cat([between, across], -1), update_across]
    num_points = prune.shape[2]
    return tuple(each.reshape(-1, num_points, each.shape[2]) for each in result)  # [B, 2 N, D] -> [2 B, N, D]


def _attentions(output: LightGlueOutput) -> tuple[Tensor, ...]:
    """Two [2 B, H, N, N] a layer: within the images and across."""
    assert output.attentions is not None  # asked for them
    pairs = zip(output.attentions[::2], output.attentions[1::2], strict=True)
    return tuple(torch.stack([first, second], dim=1).flatten(0, 1) for first, second in pairs)
