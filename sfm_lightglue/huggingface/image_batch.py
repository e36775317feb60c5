"""Result of an image processor: a mapping that is moved and cast like a tensor."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class ImageBatch(UserDict[str, Any]):
    """Result of an image processor, for `model(**batch)`.

    `pixel_values` are [B, 2, C, H, W] float32 for pairs and [B, C, H, W] for single images; the channels are last with
    `data_format="channels_last"`. `image_sizes` [B, 2, 2] or [B, 2] int64 are (height, width) of the images at their
    upper left; the rest is padding. Values are read by key, by attribute, or in the dictionary `data`.

    Args:
        data: names and values.
        tensor_type: converts the values: "pt" to tensors, "np" to arrays; None keeps them.
        skip_tensor_conversion: names of values that are not converted.

    Raises:
        ValueError: if a value cannot be converted, or on another `tensor_type`.
    """

    def __init__(
        self,
        data: Mapping[str, Any] | None = None,
        tensor_type: Any = None,
        skip_tensor_conversion: Iterable[str] | None = None,
    ) -> None:
        super().__init__({} if data is None else data)
        self.skip_tensor_conversion = None if skip_tensor_conversion is None else set(skip_tensor_conversion)
        self.convert_to_tensors(tensor_type)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def convert_to_tensors(
        self, tensor_type: Any = None, skip_tensor_conversion: Iterable[str] | None = None
    ) -> ImageBatch:
        """Convert the values, and return the batch itself; arguments as in the class.

        Raises:
            ValueError: if a value cannot be converted, or on another `tensor_type`.
        """
        kind = getattr(tensor_type, "value", tensor_type)
        if kind not in (None, "pt", "np"):
            raise ValueError(f"tensor_type: expected 'pt', 'np' or None, got {kind!r}")
        skipped = self.skip_tensor_conversion if skip_tensor_conversion is None else set(skip_tensor_conversion)
        for key, value in self.data.items():
            if kind is None or key in (skipped or ()) or isinstance(value, (str, Mapping)):
                continue
            try:
                self.data[key] = _as_tensor(value) if kind == "pt" else _as_array(value)
            except (TypeError, ValueError, RuntimeError) as error:
                raise ValueError(f"{key}: cannot be converted to one array ({error})") from error
        return self

    def to(self, *args: Any, **kwargs: Any) -> ImageBatch:
        """Move or cast the tensors of this batch, and return it; the type of integer tensors is kept.

        Args:
            args: of `torch.Tensor.to`: a device, a floating-point type, or both.
            kwargs: likewise `device`, `dtype`, `non_blocking`.
        """
        self.data = {key: _moved(value, args, kwargs) for key, value in self.data.items()}
        return self


def _moved(value: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_moved(each, args, kwargs) for each in value)
    if not isinstance(value, Tensor):
        return value
    if value.is_floating_point():
        return value.to(*args, **kwargs)
    device = torch.empty(0, dtype=torch.float32, device=value.device).to(*args, **kwargs).device
    return value.to(device, non_blocking=kwargs.get("non_blocking", False))


def _as_tensor(value: Any) -> Tensor:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, Tensor) for each in value):
        return torch.stack(list(value))
    return torch.from_numpy(np.array(value)) if isinstance(value, (list, tuple, np.ndarray)) else torch.tensor(value)


def _as_array(value: Any) -> np.ndarray[Any, Any]:
    if isinstance(value, Tensor):
        return np.asarray(value.cpu().numpy())
    if isinstance(value, (list, tuple)) and value and all(isinstance(each, Tensor) for each in value):
        return np.stack([each.cpu().numpy() for each in value])
    return np.asarray(value)
