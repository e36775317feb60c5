"""`python -m pipelines.completion SHELL`: the script by which a shell completes commands, flags and names."""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from pipelines.command import command_parser, run_command, show_warnings
from pipelines.interrupt import SCRIPT
from pipelines.manners import add_output_arguments
from pipelines.output import say, say_json
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.messages import install_hint

SHELLS = ("bash", "zsh", "fish", "tcsh")

EXAMPLES = f"""\
examples:
  python -m pipelines.completion bash > ~/.local/share/bash-completion/completions/{SCRIPT}
      for all later shells; the package bash-completion finds the file by its name
  python -m pipelines.completion zsh > ~/.zsh/completions/_{SCRIPT}
      in a folder of $fpath, which ~/.zshrc sets before it calls compinit
  python -m pipelines.completion fish > ~/.config/fish/completions/{SCRIPT}.fish
      for fish

The script completes the installed command {SCRIPT}. Write it again after an update of the package.
"""

_FOLDERS = {"DIR", "SCENE_DIR", "RUN_DIR", "MODEL_DIR", "IMAGES", "MAP", "PATH"}
"""Metavars of folders, or of what is mostly one."""

_FILE = re.compile(r"FILE\b|IMAGE\d|DATABASE|QUERY|SOURCE")


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)

    def body() -> None:
        script = completion_script(arguments.shell)
        if arguments.json:
            say_json({"shell": arguments.shell, "script": script})
        else:
            say(script, end="")

    return run_command(body)


def completion_script(shell: str) -> str:
    """The script for a shell.

    Args:
        shell: one of `SHELLS`.

    Raises:
        ConfigError: if shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        hint = install_hint("completion")
        raise ConfigError(f"completion needs the package shtab, which is not installed: {hint}") from error
    script = str(shtab.complete(all_commands_parser(), shell))
    return script if script.endswith("\n") else f"{script}\n"


def all_commands_parser() -> argparse.ArgumentParser:
    """One parser of all commands, whose arguments have the names that a shell completes."""
    from pipelines.__main__ import COMMANDS

    root = argparse.ArgumentParser(prog=SCRIPT, description="Photos in, camera poses and a point cloud out.")
    root.add_argument("-V", "--version", action="store_true", help="print versions and digests of weights")
    commands = root.add_subparsers()
    for name, what in COMMANDS.items():
        parser: argparse.ArgumentParser = importlib.import_module(f"pipelines.{name}").build_parser()
        for action in _actions(parser):
            _complete(action, name)
        commands.add_parser(name, parents=[parser], add_help=False, help=what)
    return root


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a parser and of its actions."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
        else:
            yield action


def _complete(action: argparse.Action, command: str) -> None:
    """Tell how the value of an argument is completed: by names, files or folders."""
    if action.nargs == 0 or action.choices is not None:
        return
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    names = _names(action, command, metavar)
    takes_files = _FILE.search(metavar) is not None or action.type is Path
    how: Any = None
    if names and takes_files:
        how = _names_or_files(names)
    elif names:
        action.choices = names
    elif metavar in _FOLDERS:
        how = _folder()
    elif takes_files:
        how = _file()
    if how is not None:
        action.complete = how  # type: ignore[attr-defined]  # shtab looks for it


def _names(action: argparse.Action, command: str, metavar: str) -> list[str]:
    """The names that an argument takes; empty if it takes anything."""
    known = _NAMES.get((command, action.option_strings[-1] if action.option_strings else metavar))
    if known is not None:
        return list(known())
    if "|" not in metavar or metavar.startswith("FILE."):
        return []
    return [name for name in metavar.split("|") if re.fullmatch(r"[a-z0-9-]+", name)]


def _formats() -> Sequence[str]:
    from sfm_lightglue.registry.builtin import EXPORTERS

    return EXPORTERS.builtin_names


def _weights() -> Sequence[str]:
    from sfm_lightglue.weights.catalog import CATALOG

    return list(CATALOG)


_NAMES: dict[tuple[str, str], Callable[[], Sequence[str]]] = {
    ("export", "--format"): _formats,
    ("weights", "NAME"): _weights,
}
"""Names of arguments whose metavar does not list them, by command and flag or metavar."""


def _file() -> Any:
    import shtab

    return shtab.FILE


def _folder() -> Any:
    import shtab

    return shtab.DIRECTORY


def _names_or_files(names: Sequence[str]) -> dict[str, Any]:
    """Completion by names and by files, for `shtab`."""
    words = " ".join(names)
    function = f"_sfm_lightglue_{'_'.join(re.sub(r'[^a-z0-9]', '_', name) for name in names)}_or_files"
    bash = f'{function}() {{\n  compgen -W \'{words}\' -- "$1"\n  compgen -f -- "$1"\n}}'
    # A function of its own: zsh would take the colons of the alternatives for those of the argument.
    zsh = f"{function}() {{\n  _alternative 'names:name:({words})' 'files:file:_files'\n}}"
    return {
        "bash": function,
        "preamble": {"bash": bash, "zsh": zsh},
        "zsh": function,
        "fish": f"{words} (__fish_complete_path (commandline -ct))",
        "tcsh": f"({words})",
    }


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = command_parser("completion", "Print the script by which a shell completes the commands.", EXAMPLES)
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    as_json = "print the script as one JSON object on standard output"
    add_output_arguments(parser, as_json, "print the script only")
    return parser


if __name__ == "__main__":
    sys.exit(main())
