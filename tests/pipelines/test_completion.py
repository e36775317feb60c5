"""The scripts complete commands, flags, names and files in the real shells, where they are installed."""

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
from dataclasses import dataclass
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
        timeout=120,
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


@dataclass(frozen=True)
class Shell:
    """A shell on a terminal, which reads no file of the user.

    Args:
        flags: of the shell.
        file: name of the script.
        load: line that loads the script {file} of the folder {folder}, and sets the prompt.
        offers: keys that show all that can follow.
        terminal: its kind; tcsh edits no lines on a dumb one.
    """

    flags: tuple[str, ...]
    file: str
    load: str
    offers: bytes = b"\t\t"
    terminal: str = "dumb"


ON_TERMINALS = {
    "bash": Shell(("--norc", "--noprofile", "-i"), "complete.bash", "PS1='ready> '; source {folder}/{file}"),
    "zsh": Shell(
        ("-f", "-i"),
        f"_{SCRIPT}",
        "PS1='ready> '; fpath=({folder} $fpath); autoload -Uz compinit; compinit -D -u",
    ),
    "tcsh": Shell(("-f", "-i"), "complete.tcsh", "set prompt='ready> '; source {folder}/{file}", b"\x04", "vt100"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="needs pseudo-terminals")
@pytest.mark.parametrize("name", ON_TERMINALS)
def test_the_tab_key_completes_on_a_terminal(name: str, tmp_path: Path) -> None:
    shell, program = ON_TERMINALS[name], shutil.which(name)
    if program is None:
        pytest.skip(f"needs {name}")
    scripts, work = tmp_path / "scripts", tmp_path / "work"
    scripts.mkdir()
    (work / "photos").mkdir(parents=True)
    (scripts / shell.file).write_text(completion_script(name))
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(work)
        home = {"HOME": str(work), "ZDOTDIR": str(work), "INPUTRC": "/dev/null"}
        os.execve(program, [name, *shell.flags], home | {"PATH": os.environ["PATH"], "TERM": shell.terminal})
    try:
        load = shell.load.format(folder=scripts, file=shell.file)
        os.write(terminal, f"{load}; echo loa''ded\n".encode())
        shown_until(terminal, "loaded\r")
        os.write(terminal, f"{SCRIPT} rec\t".encode())
        shown_until(terminal, "reconstruct ")
        os.write(terminal, b"pho\t")
        shown_until(terminal, "photos/")
        os.write(terminal, b" --pairs " + shell.offers)
        shown = shown_until(terminal, "spatial")
        assert {"auto", "covisibility", "exhaustive", "retrieval", "sequential"} <= set(re.findall(r"\w+", shown))
        os.write(terminal, f"\x15{SCRIPT} export photos --format nerf\t".encode())
        shown_until(terminal, "nerfstudio")
    finally:
        os.close(terminal)
        os.waitpid(process, 0)


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_fish_completes_commands_names_and_files(tmp_path: Path) -> None:
    (tmp_path / "complete.fish").write_text(completion_script("fish"))
    (tmp_path / "pairs.txt").touch()

    def offered(line: str) -> set[str]:
        code = f"source complete.fish; complete -C '{line}'"
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(
            ["fish", "--no-config", "-c", code],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
            timeout=120,
            check=True,
        )
        assert done.stderr == ""
        return {shown.partition("\t")[0] for shown in done.stdout.splitlines()}

    assert offered(f"{SCRIPT} rec") == {"reconstruct"}
    assert {"auto", "spatial", "pairs.txt"} <= offered(f"{SCRIPT} reconstruct --pairs ")
    assert offered(f"{SCRIPT} export photos --format nerf") == {"nerfstudio"}
    assert offered(f"{SCRIPT} store che") == {"check"}


def shown_until(terminal: int, text: str, limit_s: float = 120.0) -> str:
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
