"""Headless Chromium of the system, for tests of pages."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

SOFTWARE_RENDERING = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
)
"""WebGL without a graphics card; no sandbox, because tests may run as root."""


@dataclass
class OpenPage:
    """A page, what its console said, and what it asked for beside itself."""

    page: Page
    console: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def executable() -> str | None:
    return next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )


@contextmanager
def chromium() -> Iterator[BrowserContext]:
    """A window of a browser without a network; skips the test, with the reason, if there is none."""
    api: Any = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    path = executable()
    if path is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(SOFTWARE_RENDERING))
        try:
            yield browser.new_context(offline=True, color_scheme="light", viewport={"width": 1300, "height": 900})
        finally:
            browser.close()


def open_page(context: BrowserContext, path: Path) -> OpenPage:
    """Open a file as by a double click, and wait for its scripts."""
    opened = OpenPage(context.new_page())
    page = opened.page
    page.on("console", lambda message: opened.console.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: opened.console.append(f"error: {error}"))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(path.as_uri())
    wait_until(page, "window.sfmReport && (!sfmReport.view || sfmReport.view.frames > 0)")
    return opened


def wait_until(page: Page, expression: str, timeout_s: float = 120.0) -> None:
    """Wait until an expression is true in a page whose policy forbids `eval`, which Playwright's own waiting uses."""
    deadline = time.monotonic() + timeout_s
    while not page.evaluate(f"!!({expression})"):
        assert time.monotonic() < deadline, f"not true after {timeout_s} s: {expression}"
        page.wait_for_timeout(50)
