"""Downloads: a file appears under its name only when it is complete and verified."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.store.atomic_file import lock, part_beside, publish_file
from sfm_lightglue.version import __version__
from sfm_lightglue.weights.digest import fault_of

logger = logging.getLogger(__name__)

ByteProgress = Callable[[int, int], None]
"""Called with the number of bytes received, and the number of all bytes or 0 if unknown."""

_CHUNK_BYTES = 1 << 20
_AUTHORIZATION = "Authorization"
_TEMPORARY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class UnreachableError(WeightsError):
    """The address gives no file: no connection, a refusal, or a connection that broke too often.

    Args:
        message: the cause.
        status: HTTP status of a refusal, such as 404; None for other causes.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class _DroppedError(Exception):
    """A temporary failure: the next attempt may succeed."""


@dataclass(frozen=True, slots=True)
class DownloadConfig:
    """Timeouts and attempts of a download."""

    timeout_s: float = 20.0
    """Seconds without data after which a connection counts as broken."""

    num_attempts: int = 4
    """Number of attempts without progress before the download fails."""

    first_wait_s: float = 1.0
    """Wait before the second attempt; it doubles for each further attempt."""

    token: str = field(default="", repr=False)
    """Sent as the bearer authorization, but not to another host that the address redirects to; "" sends none."""


def download(
    url: str,
    target: Path,
    sha256: str | None = None,
    size: int | None = None,
    progress: ByteProgress | None = None,
    config: DownloadConfig | None = None,
) -> None:
    """Downloads a file, unless it exists with the expected size and digest.

    After an interruption, the received bytes are kept beside the target and the download continues there, unless
    the file at the address has changed. If several processes want the same file, one downloads it and the others
    wait. Proxies come from the environment (`https_proxy`, `no_proxy`).

    Args:
        url: address; it may redirect, but not from https to another scheme.
        target: path of the file; its folder is created.
        sha256: expected hexadecimal digest; None if unknown.
        size: expected number of bytes; None if unknown.
        progress: called after every piece.
        config: timeouts and attempts.

    Raises:
        UnreachableError: the address gives no file.
        WeightsError: the address gives another file than expected.
        OSError: the folder cannot be written, or the disk is full.
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
            # The bytes from before the interruption may be damaged.
            part.clear()
            _transfer(url, part, size, progress, config)
            fault = fault_of(part.path, sha256, size)
        if fault is not None:
            part.clear()
            raise WeightsError(_other_file(url, fault))
        part.publish(target)


def _other_file(url: str, fault: str) -> str:
    return f"the file at {url} {fault}: it was replaced, or changed on the way; give the right file by its path"


class _Part:
    """The bytes received so far, and a mark of the version they belong to.

    Args:
        path: of the bytes; the mark is stored beside it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mark_path = path.with_name(f"{path.name}.mark")

    @property
    def size(self) -> int:
        """Number of bytes after which the download can continue; 0 without a mark."""
        return self.path.stat().st_size if self.mark and self.path.is_file() else 0

    @property
    def mark(self) -> str:
        """ETag or date of the version; "" if there is none."""
        try:
            return self._mark_path.read_text(encoding="latin-1")
        except FileNotFoundError:
            return ""

    def begin(self, mark: str) -> None:
        """Remove the bytes and begin another version."""
        self.clear()
        self._mark_path.write_text(mark, encoding="latin-1")
        self.path.touch()

    def clear(self) -> None:
        """Remove the bytes and the mark."""
        self._mark_path.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def publish(self, target: Path) -> None:
        """Flush the complete file to the disk and rename it."""
        publish_file(self.path, target)
        self.clear()


@contextlib.contextmanager
def _sole_owner(target: Path) -> Iterator[_Part]:
    """The part file of a download, locked against other processes.

    If the system has no advisory locks, the part file is private and removed after the block: an interrupted
    download then starts anew.
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
    """Receive all bytes, in several attempts if necessary."""
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
    """One attempt, which continues after the bytes received so far."""
    with _open(url, part, config) as response:
        start, total = _range_of(response.headers) if response.status == 206 else (0, _length(response.headers))
        if size is not None and total is not None and total != size:
            part.clear()
            raise WeightsError(_other_file(url, f"has {total} bytes, expected {size}"))
        if response.status != 206:
            part.begin(_mark_of(response.headers))
        elif start != part.size or _mark_of(response.headers) not in {"", part.mark}:
            part.clear()
            raise _DroppedError("the file changed since the download began")
        with part.path.open("ab") as file:
            received = _copy(response, file, start, progress, total or size or 0, size)
    if total is not None and received < total:
        raise _DroppedError(f"the connection broke after {received} of {total} bytes")


def _copy(
    response: HTTPResponse, file: IO[bytes], done: int, progress: ByteProgress | None, total: int, limit: int | None
) -> int:
    """Write the response to the file; returns the number of bytes in the file."""
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
        if limit is not None and done > limit:  # already longer than expected: another file
            return done


def _open(url: str, part: _Part, config: DownloadConfig) -> HTTPResponse:
    headers = {"User-Agent": f"sfm-lightglue/{__version__}", "Accept-Encoding": "identity"}
    if part.size > 0:
        headers |= {"Range": f"bytes={part.size}-", "If-Range": part.mark}
    try:
        opener = urllib.request.build_opener(_StaySecure())
        request = urllib.request.Request(url, headers=headers)
        if config.token:
            request.add_unredirected_header(_AUTHORIZATION, f"Bearer {config.token}")
        response: HTTPResponse = opener.open(request, timeout=config.timeout_s)
        return response
    except HTTPError as error:
        error.close()
        text = f"HTTP {error.code} {error.reason}"
        if error.code == 416:
            part.clear()
            raise _DroppedError(text) from error
        if error.code in _TEMPORARY_STATUS:
            raise _DroppedError(text) from error
        raise UnreachableError(text, error.code) from error
    except (OSError, HTTPException) as error:
        cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, Exception) else error
        # No network or connection refused: permanent, so do not retry.
        is_drop = isinstance(cause, (ConnectionResetError, ConnectionAbortedError, TimeoutError, HTTPException))
        raise (_DroppedError if is_drop else UnreachableError)(f"no connection: {_text(cause)}") from error


class _StaySecure(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to an unprotected scheme, and without the token to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """The request that follows a redirect."""
        if req.type == "https" and not newurl.lower().startswith("https://"):
            fp.close()
            raise UnreachableError(f"the address redirects to {newurl}, which is not https")
        following = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        authorization = req.unredirected_hdrs.get(_AUTHORIZATION)
        if following is not None and authorization and (following.type, following.host) == (req.type, req.host):
            following.add_unredirected_header(_AUTHORIZATION, authorization)
        return following


def _mark_of(headers: Message) -> str:
    """Mark of a version of a file: a strong ETag, else the date."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _length(headers: Message) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _range_of(headers: Message) -> tuple[int, int | None]:
    """Index of the first byte (-1 without the header), and number of all bytes if given."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    if match is None:
        return -1, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _text(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
