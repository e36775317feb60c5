"""What is drawn of a model: frusta, colours, sizes."""

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.drawing.scene import (
    UNCOLORED_POINT,
    frustum_lines,
    frustum_size,
    image_corners,
    order_colors,
)
from tests.helpers.models_to_draw import GREEN, make_model, scene_of


@pytest.mark.parametrize("camera_model", ["SIMPLE_RADIAL", "OPENCV_FISHEYE"])
def test_frustum_corners_project_onto_image_corners(camera_model):
    model = make_model(camera_model=camera_model)
    vertices = scene_of(model).frusta.vertices.reshape(-1, 8, 3)
    images = sorted(model.images.values(), key=lambda image: image.name)
    for image, of_image in zip(images, vertices, strict=True):
        np.testing.assert_allclose(of_image[0], image.projection_center(), atol=1e-9)
        projected = np.array([image.project_point(vertex) for vertex in of_image[1:5]])
        np.testing.assert_allclose(projected, image_corners(1000, 800), atol=1e-3)


def test_roof_is_on_the_upper_side_of_the_image():
    vertices = scene_of(make_model()).frusta.vertices.reshape(-1, 8, 3)
    upper_edge, roof_top = vertices[:, 1:3, 1].mean(axis=1), vertices[:, 6, 1]
    assert (roof_top < upper_edge).all()  # y downwards


def test_panorama_has_a_frustum_too():
    vertices = scene_of(make_model(camera_model="EQUIRECTANGULAR")).frusta.vertices
    assert np.isfinite(vertices).all()
    assert np.linalg.norm(np.ptp(vertices[:8], axis=0)) > 0.1


@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
def test_frusta_and_viewpoint_scale_with_the_scene(scale):
    one, other = scene_of(make_model()), scene_of(make_model(scale=scale))
    np.testing.assert_allclose(other.frusta.vertices, scale * one.frusta.vertices, rtol=1e-9, atol=1e-9 * scale)
    np.testing.assert_allclose(other.viewpoint.eye, scale * one.viewpoint.eye, rtol=1e-9)
    edges = np.linalg.norm(other.frusta.vertices[1:5] - other.frusta.vertices[0], axis=1)
    assert 0.03 * other.radius <= edges.max() * (1 + 1e-9) and edges.max() <= 0.15 * other.radius * (1 + 1e-9)


def test_frusta_of_a_dense_path_are_small():
    sparse = np.column_stack([np.linspace(0, 10, 11), np.zeros((11, 2))])
    dense = np.column_stack([np.linspace(0, 10, 41), np.zeros((41, 2))])
    assert frustum_size(dense, 5.0) < frustum_size(sparse, 5.0)
    assert frustum_size(sparse[:1], 5.0) == pytest.approx(0.75)
    assert frustum_size(np.zeros((3, 3)), 5.0) == pytest.approx(0.15)


def test_frusta_are_in_the_order_of_names_and_coloured_by_it():
    scene = scene_of(make_model(num_images=4))
    assert (np.diff(scene.centers[:, 0]) > 0).all()
    first, last = scene.frusta.colors[0], scene.frusta.colors[-1]
    assert first.argmax() == 2 and last.argmax() == 0  # blue, red
    np.testing.assert_array_equal(np.unique(scene.frusta.colors, axis=0), np.unique(order_colors(4), axis=0))
    assert len(np.unique(scene.frusta.colors, axis=0)) == 4


def test_segments_stay_within_their_frustum():
    scene = scene_of(make_model(num_images=3))
    segments = scene.frusta.segments.reshape(3, -1, 2)
    np.testing.assert_array_equal(segments // 8, np.broadcast_to(np.arange(3)[:, None, None], segments.shape))
    assert len(scene.frusta.colors) == len(scene.frusta.segments)


def test_no_camera_gives_empty_lines():
    lines = frustum_lines((), (), 1.0)
    assert (lines.vertices.shape, lines.segments.shape, lines.colors.shape) == ((0, 3), (0, 2), (0, 3))


def test_colours_are_those_of_the_points():
    scene = scene_of(make_model(num_points=3))
    assert scene.points.shape == (3, 3)
    np.testing.assert_allclose(scene.point_colors, np.tile(np.array(GREEN) / 255, (3, 1)))
    np.testing.assert_allclose(scene_of(make_model(color=(0, 0, 0))).point_colors[0], UNCOLORED_POINT)


def test_points_that_are_not_finite_are_left_out():
    model = make_model(num_points=3)
    model.add_point3D(np.array([np.nan, 0, 0]), pycolmap.Track(), np.array(GREEN, np.uint8))
    assert len(scene_of(model).points) == 3
