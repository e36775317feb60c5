"""The benchmark of the mapper's options: a table of a small database, and errors of paths."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from benchmarks import mapping
from benchmarks.mapping import VARIANTS, MappingRun, as_table, database_of, main, moved_per_mille, run_variant
from sfm_lightglue.errors import DataError
from sfm_lightglue.mapping.incremental import MappingConfig, mapper_options


def make_database(path: Path) -> None:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig = 1, 1, 8
    pycolmap.set_random_seed(0)
    with pycolmap.Database.open(path) as database:
        model = pycolmap.synthesize_dataset(options, database)
        pycolmap.synthesize_noise(pycolmap.SyntheticNoiseOptions(point2D_stddev=0.5), model, database)


def test_two_variants_of_a_small_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_database(tmp_path / "database.db")
    monkeypatch.setattr(mapping, "VARIANTS", (VARIANTS[0], next(each for each in VARIANTS if each.name == "ours")))
    assert main([str(tmp_path), "--threads", "1", "--images", "7", "--json", str(tmp_path / "runs.json")]) == 0
    runs = json.loads((tmp_path / "runs.json").read_text())
    assert [run["variant"] for run in runs] == ["COLMAP's defaults", "ours"]
    assert [run["num_registered"] for run in runs] == [7, 7]
    assert all(run["cpu_s"] > 0 and run["num_points"] > 50 for run in runs)
    table = capsys.readouterr().out
    assert "| ours " in table and float(table.splitlines()[3].split("|")[-2]) < 1  # the same poses, to noise


def test_variants_differ_by_their_own_options_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_database(tmp_path / "database.db")
    used = {}

    def recorded(database: Path, images: str, output: str, options: pycolmap.IncrementalPipelineOptions) -> dict:
        used[variant.name] = options
        return {}

    monkeypatch.setattr(mapping.pycolmap, "incremental_mapping", recorded)
    for variant in VARIANTS:
        run_variant(tmp_path / "database.db", variant, 1, None)
    default, ours = pycolmap.IncrementalPipelineOptions(), mapper_options(MappingConfig(), 8, frozenset(), 1, 0)
    for name in (
        "ba_global_function_tolerance",
        "ba_local_function_tolerance",
        "ba_global_max_refinements",
        "ba_global_frames_ratio",
        "ba_global_points_ratio",
    ):
        assert getattr(used["COLMAP's defaults"], name) == getattr(default, name), name
        assert getattr(used["ours"], name) == getattr(ours, name), name
    assert used["COLMAP's defaults"].mapper.ba_local_num_images == default.mapper.ba_local_num_images


def test_moved_cameras_are_measured_without_the_similarity() -> None:
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(6, 3))

    def run(points: np.ndarray) -> MappingRun:
        poses = {f"{i}.jpg": (np.eye(3).tolist(), (-point).tolist()) for i, point in enumerate(points)}
        return MappingRun("a.db", "one", 6, 6, 1, 10, 0.5, 1.0, 1.0, poses)

    first = run(centers)
    assert moved_per_mille(run(3 * centers + 1), first) == pytest.approx(0, abs=1e-6)
    moved = centers.copy()
    moved[0] += 0.1
    assert 1 < moved_per_mille(run(moved), first) < 100
    table = as_table([first, replace(run(moved), variant="two", cpu_s=0.5)])
    assert "0.50" in table


def test_pairs_that_give_no_model_are_a_row(tmp_path: Path) -> None:
    make_database(tmp_path / "database.db")
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        database.clear_two_view_geometries()
    none = run_variant(tmp_path / "database.db", VARIANTS[0], 1, None)
    assert (none.num_images, none.num_models, none.num_registered, none.poses) == (8, 0, 0, {})
    assert math.isnan(moved_per_mille(none, none))
    assert len(as_table([none, replace(none, variant="ours")]).splitlines()) == 4


def test_a_path_without_a_database_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no database"):
        database_of(tmp_path)
