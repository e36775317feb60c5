"""Every executor passes the contract."""

import threading

import pytest

from sfm_lightglue.execution.executor import SERIAL, ThreadExecutor
from sfm_lightglue.execution.threads import num_usable_cores
from sfm_lightglue.testing import ExecutorContract


class TestThreads(ExecutorContract):
    @classmethod
    def build(cls):
        return ThreadExecutor(3)


class TestOneThread(ExecutorContract):
    @classmethod
    def build(cls):
        return SERIAL


def test_one_worker_computes_in_the_thread_of_the_caller():
    assert set(SERIAL.map(lambda _: threading.get_ident(), range(5))) == {threading.get_ident()}


def test_several_workers_compute_at_the_same_time():
    barrier = threading.Barrier(3, timeout=30)  # breaks unless three items are computed at once
    assert sorted(ThreadExecutor(3).map(lambda number: (barrier.wait(), number)[1], range(3))) == [0, 1, 2]


def test_zero_is_one_worker_for_each_core():
    assert ThreadExecutor(0).num_workers == num_usable_cores()
    with pytest.raises(ValueError, match="num_workers must not be negative"):
        ThreadExecutor(-1)


def test_a_contract_without_a_component_reports_what_to_define():
    with pytest.raises(NotImplementedError, match="ExecutorContract must define `build`"):
        ExecutorContract.build()
