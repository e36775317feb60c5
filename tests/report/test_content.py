"""What a report says: texts for every reason and check, numbers of images, and a model in few bytes."""

from __future__ import annotations

import base64
import re
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from sfm_lightglue.colmap.model_table import ModelTable, read_model_table
from sfm_lightglue.colmap.pair_counts import DatabaseCounts, PairCount, database_counts
from sfm_lightglue.images.orientation import turn_forward
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.verdict import ImageReason
from sfm_lightglue.reconstruction.told_folds import SIGNS_CHECK
from sfm_lightglue.report.advice import CHECK_TEXTS, REASON_TEXTS, findings
from sfm_lightglue.report.charts import DrawnPair, histogram_svg, level_of, map_svg, matrix_svg
from sfm_lightglue.report.images_table import doubtful_pairs, image_rows, recorded_pairs
from sfm_lightglue.report.packed_model import PackingLimits, packed_model, packed_xy
from sfm_lightglue.report.page_data import drawn_scene
from sfm_lightglue.store.output_folder import read_record

_NO_CHECKS_OF_A_MODEL = {"max_rotation_error_deg", "min_support", "max_pair_error_px"}


@pytest.fixture(scope="module")
def table(finished: Path) -> ModelTable:
    return read_model_table(finished)


def array_of(text: str, dtype: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(base64.b64decode(text), dtype)


def test_every_reason_has_a_text() -> None:
    assert REASON_TEXTS.keys() >= set(get_args(ImageReason))


def test_every_check_of_this_version_has_a_text() -> None:
    limits = {field.name for field in fields(ChecksConfig) if field.name.startswith(("min_", "max_"))}
    assert {"min_agreement", "max_focal_uncertainty"} <= CHECK_TEXTS.keys()
    assert SIGNS_CHECK in CHECK_TEXTS  # it has no option
    assert CHECK_TEXTS.keys() - {SIGNS_CHECK} <= limits - _NO_CHECKS_OF_A_MODEL


def test_findings_name_the_images_and_come_with_advice() -> None:
    images = {
        "a.jpg": {"status": "registered", "reason": None, "num_points": 500, "support": 0.3},
        "b.jpg": {"status": "registered", "reason": None, "num_points": 500, "support": 1.0},
        "c.jpg": {"status": "left_out", "reason": "blurred", "num_points": 0, "support": None},
    }
    checks = {"min_agreement": {"value": 0.2, "limit": 0.8, "passed": False}}
    model = {"path": "rejected/0", "verdict": "rejected", "checks": checks, "notes": []}
    found = findings({"images": images, "models": [model], "components": [5, 3, 1]})
    assert [one.level for one in found] == sorted((one.level for one in found), key=["bad", "warning", "note"].index)
    by_name = {one.names: one for one in found if one.names}
    assert by_name[("c.jpg",)].level == "warning" and "light" in by_name[("c.jpg",)].advice
    assert by_name[("a.jpg",)].level == "note"
    assert any("do not use" in one.text for one in found)
    assert any("0.2, limit 0.8" in one.text and one.advice for one in found)
    assert any("2 separate groups (5, 3 images)" in one.text for one in found)


@pytest.mark.parametrize("option", ["transitive.closer_look", "pairs.closer_look"])
def test_the_option_that_left_pairs_out_is_named_where_more_pairs_may_help(option: str) -> None:
    summary = {"components": [5, 3], "pairs": f"chosen; 7 pairs are left out (`{option}`)"}
    *_, groups = findings(summary)
    assert f"match more pairs (`{option}=false` or `pairs.name` exhaustive)" in groups.advice
    *_, groups = findings(summary | {"pairs": "exhaustive"})
    assert "closer_look" not in groups.advice


def test_a_good_run_has_no_finding() -> None:
    images = {name: {"status": "registered", "reason": None, "num_points": 500, "support": 1.0} for name in "abc"}
    checks = {"min_agreement": {"value": 1.0, "limit": 0.8, "passed": True}}
    model = {"path": "sparse/0", "verdict": "accepted", "checks": checks, "notes": []}
    summary = {"images": images, "models": [model], "components": [3], "num_points": 9, "mean_track_length": 3.0}
    assert findings(summary) == ()


def test_models_that_may_be_one_place_are_told() -> None:
    models = [
        {"path": "sparse/0", "verdict": "accepted", "num_registered": 9, "maybe_same_as": [1]},
        {"path": "sparse/1", "verdict": "accepted", "num_registered": 5, "maybe_same_as": [0]},
    ]
    parts, alike = findings({"models": models, "images": {}})
    assert "sparse/1 (5 images)" in parts.text and "sparse/0" not in parts.text
    assert alike.text.endswith("sparse/0, sparse/1.") and "`lookalikes.trust_pairs`" in alike.advice
    *_, groups = findings({"models": models, "images": {}, "components": [9, 5]})
    assert "2 separate groups (9, 5 images), because" in groups.text and "exhaustive" not in groups.advice


def test_models_that_may_be_folded_are_told() -> None:
    model = {"path": "sparse/0", "verdict": "accepted", "num_registered": 9, "maybe_folded": ["a.jpg", "b.jpg"]}
    (found,) = findings({"models": [model], "images": {}})
    assert (found.level, found.names) == ("warning", ("a.jpg", "b.jpg"))
    assert "may be wrong (folded): 2 of its images match" in found.text
    assert all(word in found.advice for word in ("several places", "`pairs.path`", "one", "`lookalikes.trust_pairs`"))
    assert "folded" not in "".join(each.text for each in findings({"models": [{**model, "verdict": "rejected"}]}))


def test_the_images_of_a_model_that_is_rejected_for_its_signs_are_named() -> None:
    checks = {SIGNS_CHECK: {"value": 0.6, "limit": 0.5, "passed": False}}
    model = {"path": "rejected/0", "verdict": "rejected", "checks": checks, "maybe_folded": ["a.jpg", "b.jpg"]}
    (found,) = [each for each in findings({"models": [model]}) if each.names]
    assert (found.level, found.names) == ("bad", ("a.jpg", "b.jpg"))
    assert all(word in found.advice for word in ("each group", "`pairs.path`", "`lookalikes.trust_pairs`"))


def test_the_model_that_is_shown_is_named() -> None:
    models = [{"path": f"sparse/{row}", "verdict": "accepted", "num_registered": 9 - row} for row in range(3)]
    first, second = (findings({"models": models}, shown)[0].text for shown in ("sparse/0", "sparse/1"))
    assert "the largest one, which is shown, there are: sparse/1 (8 images), sparse/2 (7 images)." in first
    assert "Beside sparse/1, which is shown, there are: sparse/0 (9 images), sparse/2 (7 images)." in second


def test_options_in_texts_are_whole_words() -> None:
    texts = [text for pair in (*REASON_TEXTS.values(), *CHECK_TEXTS.values()) for text in pair]
    assert [text for text in texts if re.search(r"^\w", "\n".join(text.split("`")[2::2]), re.MULTILINE)] == []


def test_rows_have_the_numbers_of_the_run(finished: Path, table: ModelTable) -> None:
    summary = read_record(finished)["summary"]
    rows = image_rows(summary, table, database_counts(finished / "database.db"))
    assert [row.name for row in rows] == sorted(summary["images"])
    for row in rows:
        image = summary["images"][row.name]
        assert (row.status, row.num_points, row.support) == (image["status"], image["num_points"], image["support"])
        assert row.num_keypoints is not None and row.num_keypoints > row.num_points
        assert row.median_px is not None and row.high_px is not None and 0 < row.median_px < row.high_px
    num_verified = summary["num_verified_pairs"]
    assert sum(row.num_pairs for row in rows) == 2 * num_verified


def test_doubtful_pairs_are_those_without_a_geometry_and_the_improbable_ones() -> None:
    pairs = (
        PairCount(("a", "b"), 100, 80, "general"),
        PairCount(("a", "c"), 90, 0, ""),
        PairCount(("b", "c"), 10, 0, ""),
        PairCount(("b", "d"), 200, 150, "general"),
    )
    evidence = {"images": ["a", "b", "d"], "pairs": [[1, 2, 0.1, "apart"], [0, 1, 0.9, "used"]]}
    found = doubtful_pairs(DatabaseCounts({}, pairs), recorded_pairs({"pairs": evidence}))
    assert [pair.names for pair in found] == [("b", "d"), ("a", "c")]
    assert [pair.score for pair in found] == [0.1, None]
    assert "look alike" in found[0].why and "no geometry" in found[1].why


def test_a_packed_model_is_the_model_but_for_rounding(table: ModelTable) -> None:
    idx_from_name = {name: index for index, name in enumerate(table.names)}
    packed = packed_model(table, idx_from_name, {}, PackingLimits())
    num = packed["num_points"]
    xyz = array_of(packed["xyz"], "<i2").reshape(-1, 3) * packed["scale"] + packed["offset"]
    nearest = np.linalg.norm(table.arrays.points[None] - xyz[:, None], axis=2).min(axis=1)
    assert nearest.max() < 1e-4 * packed["radius"]
    starts = array_of(packed["track_starts"], "<u4")
    images, xy = array_of(packed["track_images"], "<u2"), array_of(packed["track_xy"], "<u2").reshape(-1, 2)
    assert len(starts) == num + 1 and starts[-1] == len(images) == len(xy)
    if num == packed["num_all_points"]:
        assert len(images) == len(table.image_idx)
    sizes = np.array([camera.size for camera in table.cameras])[images]
    pixels = xy / 65535 * sizes
    for row in range(0, len(pixels), 97):
        own = table.xy[table.image_idx == images[row]]
        assert np.linalg.norm(own - pixels[row], axis=1).min() < 0.01
    residuals = array_of(packed["track_px"], "u1") / 255 * packed["max_residual_px"]
    assert abs(residuals.mean() - np.nanmean(np.minimum(table.residuals_px, 5.1))) < 0.01


def test_rows_of_very_many_images_have_32_bits(table: ModelTable) -> None:
    narrow, wide = (
        packed_model(table, {name: first + idx for idx, name in enumerate(table.names)}, {}, PackingLimits())
        for first in (0, 70_000)
    )
    assert (narrow["row_bits"], wide["row_bits"]) == (16, 32)
    for name in ("track_images", "loose_images"):
        np.testing.assert_array_equal(array_of(wide[name], "<u4"), array_of(narrow[name], "<u2").astype(int) + 70_000)


def test_limits_keep_points_with_their_whole_tracks(table: ModelTable) -> None:
    idx_from_name = {name: index for index, name in enumerate(table.names)}
    packed = packed_model(table, idx_from_name, {}, PackingLimits(max_points=50))
    assert packed["num_points"] == 50
    assert (np.diff(array_of(packed["track_starts"], "<u4").astype(int)) >= 2).all()


@pytest.mark.parametrize("quarter_turns", range(4))
def test_keypoints_turn_with_their_photo(quarter_turns: int) -> None:
    xy, size = np.array([[10.0, 20.0], [300.0, 100.0]]), (400, 200)
    packed = array_of(packed_xy(xy, size, quarter_turns), "<u2").reshape(-1, 2) / 65535
    upright_size = size if quarter_turns % 2 == 0 else size[::-1]
    np.testing.assert_allclose(packed * upright_size, turn_forward(xy, quarter_turns, size), atol=0.01)


def test_corners_turn_with_their_photo(table: ModelTable) -> None:
    idx_from_name = {name: index for index, name in enumerate(table.names)}
    plain = packed_model(table, idx_from_name, {}, PackingLimits())["cameras"][0]["corners"]
    turned = packed_model(table, idx_from_name, {table.names[0]: 1}, PackingLimits())["cameras"][0]["corners"]
    assert turned == [plain[3], *plain[:3]], "the lower left corner becomes the upper left one"


def test_plots_show_every_pair(table: ModelTable) -> None:
    pairs = [DrawnPair(0, 1, 300), DrawnPair(0, 2, 0), DrawnPair(1, 2, 20)]
    svg = matrix_svg(3, pairs)
    assert sum(map(int, re.findall(r"h(\d+)v1h-", svg))) == 2 * len(pairs) + 3, "and the diagonal"
    assert f'class="level{level_of(300)}"' in svg and 'class="level0"' in svg
    scene = drawn_scene(table)
    assert scene is not None
    drawn = map_svg(scene, range(6), pairs, [f"<{n}>" for n in range(6)])
    assert drawn.count("<circle") == 6 and drawn.count("L") == 2 and "<title>&lt;0&gt;" in drawn
    assert histogram_svg(np.full(3, np.nan), "none") == ""


def test_levels_grow_with_the_inliers() -> None:
    levels = [level_of(number) for number in (0, 1, 15, 50, 100, 200, 400, 10**6)]
    assert levels == [0, 1, 2, 3, 4, 5, 6, 6]


@pytest.mark.parametrize("seed", range(3))
def test_cells_of_the_matrix_are_those_of_the_pairs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    pairs = [
        DrawnPair(i, j, int(generator.choice([0, 20, 300])))
        for i in range(9)
        for j in range(i + 1, 9)
        if generator.random() < 0.7
    ]
    found = {}
    for level, path in re.findall(r'class="level(\d)" d="([^"]+)"', matrix_svg(9, pairs)):
        for column, row, length in re.findall(r"M(\d+) (\d+)h(\d+)v1", path):
            for step in range(int(length)):
                found[int(row), int(column) + step] = int(level)
    wanted = {(pair.idx0, pair.idx1): level_of(pair.num_inliers) for pair in pairs}
    assert found == wanted | {(column, row): level for (row, column), level in wanted.items()}
