"""`SuperPointForKeypointDetection`: keypoints of single images, with the names and shapes of `transformers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.checkpoints import hub_keywords, read_superpoint, saved_dtype, split_weights
from sfm_lightglue.huggingface.configuration_base import Configuration
from sfm_lightglue.huggingface.detector_configuration import SuperPointConfig
from sfm_lightglue.huggingface.detectors import (
    SuperPointDetector,
    checked_sizes,
    detect,
    filled_sizes,
    superpoint_config,
)
from sfm_lightglue.huggingface.loading_options import split_keywords
from sfm_lightglue.huggingface.outputs import SuperPointKeypointDescriptionOutput
from sfm_lightglue.huggingface.placement import dtype_from, one_device, require_values
from sfm_lightglue.huggingface.pretrained_model import (
    PretrainedModel,
    refuse_near_misses,
    require_config,
    require_pixels,
)
from sfm_lightglue.huggingface.shards import read_state
from sfm_lightglue.models.checkpoints import superpoint_from_file, superpoint_from_state_dict
from sfm_lightglue.models.key_layouts import SUPERPOINT_HUGGING_FACE_RULES, Layout
from sfm_lightglue.weights.hub import find_source
from sfm_lightglue.weights.hub_options import HubOptions
from sfm_lightglue.weights.state_dict import WeightsFile, read_weights

_ARGUMENTS = ("labels", "output_hidden_states", "return_dict", "image_sizes")


class SuperPointForKeypointDetection(PretrainedModel):
    """SuperPoint. A new model has random weights; a model of `from_pretrained` is in evaluation mode.

    Args:
        config: sizes and thresholds; also a configuration of `transformers`.

    Raises:
        ConfigError: on an impossible configuration.

    Example:
        >>> model = sfm_lightglue.SuperPointForKeypointDetection(sfm_lightglue.SuperPointConfig(nms_radius=3))
        >>> model.config.nms_radius
        3
    """

    config_class: ClassVar[type[Configuration]] = SuperPointConfig
    base_model_prefix: ClassVar[str] = "superpoint"

    def __init__(self, config: Any = None) -> None:
        super().__init__(require_config(config, SuperPointConfig))
        self.keypoint_detector = SuperPointDetector(self.config)

    def forward(
        self,
        pixel_values: Tensor,
        labels: Any = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        *,
        image_sizes: Tensor | None = None,
        **keywords: Any,
    ) -> SuperPointKeypointDescriptionOutput | tuple[Any, ...]:
        """Detect and describe keypoints, without gradients.

        Args:
            pixel_values: [B, C, H, W] in [0, 1]; only the first channel is used.
            labels: must be None.
            output_hidden_states: whether to add the feature maps of the encoder; None as in the configuration.
            return_dict: False returns the tuple of the values that are not None; None as in the configuration.
            image_sizes: [B, 2] (height, width) of the images at the upper left of their inputs; None if they fill it.
            keywords: have no effect, as in `transformers`.

        Raises:
            TypeError: if `pixel_values` are no floating-point numbers, and on a misspelt keyword.
            ValueError: on other shapes, and on labels.
        """
        refuse_near_misses(keywords, _ARGUMENTS)
        require_pixels(pixel_values, "[batch, channels, height, width]", 4)
        if labels is not None:
            raise ValueError("labels: SuperPoint is not trained here; give None")
        with_states = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        sizes, images = checked_sizes(pixel_values, image_sizes), pixel_values.to(self.device)
        found = detect(self.keypoint_detector, images, sizes)
        flat = sizes.to(self.device).flip(-1).float()  # [B, 2] (width, height)
        masks = [torch.ones(len(each.keypoints), dtype=torch.int32, device=self.device) for each in found]
        keypoints = [each.keypoints / size for each, size in zip(found, flat, strict=True)]
        parts = (keypoints, [each.scores for each in found], [each.descriptors for each in found], masks)
        padded = [nn.utils.rnn.pad_sequence(part, batch_first=True) for part in parts]  # type: ignore[arg-type]
        states = self._stages(images) if with_states else None
        result = SuperPointKeypointDescriptionOutput(
            keypoints=padded[0], scores=padded[1], descriptors=padded[2], mask=padded[3], hidden_states=states
        )
        result.input_size = (pixel_values.shape[2], pixel_values.shape[3])
        if image_sizes is None:
            result.filled_sizes = filled_sizes(images)
        else:
            result.image_sizes = sizes.to(self.device)
        as_output = self.config.return_dict if return_dict is None else return_dict
        return result if as_output else result.to_tuple()

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path | None,
        *,
        config: Any = None,
        dtype: torch.dtype | str | None = None,
        device: torch.device | str | None = None,
        state_dict: Mapping[str, Tensor] | None = None,
        device_map: Any = None,
        output_loading_info: bool = False,
        variant: str | None = None,
        **keywords: Any,
    ) -> Any:
        """Read a model, in evaluation mode; arguments as in `LightGlueForKeypointMatching.from_pretrained`.

        Args:
            pretrained_model_name_or_path: a folder or repository of SuperPoint, or of a LightGlue that contains one; or
                a single file. None needs `config` and `state_dict`.
            config: configuration instead of that of the weights, or its name or path.
            dtype: of the weights; None and "auto" are that of the saved weights, and float32 for a single file.
            device: such as "cuda"; None is the default device of torch, the CPU.
            state_dict: weights instead of those of the file.
            device_map: the device by its name in `transformers`.
            output_loading_info: whether to return a tuple of the model and a dictionary of empty sets, because weights
                that do not fit are refused.
            variant: part of the names of the files.
            keywords: those that choose files, and fields of the configuration.

        Raises:
            ConfigError: if the configuration is not that of a SuperPoint, or an option is unknown or refused.
            WeightsError: if files are missing, damaged, or do not fit the configuration.
        """
        require_values(f"{cls.__name__}.from_pretrained")
        hub, overrides = split_keywords(keywords, f"{cls.__name__}.from_pretrained")
        former = overrides.pop("torch_dtype", None)
        unknown = overrides.keys() - SuperPointConfig.known_keys()
        SuperPointConfig.refuse_misspelt(dict.fromkeys(unknown))
        if unknown:
            raise ConfigError(f"{cls.__name__}.from_pretrained: unknown option {min(unknown)!r}; remove it")
        file, source, is_single = _weights(pretrained_model_name_or_path, hub, state_dict, variant)
        chosen = _configuration(config, None if is_single else source, file, hub, overrides)
        network = read_superpoint(file, chosen)
        with torch.device("meta"):
            model = cls(chosen)
        model.keypoint_detector = SuperPointDetector(chosen, network)
        saved = torch.float32 if is_single else saved_dtype(chosen, file)
        chosen.dtype = dtype_from(former if dtype is None else dtype, saved)
        chosen.name_or_path = str(pretrained_model_name_or_path or "")
        model = model.to(one_device(device, device_map), chosen.dtype).eval()
        info: dict[str, Any] = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}
        return (model, {**info, "error_msgs": []}) if output_loading_info else model

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state dict, as in torch; the keys of `transformers` are accepted too.

        Raises:
            WeightsError: if a state dict of `transformers` does not fit.
        """
        if "encoder.conv_blocks.0.conv_a.weight" in state_dict:
            architecture = self.keypoint_detector.network.architecture
            network = superpoint_from_state_dict(state_dict, "state dict", architecture)
            state_dict = {f"keypoint_detector.network.{key}": each for key, each in network.state_dict().items()}
        return super().load_state_dict(state_dict, strict, assign)

    def _stages(self, images: Tensor) -> tuple[Tensor, ...]:
        """Feature maps of the stages of the encoder."""
        with torch.no_grad():
            return tuple(self.keypoint_detector.network.stages(images[:, :1].to(self.dtype)))

    def _state_for_transformers(self) -> dict[str, Tensor]:
        names = Layout(SUPERPOINT_HUGGING_FACE_RULES)
        return {names.names(key)[0]: each for key, each in self.keypoint_detector.network.state_dict().items()}


def _weights(
    name_or_path: str | Path | None, hub: HubOptions, state: Mapping[str, Tensor] | None, variant: str | None
) -> tuple[WeightsFile, Path | str | None, bool]:
    """The weights, where the model is, and whether this is a single file."""
    source = None if name_or_path is None else find_source(name_or_path, hub)
    is_single = isinstance(source, Path) and source.is_file()
    if state is not None:
        file = WeightsFile(Path("state_dict"), dict(state), {})
    elif source is None:
        raise ConfigError("from_pretrained: without a name or path, config and state_dict are needed")
    else:
        file = read_weights(source) if is_single else read_state(source, hub, variant)
    return split_weights(file, None)[1], source, is_single


def _configuration(
    given: Any, source: Path | str | None, file: WeightsFile, hub: HubOptions, overrides: dict[str, Any]
) -> SuperPointConfig:
    """The configuration: that which is given, that of the folder or the repository, or that of the weights."""
    config: SuperPointConfig
    place = source if given is None else given
    if isinstance(place, (str, Path)):
        config = SuperPointConfig.from_pretrained(place, **hub_keywords(hub), **overrides)
        return config
    known = superpoint_config(superpoint_from_file(file).architecture) if given is None else SuperPointConfig.of(given)
    config = SuperPointConfig.from_dict(known.to_dict(), **overrides)
    return config
