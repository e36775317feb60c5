"""The files of a report: one page or a page with a folder, written when something has changed."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.reconstruct import main as reconstruct_main
from pipelines.report import main
from sfm_lightglue.colmap.pair_counts import DatabaseCounts, PairCount
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.execution.executor import SERIAL
from sfm_lightglue.report import REPORT_NAME, ReportConfig, write, write_report
from sfm_lightglue.report.images_table import DoubtfulPair, doubtful_pairs
from sfm_lightglue.report.page_data import data_of_script
from sfm_lightglue.report.sources import find_sources
from sfm_lightglue.report.write import gather, page_in_one_file


@pytest.fixture
def output(finished: Path, tmp_path: Path) -> Path:
    """A copy of finished results, which a test may change."""
    shutil.copytree(finished, tmp_path / "out", ignore=shutil.ignore_patterns("*features", "matches", "two_view"))
    return tmp_path / "out"


def config_of(output: Path, scene: Path, **options: object) -> ReportConfig:
    return ReportConfig(output, images=scene / "images", num_threads=1, **options)  # type: ignore[arg-type]


def data_of(page: Path) -> dict[str, object]:
    (text,) = re.findall(r'<script type="application/json" id="report-data">(.*?)</script>', page.read_text())
    found: dict[str, object] = json.loads(text)
    return found


def test_the_same_sources_give_the_same_bytes(output: Path, small_scene_dir: Path, tmp_path: Path) -> None:
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    written = [write_report(config_of(output, small_scene_dir, file=page)) for page in pages]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    assert all(one.is_new and one.folder is None and one.num_bytes == pages[0].stat().st_size for one in written)


def test_it_is_written_again_exactly_if_its_sources_have_changed(output: Path, small_scene_dir: Path) -> None:
    config = config_of(output, small_scene_dir)
    page = write_report(config).file
    assert page == output / REPORT_NAME
    before = page.stat().st_mtime_ns
    record = json.loads((output / "run.json").read_text())
    record["summary"]["seconds"]["total"] = 1e6  # a second run takes another time
    (output / "run.json").write_text(json.dumps(record))
    assert not write_report(config).is_new
    assert page.stat().st_mtime_ns == before
    record["summary"]["images"]["view_00.jpg"]["support"] = 0.25
    (output / "run.json").write_text(json.dumps(record))
    assert write_report(config).is_new
    images = data_of(page)["images"]
    assert isinstance(images, list)
    assert images[0]["support"] == 0.25 and images[0]["is_doubtful"]


@pytest.mark.parametrize("has_record", [True, False])
def test_the_right_folder_of_photos_after_a_wrong_one_gives_another_page(
    output: Path, small_scene_dir: Path, tmp_path: Path, has_record: bool
) -> None:
    if not has_record:
        (output / "run.json").unlink()
    (tmp_path / "wrong" / "images").mkdir(parents=True)
    assert write_report(config_of(output, tmp_path / "wrong")).is_new
    written = write_report(config_of(output, small_scene_dir))
    images = data_of(written.file)["images"]
    assert isinstance(images, list)
    assert written.is_new and all(image["photo"] for image in images)
    assert not write_report(config_of(output, small_scene_dir)).is_new


def test_above_the_limit_the_photos_lie_in_a_folder(output: Path, small_scene_dir: Path) -> None:
    folder = output / "report_files"
    written = write_report(config_of(output, small_scene_dir, max_mb=0.1))
    assert written.folder == folder
    assert sorted(path.name for path in folder.iterdir()) == ["data.js", *(f"photo{n:06d}.jpg" for n in range(6))]
    assert 'src="report_files/data.js"' in written.file.read_text()
    assert not write_report(config_of(output, small_scene_dir, max_mb=0.1)).is_new
    shutil.rmtree(folder)
    assert write_report(config_of(output, small_scene_dir, max_mb=0.1)).is_new, "the page alone shows nothing"
    (folder / "notes.txt").write_text("of the user")
    assert write_report(config_of(output, small_scene_dir)).folder is None
    assert [path.name for path in folder.iterdir()] == ["notes.txt"], "files of an earlier report are removed"


@pytest.mark.parametrize("page_is_ours", [True, False])
def test_a_page_of_the_user_is_not_replaced(output: Path, small_scene_dir: Path, page_is_ours: bool) -> None:
    page, folder = output / "index.html", output / "index_files"
    folder.mkdir()
    names = {"photo000001.jpg", "data.js"}
    for name in names:
        (folder / name).write_text("of the user")
    if page_is_ours:
        write_report(config_of(output, small_scene_dir, file=page))  # the page has everything: it names no folder
    else:
        page.write_text("<!DOCTYPE html><title>mine</title>")
    before = page.read_bytes()
    with pytest.raises(ConfigError, match="choose another name"):
        write_report(config_of(output, small_scene_dir, file=page, max_mb=0.1))
    assert page.read_bytes() == before
    assert {path.name for path in folder.iterdir() if path.read_text() == "of the user"} == names


def test_a_report_that_was_interrupted_or_lost_its_page_is_written_again(output: Path, small_scene_dir: Path) -> None:
    config = config_of(output, small_scene_dir, max_mb=0.1)
    write_report(config).file.unlink()
    assert write_report(config).is_new
    (output / REPORT_NAME).write_bytes(b"")  # reserves the name
    assert write_report(config).is_new


def test_a_name_with_signs_of_addresses_names_its_folder(output: Path, small_scene_dir: Path) -> None:
    config = config_of(output, small_scene_dir, file=output / "my #1 50% report.html", max_mb=0.1)
    written = write_report(config)
    assert written.folder is not None
    (address,) = re.findall('<script src="([^"]+)">', written.file.read_text())
    assert address == "my%20%231%2050%25%20report_files/data.js"
    assert '"photo":"my%20%231%2050%25%20report_files/photo000000.jpg"' in (written.folder / "data.js").read_text()
    assert not write_report(config).is_new


def test_every_doubtful_pair_that_is_listed_can_be_drawn(finished: Path, small_scene_dir: Path) -> None:
    gathered = gather(find_sources(finished, small_scene_dir / "images"), SERIAL)
    counts = [PairCount(pair.names, 900, 0, "") for pair in gathered.counts.pairs[:5]] * 8
    doubtful = doubtful_pairs(DatabaseCounts({}, tuple(counts)), {})
    assert len(doubtful) == 40
    assert len(data_of_script(replace(gathered, doubtful=doubtful), {})["doubtful"]) == 40


def test_the_evidence_of_a_pair_is_called_a_score(finished: Path, small_scene_dir: Path) -> None:
    gathered = gather(find_sources(finished, small_scene_dir / "images"), SERIAL)
    doubtful = (DoubtfulPair(gathered.counts.pairs[0].names, 900, 100, "", 0.12),)
    page = page_in_one_file(replace(gathered, doubtful=doubtful), "key", "title").decode()
    assert '<th scope="col">score</th>' in page and "<td>0.12</td>" in page
    assert '<th scope="col">probability</th>' not in page


def test_without_photos_a_warning_says_how_to_get_them(output: Path, caplog: pytest.LogCaptureFixture) -> None:
    page = write_report(ReportConfig(output)).file
    assert "`images`" in caplog.text
    images = data_of(page)["images"]
    assert isinstance(images, list)
    assert len(images) == 6 and all(image["photo"] is None for image in images)


def test_of_very_many_photos_some_are_shown(
    output: Path, small_scene_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(write, "MAX_PHOTOS", 2)
    data = data_of(write_report(config_of(output, small_scene_dir)).file)
    images = data["images"]
    assert isinstance(images, list)
    assert [image["photo"] is not None for image in images] == [True, False, False, True, False, False]
    assert data["aspects"] == [round(480 / 360, 6)] * 6, "also of those without a photo"


def test_a_photo_that_has_gone_is_not_shown(
    output: Path, small_scene_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(small_scene_dir / "images", tmp_path / "images")
    (tmp_path / "images" / "view_01.jpg").unlink()
    images = data_of(write_report(config_of(output, tmp_path)).file)["images"]
    assert isinstance(images, list)
    assert [image["name"] for image in images if image["photo"] is None] == ["view_01.jpg"]
    assert "view_01.jpg" in caplog.text


def test_a_run_without_a_model_has_a_report(output: Path, small_scene_dir: Path) -> None:
    shutil.rmtree(output / "sparse")
    record = json.loads((output / "run.json").read_text())
    record["summary"] |= {"models": [], "num_registered": 0}
    record["files"] = {}
    (output / "run.json").write_text(json.dumps(record))
    text = write_report(config_of(output, small_scene_dir)).file.read_text()
    assert "No model was built" in text and 'id="scene"' not in text


def test_a_rejected_model_is_shown_with_a_warning(output: Path, small_scene_dir: Path) -> None:
    (output / "rejected").mkdir()
    (output / "sparse" / "0").rename(output / "rejected" / "0")
    (output / "sparse").rmdir()
    record = json.loads((output / "run.json").read_text())
    record["summary"]["models"][0] |= {"verdict": "rejected", "path": "rejected/0"}
    (output / "run.json").write_text(json.dumps(record))
    text = write_report(config_of(output, small_scene_dir)).file.read_text()
    assert "do not use its poses" in text and 'id="scene"' in text


def test_a_folder_of_track_has_a_report_without_checks(output: Path, small_scene_dir: Path) -> None:
    record = json.loads((output / "run.json").read_text())
    record["summary"] = {"num_frames": 6, "maps": [], "seconds": {"track": 3.0, "total": 4.0}, "peak_memory_mb": 300.0}
    (output / "run.json").write_text(json.dumps(record))
    text = write_report(config_of(output, small_scene_dir)).file.read_text()
    assert "No model was built" not in text and 'id="checks"' not in text
    assert 'id="scene"' in text and "4.0 s in all" in text


def test_a_model_of_another_program_has_a_report(finished: Path, small_scene_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "sparse" / "0", tmp_path / "model", ignore=shutil.ignore_patterns("*.json"))
    page = write_report(config_of(tmp_path / "model", small_scene_dir)).file
    assert page == tmp_path / "model" / REPORT_NAME
    assert not write_report(config_of(tmp_path / "model", small_scene_dir)).is_new


def test_the_command_names_its_flags(output: Path, small_scene_dir: Path) -> None:
    record = json.loads((output / "run.json").read_text())
    record["summary"]["images"]["view_00.jpg"] |= {"status": "left_out", "reason": "no_matches"}
    (output / "run.json").write_text(json.dumps(record))
    page = write_report(config_of(output, small_scene_dir)).file
    assert "`extractor.max_keypoints`" in page.read_text()
    assert main([str(output), "--images", str(small_scene_dir / "images"), "--quiet"]) == 0
    assert "raise --max-keypoints" in page.read_text()


def test_another_model_of_a_run_has_a_page_of_its_own(output: Path, small_scene_dir: Path) -> None:
    shutil.copytree(output / "sparse" / "0", output / "sparse" / "1")
    first = write_report(config_of(output, small_scene_dir)).file
    second = write_report(config_of(output / "sparse" / "1", small_scene_dir)).file
    assert (first.name, second.name) == (REPORT_NAME, "report_sparse_1.html")
    assert "<code>sparse/1</code>" in second.read_text()


def test_names_cannot_break_the_page(output: Path, small_scene_dir: Path) -> None:
    record = json.loads((output / "run.json").read_text())
    name = '</script><img src=x onerror="alert(1)">.jpg'
    record["summary"]["images"][name] = {"status": "unreadable", "reason": "unreadable", "num_points": 0}
    (output / "run.json").write_text(json.dumps(record))
    page = write_report(config_of(output, small_scene_dir)).file
    assert "<img src=x" not in page.read_text()
    images = data_of(page)["images"]
    assert isinstance(images, list) and images[0]["name"] == name


def test_wrong_options_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"report\.html|\.html"):
        ReportConfig(tmp_path, file=tmp_path / "report.pdf")
    with pytest.raises(ConfigError, match="max_mb"):
        ReportConfig(tmp_path, max_mb=0)
    with pytest.raises(DataError, match="no COLMAP model"):
        write_report(ReportConfig(tmp_path))


def test_the_command_prints_the_path(output: Path, small_scene_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(output), "--images", str(small_scene_dir / "images")]
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == str(output / REPORT_NAME) and found["is_new"]
    assert main(arguments) == 0
    assert "nothing has changed" in capsys.readouterr().out


def test_a_run_writes_its_report_unless_it_is_not_wanted(output: Path, small_scene_dir: Path, finished: Path) -> None:
    flags = [str(small_scene_dir), "--output", str(output), "--quiet", "--threads", "1", "--matcher", "nearest"]
    shutil.copytree(finished, output, dirs_exist_ok=True)
    assert reconstruct_main([*flags, "--no-report"]) == 0
    assert not (output / REPORT_NAME).exists()
    assert reconstruct_main(flags) == 0
    before = (output / REPORT_NAME).stat().st_mtime_ns
    assert reconstruct_main(flags) == 0
    assert (output / REPORT_NAME).stat().st_mtime_ns == before, "nothing has changed"


def test_a_report_that_cannot_be_written_is_a_warning(
    output: Path, small_scene_dir: Path, finished: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(finished, output, dirs_exist_ok=True)
    (output / REPORT_NAME).mkdir()
    flags = [str(small_scene_dir), "--output", str(output), "--quiet", "--threads", "1", "--matcher", "nearest"]
    assert reconstruct_main(flags) == 0
    assert "the results are complete, but the report could not be written" in caplog.text
    assert REPORT_NAME in caplog.text
