"""Make the pictures of the gallery: render synthetic scenes, reconstruct them, and photograph their reports.

Example: python scripts/gallery.py --work /tmp/gallery courtyard street

It needs Chromium and the package playwright. Scenes that are in the working folder are not rendered or mapped again.
"""

from __future__ import annotations

import argparse
import io
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from pipelines.options import with_flags
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.report import ReportConfig, write_report
from sfm_lightglue.synthetic import Town, write_scene, write_town
from sfm_lightglue.synthetic.courtyard import render_courtyard
from sfm_lightglue.synthetic.files import write_photos
from sfm_lightglue.synthetic.room import render_room
from sfm_lightglue.synthetic.square import render_square
from sfm_lightglue.synthetic.street import render_street

SIZE = (640, 480)

MAX_BYTES = 150_000
"""Largest picture of the documentation."""

WINDOW = {"width": 1300, "height": 900}

_FLAGS = ("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
"""WebGL without a graphics card."""

_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Subject:
    """A scene of the gallery.

    Args:
        write: renders it into a folder.
        is_dark: whether its report is photographed in dark colours.
    """

    write: Callable[[Path], None]
    is_dark: bool = False


SUBJECTS = {
    "courtyard": Subject(lambda root: write_scene(render_courtyard(10, SIZE), root)),
    "street": Subject(lambda root: write_scene(render_street(12, SIZE), root), is_dark=True),
    "room": Subject(lambda root: write_scene(render_room(14, SIZE), root)),
    "square": Subject(lambda root: write_photos(render_square(16, SIZE), root), is_dark=True),
    "town": Subject(lambda root: write_town(Town(24, SIZE), root)),
}


def report_of(name: str, work: Path) -> Path:
    """The report of a scene, which is rendered and reconstructed if it is not there."""
    folder = work / name
    if not (folder / "truth.json").is_file():
        SUBJECTS[name].write(folder)
    result = reconstruct(folder, config=ReconstructConfig())
    return write_report(ReportConfig(result.output, images=folder / "images"), with_flags).file


def photograph(report: Path, target: Path, is_dark: bool) -> None:
    """Write a JPEG of the first window of a report.

    Args:
        report: the page.
        target: the picture, of at most `MAX_BYTES`.
        is_dark: in dark colours.
    """
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        sys.exit("no Chromium found: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(_FLAGS))
        scheme = "dark" if is_dark else "light"
        page = browser.new_context(offline=True, color_scheme=scheme, viewport=WINDOW).new_page()
        page.goto(report.as_uri(), timeout=1000 * _LIMIT_S)
        wait_until(page, "window.sfmReport && (!sfmReport.view || sfmReport.view.frames > 0)")
        page.evaluate("sfmReport.chooseImage(0)")
        page.wait_for_timeout(3000)  # the photo is decoded
        shown = page.screenshot(timeout=1000 * _LIMIT_S)
        browser.close()
    save_below(Image.open(io.BytesIO(shown)).convert("RGB"), target)


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression is true in a page whose policy forbids `eval`."""
    end = time.monotonic() + _LIMIT_S
    while not page.evaluate(f"!!({expression})"):
        if time.monotonic() > end:
            sys.exit(f"the page did not come: {expression}")
        page.wait_for_timeout(100)


def save_below(picture: Image.Image, target: Path) -> None:
    """Save a picture as JPEG in the best quality that keeps the limit."""
    for quality in (85, 75, 65, 55, 45):
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=quality, optimize=True)
        if content.tell() <= MAX_BYTES:
            target.write_bytes(content.getvalue())
            return
    sys.exit(f"{target}: the picture does not fit into {MAX_BYTES} bytes")


def main() -> None:
    """Make the pictures of the scenes that are named, or of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", metavar="SCENE", help=f"{', '.join(SUBJECTS)} (default: all)")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of scenes and reports")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", metavar="DIR", help="of the pictures")
    arguments = parser.parse_args()
    for name in arguments.scenes or SUBJECTS:
        report = report_of(name, arguments.work)
        target = arguments.images / f"report-{name}.jpg"
        photograph(report, target, SUBJECTS[name].is_dark)
        print(f"{target}: {target.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
