"""A local web server with one file and configurable faults, to test downloads."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = bytes(range(256)) * 1200


@dataclass(frozen=True, slots=True)
class Fault:
    """The fault of one request; the default is no fault."""

    status: int = 200
    """HTTP status of the response; another one than 200 is sent instead of the file."""

    num_bytes: int | None = None
    """Number of bytes of the body after which the connection breaks."""

    how: str = "close"
    """How the connection breaks: "close" (an early end), "reset", or "stall" (no more data)."""

    pause_s: float = 0.0
    """Pause after each of 10 pieces of the body."""


class FileServer(ThreadingHTTPServer):
    """Serves `content` at every path except /missing; /moved redirects.

    Each request consumes one of `faults` and is recorded in `requests` (path and headers).
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = CONTENT
        self.etag: str | None = '"one"'
        self.sends_length = True
        self.supports_if_range = True
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        """Address of the file."""
        return f"http://127.0.0.1:{self.server_address[1]}/weights.pth"

    @property
    def ranges(self) -> list[str]:
        """The requested ranges, "" for the whole file."""
        return [headers.get("Range", "") for _, headers in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report nothing: tests close connections early on purpose."""


@contextlib.contextmanager
def file_server() -> Iterator[FileServer]:
    """Runs a server within the block."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        server.requests.append((self.path, dict(self.headers)))
        fault = server.faults.pop(0) if server.faults else Fault()
        if self.path.endswith("/missing"):
            fault = Fault(404)
        if self.path.endswith("/moved"):
            self.send_response(302)
            self.send_header("Location", "/weights.pth")
            self.end_headers()
        elif fault.status != 200:
            self.send_error(fault.status)
        else:
            self._send_file(fault)

    def _send_file(self, fault: Fault) -> None:
        server, start = self.server, 0
        wanted = self.headers.get("Range")
        is_same = self.headers.get("If-Range") == server.etag or not server.supports_if_range
        if wanted and is_same:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        if server.sends_length:
            self.send_header("Content-Length", str(len(server.content) - start))
        if server.etag is not None:
            self.send_header("ETag", server.etag)
        self.end_headers()
        body = server.content[start:]
        body = body if fault.num_bytes is None else body[: fault.num_bytes]
        step = -(-len(body) // 10)
        for begin in range(0, len(body), step):
            self.wfile.write(body[begin : begin + step])
            self.wfile.flush()
            time.sleep(fault.pause_s)
        if fault.num_bytes is not None:
            self._break(fault.how)

    def _break(self, how: str) -> None:
        if how == "stall":
            self.server.closing.wait(5)
        elif how == "reset":
            time.sleep(0.05)  # a reset discards data that the client has not received yet
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
