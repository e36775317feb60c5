"""Downloads are complete or absent, with faulty servers and networks too."""

from __future__ import annotations

import hashlib
import io
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.weights import download as module
from sfm_lightglue.weights.download import DownloadConfig, UnreachableError, download
from tests.helpers.checkout import ROOT
from tests.helpers.file_server import CONTENT, Fault, FileServer, file_server
from tests.helpers.library_log import library_log

SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = DownloadConfig(timeout_s=2, first_wait_s=0.001)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "weights.pth"


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def leftovers(folder: Path) -> list[str]:
    """Part files and marks in a folder."""
    return sorted(path.name for path in folder.iterdir() if ".part" in path.name)


def test_a_file_arrives_and_progress_counts_its_bytes(server: FileServer, target: Path) -> None:
    seen: list[tuple[int, int]] = []
    download(server.url, target, SHA256, len(CONTENT), lambda *counts: seen.append(counts), QUICK)
    assert target.read_bytes() == CONTENT
    assert leftovers(target.parent) == []
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_a_correct_file_is_kept_and_a_wrong_one_replaced(server: FileServer, target: Path) -> None:
    target.parent.mkdir()
    target.write_bytes(b"torn")
    download(server.url, target, SHA256, config=QUICK)
    assert target.read_bytes() == CONTENT
    download(server.url, target, SHA256, config=QUICK)
    assert len(server.requests) == 1


def test_redirects_are_followed(server: FileServer, target: Path) -> None:
    download(server.url.replace("weights.pth", "moved"), target, SHA256, config=QUICK)
    assert target.read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["/moved", "/weights.pth"]


def test_a_redirect_never_leaves_https() -> None:
    handler = module._StaySecure()
    request = urllib.request.Request("https://example.org/a")
    body = io.BytesIO()
    with pytest.raises(UnreachableError, match=r"redirects to http://example\.net/b, which is not https"):
        handler.redirect_request(request, body, 302, "Found", Message(), "http://example.net/b")
    assert body.closed
    followed = handler.redirect_request(request, io.BytesIO(), 302, "Found", Message(), "https://example.net/b")
    assert followed is not None
    assert followed.full_url == "https://example.net/b"


def test_a_slow_server_is_no_timeout(server: FileServer, target: Path) -> None:
    server.faults = [Fault(pause_s=0.04)]  # 0.4 s in all
    download(server.url, target, SHA256, config=DownloadConfig(timeout_s=0.3, num_attempts=1))
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("how", ["close", "reset", "stall"])
def test_an_interrupted_download_continues(how: str, server: FileServer, target: Path) -> None:
    server.faults = [Fault(num_bytes=100_000, how=how), Fault(num_bytes=50_000, how=how)]
    seen: list[int] = []
    config = DownloadConfig(timeout_s=0.2, first_wait_s=0.001)
    with library_log() as records:
        download(server.url, target, SHA256, None, lambda done, _: seen.append(done), config)
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 3
    if how != "reset":  # a reset may discard bytes in transit
        assert server.ranges == ["", "bytes=100000-", "bytes=150000-"]
        assert [headers.get("If-Range") for _, headers in server.requests] == [None, '"one"', '"one"']
    assert seen == sorted(seen)
    assert [record.levelname for record in records] == ["WARNING"] * 2
    assert leftovers(target.parent) == []


def test_a_later_run_continues_a_failed_one(server: FileServer, target: Path) -> None:
    server.faults = [Fault(num_bytes=100_000)]
    with pytest.raises(UnreachableError, match=f"100000 of {len(CONTENT)} bytes"):
        download(server.url, target, SHA256, config=DownloadConfig(num_attempts=1))
    assert visible(target.parent) == []
    download(server.url, target, SHA256, config=QUICK)
    assert target.read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=100000-"]


@pytest.mark.parametrize("supports_if_range", [True, False])
def test_a_file_that_changed_in_between_starts_anew(supports_if_range: bool, server: FileServer, target: Path) -> None:
    """Without a known digest, only the mark distinguishes the two versions."""
    server.faults = [Fault(num_bytes=100_000)]
    with pytest.raises(UnreachableError):
        download(server.url, target, config=DownloadConfig(num_attempts=1))
    server.content, server.etag, server.supports_if_range = CONTENT[::-1], '"two"', supports_if_range
    download(server.url, target, config=QUICK)
    assert target.read_bytes() == CONTENT[::-1]
    assert server.requests[1][1]["If-Range"] == '"one"'


def test_without_a_mark_a_download_starts_anew(server: FileServer, target: Path) -> None:
    server.etag = None
    server.faults = [Fault(num_bytes=100_000)]
    download(server.url, target, config=QUICK)
    assert target.read_bytes() == CONTENT
    assert server.ranges == ["", ""]


def test_a_file_of_unknown_length_ends_where_the_connection_ends(server: FileServer, target: Path) -> None:
    server.sends_length = False
    seen: list[tuple[int, int]] = []
    download(server.url, target, SHA256, None, lambda *counts: seen.append(counts), QUICK)
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), 0)


def test_a_wrong_digest_leaves_nothing_behind(server: FileServer, target: Path) -> None:
    with pytest.raises(WeightsError, match=f"{SHA256}, expected {'0' * 64}"):
        download(server.url, target, "0" * 64, config=QUICK)
    assert visible(target.parent) == []
    assert leftovers(target.parent) == []


def test_a_damaged_part_of_an_earlier_run_is_discarded(server: FileServer, target: Path) -> None:
    server.faults = [Fault(num_bytes=100_000)]
    with pytest.raises(UnreachableError):
        download(server.url, target, SHA256, config=DownloadConfig(num_attempts=1))
    (part,) = target.parent.glob(".*.part")
    part.write_bytes(b"\0" * 100_000)
    download(server.url, target, SHA256, config=QUICK)
    assert target.read_bytes() == CONTENT
    assert server.ranges == ["", "bytes=100000-", ""]


@pytest.mark.parametrize("sends_length", [True, False])
def test_another_size_is_refused(sends_length: bool, server: FileServer, target: Path) -> None:
    server.sends_length = sends_length
    server.faults = [Fault(pause_s=0.01)]
    seen = [0]
    with pytest.raises(WeightsError, match="expected 1000: it was replaced") as caught:
        download(server.url, target, None, 1000, lambda done, _: seen.append(done), QUICK)
    assert seen[-1] < len(CONTENT)  # the download stops early
    assert not isinstance(caught.value, UnreachableError)
    assert visible(target.parent) == leftovers(target.parent) == []
    assert len(server.requests) == 1


def test_a_missing_file_is_requested_once(server: FileServer, target: Path) -> None:
    with pytest.raises(UnreachableError, match="HTTP 404") as caught:
        download(server.url.replace("weights.pth", "missing"), target, config=QUICK)
    assert caught.value.status == 404
    assert len(server.requests) == 1
    assert visible(target.parent) == []


def test_a_busy_server_is_tried_again(server: FileServer, target: Path) -> None:
    server.faults = [Fault(503), Fault(500), Fault(429)]
    download(server.url, target, SHA256, config=QUICK)
    assert target.read_bytes() == CONTENT
    server.faults = [Fault(503)] * 9
    with pytest.raises(UnreachableError, match=r"HTTP 503 .*in 4 attempts"):
        download(server.url, target.with_name("other.pth"), config=QUICK)
    assert len(server.requests) == 4 + 4


def test_a_refused_connection_is_not_retried(target: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/weights.pth"
    patient = DownloadConfig(first_wait_s=1000)
    with pytest.raises(UnreachableError, match="no connection: Connection refused") as caught:
        download(url, target, config=patient)
    assert caught.value.status is None


def test_two_processes_share_one_download(server: FileServer, target: Path) -> None:
    server.faults = [Fault(pause_s=0.1)]
    code = (
        "import sys; from pathlib import Path; from sfm_lightglue.weights.download import download\n"
        "download(sys.argv[1], Path(sys.argv[2]), sys.argv[3])"
    )
    command = [sys.executable, "-c", code, server.url, str(target), SHA256]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert leftovers(target.parent) == []


def test_without_locks_downloads_use_private_part_files(
    server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "lock", lambda descriptor: False)
    server.faults = [Fault(num_bytes=100_000)]
    with pytest.raises(UnreachableError):
        download(server.url, target, SHA256, config=DownloadConfig(num_attempts=1))
    assert leftovers(target.parent) == []
    download(server.url, target, SHA256, config=QUICK)
    assert target.read_bytes() == CONTENT
    assert server.ranges == ["", ""]


def test_proxies_of_the_environment_are_used(server: FileServer, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/weights.pth"))
    monkeypatch.setenv("no_proxy", "")
    download("http://weights.invalid/file.pth", target, SHA256, config=QUICK)
    assert target.read_bytes() == CONTENT
    assert [path for path, _ in server.requests] == ["http://weights.invalid/file.pth"]


def test_a_folder_that_cannot_be_created_raises_os_error(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        download(server.url, tmp_path / "file" / "weights.pth", config=QUICK)
    assert server.requests == []
