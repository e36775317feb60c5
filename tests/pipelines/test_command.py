"""What all commands share: exit codes, progress bars, warnings, and whose `datasets` is imported."""

from __future__ import annotations

import argparse
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.__main__ import COMMANDS
from pipelines.__main__ import main as all_commands
from pipelines.command import (
    ProgressBars,
    add_yes_argument,
    confirmation,
    program_name,
    require_checkout,
    run_command,
    show_warnings,
)
from pipelines.interrupt import Terminated
from sfm_lightglue.errors import ConfigError, DataError, ReconstructionError, StoreError, WeightsError
from tests.helpers.checkout import ROOT


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("so"), 2),
        (DataError("so"), 3),
        (WeightsError("so"), 4),
        (ReconstructionError("so"), 5),
        (StoreError("so"), 6),
        (KeyboardInterrupt(), 130),
        (Terminated(), 143),
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


def test_the_time_left_is_that_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    """Of 1,000 items, 900 are found at once; then an item takes two seconds."""
    now_s = [0.0]
    bars = ProgressBars(clock=lambda: now_s[0])
    for num_done in range(901):
        bars.advance("match", num_done, 1000, num_done)
    assert "<?, ?it/s" in str(bars.bar)
    for num_done in range(901, 911):
        now_s[0] += 2.0
        bars.advance("match", num_done, 1000, 900)
    assert "<03:00, " in str(bars.bar)
    assert "2.00s/it" in str(bars.bar)
    bars("match", 0, 40)
    assert "0/40" in str(bars.bar), "a further round of a stage has a bar of its own"
    bars.close()
    assert bars.bar is None
    assert "match" in capsys.readouterr().err


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


@pytest.mark.parametrize(
    ("called", "told"),
    [
        ("/usr/bin/sfm-lightglue", "sfm-lightglue match"),
        ("C:/venv/Scripts/sfm-lightglue.exe", "sfm-lightglue match"),
        ("/src/pipelines/__main__.py", "python -m pipelines match"),
        ("/src/pipelines/match.py", "python -m pipelines.match"),
        ("/site-packages/pytest/__main__.py", "python -m pipelines.match"),
        ("", "python -m pipelines.match"),
    ],
)
def test_a_command_is_named_as_it_was_called(called: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    assert program_name("match") == told


@pytest.mark.parametrize("name", sorted(COMMANDS))
@pytest.mark.parametrize(
    ("called", "prefix"),
    [("/usr/bin/sfm-lightglue", "sfm-lightglue "), ("/src/pipelines/x.py", "python -m pipelines.")],
)
def test_usage_and_examples_call_the_command_as_the_user_did(
    name: str, called: str, prefix: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [called])
    with pytest.raises(SystemExit) as caught:
        all_commands([name, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: {prefix}{name} ")
    assert f"\n  {prefix}{name} " in text  # an example
    assert ("python -m pipelines" in text) is prefix.startswith("python")
    assert all_commands(["--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: {prefix}COMMAND ...")


SCRIPT = "import sys; from pipelines.__main__ import main; sys.exit(main())"


@pytest.mark.skipif(os.name != "posix", reason="sends signals to a process of its own")
@pytest.mark.parametrize(
    ("sent", "last"),
    [("SIGINT", "pipelines"), ("SIGINT", "numpy.exceptions"), ("SIGINT", "cv2"), ("SIGTERM", "pycolmap._core")],
)
@pytest.mark.parametrize("start", ["-m pipelines.match", "-m pipelines match", "-m pipelines.reconstruct", "script"])
def test_a_signal_during_the_imports_ends_a_command_quietly(start: str, sent: str, last: str, tmp_path: Path) -> None:
    """Whatever is being imported; Python tells of each import that is complete, so the moment is certain."""
    (tmp_path / "sfm-lightglue").write_text(SCRIPT)
    words = [str(tmp_path / "sfm-lightglue"), "match"] if start == "script" else start.split()
    command = [sys.executable, "-X", "importtime", *words, "a.jpg", "b.jpg"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        for line in process.stderr:
            if line.split("|")[-1].strip() == last:
                break
        process.send_signal(signal.Signals[sent])
        rest = [line for line in process.stderr if not line.startswith("import time:")]
        assert process.stdout.read() == ""
    told = "terminated; what was finished is kept, the same command continues\n"
    assert (process.returncode, rest) == ((130, []) if sent == "SIGINT" else (143, [told]))


@pytest.mark.skipif(os.name != "posix", reason="asks for handlers of POSIX")
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import signal, pipelines.match as m; print(signal.getsignal(signal.SIGINT))", "default_int_handler"),
        (
            "import sys, signal; sys.argv[0] = 'sfm-lightglue'; import pipelines.command as c;"
            "print(signal.getsignal(signal.SIGINT).__name__); c.run_command(lambda: None);"
            "print(signal.getsignal(signal.SIGINT).__name__)",
            "_leave\n_raise",
        ),
        (
            "import sys, signal; sys.argv[0] = 'sfm-lightglue'; signal.signal(signal.SIGINT, signal.SIG_IGN);"
            "import pipelines; print(repr(signal.getsignal(signal.SIGINT)))",
            "SIG_IGN",
        ),
    ],
    ids=["imported by others", "a command", "in the background"],
)
def test_signals_are_touched_only_where_a_command_is_about_to_run(code: str, told: str) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)
    assert told in done.stdout, done.stderr


def test_all_commands_can_be_imported() -> None:
    for name in COMMANDS:
        assert callable(importlib.import_module(f"pipelines.{name}").main)


@pytest.mark.parametrize("flag", ["--set", "--output", "--threads", "--pairs"])
def test_a_flag_whose_value_is_two_dashes_is_refused(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        all_commands(["reconstruct", "photos", f"{flag}=--"])
    assert caught.value.code == 2
    assert f"argument {flag}: expected" in capsys.readouterr().err


class Terminal(io.StringIO):
    """What a user types, or sees."""

    def isatty(self) -> bool:
        return True


def flags(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_yes_argument(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("typed", "goes_on"),
    [
        ("y\n", True),
        ("YES\n", True),
        (" yes ", True),
        ("n\n", False),
        ("\n", False),
        ("yesterday\n", False),
        ("", False),
    ],
)
def test_the_user_is_asked_on_the_terminal(typed: str, goes_on: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """An end of the input is no."""
    shown = Terminal()
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    monkeypatch.setattr(sys, "stderr", shown)
    ask = confirmation(flags())
    assert ask is not None
    assert ask("125000 pairs; set `pairs.name`.") is goes_on
    assert shown.getvalue() == "125000 pairs; set --pairs. Go on? [y/N] "


@pytest.mark.parametrize(
    ("stdin", "stderr"), [(None, Terminal()), (io.StringIO("y\n"), Terminal()), (Terminal("y\n"), io.StringIO())]
)
def test_without_a_terminal_there_is_no_question(
    stdin: io.StringIO | None, stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert confirmation(flags()) is None
    ask = confirmation(flags("--yes"))
    assert ask is not None and ask("125000 pairs.")
    assert stderr.getvalue() == ""


@pytest.mark.skipif(os.name != "posix", reason="needs pseudo-terminals")
@pytest.mark.parametrize(("typed", "answer"), [(b"y\n", "True"), (b"n\n", "False"), (b"\x04", "False")])
def test_the_question_on_a_real_terminal(typed: bytes, answer: str) -> None:
    code = (
        "import argparse; from pipelines.command import confirmation\n"
        "print(confirmation(argparse.Namespace(yes=False))('So many.'))"
    )
    ours, theirs = os.openpty()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        os.close(theirs)
        shown = b""
        while not shown.endswith(b"[y/N] "):
            shown += os.read(ours, 1000)
        os.write(ours, typed)
        assert process.stdout is not None
        assert process.stdout.read().strip() == answer
    os.close(ours)
    assert (shown, process.returncode) == (b"So many. Go on? [y/N] ", 0)
