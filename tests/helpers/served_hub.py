"""A local server that answers as the hub of Hugging Face: files of branches with their digests and commits."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


def git_digest(content: bytes) -> str:
    """The name of a file in git."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class ServedHub:
    """The files of a folder `<owner>/<name>/resolve/<branch>`, whose content may change between requests.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.url = root, ""
        self.requests: list[tuple[str, str, str]] = []
        """Method, name of the file and authorization of each request."""
        self.refusal: int | None = None
        """Status of all answers instead of the files."""

    def commit(self, path: Path) -> str:
        """A digest of all files of the branch of a file."""
        branch = path.parent
        content = b"".join(each.read_bytes() for each in sorted(branch.rglob("*")) if each.is_file())
        return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def served_hub(root: Path) -> Iterator[ServedHub]:
    """Run the server in the block. Large files are at another server, to which HEAD redirects."""
    hub = ServedHub(root)

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            path = root / unquote(self.path).lstrip("/")
            hub.requests.append((self.command, path.name, self.headers.get("Authorization", "")))
            if hub.refusal is not None or not path.is_file():
                self.send_error(hub.refusal or 404)
                return
            content, is_large = path.read_bytes(), path.suffix == ".safetensors"
            is_head = self.command == "HEAD"
            self.send_response(302 if is_large and is_head else 200)
            self.send_header("X-Repo-Commit", hub.commit(path))
            self.send_header("ETag", f'"{git_digest(content)}"')
            if is_large:
                self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
                self.send_header("Location", "http://files.invalid/large")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if not is_head:
                self.wfile.write(content)

        do_GET = do_HEAD = _answer

        def log_message(self, *_: object) -> None:
            """No log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
