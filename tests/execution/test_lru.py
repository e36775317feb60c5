"""The cache of recently used values keeps the right ones."""

import threading

import pytest

from sfm_lightglue.execution.lru import LruCache


def test_the_least_recently_used_value_is_dropped_first():
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1  # now "b" is the least recently used
    cache.put("c", 3)
    assert (cache.get("a"), cache.get("b"), cache.get("c"), len(cache)) == (1, None, 3, 2)


def test_a_value_is_replaced():
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.put("a", 2)
    assert (cache.get("a"), len(cache)) == (2, 1)


def test_the_number_of_values_is_limited_with_many_threads():
    cache: LruCache[int, int] = LruCache(5)

    def work(start: int) -> None:
        for i in range(start, start + 500):
            cache.put(i % 17, i)
            cache.get(i % 13)

    threads = [threading.Thread(target=work, args=(100 * i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cache) == 5


def test_a_cache_without_room_is_refused():
    with pytest.raises(ValueError, match="max_items must be positive"):
        LruCache(0)


def test_a_value_can_be_dropped():
    cache: LruCache[str, int] = LruCache(2)
    cache.put("a", 1)
    cache.drop("a")
    cache.drop("b")
    assert cache.get("a") is None
    assert len(cache) == 0
