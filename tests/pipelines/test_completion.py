"""The script completes commands, flags, names and files in a real bash; every shell gets one."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.__main__ import COMMANDS
from pipelines.completion import SHELLS, completion_script, main
from pipelines.interrupt import SCRIPT

shtab = pytest.importorskip("shtab")

NEEDS_BASH = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "complete.bash"
    path.write_text(completion_script("bash"))
    return path


def proposals(script: Path, folder: Path, *words: str) -> list[str]:
    """What bash proposes for the last word, by the function that the script registers."""
    code = f"""
source {script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
function=$(complete -p {SCRIPT} | sed 's/.* -F \\([^ ]*\\) .*/\\1/')
$function {SCRIPT} '{words[-1]}' '{words[-2]}'
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "--norc", "--noprofile", "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@NEEDS_BASH
def test_bash_completes_commands_flags_names_and_files(script: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").touch()
    (tmp_path / "photos").mkdir()
    assert proposals(script, tmp_path, SCRIPT, "rec") == ["reconstruct"]
    assert set(COMMANDS) <= set(proposals(script, tmp_path, SCRIPT, ""))
    assert proposals(script, tmp_path, SCRIPT, "reconstruct", "--camera-p") == ["--camera-params"]
    pairs = set(proposals(script, tmp_path, SCRIPT, "reconstruct", "--pairs", ""))
    assert {"auto", "exhaustive", "sequential", "retrieval", "spatial", "pairs.txt"} <= pairs
    assert proposals(script, tmp_path, SCRIPT, "reconstruct", "--pairs", "pai") == ["pairs.txt"]
    assert set(proposals(script, tmp_path, SCRIPT, "reconstruct", "--density", "")) == {"sparse", "normal", "dense"}
    assert proposals(script, tmp_path, SCRIPT, "export", "photos", "--format", "nerf") == ["nerfstudio"]
    assert proposals(script, tmp_path, SCRIPT, "store", "che") == ["check"]
    assert proposals(script, tmp_path, SCRIPT, "weights", "fetch", "superp") == [
        "superpoint_v1",
        "superpoint_lightglue",
    ]
    assert "photos" in " ".join(proposals(script, tmp_path, SCRIPT, "reconstruct", "pho"))
    assert "--verbose" in proposals(script, tmp_path, SCRIPT, "evaluate", "slam", "--v")


@NEEDS_BASH
@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
def test_the_tab_key_completes_on_a_terminal(script: Path, tmp_path: Path) -> None:
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        environment = {"PATH": os.environ["PATH"], "PS1": "ready> ", "TERM": "dumb", "INPUTRC": "/dev/null"}
        os.execve(shutil.which("bash") or "bash", ["bash", "--norc", "--noprofile", "-i"], environment)
    try:
        shown_until(terminal, "ready> ")
        os.write(terminal, f"PS1='ready> '; source {script}; echo sour''ced\n".encode())
        shown_until(terminal, "sourced")
        os.write(terminal, f"{SCRIPT} rec\t".encode())
        assert f"{SCRIPT} reconstruct " in shown_until(terminal, "reconstruct ")
        os.write(terminal, b"--pairs \t\t")
        shown = shown_until(terminal, "spatial")
        assert {"auto", "covisibility", "exhaustive", "retrieval", "sequential"} <= set(re.findall(r"\w+", shown))
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


def shown_until(terminal: int, text: str, limit_s: float = 30.0) -> str:
    """What a terminal shows until a text comes."""
    shown, end = "", time.monotonic() + limit_s
    while text not in shown:
        left = end - time.monotonic()
        assert left > 0 and select.select([terminal], [], [], left)[0], f"{text!r} did not come; shown: {shown!r}"
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_gets_a_script_of_all_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([shell]) == 0
    script = capsys.readouterr().out
    for name in COMMANDS:
        assert name in script
    assert "exhaustive" in script and "verbose" in script
    assert main([shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"shell": shell, "script": script}


def test_without_shtab_one_line_tells_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["bash"]) == 2
    assert 'pip install "sfm-lightglue[completion]"' in capsys.readouterr().err
