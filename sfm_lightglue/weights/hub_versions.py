"""Whether a file of the hub has changed since it was downloaded: a branch can move, a commit cannot."""

from __future__ import annotations

import hashlib
import logging
import re
import urllib.request
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError

from sfm_lightglue.version import __version__
from sfm_lightglue.weights.download import UnreachableError

TIMEOUT_S = 10.0
"""Timeout of a question for the version of a file; that of `huggingface_hub`, too."""

_COMMIT = re.compile(r"[0-9a-f]{40}")
_GIT_DIGEST, _LFS_DIGEST = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}")

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """The version of a file that a branch has now; "" where the server does not tell."""

    etag: str
    """Digest of the content: SHA-1 of git's blob of a small file, SHA-256 of a large one."""
    commit: str
    """Of the repository."""

    def is_that_of(self, path: Path) -> bool:
        """Whether a file has the content of this version; true for an ETag that is no digest."""
        if _LFS_DIGEST.fullmatch(self.etag):
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.etag
        if _GIT_DIGEST.fullmatch(self.etag):
            content = path.read_bytes()
            return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == self.etag
        return True


def can_move(revision: str | None) -> bool:
    """Whether a revision is a branch or a tag, and not a commit."""
    return revision is None or _COMMIT.fullmatch(revision) is None


def remote_version(url: str, token: str = "") -> RemoteVersion | None:
    """Ask the hub for the version of a file, without its content.

    Args:
        url: of the file in a repository.
        token: sent to the host of the address only; "" sends none.

    Returns:
        The version; None if the hub does not answer, or refuses to: then the copy on this machine is used, as in
        `huggingface_hub`.

    Raises:
        UnreachableError: the branch has no such file (any more).
    """
    request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": f"sfm-lightglue/{__version__}"})
    if token:
        request.add_unredirected_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.build_opener(_SameHost()).open(request, timeout=TIMEOUT_S) as response:
            return _version(response.headers)
    except HTTPError as error:
        error.close()
        if 300 <= error.code < 400:  # to a server of files; the hub itself has told the version
            return _version(error.headers)
        if error.code == 404:
            raise UnreachableError(f"HTTP {error.code} {error.reason}", error.code) from None
        _LOGGER.info("%s: its version is unknown (HTTP %d); the copy on this machine is used", url, error.code)
    except (OSError, HTTPException) as error:
        _LOGGER.info("%s: its version is unknown (%s); the copy on this machine is used", url, error)
    return None


class _SameHost(urllib.request.HTTPRedirectHandler):
    """Follows redirects of a renamed repository, but not those to another host."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        """The request that follows a redirect; None raises HTTPError."""
        following = urllib.request.Request(newurl, method="HEAD", headers=dict(req.headers))
        if (following.type, following.host) != (req.type, req.host):
            return None
        for name, value in req.unredirected_hdrs.items():
            following.add_unredirected_header(name, value)
        return following


def _version(headers: Message) -> RemoteVersion:
    etag = headers.get("X-Linked-Etag") or headers.get("ETag") or ""
    return RemoteVersion(etag.removeprefix("W/").strip('"'), headers.get("X-Repo-Commit", "").strip())
