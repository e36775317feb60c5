"""The fenced code blocks of the README and of the documentation, and a folder in which those of one page run."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers.checkout import ROOT

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<language>[\w-]*) *(?P<rest>.*)")
_REASON = re.compile(r"\s*<!-- not run: (?P<reason>.*?) -->\s*")
_COMMENT = re.compile(r"\s*<!--.*-->\s*")
_TITLE = re.compile(r'title="(?P<title>[^"]+)"')


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Args:
        page: path of the page below the checkout.
        line: of the first line of code, from 1.
        language: as the fence states it.
        title: name of the file that the block shows, "" if it shows none.
        reason: why it is not run, "" if it is run.
        code: without the indentation of the fence.
    """

    page: str
    line: int
    language: str
    title: str
    reason: str
    code: str

    @property
    def location(self) -> str:
        """File and line, as editors and pytest write them."""
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether the test runs it."""
        return self.language in {"bash", "python"} and not self.reason


def pages() -> list[str]:
    """All pages with blocks that users copy, README first."""
    docs = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return ["README.md", "CONTRIBUTING.md", *docs]


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    lines = (ROOT / page).read_text(encoding="utf-8").splitlines()
    blocks, i = [], 0
    while i < len(lines):
        fence = _FENCE.fullmatch(lines[i])
        if fence is None:
            i += 1
            continue
        closing = fence["indent"] + fence["ticks"]
        end = next((j for j in range(i + 1, len(lines)) if lines[j].rstrip() == closing), None)
        assert end is not None, f"{page}:{i + 1}: this block has no end"
        code = "\n".join(line.removeprefix(fence["indent"]) for line in lines[i + 1 : end])
        title = _TITLE.search(fence["rest"])
        blocks.append(
            Block(page, i + 2, fence["language"], title["title"] if title else "", _reason_before(lines, i), code)
        )
        i = end + 1
    return blocks


def _reason_before(lines: list[str], fence: int) -> str:
    """The reason in the comments directly before a fence, "" if there is none."""
    for i in range(fence - 1, -1, -1):
        if found := _REASON.fullmatch(lines[i]):
            return found["reason"]
        if lines[i].strip() and not _COMMENT.fullmatch(lines[i]):
            return ""
    return ""


class Page:
    """Runs the blocks of one page in order, in one folder, each once.

    Blocks with a title are written to files of that name. Python blocks of a page share their names. Shell blocks of
    our own commands alone run in this process, which is much faster; all others run in bash.

    Args:
        blocks: of one page.
        folder: working folder; the scene of the documentation lies in it.
        programs: folder of the commands that the shell finds first.
    """

    def __init__(self, blocks: list[Block], folder: Path, programs: Path) -> None:
        self.blocks, self.folder = blocks, folder
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._num_done = 0
        self._environment = os.environ | {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        }

    def run(self, block: Block) -> None:
        """Run a block, after the blocks before it that did not run yet."""
        index = self.blocks.index(block)
        while self._num_done <= index:
            current = self.blocks[self._num_done]
            self._num_done += 1
            if current.title:
                (self.folder / current.title).write_text(current.code + "\n", encoding="utf-8")
            elif current.is_run:
                self._run_one(current)

    def _run_one(self, block: Block) -> None:
        if block.language == "python":
            # Line breaks before the code give tracebacks the lines of the page.
            source = "\n" * (block.line - 1) + block.code
            exec(compile(source, str(ROOT / block.page), "exec"), self._names)
            return
        commands = [_own_arguments(line) for line in _lines_of(block.code)]
        if all(arguments is not None for arguments in commands):
            for arguments in commands:
                code = run_own_command(arguments)
                assert code == 0, f"{block.location}: exit code {code} of {arguments}"
            return
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            cwd=self.folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{block.location}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"


def _lines_of(code: str) -> list[str]:
    """Commands of a shell block without comments; continued lines are joined."""
    lines = (line.split(" #")[0].strip() for line in code.replace("\\\n", " ").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _own_arguments(line: str) -> list[str] | None:
    """Arguments of a command of ours that needs no shell; None for every other line."""
    if any(character in line for character in "|&;<>$`*"):
        return None
    words = shlex.split(line)
    if words[0] == "sfm-lightglue":
        return words[1:]
    if words[:2] == ["python", "-m"] and words[2].startswith("pipelines."):
        return [words[2].removeprefix("pipelines."), *words[3:]]
    return None


def run_own_command(arguments: list[str] | None) -> int:
    """Run a command in this process, which has the libraries loaded already; `--help` exits."""
    from pipelines.__main__ import main

    try:
        return main(arguments)
    except SystemExit as done:
        return int(done.code or 0)


def write_programs(folder: Path) -> Path:
    """Write `python`, `python3` and `sfm-lightglue` that use the interpreter of the tests."""
    folder.mkdir()
    for name, command in {"python": "", "python3": "", "sfm-lightglue": " -m pipelines"}.items():
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n')
        program.chmod(0o755)
    return folder


def copy_of_scene(template: Path, target: Path) -> Path:
    """A copy of a folder. Entries of the store are linked: they are replaced as a whole, never changed."""

    def copy(source: str, destination: str) -> None:
        if source.endswith(".npz"):
            os.link(source, destination)
        else:
            shutil.copy2(source, destination)

    shutil.copytree(template, target, copy_function=copy)
    return target
