"""All commands: `sfm-lightglue COMMAND ...` after installation, `python -m pipelines COMMAND ...` in a checkout."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable

from pipelines.command import program_name, run_command
from pipelines.output import say, say_json
from sfm_lightglue.errors import ConfigError

COMMANDS = {
    "reconstruct": "computes camera poses and a point cloud from photos",
    "match": "computes the relative pose of two photos",
    "track": "computes the path of a camera and a map from a video (visual SLAM)",
    "localize": "finds the poses of photos in a finished map",
    "densify": "adds many points to a finished model, also of another tool",
    "export": "writes a model in the format of another program: splatting, nerfstudio, Bundler, PLY and more",
    "colmap": "adds features and verified matches to a COLMAP database",
    "view": "shows a reconstruction, or renders an image of it",
    "report": "writes a page about a reconstruction that opens in any browser",
    "store": "checks and tidies the results that are kept in an output folder",
    "weights": "lists the weights of networks, and downloads them",
    "doctor": "tells what works on this machine, what is missing, and what mends it",
    "completion": "prints the script by which a shell completes the commands",
    "evaluate": "compares extractors, matchers and estimators with ground truth (in a checkout)",
    "train": "trains a LightGlue from photos (in a checkout)",
}


def main(argv: list[str] | None = None) -> int:
    """Run a sub-command; returns its exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in {"-h", "--help"}:
        return run_command(lambda: say(_help())) or (0 if arguments else 2)
    if arguments[0] in {"-V", "--version"}:
        return run_command(lambda: _say_version(arguments[1:]))
    name, *rest = arguments
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}\n\n{_help()}", file=sys.stderr)
        return 2
    try:
        command: Callable[[list[str]], int] = importlib.import_module(f"pipelines.{name}").main
        return command(rest)
    except ImportError as error:
        print(f"error: {_lacking(error)}", file=sys.stderr)
        return ConfigError.exit_code


def _lacking(error: ImportError) -> str:
    reason = " ".join(str(error).split())
    what = f"{error.name} cannot be imported" if error.name else "a library cannot be imported"
    return f"{what} ({reason}): `{program_name('doctor')}` tells what is missing, and what mends it"


def _say_version(flags: list[str]) -> None:
    from pipelines.versions import versions, versions_text

    if flags not in ([], ["--json"]):
        raise ConfigError(f"--version takes --json only, got {' '.join(flags)}")
    if flags:
        say_json(versions(), indent=2)
    else:
        say(versions_text())


def _help() -> str:
    lines = [f"  {name:<12} {what}" for name, what in COMMANDS.items()]
    called = program_name("COMMAND")
    return "\n".join([f"usage: {called} ...", "", *lines, "", f"{called} --help prints the options."])


if __name__ == "__main__":
    sys.exit(main())
