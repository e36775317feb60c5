"""The similarity of two models is refined by exact derivatives, from a start that is a little wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.geometry.transforms import Sim3, project_to_rotation, rotation_from_rotvec
from sfm_lightglue.mapping.link_alignment import best_alignment
from sfm_lightglue.mapping.link_refinement import linearized, minimised
from sfm_lightglue.mapping.point_links import PointLinks, find_links
from tests.helpers.exact_scenes import make_model, ring_scene
from tests.mapping.test_joint_hypotheses import RIGHT
from tests.mapping.test_merging import MOVED, part
from tests.mapping.test_merging_by_points import pairs_of


@pytest.fixture(scope="module")
def links() -> PointLinks:
    model = make_model(ring_scene(12))
    parts = part(model, range(6)), part(model, range(6, 12), MOVED)
    found = find_links(*parts, pairs_of(model, lambda a, b: a < "06.jpg" <= b))
    # Points that one model lacks tell something in one direction only.
    source = replace(found.source, point_id=found.source.point_id.copy(), xyz=found.source.xyz.copy())
    source.point_id[::3], source.xyz[::3] = -1, np.nan
    return replace(found, source=source)


def stepped(similarity: Sim3, step: Float64Array) -> Sim3:
    unit = max(float(np.linalg.norm(similarity.t)), similarity.scale)
    turn, growth = rotation_from_rotvec(step[:3]), float(np.exp(step[6]))
    R = project_to_rotation(turn @ similarity.R)
    return Sim3(growth * similarity.scale, R, growth * turn @ similarity.t + unit * step[3:6])


NEAR = stepped(RIGHT, np.array([0.02, -0.01, 0.015, 0.01, 0.005, -0.01, 0.02]))


def test_derivatives_are_those_of_the_residuals(links: PointLinks) -> None:
    rows = np.arange(len(links)) % 2 == 0
    residuals, J = linearized(links, NEAR, rows)
    num_points = (rows & links.source.has_point).sum() + (rows & links.target.has_point).sum()
    assert residuals.shape == (3 * num_points,)
    assert num_points < 2 * rows.sum(), "some matches have no point of the source"
    for k in range(7):
        step = np.zeros(7)
        step[k] = 1e-6
        sides = [linearized(links, stepped(NEAR, sign * step), rows)[0] for sign in (1, -1)]
        numeric = (sides[0] - sides[1]) / 2e-6
        assert J[:, k] == pytest.approx(numeric, abs=1e-4 * np.abs(numeric).max())


def test_residuals_are_as_long_as_errors(links: PointLinks) -> None:
    rows = links.has_both
    lengths = np.linalg.norm(linearized(links, NEAR, rows)[0].reshape(2, -1, 3), axis=2).max(axis=0)
    assert lengths == pytest.approx(links.errors_px(NEAR)[rows], rel=0.01)


def test_the_right_similarity_is_found_with_outliers(links: PointLinks) -> None:
    rays = links.target.rays.copy()
    rays[::10] = rays[::10][:, [1, 0, 2]]
    wrong = replace(links, target=replace(links.target, rays=rays))
    found = minimised(wrong, NEAR, np.ones(len(links), np.bool_))
    points = links.source.xyz[links.source.has_point]
    assert np.abs(found @ points - RIGHT @ points).max() < 0.02
    assert np.abs(NEAR @ points - RIGHT @ points).max() > 0.1


def test_errors_of_several_similarities_are_those_of_each(links: PointLinks) -> None:
    together = links.errors_px_of([RIGHT, NEAR])
    assert together.shape == (len(links), 2)
    for k, similarity in enumerate((RIGHT, NEAR)):
        assert together[:, k] == pytest.approx(links.errors_px(similarity), abs=1e-9)
    assert np.nanmedian(together[:, 0]) < 1 < np.nanmedian(together[:, 1])


@pytest.mark.parametrize("num_refined", [1, 4])
def test_the_best_alignment_is_right(links: PointLinks, num_refined: int) -> None:
    found = best_alignment(links, 0, num_refined)
    assert found is not None
    points = links.source.xyz[links.source.has_point]
    assert np.abs(found @ points - RIGHT @ points).max() < 0.01
