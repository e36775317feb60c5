"""`python -m pipelines.match --batch pairs.txt`: one JSON object a line; an interrupted batch continues."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.command import ProgressBars
from pipelines.options import with_flags
from pipelines.output import say, say_json
from sfm_lightglue.errors import ConfigError, DataError, StoreError
from sfm_lightglue.execution.progress import silent
from sfm_lightglue.image_pair.batch import PairBatch, PairOutcome
from sfm_lightglue.image_pair.pair_list import ListedPair
from sfm_lightglue.input_file import read_input_file
from sfm_lightglue.messages import shown_path
from sfm_lightglue.store.json_bytes import json_bytes
from sfm_lightglue.store.sole_writer import sole_writer
from sfm_lightglue.store.store import atomic_write


def run_batch(batch: PairBatch, pairs: Sequence[ListedPair], out: Path | None, as_json: bool, quiet: bool) -> None:
    """Match the pairs of a list, and write or print each result as soon as it is computed.

    Args:
        batch: matches them.
        pairs: of the list.
        out: file of JSON lines. Results of an earlier run are kept and not computed again; its errors are tried again.
            When the batch is finished, the file contains one line for each pair, in the order of the list.
        as_json: print JSON lines on standard output.
        quiet: print nothing else.

    Raises:
        ConfigError: if `out` contains results of another list or of other options.
        DataError: if every pair failed.
        StoreError: if `out` cannot be written.
    """
    keys = [batch.key(pair) for pair in pairs]
    with sole_writer(out) if out is not None else contextlib.nullcontext():
        counts, num_kept, first_error = _write_outcomes(batch, pairs, keys, out, as_json, quiet)
    if not quiet:
        again = f" ({num_kept} from an earlier run)" if num_kept else ""
        written = f" -> {out}" if out is not None else ""
        numbers = ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))
        summary = f"{len(pairs)} pairs{again}: {numbers}{written}"
        if as_json:
            print(summary, file=sys.stderr)
        else:
            say(summary)
    if counts["failed"] == len(pairs):
        raise DataError(f"none of the {len(pairs)} pairs could be matched; the first error: {first_error}")


def _write_outcomes(
    batch: PairBatch,
    pairs: Sequence[ListedPair],
    keys: Sequence[str],
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> tuple[Counter[str], int, str]:
    """Match what `out` does not contain; returns counts by verdict, the number of kept results, the first error."""
    kept = [] if out is None else kept_lines(out, Counter(keys))
    done = Counter(line["key"] for line in kept)
    counts = Counter(_count_name(None, line.get("verdict")) for line in kept)
    first_error = ""
    bars = None if quiet or out is None or not sys.stderr.isatty() else ProgressBars()
    try:
        for outcome in batch.outcomes(pairs, done, bars or silent):
            values = outcome.as_dict()
            counts[_count_name(values["error"], values.get("verdict"))] += 1
            first_error = first_error or outcome.error
            if out is not None:
                _append(out, json_bytes(values))
            if as_json:
                say_json(values, flush=True)
            elif not quiet and out is None:
                say(_described(outcome), flush=True)
    finally:
        if bars is not None:
            bars.close()
    if out is not None and kept:
        put_in_order(out, keys)
    return counts, len(kept), first_error


def kept_lines(out: Path, wanted: Mapping[str, int]) -> list[dict[str, Any]]:
    """The results of an earlier run in a file; its errors, and a line that was cut off by a kill, are removed.

    Errors are tried again, because their cause may be gone.

    Args:
        out: file of JSON lines, which need not exist.
        wanted: number of results of the present run by key.

    Raises:
        ConfigError: if the file contains anything else, such as results of other pairs, images or options.
        DataError: if it cannot be read.
        StoreError: if it cannot be written.
    """
    if not os.path.lexists(out):
        return []
    *whole, torn = read_input_file(out).split(b"\n")
    kept, texts = [], []
    left = Counter(wanted)
    for number, text in enumerate(whole, start=1):
        try:
            line = json.loads(text)
            key, is_error = str(line["key"]), line["error"] is not None
        except (ValueError, KeyError, TypeError, RecursionError) as problem:
            raise ConfigError(f"{out}:{number}: not a result of this command; choose another --out") from problem
        if is_error:
            continue
        if key not in wanted:
            raise ConfigError(
                f"{out}:{number}: contains the result of another list, of other images or of other options; choose"
                " another --out, or delete it"
            )
        if left[key] > 0:
            left[key] -= 1
            kept.append(line)
            texts.append(text)
    if torn and not _may_be_torn(torn):
        raise ConfigError(f"{out}:{len(whole) + 1}: not a result of this command; choose another --out")
    if torn or len(texts) < len(whole):
        with atomic_write(out) as file:
            file.writelines(text + b"\n" for text in texts)
    return kept


def _may_be_torn(text: bytes) -> bool:
    """Whether the end of a file may be the beginning of a line that a killed run did not finish."""
    start = b'{"key": "'
    return text.startswith(start) or start.startswith(text)


def put_in_order(out: Path, keys: Sequence[str]) -> None:
    """Rewrite a complete file in the order of the list: pairs that were tried again are at its end.

    Args:
        out: file of JSON lines, one for each key.
        keys: of the pairs of the list.

    Raises:
        DataError: if it cannot be read, or has other lines.
        StoreError: if it cannot be written.
    """
    texts = read_input_file(out).splitlines(keepends=True)
    found = [json.loads(text)["key"] for text in texts]
    if found == list(keys):
        return
    if sorted(found) != sorted(keys):
        raise DataError(f"{out}: another program has changed it; delete it, and run the same command again")
    texts_from_key: dict[str, deque[bytes]] = defaultdict(deque)
    for key, text in zip(found, texts, strict=True):
        texts_from_key[key].append(text)
    with atomic_write(out) as file:
        file.writelines(texts_from_key[key].popleft() for key in keys)


def _append(out: Path, text: bytes) -> None:
    """Append a line with one write, so that a killed run can only cut off the last line."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(out, "ab", buffering=0) as file:
            size = file.tell()
            if file.write(text + b"\n") != len(text) + 1:  # a disk that is nearly full takes a part, without an error
                file.truncate(size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise StoreError(f"{out}: cannot be written ({error.strerror or error})") from error


def _count_name(error: str | None, verdict: str | None) -> str:
    return "failed" if error is not None else str(verdict).replace("_", " ")


def _described(outcome: PairOutcome) -> str:
    names, result = " ".join(map(shown_path, outcome.pair.names)), outcome.result
    if result is None:
        return f"{names or shown_path(outcome.pair.text)}: error: {with_flags(outcome.error)}"
    pose = result.relative_pose
    counts = f"{pose.num_inliers} of {pose.num_matches} matches"
    if pose.cam1_from_cam0 is None:
        return f"{names}: rejected, {result.as_dict()['reason'].replace('_', ' ')}, {counts}"
    sources = " ".join(dict.fromkeys(pose.focal_sources))
    return f"{names}: {pose.verdict.replace('_', ' ')}, {counts}, {result.describe_uncertainty()}, focal {sources}"
