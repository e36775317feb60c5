"""Calls on a Ray cluster that is lost, or is another one than that of the options; a stand-in takes Ray's place."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.execution.config import ExecutorConfig
from sfm_lightglue.execution.ray_executor import RayTasks


class RayError(Exception):
    """As in ray.exceptions."""


class RayTaskError(RayError):
    """As in ray.exceptions."""


class StandIn:
    """The functions of Ray that are used, computed in this process; all of those in `lost` fail."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self, *lost: str) -> None:
        self.lost = lost
        self.cancelled: list[object] = []

    def _fail_if_lost(self, name: str) -> None:
        if name in self.lost:
            raise (RayError if name == "wait" else ConnectionError)("the head does not answer\nand more")

    def is_initialized(self) -> bool:
        return True

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address="10.0.0.1:6379")

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, **options: object) -> Callable[[Callable[..., Any]], Any]:
        def submit(function: Callable[..., Any], *arguments: Any) -> Any:
            self._fail_if_lost("remote")
            return SimpleRef(function(*arguments))

        return lambda function: SimpleNamespace(remote=lambda *arguments: submit(function, *arguments))

    def put(self, value: object) -> Any:
        self._fail_if_lost("put")
        return SimpleRef(value)

    def wait(self, references: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        self._fail_if_lost("wait")
        return references[:num_returns], references[num_returns:]

    def get(self, reference: Any) -> Any:
        return reference.value

    def cancel(self, reference: Any) -> None:
        self._fail_if_lost("cancel")
        self.cancelled.append(reference)


class SimpleRef:
    """A reference to a value."""

    def __init__(self, value: object) -> None:
        self.value = value


def tasks_on(monkeypatch: pytest.MonkeyPatch, ray: StandIn, address: str = "") -> RayTasks:
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
    return RayTasks(ExecutorConfig(name="ray", address=address))


def doubles(tasks: RayTasks) -> list[tuple[int, int]]:
    return sorted(tasks.run(lambda value: 2 * value, ((value, (value,)) for value in range(9))))


def test_the_stand_in_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    with tasks_on(monkeypatch, StandIn()) as tasks:
        assert doubles(tasks) == [(value, 2 * value) for value in range(9)]


@pytest.mark.parametrize("lost", [("remote",), ("wait",), ("wait", "cancel")])
def test_a_cluster_that_is_lost_is_an_error_with_its_address(
    monkeypatch: pytest.MonkeyPatch, lost: tuple[str, ...]
) -> None:
    with (
        tasks_on(monkeypatch, StandIn(*lost), "head:6379") as tasks,
        pytest.raises(ConfigError, match=r"`executor.address` head:6379: .* lost \(the head does not answer\)"),
    ):
        doubles(tasks)


def test_a_value_cannot_be_shared_by_a_cluster_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    with tasks_on(monkeypatch, StandIn("put")) as tasks, pytest.raises(ConfigError, match="was lost"):
        tasks.share("a", lambda: 1)


def test_what_a_cluster_that_works_has_not_done_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = StandIn()
    with tasks_on(monkeypatch, ray) as tasks:
        results = tasks.run(lambda value: value, ((value, (value,)) for value in range(9)))
        next(results)
        results.close()  # type: ignore[attr-defined]
    assert len(ray.cancelled) == 3


@pytest.mark.parametrize(
    ("address", "is_told"), [("other:6379", True), ("10.0.0.1:6379", False), ("auto", False), ("", False)]
)
def test_an_address_that_is_not_used_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str, is_told: bool
) -> None:
    with caplog.at_level(logging.WARNING), tasks_on(monkeypatch, StandIn(), address):
        pass
    assert ("`executor.address` other:6379 is not used" in caplog.text) == is_told


def test_a_client_that_does_not_know_its_cluster(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ray = StandIn()
    monkeypatch.setattr(ray, "get_runtime_context", object)
    with tasks_on(monkeypatch, ray, "ray://head:10001"):
        assert "`executor.address` ray://head:10001 is not used" in caplog.text
