"""Files from the network: complete and verified under their name, or not there at all."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.store.atomic_file import lock, part_beside, publish_file
from sfm_lightglue.version import __version__

logger = logging.getLogger(__name__)

ByteProgress = Callable[[int, int], None]
"""Called with the bytes that are here, and all bytes, 0 where that is unknown."""

_CHUNK_BYTES = 1 << 20
_TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class UnreachableError(Exception):
    """The address gives no file: no connection, a refusal, or a connection that broke too often.

    For callers of `download`, who tell it as a `WeightsError` with what to do.
    """


class _DroppedError(Exception):
    """What may go better at the next attempt."""


@dataclass(frozen=True, slots=True)
class DownloadConfig:
    """How patient a download is."""

    timeout_s: float = 20.0
    """Silence after which a connection counts as broken."""

    num_attempts: int = 4
    """In a row, without getting further."""

    first_wait_s: float = 1.0
    """Before the second attempt; doubles from one to the next."""


def download(
    url: str,
    target: Path,
    sha256: str | None = None,
    size: int | None = None,
    progress: ByteProgress | None = None,
    config: DownloadConfig | None = None,
) -> None:
    """Make sure that a file is there: whole, and the right one. If it is, nothing is downloaded.

    What came before an interruption is kept beside the target and continued, unless the file at the address has
    changed since. Of several processes one downloads, and the others wait for it. Proxies are those of the
    environment (`https_proxy`, `no_proxy`).

    Args:
        url: address; it may redirect, but not from https to anything else.
        target: where the file goes; its folder is made.
        sha256: hexadecimal digest, None where it is unknown.
        size: in bytes, None where it is unknown.
        progress: told of every piece.
        config: patience.

    Raises:
        UnreachableError: where the address gives no file.
        WeightsError: where it gives another file than the stated one.
        OSError: where the folder cannot be written, or the disk is full.
    """
    config = config or DownloadConfig()
    target.parent.mkdir(parents=True, exist_ok=True)
    with _sole_owner(target) as part:
        if target.is_file() and fault_of(target, sha256, size) is None:
            return
        was_begun = part.size > 0
        _transfer(url, part, size, progress, config)
        fault = fault_of(part.path, sha256, size)
        if fault is not None and was_begun:
            # What was there before may be to blame.
            part.clear()
            _transfer(url, part, size, progress, config)
            fault = fault_of(part.path, sha256, size)
        if fault is not None:
            part.clear()
            raise WeightsError(_other_file(url, fault))
        part.publish(target)


def fault_of(path: Path, sha256: str | None, size: int | None) -> str | None:
    """What is wrong with a file, None where it is as stated.

    Raises:
        OSError: where it cannot be read.
    """
    found_size = path.stat().st_size
    if size is not None and found_size != size:
        return f"has {found_size} bytes, expected {size}"
    if sha256 is not None:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256.lower():
            return f"has the sha256 {found}, expected {sha256}"
    return None


def _other_file(url: str, fault: str) -> str:
    return f"what {url} sends {fault}: it was replaced, or altered on the way; give the right file by its path"


class _Part:
    """What has come so far, and a mark of the version that it is of.

    Args:
        path: of the bytes; the mark lies beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark_path = path.with_name(f"{path.name}.mark")

    @property
    def size(self) -> int:
        """Bytes that can be continued: 0 without a mark."""
        return self.path.stat().st_size if self.mark and self.path.is_file() else 0

    @property
    def mark(self) -> str:
        """ETag or date of the version, "" where there is none."""
        try:
            return self._mark_path.read_text(encoding="latin-1")
        except FileNotFoundError:
            return ""

    def begin(self, mark: str) -> None:
        """Forget what is there; another version begins."""
        self.clear()
        self._mark_path.write_text(mark, encoding="latin-1")
        self.path.touch()

    def clear(self) -> None:
        """Forget what is there."""
        self._mark_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def publish(self, target: Path) -> None:
        """Give the whole file its name, safe on the disk."""
        publish_file(self.path, target)
        self.clear()


@contextlib.contextmanager
def _sole_owner(target: Path) -> Iterator[_Part]:
    """Where to collect a file, while all others who want it wait.

    Where the system has no advisory locks, the place is private and vanishes with the block: then an interrupted
    download starts anew.
    """
    descriptor = os.open(target.with_name(f".{target.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if lock(descriptor):
            yield _Part(target.with_name(f".{target.name}.part"))
            return
        part = _Part(part_beside(target))
        try:
            yield part
        finally:
            part.clear()
    finally:
        os.close(descriptor)


def _transfer(url: str, part: _Part, size: int | None, progress: ByteProgress | None, config: DownloadConfig) -> None:
    """Bring all bytes here, in as many attempts as it takes."""
    best, failures = part.size, 0
    while size is None or part.size != size:
        try:
            _receive(url, part, size, progress, config)
            return
        except _DroppedError as error:
            best, failures = (part.size, 1) if part.size > best else (best, failures + 1)
            if failures >= config.num_attempts:
                raise UnreachableError(f"{error}, in {failures} attempts") from error
            wait_s = config.first_wait_s * 2 ** (failures - 1)
            logger.warning("%s: %s; trying again in %g s", url, error, wait_s)
            time.sleep(wait_s)


def _receive(url: str, part: _Part, size: int | None, progress: ByteProgress | None, config: DownloadConfig) -> None:
    """One attempt, which continues what is there."""
    with _open(url, part, config.timeout_s) as response:
        start, total = _range_of(response.headers) if response.status == 206 else (0, _length(response.headers))
        if size is not None and total is not None and total != size:
            part.clear()
            raise WeightsError(_other_file(url, f"has {total} bytes, expected {size}"))
        if response.status != 206:
            part.begin(_mark_of(response.headers))
        elif start != part.size or _mark_of(response.headers) not in {"", part.mark}:
            part.clear()
            raise _DroppedError("it changed since the download began")
        with part.path.open("ab") as file:
            received = _copy(response, file, start, progress, total or size or 0, size)
    if total is not None and received < total:
        raise _DroppedError(f"the connection broke after {received} of {total} bytes")


def _copy(
    response: HTTPResponse, file: IO[bytes], done: int, progress: ByteProgress | None, total: int, limit: int | None
) -> int:
    """Write what comes, until it ends; returns the bytes that are in the file then."""
    if progress is not None:
        progress(done, total)
    while True:
        try:
            piece = response.read1(_CHUNK_BYTES)
        except (OSError, HTTPException) as error:
            raise _DroppedError(f"the connection broke after {done} bytes ({_text(error)})") from error
        if not piece:
            return done
        file.write(piece)
        done += len(piece)
        if progress is not None:
            progress(done, total)
        if limit is not None and done > limit:  # it is another file, however long
            return done


def _open(url: str, part: _Part, timeout_s: float) -> HTTPResponse:
    headers = {"User-Agent": f"sfm-lightglue/{__version__}", "Accept-Encoding": "identity"}
    if part.size > 0:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.mark}
    try:
        opener = urllib.request.build_opener(_StaySecure())
        response: HTTPResponse = opener.open(urllib.request.Request(url, headers=headers), timeout=timeout_s)
        return response
    except HTTPError as error:
        error.close()
        text = f"HTTP {error.code} {error.reason}"
        if error.code == 416:
            part.clear()
            raise _DroppedError(text) from error
        raise (_DroppedError if error.code in _TEMPORARY_STATUS else UnreachableError)(text) from error
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
        # Who has no network, or meets a closed door, need not wait for more attempts.
        is_drop = isinstance(cause, (ConnectionResetError, ConnectionAbortedError, TimeoutError, HTTPException))
        raise (_DroppedError if is_drop else UnreachableError)(f"no connection: {_text(cause)}") from error


class _StaySecure(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to something that can be altered on the way."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """The request that follows a redirect."""
        if req.type == "https" and not newurl.lower().startswith("https://"):
            fp.close()
            raise UnreachableError(f"it redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def _mark_of(headers: Message) -> str:
    """What tells one version of a file from the next: a strong ETag, else the date."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _length(headers: Message) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _range_of(headers: Message) -> tuple[int, int | None]:
    """First byte, and all bytes where that is stated; a first byte of -1 where the header is missing."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _text(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
