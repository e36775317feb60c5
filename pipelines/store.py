"""`python -m pipelines.store check|stats|compact|prune`: look after the store of an output folder."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from pipelines.command import command_parser, run_command, show_warnings, with_progress
from pipelines.manners import add_output_arguments
from pipelines.output import say, say_json
from sfm_lightglue.errors import ConfigError
from sfm_lightglue.store.inventory import check_store, take_inventory
from sfm_lightglue.store.tidying import Tidied, compact_store, prune_store

EXAMPLES = """\
examples:
  python -m pipelines.store stats photos/reconstruction
      print the number of entries and files, and their size, for each kind
  python -m pipelines.store check photos/reconstruction
      verify all checksums; list damaged entries; exit code 1 if there are any
  python -m pipelines.store compact photos/reconstruction
      merge small files into larger ones
  python -m pipelines.store prune photos/reconstruction --dry-run
      list what nothing needs: damaged and replaced entries, and files and snapshots of killed runs
  python -m pipelines.store prune photos/reconstruction --kind dense_features --all
      remove all entries of a kind; they are computed again when they are needed

Runs can use the store at the same time.
"""

DAMAGED = 1
"""Exit code of `check` if something is damaged."""


_MAX_LISTED = 20
"""Files that are listed for each reason."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    arguments = build_parser().parse_args(argv)
    show_warnings(arguments.verbose)
    return run_command(lambda: _ACTIONS[arguments.action](arguments))


def _check(arguments: argparse.Namespace) -> int:
    num_good, damages = with_progress(
        arguments.quiet, lambda progress: check_store(arguments.folder, arguments.kind, progress)
    )
    if arguments.json:
        listed = [{**dataclasses.asdict(damage), "path": str(damage.path)} for damage in damages]
        say_json({"num_undamaged": num_good, "damages": listed}, indent=2)
    else:
        for damage in damages:
            say(f"{damage.path}: {f'entry {damage.key}: ' if damage.key else ''}{damage.reason}")
        say(f"{num_good} entries are undamaged; {len(damages)} damages")
    return DAMAGED if damages else 0


def _stats(arguments: argparse.Namespace) -> int:
    stats = {one.kind: one.stats() for one in take_inventory(arguments.folder, arguments.kind)}
    total = {name: sum(one[name] for one in stats.values()) for name in next(iter(stats.values()))}
    if arguments.json:
        say_json({"kinds": stats, "total": total}, indent=2)
        return 0
    cells: list[tuple[str, ...]] = [("kind", "entries", "files", "shards", "replaced", "size")]
    for kind, one in (*stats.items(), ("total", total)):
        *counts, num_bytes = (
            one[name] for name in ("num_entries", "num_files", "num_shards", "num_replaced", "num_bytes")
        )
        cells.append((kind, *map(str, counts), f"{num_bytes / 1e6:.2f} MB"))
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    for kind, *row in cells:
        numbers = "  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths[1:], strict=True))
        say(f"{kind:<{widths[0]}}  {numbers}")
    return 0


def _compact(arguments: argparse.Namespace) -> int:
    return _report(compact_store(arguments.folder, arguments.kind, arguments.dry_run), arguments)


def _prune(arguments: argparse.Namespace) -> int:
    if arguments.all and not arguments.kind:
        raise ConfigError("--all removes all entries of the kinds that --kind names; name at least one")
    return _report(prune_store(arguments.folder, arguments.kind, arguments.dry_run, arguments.all), arguments)


def _report(tidied: Tidied, arguments: argparse.Namespace) -> int:
    if arguments.json:
        removed = [{"path": str(path), "reason": why} for path, why in tidied.removed.items()]
        say_json(dataclasses.asdict(tidied) | {"removed": removed, "dry_run": arguments.dry_run}, indent=2)
        return 0
    paths_from_reason: dict[str, list[Path]] = {}
    for path, why in tidied.removed.items():
        paths_from_reason.setdefault(why, []).append(path)
    for why, paths in () if arguments.quiet else paths_from_reason.items():
        for path in paths[:_MAX_LISTED]:
            say(f"{path}: {why}")
        if len(paths) > _MAX_LISTED:
            say(f"and {len(paths) - _MAX_LISTED} more: {why}")
    would_be = "would be " if arguments.dry_run else ""
    say(
        f"{len(tidied.removed)} files of {tidied.num_bytes_removed / 1e6:.2f} MB {would_be}removed,"
        f" {tidied.num_written} shards {would_be}written"
    )
    return 0


_ACTIONS = {"check": _check, "stats": _stats, "compact": _compact, "prune": _prune}


def build_parser() -> argparse.ArgumentParser:
    """Parser of the command's arguments."""
    parser = command_parser("store", "Look after the store of results in an output folder.", EXAMPLES)
    actions = parser.add_subparsers(dest="action", metavar="check|stats|compact|prune", required=True)

    def add_action(name: str, summary: str) -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
        action.add_argument("folder", metavar="DIR", type=Path, help="an output folder, or DATABASE.store of `colmap`")
        action.add_argument(
            "--kind", metavar="KIND", action="append", default=[], help="only entries of this kind; can be repeated"
        )
        return action

    as_json = "print JSON on standard output"
    check = add_action("check", "verify the checksums of all entries; exit code 1 if one is damaged")
    stats = add_action("stats", "print numbers of entries and files, and their size, for each kind")
    for one in (check, stats):
        add_output_arguments(one, as_json, "show no progress")
    compact = add_action("compact", "merge small shards and single entries of small kinds into full shards")
    prune = add_action("prune", "remove damaged and replaced entries, and files and snapshots of killed runs")
    prune.add_argument("--all", action="store_true", help="remove all entries of the kinds that --kind names")
    for one in (compact, prune):
        one.add_argument("--dry-run", action="store_true", help="only print what would be done")
        add_output_arguments(one, as_json, "print only the sums")
    return parser


if __name__ == "__main__":
    sys.exit(main())
