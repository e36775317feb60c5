"""The benchmark of the window: its scene, and its table."""

import subprocess

import numpy as np
import pytest

from benchmarks import viewer
from sfm_lightglue.viewer.picking import in_view
from sfm_lightglue.viewer.scene_parts import first_view


def test_the_scene_has_its_numbers_and_is_in_view():
    contents = viewer.synthetic_contents(5000, 30)
    assert len(contents.points) == 5000 and len(contents.frusta) == len(contents.files) == 30
    view = first_view(contents)
    assert in_view(view, viewer.SIZE, contents.points).mean() > 0.95
    pixels, _ = view.project(contents.centers.astype(np.float64), viewer.SIZE)
    assert ((pixels > 0) & (pixels < viewer.SIZE)).all()


def test_each_number_has_a_column(monkeypatch, capsys):
    found = {
        "num_moving_points": 9,
        "frames_per_s": 12.34,
        "cpu_s": 0.0123,
        "slowest_frame_s": 0.2,
        "first_frame_s": 0.3,
        "rest_s": 0.4,
        "ready_s": 0.5,
    }
    monkeypatch.setattr(viewer, "_measured_apart", lambda job: {**job, **found})
    assert viewer.main(["--points", "1000", "--cameras", "0", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 4
    assert all(line.count("|") == len(viewer.HEADER) + 1 for line in lines)
    assert [("| 1,000" in line, "12.3" in line, "0.012" in line) for line in lines[2:]] == [(True, True, True)] * 4


def test_a_measurement_that_fails_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"stderr": "Traceback\nOSError: no window\n"}

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, 1, "", found["stderr"])

    monkeypatch.setattr(viewer.subprocess, "run", run)
    for stderr, told in (("Traceback\nOSError: no window\n", "OSError: no window"), ("", "exit status 1")):
        found["stderr"] = stderr
        with pytest.raises(SystemExit, match=f"^error: {told}$"):
            viewer.main(["--points", "9", "--cameras", "0"])
