"""A small cache of the values that were used last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)
ValueT = TypeVar("ValueT")


class LruCache(Generic[KeyT, ValueT]):
    """Keeps a limited number of values and drops the least recently used one first; safe to use from several threads.

    Args:
        max_items: number of values that are kept, at least 1.

    Raises:
        ValueError: if `max_items` is not positive.
    """

    def __init__(self, max_items: int) -> None:
        if max_items < 1:
            raise ValueError(f"LruCache: max_items must be positive, got {max_items}")
        self._max_items = max_items
        self._values: OrderedDict[KeyT, ValueT] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def get(self, key: KeyT) -> ValueT | None:
        """The value of a key, which becomes the most recently used one; None if it is not kept."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: KeyT, value: ValueT) -> None:
        """Keep a value, and drop the least recently used one if there are too many."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._max_items:
                self._values.popitem(last=False)

    def drop(self, key: KeyT) -> None:
        """Forget the value of a key, if it is kept."""
        with self._lock:
            self._values.pop(key, None)
