"""Cores and their limits, instruction sets, graphics processors and displays, as files and variables tell them."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from sfm_lightglue.diagnosis import machine
from sfm_lightglue.diagnosis.machine import (
    cgroup_quota,
    core_findings,
    display_finding,
    gpu_findings,
    instruction_finding,
    instruction_sets,
)


@pytest.mark.parametrize(("content", "cores"), [("150000 100000", 1.5), ("max 100000", None), ("odd", None)])
def test_the_limit_of_a_container(content: str, cores: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert cgroup_quota(tmp_path) == cores


@pytest.mark.parametrize(("quota", "cores"), [("200000", 2.0), ("-1", None)])
def test_the_limit_of_older_control_groups(quota: str, cores: float | None, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota)
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000")
    assert cgroup_quota(tmp_path) == cores
    assert cgroup_quota(tmp_path / "none") is None


def test_a_limit_below_the_cores_is_told_with_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "num_usable_cores", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    for name in ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    cores, limit, threads = core_findings(2.5)
    assert cores.text.startswith("8 of ") and cores.state == "ok"
    assert (limit.state, limit.mend) == ("broken", "give commands `num_threads` 2")
    assert (threads.name, threads.text) == ("OMP_NUM_THREADS", "3")
    assert len(core_findings(8.0)) == len(core_findings(None)) == 2


def test_instruction_sets_of_both_kinds_of_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags\t\t: fpu sse2 avx2 avx512f avx512_bf16 amx_bf16\n")
    assert instruction_sets(info) == ["AVX2", "AVX-512", "AVX-512 bf16", "AMX bf16"]
    info.write_text("Features\t: fp asimd bf16\n")
    assert instruction_sets(info) == ["NEON", "NEON bf16"]
    info.write_text("flags : fpu sse2\n")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert instruction_finding({}, info).state == "missing"
    assert instruction_finding({"capability": "NEON"}, tmp_path / "none").text == "x86_64, torch uses NEON"


def test_graphics_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    (one,) = gpu_findings({"cuda": [{"name": "H200", "memory_mb": 143000}]})
    assert (one.state, one.text) == ("ok", "H200, 143000 MB")
    assert gpu_findings({"mps": True})[0].state == "ok"
    assert gpu_findings({})[0].state == "missing"
    monkeypatch.setattr(machine.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "built without CUDA" in gpu_findings({"cuda_build": "", "num_threads": 2})[0].text
    assert "finds no device" in gpu_findings({"cuda_build": "12.8"})[0].text


def test_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    one = display_finding()
    assert (one.state, one.stops) == ("missing", False)
    assert "`screenshot`" in one.mend
    monkeypatch.setenv("DISPLAY", ":7")
    assert display_finding().text == "DISPLAY=:7"
