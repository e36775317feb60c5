"""The report in headless Chromium: opened as a file, without a network, used as a person would use it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sfm_lightglue.colmap.model_table import read_model_table
from sfm_lightglue.report import ReportConfig, packed_model, write_report
from tests.helpers.browser import OpenPage, chromium, open_page, wait_until
from tests.helpers.page_checks import COLOURS_IN_CANVAS, CONTRAST, NO_WEBGL, SCENE_PIXELS, SLOW_PHOTO, UNLABELLED

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

MIN_CONTRAST = 4.5
"""Of text, by WCAG 2.1, level AA."""

PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def context() -> Iterator[BrowserContext]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def page_file(finished: Path, small_scene_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(ReportConfig(finished, file, small_scene_dir / "images", num_threads=1)).file


@pytest.fixture(scope="module")
def opened(context: BrowserContext, page_file: Path) -> OpenPage:
    return open_page(context, page_file)


def camera_place(opened: OpenPage, image: int) -> tuple[float, float]:
    """Where the centre of a camera is in the window."""
    place = opened.page.evaluate(f"sfmReport.cameraOnScreen({image})")
    return in_window(opened, place)


def in_window(opened: OpenPage, place: dict[str, float]) -> tuple[float, float]:
    box = opened.page.locator("#scene").bounding_box()
    assert box is not None
    return box["x"] + place["x"], box["y"] + place["y"]


def drawn_colours(opened: OpenPage, canvas: str) -> int:
    """Number of different pixels in a canvas."""
    number: int = opened.page.evaluate(COLOURS_IN_CANVAS, canvas)
    return number


def test_no_error_and_no_request(opened: OpenPage, page_file: Path) -> None:
    assert opened.console == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [page_file.as_uri()]


def test_the_numbers_are_those_of_the_run(opened: OpenPage, finished: Path) -> None:
    summary = json.loads((finished / "run.json").read_text())["summary"]
    text = opened.page.locator(".figures").inner_text()
    assert f"{summary['num_registered']} of {summary['num_images']}" in text
    assert re.sub(r"\D", "", opened.page.locator(".figures dd").nth(1).inner_text()) == str(summary["num_points"])
    assert f"{summary['mean_reprojection_error_px']:.2f} px" in text
    rows = opened.page.locator("#image-table tbody tr")
    assert rows.count() == summary["num_images"]
    name, image = next(iter(summary["images"].items()))
    first = rows.nth(0).inner_text()
    assert name in first and str(image["num_points"]) in first and "registered" in first
    total = opened.page.evaluate("sfmReport.view.points.geometry.getAttribute('position').count")
    assert total == summary["num_points"]


def test_dragging_turns_the_scene(opened: OpenPage) -> None:
    page = opened.page
    pixels = SCENE_PIXELS
    before, position = page.evaluate(pixels), page.evaluate("sfmReport.view.camera.position.toArray()")
    box = page.locator("#scene").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 300, box["y"] + 300)
    page.mouse.down()
    page.mouse.move(box["x"] + 420, box["y"] + 330, steps=4)
    page.mouse.up()
    assert page.evaluate("sfmReport.view.camera.position.toArray()") != position
    assert page.evaluate(pixels) != before
    page.locator("#reset").click()
    now = page.evaluate("sfmReport.view.camera.position.toArray()")
    assert now == pytest.approx(position, rel=1e-6)


def test_keys_turn_and_zoom(opened: OpenPage) -> None:
    page = opened.page
    page.locator("#scene").focus()
    distance = "sfmReport.view.camera.position.distanceTo(sfmReport.view.controls.target)"
    start, position = page.evaluate(distance), page.evaluate("sfmReport.view.camera.position.toArray()")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("sfmReport.view.camera.position.toArray()") != position
    assert page.evaluate(distance) == pytest.approx(start)
    page.keyboard.press("+")
    assert page.evaluate(distance) == pytest.approx(0.9 * start)
    page.keyboard.press("n")
    assert page.evaluate("sfmReport.state.image") == 0
    page.keyboard.press("r")
    page.keyboard.press("Escape")
    assert page.evaluate("sfmReport.state.image") is None


def test_a_click_on_a_camera_shows_its_photo(opened: OpenPage) -> None:
    page = opened.page
    images = page.evaluate("sfmReport.report.model.cameras.map((camera) => camera.image)")
    hit = []
    for image in images:
        page.mouse.click(*camera_place(opened, image))
        hit.append(page.evaluate("sfmReport.state.image"))
    assert (
        sum(one == wanted for one, wanted in zip(hit, images, strict=True)) >= len(images) - 1
    )  # one may hide another
    wait_until(page, "document.getElementById('photo').width === 800")
    chosen = page.evaluate("sfmReport.report.images[sfmReport.state.image].name")
    assert page.locator("#panel-title").inner_text() == chosen
    assert "residuals" in page.locator("#photo-text").inner_text()
    assert drawn_colours(opened, "photo") > 500
    assert page.locator("#image-table tr.chosen").count() == 1


def test_a_click_on_a_point_shows_its_track(opened: OpenPage, finished: Path) -> None:
    page, table = opened.page, read_model_table(finished)
    page.evaluate("sfmReport.view.cameraScale = 0; sfmReport.view.placeCameras()")
    for point in range(10, 400, 40):
        page.mouse.click(*in_window(opened, page.evaluate(f"sfmReport.pointOnScreen({point})")))
        if page.evaluate("sfmReport.state.point") is not None:
            break
    chosen = page.evaluate("sfmReport.state.point")
    assert chosen is not None
    length = int((table.point_idx == chosen).sum())  # all points are in the report, in their order
    assert page.locator("#panel-title").inner_text() == f"Point seen in {length} images"
    assert page.locator("#details figure").count() == length
    page.evaluate("sfmReport.view.cameraScale = 1; sfmReport.view.placeCameras()")


def test_a_cell_of_the_matrix_shows_the_pair(opened: OpenPage) -> None:
    page = opened.page
    matrix = page.locator("#matrix svg")
    matrix.scroll_into_view_if_needed()
    box = matrix.bounding_box()
    assert box is not None
    cell = box["width"] / 6
    page.mouse.click(box["x"] + 1.5 * cell, box["y"] + 0.5 * cell)
    wait_until(page, "document.getElementById('pair').width > 800")
    assert page.evaluate("sfmReport.state.pair") == [0, 1]
    matches, inliers = page.evaluate("sfmReport.report.pairs.find(([a, b]) => a === 0 && b === 1).slice(2)")
    wait_until(page, "document.getElementById('pair-text').textContent !== ''")
    assert f"{matches} matches, {inliers} inliers" in page.locator("#pair-text").inner_text()
    assert drawn_colours(opened, "pair") > 500


def test_the_table_is_sorted(opened: OpenPage) -> None:
    page = opened.page
    button = page.locator("#image-table thead button").nth(5)
    for direction in ("ascending", "descending"):
        button.click()
        values = [int(text) for text in page.locator("#image-table tbody tr td:nth-of-type(5)").all_inner_texts()]
        assert values == sorted(values, reverse=direction == "descending")
        assert page.locator("#image-table th").nth(5).get_attribute("aria-sort") == direction


def test_text_has_contrast_and_controls_have_names(opened: OpenPage) -> None:
    page = opened.page
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    papers = []
    for colours in ("light", "dark"):
        while page.locator("#theme").inner_text() != f"Colours: {colours}":
            page.locator("#theme").click()
        contrasts: list[list[Any]] = page.evaluate(CONTRAST)
        assert len(contrasts) > 100
        assert [one for one in contrasts if one[1] < MIN_CONTRAST] == []
        papers.append(page.evaluate(PAPER))
    assert page.evaluate(UNLABELLED) == []
    page.locator("#theme").click()
    assert page.locator("#theme").inner_text() == "Colours: auto"
    assert page.evaluate(PAPER) == papers[0] != papers[1]
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(PAPER) == papers[1], "auto follows the system"
    page.emulate_media(color_scheme="light")


def test_a_report_with_a_folder_works_too(
    context: BrowserContext, finished: Path, small_scene_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With signs in its name that addresses must escape, rows of 32 bits, and a photo that is slow to load."""
    monkeypatch.setattr(packed_model, "MAX_SHORT_ROW", 2)
    file = tmp_path / "some where" / "my #1 50% report.html"
    written = write_report(ReportConfig(finished, file, small_scene_dir / "images", max_mb=0.1, num_threads=1))
    assert written.folder is not None
    opened = open_page(context, file)
    page, table = opened.page, read_model_table(finished)
    page.evaluate(SLOW_PHOTO, "photo000000.jpg")
    page.evaluate("Promise.all([sfmReport.choosePair(0, 1), sfmReport.choosePair(2, 3)])")
    points = [set(table.point_idx[table.image_idx == image]) for image in (2, 3)]
    assert f"{len(points[0] & points[1])} common points" in page.locator("#pair-text").inner_text()
    page.evaluate("sfmReport.chooseImage(2)")
    wait_until(page, "document.getElementById('photo').width === 800")
    assert opened.console == []
    outside = [url for url in opened.requests if not url.startswith(("data:", tmp_path.as_uri()))]
    assert outside == []
    assert any(url.endswith(".jpg") for url in opened.requests)
    page.close()


def test_without_webgl_the_rest_works(context: BrowserContext, page_file: Path, tmp_path: Path) -> None:
    text = page_file.read_text()
    (tmp_path / "page.html").write_text(text.replace("<body>", f"<body><script>{NO_WEBGL}</script>"))
    opened = open_page(context, tmp_path / "page.html")
    assert "no WebGL" in opened.page.locator("#scene-message").inner_text()
    opened.page.locator("#next").click()
    wait_until(opened.page, "document.getElementById('photo').width === 800")
    opened.page.close()
