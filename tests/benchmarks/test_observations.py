"""Errors of observations by true depths: zero for exact tracks, and those of what is moved or hidden."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pycolmap

from benchmarks.observations import ObservationErrors, errors_by_depth
from sfm_lightglue.refinement.observations import add_keypoints, move_keypoints, read_observations
from sfm_lightglue.synthetic import SyntheticScene, render_scene
from tests.helpers.refinable_models import exact_model


def errors_of(scene: SyntheticScene, model: pycolmap.Reconstruction) -> ObservationErrors:
    return errors_by_depth(scene, model, {image.name: image.num_points2D() for image in model.images.values()})


def test_exact_tracks_have_no_errors() -> None:
    scene = render_scene(4, (320, 240), seed=1)
    model = exact_model(scene)
    found = errors_of(scene, model)
    assert len(found.errors_px) > 0.8 * (model.compute_num_observations() - model.num_points3D())
    assert np.percentile(found.errors_px, 90) < 0.01
    assert found.is_hidden.mean() < 0.002 and not found.is_found.any()


def test_a_moved_observation_has_its_error() -> None:
    scene = render_scene(4, (320, 240), seed=1)
    model = exact_model(scene)
    seen = read_observations(model)
    last = seen.of(3)
    move_keypoints(model, seen.image_ids[3], seen.keypoints[last], seen.xy[last] + [1.5, 2.0])
    errors = errors_of(scene, model).errors_px
    assert abs(np.median(errors[errors > 1]) - 2.5) < 0.02


def test_observations_of_hidden_points_are_told() -> None:
    """A wall in half the depth before everything that the last image shows."""
    scene = render_scene(4, (320, 240), seed=1)
    model = exact_model(scene)
    seen = read_observations(model)
    last = model.images[seen.image_ids[-1]].name
    walled = replace(scene, depths=scene.depths | {last: scene.depths[last] / 2})
    before, found = errors_of(scene, model), errors_of(walled, model)
    np.testing.assert_array_equal(found.errors_px, before.errors_px)
    assert len(found.is_hidden) > found.is_hidden.sum() > 0.9 * (seen.starts[-1] - seen.starts[-2])


def test_observations_behind_the_detected_keypoints_are_those_found() -> None:
    scene = render_scene(4, (320, 240), seed=1)
    model = exact_model(scene)
    num_detected = {image.name: image.num_points2D() for image in model.images.values()}
    image = model.images[1]
    point_id = image.points2D[0].point3D_id
    model.delete_observation(1, 0)
    away = np.array([image.points2D[0].xy]) + np.array([[3.0, 4.0]])
    add_keypoints(model, 1, away, np.array([point_id]))
    found = errors_by_depth(scene, model, num_detected)
    np.testing.assert_allclose(found.errors_px[found.is_found], 5.0, atol=0.05)
    assert "| 1 " not in found.row(False) and found.row(True).startswith("1 | 5.00")
