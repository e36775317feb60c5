"""What all commands share: exit codes, progress bars, warnings, and whose `datasets` is imported."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.command import ProgressBars, require_checkout, run_command, show_warnings
from sfm_lightglue.errors import ConfigError, DataError, ReconstructionError, StoreError, WeightsError

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("so"), 2),
        (DataError("so"), 3),
        (WeightsError("so"), 4),
        (ReconstructionError("so"), 5),
        (StoreError("so"), 6),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_one_line_and_their_code(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        raise error

    assert run_command(body) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1


def test_bugs_are_not_hidden() -> None:
    def body() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(body)


def test_bars_show_stage_count_and_rate(capsys: pytest.CaptureFixture[str]) -> None:
    bars = ProgressBars()
    for num_done in range(4):
        bars("extract", num_done, 3)
    bars("map", 1, 2)
    bars.close()
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    (extracted,) = [line for line in lines if line.startswith("extract") and "3/3" in line][-1:]
    assert "it/s" in extracted or "s/it" in extracted
    assert any(line.startswith("map") and "1/2" in line for line in lines)


def test_warnings_are_one_line_each_however_often_they_are_set_up(capsys: pytest.CaptureFixture[str]) -> None:
    show_warnings()
    show_warnings()
    logging.getLogger("sfm_lightglue.test").warning("a photo is %s", "odd")
    assert capsys.readouterr().err == "warning: a photo is odd\n"


def test_our_own_readers_are_accepted() -> None:
    require_checkout("this test")


def test_another_package_named_datasets_is_never_imported(tmp_path: Path) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("raise SystemExit('imported')")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]\n"
        "from pipelines.train import main\n"
        "sys.exit(main(['--photos', 'x', '--output', 'y', '--validate']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 2, done.stderr
    assert "needs the checkout" in done.stderr
