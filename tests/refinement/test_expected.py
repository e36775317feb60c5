"""Points that images show without a keypoint: found where they are, and nowhere else."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.execution.executor import ThreadExecutor
from sfm_lightglue.refinement.config import RefinementConfig
from sfm_lightglue.refinement.expected import Found, add_found, expected_in
from sfm_lightglue.refinement.observations import read_observations
from sfm_lightglue.refinement.planes import choose_references, planes_from_samples, view_planes
from sfm_lightglue.refinement.tracks import refine_tracks
from tests.helpers.refinable_models import written
from tests.refinement.test_tracks import exact, scene

NUM_LEFT_OUT = 10
"""One observation of so many is left out of the model."""


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return written(scene(), tmp_path_factory.mktemp("expected"))


def incomplete() -> tuple[pycolmap.Reconstruction, dict[tuple[int, int], np.ndarray]]:
    """A model without some observations, and the pixels of these by image and point."""
    model = pycolmap.Reconstruction(exact())
    seen = read_observations(model)
    left_out = {}
    for row in np.random.default_rng(0).permutation(len(seen))[: len(seen) // NUM_LEFT_OUT].tolist():
        image_id, point_id = seen.image_ids[seen.images[row]], seen.point_ids[seen.points[row]]
        if len(model.points3D[point_id].track.elements) > 3:
            model.delete_observation(image_id, int(seen.keypoints[row]))
            left_out[image_id, point_id] = seen.xy[row]
    return model, left_out


def found_pixels(found: Found) -> dict[tuple[int, int], np.ndarray]:
    keys = zip(found.image_ids.tolist(), found.point_ids.tolist(), strict=True)
    return dict(zip(keys, found.xy, strict=True))


def test_points_are_found_where_they_are(paths):
    model, left_out = incomplete()
    found = found_pixels(refine_tracks(model, paths).found)
    errors = np.array([np.linalg.norm(found[key] - xy) for key, xy in left_out.items() if key in found])
    assert len(left_out) > 100
    assert len(errors) > 0.5 * len(left_out)
    assert np.median(errors) < 0.1
    assert (errors < 1).mean() > 0.95


def test_points_are_found_in_images_that_see_them_only(paths):
    """Of exact tracks, which have all images that see a point, nearly nothing is left to be found."""
    model, left_out = incomplete()
    found = found_pixels(refine_tracks(model, paths).found)
    others = found.keys() - left_out.keys()
    assert len(others) < 0.05 * len(found)


def test_what_is_found_can_be_left_out(paths):
    model, _ = incomplete()
    report = refine_tracks(model, paths, RefinementConfig(complete_tracks=False))
    assert len(report.found) == 0 and "0 points found" in str(report)


def test_the_model_gets_nothing_before_it_is_adjusted(paths):
    model, _ = incomplete()
    before = model.compute_num_observations(), [image.num_points2D() for image in model.images.values()]
    refine_tracks(model, paths)
    assert before == (model.compute_num_observations(), [image.num_points2D() for image in model.images.values()])


def test_nothing_is_found_where_it_is_not_allowed(paths):
    model, _ = incomplete()
    asked = set()

    def left_half(name: str, xy: np.ndarray) -> np.ndarray:
        asked.add(name)
        return xy[:, 0] < 160

    everywhere = refine_tracks(pycolmap.Reconstruction(model), paths).found
    found = refine_tracks(model, paths, allows=left_half).found
    assert asked == set(scene().names)
    np.testing.assert_array_equal(found.xy, everywhere.xy[everywhere.xy[:, 0] < 160])
    assert 0 < len(found) < len(everywhere)


def test_what_is_found_does_not_depend_on_the_number_of_threads(paths):
    one, three = (refine_tracks(incomplete()[0], paths, executor=ThreadExecutor(num)).found for num in (1, 3))
    np.testing.assert_array_equal(one.image_ids, three.image_ids)
    np.testing.assert_array_equal(one.point_ids, three.point_ids)
    np.testing.assert_array_equal(one.xy, three.xy)


def test_found_points_become_observations_at_the_end_of_the_keypoints(paths):
    model, _ = incomplete()
    found = refine_tracks(model, paths).found
    before = {image_id: image.num_points2D() for image_id, image in model.images.items()}
    num_before = model.compute_num_observations()
    num = add_found(model, found, 1.0)
    assert 0.9 * len(found) < num <= len(found)
    assert model.compute_num_observations() == num_before + num
    expected = found_pixels(found)
    for image_id, image in model.images.items():
        for keypoint in image.points2D[before[image_id] :]:
            np.testing.assert_array_equal(keypoint.xy, expected[image_id, keypoint.point3D_id])
    for point in model.points3D.values():
        assert max(Counter(element.image_id for element in point.track.elements).values()) == 1


def test_what_does_not_fit_the_adjusted_model_is_not_added(paths):
    model, _ = incomplete()
    found = refine_tracks(model, paths).found
    ids = np.unique(found.point_ids).tolist()
    removed, moved, behind = ids[0], ids[1], ids[2]
    model.delete_point3D(removed)
    model.points3D[moved].xyz += 0.2
    center = model.images[1].projection_center()
    model.points3D[behind].xyz = center + 2 * (center - model.points3D[behind].xyz)
    others = np.isin(found.point_ids, [removed, moved, behind], invert=True)
    num_before = model.compute_num_observations()
    lengths = {point_id: len(model.points3D[point_id].track.elements) for point_id in (moved, behind)}
    assert add_found(model, found, 1.0) == model.compute_num_observations() - num_before > 0
    assert not model.exists_point3D(removed)
    assert lengths == {point_id: len(model.points3D[point_id].track.elements) for point_id in (moved, behind)}
    assert model.compute_num_observations() - num_before <= others.sum()


@pytest.mark.parametrize(("limit", "value"), [("_MAX_ANGLE_DEG", 0.0), ("_MAX_SCALE", 0.5), ("_MIN_SEEN", 1.1)])
def test_images_with_another_view_of_the_surface_are_not_asked(paths, monkeypatch, limit, value):
    """No image is within these impossible limits."""
    monkeypatch.setattr(f"sfm_lightglue.refinement.expected.{limit}", value)
    assert len(refine_tracks(incomplete()[0], paths).found) == 0


def test_points_behind_an_image_and_mirrored_ones_are_not_expected():
    model, _ = incomplete()
    seen = read_observations(model)
    views = view_planes(model, seen)
    references, spacings = choose_references(seen, views)
    planes = planes_from_samples(views, references, spacings)
    expected = expected_in(model, seen, views, references, planes, 0)
    image = model.images[seen.image_ids[0]]
    for row, xy in zip(expected.points, expected.xy, strict=True):
        np.testing.assert_allclose(image.project_point(seen.positions[row]), xy, atol=1e-6)
    assert len(expected.points) > 10
    mirrored = planes[:, :, ::-1]
    assert len(expected_in(model, seen, views, references, mirrored, 0).points) == 0
    behind = replace(seen, positions=2 * image.projection_center() - seen.positions)
    assert len(expected_in(model, behind, views, references, planes, 0).points) == 0


def test_few_points_have_no_surface_around_them(paths):
    model, _ = incomplete()
    for point_id in sorted(model.point3D_ids())[5:]:
        model.delete_point3D(point_id)
    assert len(refine_tracks(model, paths).found) == 0
