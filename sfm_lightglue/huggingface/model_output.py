"""Base class of the outputs of models: a mapping, a tuple and attributes at once, as in `transformers`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, ClassVar, NoReturn

import torch.utils._pytree as pytree  # the only way to register a class
from torch import Tensor


class ModelOutput(dict[str, Any]):
    """Values of a model; a subclass is a dataclass whose fields are None by default.

    The mapping and the tuple have the fields that are not None, in the order of the class. Fields are set by
    attribute or by key, and are not removed. Outputs are compared by identity.
    """

    further_fields: ClassVar[tuple[str, ...]] = ()
    """Fields that are attributes only, because outputs of `transformers` do not have them."""

    def __init_subclass__(cls) -> None:
        pytree.register_pytree_node(
            cls,
            _flatten,
            lambda values, context: cls(**dict(zip(context, values, strict=True))),
            serialized_type_name=f"sfm_lightglue.{cls.__name__}",  # for torch.export.save
        )

    def __post_init__(self) -> None:
        # torch.nn.DataParallel gathers outputs with `type(output)(pairs of names and values)`. Maps of pytrees put
        # any value into the first field.
        first_name, *others = [field.name for field in fields(self)]  # type: ignore[arg-type]
        first = getattr(self, first_name)
        if isinstance(first, (Tensor, str)) or not isinstance(first, Iterable):
            return
        if any(getattr(self, name) is not None for name in others):
            return
        given = list(first.items() if isinstance(first, Mapping) else first)
        if not all(isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], str) for each in given):
            return
        setattr(self, first_name, None)
        for name, value in given:
            self[name] = value

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the fields that mapping and tuple can have."""
        return tuple(field.name for field in fields(cls) if field.name not in cls.further_fields)  # type: ignore[arg-type]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values that are not None, in the order of the class."""
        return tuple(self.values())

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        names = self.names()
        if name not in names:
            return
        if value is None:
            super().pop(name, None)
            return
        is_new = name not in self
        super().__setitem__(name, value)
        for later in names[names.index(name) + 1 :] if is_new else ():
            if later in self:
                super().__setitem__(later, super().pop(later))

    def __setitem__(self, key: str, value: Any) -> None:
        if key not in self.names():
            raise KeyError(f"{key!r} is no field of {type(self).__name__}: {', '.join(self.names())}")
        setattr(self, key, value)

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def _refuse(self, *arguments: Any, **options: Any) -> NoReturn:
        raise TypeError(f"{type(self).__name__}: fields can be set, but not removed; make a dictionary of it first")

    __delitem__ = clear = pop = popitem = setdefault = update = _refuse

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __repr__(self) -> str:
        listed = ", ".join(f"{name}={_summary(value)}" for name, value in self.items())
        return f"{type(self).__name__}({listed})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]


def _flatten(output: ModelOutput) -> tuple[list[Any], list[str]]:
    names = [name for name in (*output.names(), *output.further_fields) if getattr(output, name) is not None]
    return [getattr(output, name) for name in names], names


def _summary(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"tensor{list(value.shape)}"
    return f"{len(value)} values" if isinstance(value, (tuple, list, Mapping)) else repr(value)
