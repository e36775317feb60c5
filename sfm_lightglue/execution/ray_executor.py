"""Tasks on the workers of a Ray cluster: a bounded number at a time, and those of a lost worker again."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Self, TypeVar

from sfm_lightglue.errors import ConfigError, SfmError
from sfm_lightglue.execution.config import ExecutorConfig
from sfm_lightglue.execution.lru import LruCache
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.messages import install_hint

logger = logging.getLogger(__name__)

TagT = TypeVar("TagT")
ResultT = TypeVar("ResultT")

_MAX_RETRIES = 8
"""Times that a task is given to another worker after its worker was lost."""

_NUM_SHARED = 256
"""Values that are kept in the object store of the cluster for further tasks."""

_TASKS_PER_CORE = 2


class RayTasks:
    """Calls of module functions on the workers of a Ray cluster. Use it in a `with` statement.

    Args:
        options: address of the cluster, and limits.
        num_workers: workers that are started on this machine without an address; 0 for one per usable core.

    Raises:
        ConfigError: if Ray is missing, or the cluster cannot be reached.
    """

    def __init__(self, options: ExecutorConfig, num_workers: int = 0) -> None:
        self._ray = _import_ray()
        self._is_own = not self._ray.is_initialized()
        if self._is_own:
            _connect(self._ray, options.address, num_workers or num_usable_cores())
        else:
            _tell_unused_address(self._ray, options.address)
        self._address = options.address
        self._losses = (self._ray.exceptions.RayError, OSError, RuntimeError)
        self._gpus_per_task = options.gpus_per_task
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        self._max_tasks = options.max_tasks or max(1, _TASKS_PER_CORE * cores)
        self._shared: LruCache[str, Any] = LruCache(_NUM_SHARED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_own:
            self._ray.shutdown()

    def share(self, key: str, make: Callable[[], object]) -> Any:
        """A reference to a value in the object store of the cluster, to be used as an argument of calls.

        Args:
            key: of the value.
            make: gives the value, if it is not there.
        """
        reference = self._shared.get(key)
        if reference is None:
            value = make()
            with self._lost_cluster():
                reference = self._ray.put(value)
            self._shared.put(key, reference)
        return reference

    def run(
        self, function: Callable[..., ResultT], calls: Iterable[tuple[TagT, tuple[Any, ...]]]
    ) -> Iterator[tuple[TagT, ResultT]]:
        """Results of calls, in any order. A call that is lost with its workers again and again has none: this is told.

        Args:
            function: of a module that all machines of the cluster have.
            calls: tag and arguments of each. Further calls are taken only when others have finished.

        Raises:
            SfmError: as the function raised it.
            ConfigError: if the workers cannot import the function, or the cluster is lost.
        """
        remote = self._ray.remote(num_cpus=1, num_gpus=self._gpus_per_task, max_retries=_MAX_RETRIES)(function)
        running: dict[Any, TagT] = {}
        try:
            for tag, arguments in calls:
                with self._lost_cluster():
                    running[remote.remote(*arguments)] = tag
                while len(running) >= self._max_tasks:
                    yield from self._finished(running)
            while running:
                yield from self._finished(running)
        finally:
            with contextlib.suppress(*self._losses):
                for reference in running:
                    self._ray.cancel(reference)

    def _finished(self, running: dict[Any, TagT]) -> Iterator[tuple[TagT, Any]]:
        """The results of the calls that have finished by now, of at least one."""
        with self._lost_cluster():
            ready, _ = self._ray.wait(list(running), num_returns=1)
        for reference in ready:
            tag = running.pop(reference)
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                raise _cause(error) from error
            except self._ray.exceptions.RayError as error:
                logger.warning("a task of the Ray cluster was lost, and is done here: %s", _first_line(error))
                continue
            yield tag, result

    @contextlib.contextmanager
    def _lost_cluster(self) -> Iterator[None]:
        """Report that the cluster takes no tasks, as when its head has ended."""
        try:
            yield
        except self._losses as error:
            raise ConfigError(
                f"{_shown(self._address)}: the Ray cluster was lost ({_first_line(error)}); start it and run the same"
                " command again: it goes on"
            ) from error


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise ConfigError(f"`executor.name` ray needs Ray: {install_hint('cluster')}") from error
    return ray


def _tell_unused_address(ray: Any, address: str) -> None:
    """Warn that a connection of this process is used in place of an address that was set."""
    connected = getattr(ray.get_runtime_context(), "gcs_address", "another address")  # clients of some versions lack it
    if address not in ("", "auto", connected):
        logger.warning("this process is connected to Ray at %s; `executor.address` %s is not used", connected, address)


def _connect(ray: Any, address: str, num_workers: int) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        options |= {"num_cpus": num_workers, "include_dashboard": False}
    try:
        ray.init(address or "local", **options)
    except Exception as error:  # ConnectionError, ValueError, RuntimeError ...
        raise ConfigError(f"{_shown(address)}: no Ray cluster can be used ({_first_line(error)})") from error


def _cause(error: Any) -> Exception:
    """What a task raised, or an error that says why the workers cannot run it."""
    cause = error.cause
    if isinstance(cause, ImportError):
        return ConfigError(
            "`executor.name` ray: the workers of the cluster cannot import this package"
            f" ({_first_line(cause)}); install the same version on all machines"
        )
    return cause if isinstance(cause, SfmError) else error


def _shown(address: str) -> str:
    return f"`executor.address` {address or 'of this machine'}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
