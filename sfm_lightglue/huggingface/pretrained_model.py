"""What all models have in common: the attributes and methods of models of `transformers`."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.huggingface.configuration_base import Configuration
from sfm_lightglue.huggingface.loading_options import NeverUploads, refuse_keywords, warn_without_effect
from sfm_lightglue.huggingface.shards import write_state

LAYOUTS = ("sfm_lightglue", "transformers")


class PretrainedModel(NeverUploads, nn.Module):
    """Base class of models with a configuration.

    Args:
        config: checked again here, because its fields can be changed.
    """

    config_class: ClassVar[type[Configuration]]
    base_model_prefix: ClassVar[str]
    main_input_name: ClassVar[str] = "pixel_values"
    input_modalities: ClassVar[tuple[str, ...]] = ("image",)
    supports_gradient_checkpointing: ClassVar[bool] = False
    framework: ClassVar[str] = "pt"

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.config.validate()

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights."""
        return next(self.parameters()).dtype

    @property
    def name_or_path(self) -> str:
        """Where the model was read from; "" for a new model."""
        return str(self.config.name_or_path)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Number of parameters, including those of the detector.

        Args:
            only_trainable: whether to count only those with a gradient.
            exclude_embeddings: whether to leave out tables of embeddings, which these models do not have.
        """
        tables = {each.weight for each in self.modules() if isinstance(each, nn.Embedding) and exclude_embeddings}
        counted = (each for each in self.parameters() if each not in tables)
        return sum(each.numel() for each in counted if each.requires_grad or not only_trainable)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Bytes of the parameters, and of the buffers unless `return_buffers` is False."""
        tensors = [*self.parameters(), *(self.buffers() if return_buffers else ())]
        return sum(each.numel() * each.element_size() for each in tensors)

    @property
    def base_model(self) -> PretrainedModel:
        """The model itself: it is no head on another model."""
        return self

    @classmethod
    def can_generate(cls) -> bool:
        """Whether the model writes text."""
        return False

    def set_attn_implementation(self, attn_implementation: Any, **keywords: Any) -> None:
        """Has no effect: attention is that of torch, or written out where its weights are requested."""
        warn_without_effect({"attn_implementation": attn_implementation}, "set_attn_implementation")

    @property
    def is_gradient_checkpointing(self) -> bool:
        """Whether training computes layers again for their gradient."""
        return False

    @property
    def is_activation_checkpointing(self) -> bool:
        """The name of `is_gradient_checkpointing` in later versions of `transformers`."""
        return self.is_gradient_checkpointing

    def gradient_checkpointing_enable(
        self,
        gradient_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Let training compute layers again for their gradient, which needs less memory and more time.

        Args:
            gradient_checkpointing_kwargs: `use_reentrant` has no effect, because gradients are the same.
            every_n_layers: must be 1: all layers.
            offload: must be False: what is kept stays on the device.

        Raises:
            ValueError: if the model has nothing to compute again, on another key, and on other values.
        """
        unknown = sorted(set(gradient_checkpointing_kwargs or ()) - {"use_reentrant"})
        if unknown:
            raise ValueError(f"gradient_checkpointing_kwargs: unknown {', '.join(unknown)}; known is use_reentrant")
        if every_n_layers != 1 or offload:
            raise ValueError("checkpointing: every_n_layers must be 1, and offload False; remove them")
        self._recompute_layers(True)

    def gradient_checkpointing_disable(self) -> None:
        """Undo `gradient_checkpointing_enable`."""
        self._recompute_layers(False)

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """The name of `gradient_checkpointing_enable` in later versions of `transformers`."""
        self.gradient_checkpointing_enable(activation_checkpointing_kwargs, every_n_layers, offload)

    def activation_checkpointing_disable(self) -> None:
        """Undo `activation_checkpointing_enable`."""
        self.gradient_checkpointing_disable()

    def state_dict(  # type: ignore[override]  # torch declares overloads
        self, *arguments: Any, layout: str = "sfm_lightglue", **options: Any
    ) -> dict[str, Any]:
        """The state dict, as in torch.

        Args:
            arguments: of torch.
            layout: "transformers" names and shapes the weights as `transformers` does; `load_state_dict` takes both.
            options: of torch.

        Raises:
            ValueError: on another layout, and if `transformers` has no such model.
        """
        if layout not in LAYOUTS:
            raise ValueError(f"layout: expected {' or '.join(map(repr, LAYOUTS))}, got {layout!r}")
        if layout == "transformers":
            return self._state_for_transformers()
        result: dict[str, Any] = super().state_dict(*arguments, **options)
        return result

    def save_pretrained(
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: Mapping[str, Tensor] | None = None,
        push_to_hub: bool = False,
        max_shard_size: int | str = "50GB",
        safe_serialization: bool = True,
        variant: str | None = None,
        **keywords: Any,
    ) -> None:
        """Write config.json and the weights, which `transformers` can read if the detector is SuperPoint.

        Args:
            save_directory: the folder; it is created, and earlier weights in it are removed.
            is_main_process: False writes nothing.
            state_dict: weights instead of those of the model, with all its keys.
            push_to_hub: refused if true.
            max_shard_size: most bytes of a file, or text such as "5MB"; more weights are several files with an index.
            safe_serialization: False writes pytorch_model.bin instead of model.safetensors.
            variant: part of the names of the files, such as "fp16".
            keywords: those of `transformers` that are left; none has an effect.

        Raises:
            ConfigError: on impossible values, and if an upload is requested.
            StoreError: if a file cannot be written.
        """
        refuse_keywords({**keywords, "push_to_hub": push_to_hub}, f"{type(self).__name__}.save_pretrained")
        if not is_main_process:
            return
        saved = self
        if state_dict is not None:
            saved = copy.deepcopy(self)
            saved.load_state_dict(state_dict)
        state, metadata = saved._state_to_write()
        sizes = {"max_shard_size": max_shard_size, "safe_serialization": safe_serialization, "variant": variant}
        write_state(state, Path(save_directory), metadata, **sizes)  # type: ignore[arg-type]
        # After the weights: a refused size or variant leaves the folder as it was.
        self.config.dtype = self.dtype
        self.config.save_pretrained(save_directory)

    def _recompute_layers(self, enabled: bool) -> None:
        if enabled:
            raise ValueError(f"{type(self).__name__} is not trained, and supports no gradient checkpointing")

    def _state_for_transformers(self) -> dict[str, Tensor]:
        raise NotImplementedError

    def _state_to_write(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Weights and metadata of the files."""
        return self._state_for_transformers(), {"format": "pt"}


def require_pixels(pixel_values: Any, shape: str, num_axes: int) -> None:
    """Check the type and the number of axes of the input of a model.

    Raises:
        TypeError: if it is no tensor of floating-point numbers.
        ValueError: on another number of axes.
    """
    if not isinstance(pixel_values, Tensor) or not pixel_values.is_floating_point():
        found = pixel_values.dtype if isinstance(pixel_values, Tensor) else type(pixel_values).__name__
        raise TypeError(
            f"pixel_values: expected a tensor of floating-point numbers in [0, 1], got {found}; the image processor"
            ' makes it with return_tensors="pt"'
        )
    if pixel_values.ndim != num_axes:
        raise ValueError(f"pixel_values: expected {shape}, got {list(pixel_values.shape)}")


def refuse_near_misses(keywords: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Let a model ignore further keywords, as in `transformers`, but not misspelt ones.

    Raises:
        TypeError: on a keyword that is nearly one of the known.
    """
    for name in sorted(keywords):
        near = get_close_matches(name, known, n=1, cutoff=0.85)
        if near:
            raise TypeError(f"forward: unknown argument {name!r} (did you mean {near[0]!r}?)")


def require_config(value: Any, kind: type[Configuration]) -> Any:
    """A configuration of this library from one of this library or of `transformers`; None is the default.

    Raises:
        ConfigError: on anything else.
    """
    if isinstance(value, (str, Path)):
        raise ConfigError(f"config: expected a {kind.__name__}, got {value!r}; see {kind.__name__}.from_pretrained")
    return kind() if value is None else kind.of(value)
