"""Signals end a command with one line and the exit code of shells, whatever it is doing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.checkout import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends signals to processes of its own")

TOLD = "terminated; what was finished is kept, the same command continues\n"

AS_PROGRAM = "import sys; sys.argv = ['sfm-lightglue', 'match']\nimport pipelines.interrupt as interrupt\n"


def run_python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)


EVERY_STAGE = """
import contextlib, json, os, signal, sys
scene, output, log, flags, moments = sys.argv[1], sys.argv[2], sys.argv[3], *map(json.loads, sys.argv[4:])
sys.argv = ["sfm-lightglue", "reconstruct"]
import pipelines
from pipelines import command, reconstruct
import pycolmap
from sfm_lightglue.stages.clock import Clock

def send():
    os.kill(os.getpid(), signal.SIGTERM)

def signal_within(stage, num_done):
    class Bars:
        def __init__(self, unit=""):
            pass
        def __call__(self, name, done, total):
            if (name, done) == (stage, num_done):
                send()
        def close(self):
            pass
    command.ProgressBars = Bars

def signal_at_entry(stage, number):
    timed, entered = Clock.stage, []
    @contextlib.contextmanager
    def entering(clock, name):
        with timed(clock, name):
            entered.append(name)
            if name == stage and entered.count(stage) == number:
                send()
            yield
    Clock.stage = entering

results = []
for kind, stage, number in moments:
    child = os.fork()
    if child == 0:
        {"entry": signal_at_entry, "within": signal_within, "never": lambda stage, number: None}[kind](stage, number)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        os.dup2(2, 1)
        quiet = [] if kind == "within" else ["--quiet"]
        code = reconstruct.main([scene, "--output", output, *flags, *quiet])
        sys.stdout.flush()
        os._exit(code)
    status = os.waitpid(child, 0)[1]
    hidden = [name for name in os.listdir(output) if name.startswith(".work-")] if os.path.isdir(output) else []
    told = open(log).read() if kind != "never" else ""
    results.append([stage, os.waitstatus_to_exitcode(status), told, hidden, os.path.isdir(output + "/sparse/0")])
print(json.dumps(results))
"""

MOMENTS = (
    ("entry", "scan", 1),
    ("within", "extract", 1),
    ("entry", "select", 1),
    ("within", "match", 7),
    ("within", "map", 4),
    ("entry", "write", 1),
    ("entry", "write", 2),
)
"""One of each stage, as the progress or the clock tells it; the last one is the publication."""


def test_kill_in_every_stage_is_one_line_and_the_same_command_finishes(small_scene_dir: Path, tmp_path: Path) -> None:
    flags = ["--threads", "2", "--matcher", "nearest", "--max-keypoints", "400"]
    moments = [*MOMENTS, ("never", "", 0)]
    log = tmp_path / "log.txt"
    done = run_python(EVERY_STAGE, small_scene_dir, tmp_path / "out", log, json.dumps(flags), json.dumps(moments))
    assert done.returncode == 0, done.stderr
    expected = [[stage, 143, TOLD, [], False] for _, stage, _ in MOMENTS]
    assert json.loads(done.stdout) == [*expected, ["", 0, "", [], True]]


@pytest.mark.parametrize("num_signals", [1, 2])
def test_a_library_that_does_not_come_back_does_not_keep_the_process(num_signals: int) -> None:
    """The main thread blocks the signals and sleeps in C, so no handler of Python can run in it."""
    code = AS_PROGRAM + (
        "import ctypes, os, signal, threading, time\n"
        "from pipelines.command import run_command\n"
        f"interrupt.GRACE_S, interrupt._ECHO_S = {0.4 if num_signals == 1 else 60}, 0.2\n"
        "def body():\n"
        "    def send():\n"
        f"        for _ in range({num_signals}):\n"
        "            os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.5)\n"
        "    threading.Thread(target=send, daemon=True).start()\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"
        "    ctypes.CDLL(None).sleep(60)\n"
        "sys.exit(run_command(body))"
    )
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (143, "", TOLD)


def test_a_signal_within_a_callback_of_a_library_is_not_lost() -> None:
    """An exception cannot leave a callback of C: Python would print and forget it."""
    code = AS_PROGRAM + (
        "import ctypes, os, signal, time\n"
        "from pipelines.command import run_command\n"
        "interrupt._ECHO_S = 0.1\n"
        "compared = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)\n"
        "def body():\n"
        "    callback = compared(lambda a, b: os.kill(os.getpid(), signal.SIGTERM) or 0)\n"
        "    ctypes.CDLL(None).qsort((ctypes.c_int * 2)(1, 2), 2, 4, callback)\n"
        "    print('after the callback', flush=True)\n"
        "    time.sleep(60)\n"
        "sys.exit(run_command(body))"
    )
    done = run_python(code)
    assert (done.returncode, done.stdout, done.stderr) == (143, "after the callback\n", TOLD)


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_that_is_sent_twice_at_once_is_one_signal(name: str, code: int) -> None:
    script = AS_PROGRAM + (
        "import os, signal, time\n"
        "from pipelines.command import run_command\n"
        "def body():\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{name}); time.sleep(60)\n"
        "    finally:\n"
        f"        os.kill(os.getpid(), signal.{name}); time.sleep(0.1); print('tidied up')\n"
        "sys.exit(run_command(body))"
    )
    done = run_python(script)
    told = TOLD.replace("terminated", "interrupted") if name == "SIGINT" else TOLD
    assert (done.returncode, done.stdout, done.stderr) == (code, "tidied up\n", told)


def test_the_handler_of_pycolmap_is_replaced_and_ignored_signals_stay_ignored() -> None:
    code = (
        "import os, signal, sys; sys.argv = ['sfm-lightglue']; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "import pipelines.command\n"
        "import sfm_lightglue.colmap, pycolmap\n"
        "os.kill(os.getpid(), signal.SIGTERM); print(signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)\n"
    )
    assert run_python(code).stdout == "True\n"


def test_other_programs_keep_their_handlers() -> None:
    code = (
        "import signal, sys, pipelines.command as c; before = signal.getsignal(signal.SIGTERM)\n"
        "c.run_command(lambda: None)\n"
        "print(before is signal.SIG_DFL, signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, len(sys.meta_path),"
        " signal.set_wakeup_fd(-1), sys.unraisablehook is sys.__unraisablehook__)"
    )
    words = run_python(code).stdout.split()
    assert words[:2] == ["True", "True"]
    assert words[3:] == ["-1", "True"]


ASKED = AS_PROGRAM + (
    "import os, signal, time\n"
    "from pipelines.command import run_command\n"
    "interrupt.GRACE_S, interrupt._ECHO_S = 0.3, 0.1\n"
    "def send():\n"
    "    os.kill(os.getpid(), signal.SIGINT)\n"
    "def body():\n"
    "    with interrupt.asked_to_end() as asked:\n"
    "        send(); send()\n"
    "        time.sleep(0.8)\n"
    "        print(asked.is_set(), flush=True)\n"
    "        {inside}\n"
    "    {outside}\n"
    "    return 7\n"
    "sys.exit(run_command(body))"
)


def test_a_job_that_is_asked_to_end_has_the_time_that_it_needs() -> None:
    """The signal came twice at once; no thread ends the process after the time of grace."""
    done = run_python(ASKED.format(inside="pass", outside="time.sleep(0.5)"))
    assert (done.returncode, done.stdout, done.stderr) == (7, "True\n", "")


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_the_next_ctrl_c_ends_the_command_as_elsewhere(where: str) -> None:
    texts = {"inside": "pass", "outside": "pass"} | {where: "send(); time.sleep(60)"}
    done = run_python(ASKED.format(**texts))
    told = TOLD.replace("terminated", "interrupted")
    assert (done.returncode, done.stdout, done.stderr) == (130, "True\n", told)


def test_kill_ends_a_job_that_can_be_asked_to_end_as_elsewhere() -> None:
    done = run_python(ASKED.format(inside="os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", outside="pass"))
    assert (done.returncode, done.stderr) == (143, TOLD)
