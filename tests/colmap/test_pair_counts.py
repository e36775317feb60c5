"""Counts and matches of a database, compared with those that pycolmap reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.colmap.database_reader import read_database
from sfm_lightglue.colmap.pair_counts import database_counts, matched_keypoints
from sfm_lightglue.errors import DataError
from sfm_lightglue.types import TwoViewGeometry


def test_counts_are_those_that_pycolmap_reads(finished: Path) -> None:
    path = finished / "database.db"
    counts, content = database_counts(path), read_database(path)
    assert counts.num_keypoints_from_name == {
        name: len(features) for name, features in content.features_from_name.items()
    }
    assert [pair.names for pair in counts.pairs] == [
        (pair.name0, pair.name1) for pair in sorted(content.matches_from_pair)
    ]
    for pair, matches in zip(counts.pairs, sorted(content.matches_from_pair.items()), strict=True):
        geometry = content.geometry_from_pair.get(matches[0])
        assert pair.num_matches == len(matches[1])
        is_verified = isinstance(geometry, TwoViewGeometry)
        assert pair.num_inliers == (geometry.num_inliers if isinstance(geometry, TwoViewGeometry) else 0)
        assert (pair.kind != "") == is_verified
    assert any(pair.kind == "general" for pair in counts.pairs)


@pytest.mark.parametrize("is_swapped", [False, True])
def test_matched_keypoints_are_those_of_the_database(finished: Path, is_swapped: bool) -> None:
    path = finished / "database.db"
    content = read_database(path)
    pair = next(iter(content.geometry_from_pair))
    matches, geometry = content.matches_from_pair[pair], content.geometry_from_pair[pair]
    assert isinstance(geometry, TwoViewGeometry)
    names = (pair.name1, pair.name0) if is_swapped else (pair.name0, pair.name1)
    found = matched_keypoints(path, names)
    sides = (found.xy1, found.xy0) if is_swapped else (found.xy0, found.xy1)
    order = np.lexsort(sides[0].T)
    for side, name in enumerate((pair.name0, pair.name1)):
        wanted = content.features_from_name[name].keypoints[matches.indices[:, side]]
        first = content.features_from_name[pair.name0].keypoints[matches.indices[:, 0]]
        np.testing.assert_array_equal(sides[side][order], wanted[np.lexsort(first.T)])
    assert found.inlier_mask.sum() == geometry.num_inliers


def test_what_is_no_database_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "database.db").write_text("no database")
    for path in (tmp_path / "database.db", tmp_path / "missing.db"):
        with pytest.raises(DataError, match=r"\.db"):
            database_counts(path)
    with pytest.raises(DataError, match=r"database\.db"):
        matched_keypoints(tmp_path / "database.db", ("a", "b"))


def test_an_unknown_image_is_a_data_error(finished: Path) -> None:
    with pytest.raises(DataError, match=r"nobody\.jpg"):
        matched_keypoints(finished / "database.db", ("nobody.jpg", "view_00.jpg"))
