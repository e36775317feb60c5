"""Small models that their images hardly determine: rejected, or told in the summary, the log and the record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.mapping.cached_models import MapStatistics, ModelStatistics
from sfm_lightglue.mapping.verdict import CENTERS_CHECK, Check
from sfm_lightglue.reconstruction.run import reconstruct
from sfm_lightglue.reconstruction.run_record import Summary
from sfm_lightglue.report.advice import findings
from tests.helpers.reconstructions import one_thread
from tests.helpers.shared_data import shared_data

SPARSE: dict[str, Any] = {"density": {"level": "sparse"}, "refine": {"mode": "off"}}


def reconstructed(tmp_path: Path, *numbers: int) -> Summary:
    """A part of a quick walk; also of models that are all rejected."""
    images = shared_data("sequences", "hololens", "images")
    folder = tmp_path / "images"
    folder.mkdir()
    for number in numbers:
        (folder / f"{number:05d}.jpg").write_bytes((images / f"{number:05d}.jpg").read_bytes())
    return reconstruct(folder, tmp_path / "out", one_thread(**SPARSE)).summary


def test_a_wrong_model_of_three_photos_is_no_plain_success(tmp_path: Path) -> None:
    """In models of these frames, by the true poses, the first direction of translation is wrong by about 50 degrees."""
    try:
        summary = reconstructed(tmp_path, 175, 179, 183)
    except ReconstructionError as error:
        assert error.summary is not None
        checks = [model["checks"] for model in error.summary["models"]]
        assert checks, "a model was built, and rejected"
        assert all(any(not check["passed"] for check in each.values()) for each in checks)
        return
    assert all(model["uncertain"] for model in summary.models[: summary.num_published])
    assert "may be wrong" in str(summary)


def test_a_right_model_of_six_photos_is_not_told(tmp_path: Path) -> None:
    summary = reconstructed(tmp_path, 51, 55, 59, 63, 67, 71, 75)
    assert summary.num_registered >= 6
    assert not summary.models[0]["uncertain"]
    assert "may be wrong" not in str(summary)


@pytest.mark.parametrize(("value", "is_told"), [(0.04, True), (0.01, False)])
def test_an_uncertain_model_is_told_everywhere(value: float, is_told: bool) -> None:
    model = ModelStatistics("sparse/0", 4, 100, 3.0, 0.5, "accepted", {CENTERS_CHECK: Check(value, 0.1, True)})
    certain = replace(model, path="sparse/1", num_registered=3, checks={CENTERS_CHECK: Check(0.001, 0.1, True)})
    statistics = MapStatistics((model, certain), {})
    summary = Summary.from_statistics(statistics, (), {"total": 1.0}, {}, None)
    assert [each["uncertain"] for each in summary.models] == [is_told, False]
    assert ("(model 0 may be wrong: few images, little parallax)" in str(summary)) is is_told
    texts = [one.text for one in findings(summary.as_dict()) if one.level == "warning"]
    assert any("sparse/0 may be wrong" in text for text in texts) is is_told
