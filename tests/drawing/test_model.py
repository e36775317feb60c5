"""Models as SVG and as pixels."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.colmap.drawing import model_arrays
from sfm_lightglue.drawing.model import model_image, model_svg
from sfm_lightglue.drawing.scene import BACKGROUND, ModelArrays
from sfm_lightglue.geometry.transforms import Rigid3
from tests.helpers.checkout import ROOT
from tests.helpers.models_to_draw import GREEN, add_outliers, image_positions, make_model, scene_of

SVG = "{http://www.w3.org/2000/svg}"


def groups(svg: str) -> tuple[list[str], list[str]]:
    """Path data of the points, and of the cameras."""
    root = ElementTree.fromstring(svg)
    found: tuple[list[str], list[str]] = ([], [])
    for group in root.iter(f"{SVG}g"):
        is_of_points = group.get("fill") == "none"
        found[0 if is_of_points else 1].extend(path.attrib["d"] for path in group.iter(f"{SVG}path"))
    return found


def positions(paths: list[str]) -> Float64Array:
    return np.array([list(map(float, pair)) for path in paths for pair in re.findall(r"[ML](\S+?) ([\d.-]+)", path)])


def test_svg_is_xml_with_every_point_and_camera() -> None:
    svg = model_svg(model_arrays(make_model(num_images=7, num_points=300)), (600, 400))
    root = ElementTree.fromstring(svg)
    assert (root.get("width"), root.get("height")) == ("600", "400")
    assert root.findtext(f"{SVG}title") == "7 cameras, 300 points"
    points, cameras = groups(svg)
    assert len(positions(points)) == 300
    assert len(cameras) == 7
    for drawn in (positions(points), positions(cameras)):
        assert (drawn >= 0).all() and (drawn <= (600, 400)).all()


def test_svg_has_a_background_of_its_own_and_no_ids() -> None:
    root = ElementTree.fromstring(model_svg(model_arrays(make_model())))
    assert root[1].tag == f"{SVG}rect" and root[1].get("fill") == "#181a1f"
    assert not any("id" in element.attrib for element in root.iter())


def test_svg_is_the_same_each_time_and_limited_in_size() -> None:
    model = model_arrays(make_model(num_images=20, num_points=9000))
    svg = model_svg(model)
    assert svg == model_svg(model_arrays(make_model(num_images=20, num_points=9000)))
    assert len(positions(groups(svg)[0])) == 4000
    assert len(positions(groups(model_svg(model, max_points=17))[0])) == 17
    assert len(svg) < 100_000


def test_many_cameras_are_thinned_out() -> None:
    poses = tuple(Rigid3.look_at(np.array([x, 0, 0.0]), np.array([x, 0, 1.0]), [0, -1, 0]) for x in range(2000))
    [rays] = set_of_rays = model_arrays(make_model(1)).corner_rays
    model = ModelArrays(np.zeros((0, 3)), np.zeros((0, 3), np.uint8), poses, set_of_rays * 2000)
    assert rays.shape == (4, 3)
    assert len(groups(model_svg(model))[1]) == 500


@pytest.mark.parametrize(("num_images", "num_points"), [(0, 0), (1, 0), (0, 1), (1, 1), (3, 0), (0, 50)])
def test_small_models_are_drawn(num_images: int, num_points: int) -> None:
    model = model_arrays(make_model(num_images, num_points))
    points, cameras = groups(model_svg(model))
    assert (len(positions(points)), len(cameras)) == (num_points, num_images)
    image = np.asarray(model_image(model, (120, 80)))
    is_background = (image == np.round(255 * np.array(BACKGROUND))).all(axis=2)
    assert is_background.all() == (num_images + num_points == 0)


def test_outliers_do_not_shrink_the_model() -> None:
    clean, spoiled = (model_arrays(model) for model in (make_model(), add_outliers(make_model())))
    extents = [np.ptp(positions(groups(model_svg(model))[1]), axis=0) for model in (clean, spoiled)]
    np.testing.assert_allclose(extents[1], extents[0], rtol=0.05)


def test_points_that_are_not_finite_are_left_out() -> None:
    model = make_model(num_points=3)
    model.add_point3D(np.array([np.nan, 0, 0]), pycolmap.Track(), np.array(GREEN, np.uint8))
    assert len(positions(groups(model_svg(model_arrays(model)))[0])) == 3


def test_svg_and_image_have_the_points_where_the_viewpoint_projects_them() -> None:
    model, size = make_model(num_images=1, num_points=60), (600, 400)
    scene = scene_of(model, 1.5)
    xy, depths = image_positions(scene.viewpoint, scene.points, 1.5)
    expected = (xy + 1) / 2 * size
    pixels, same_depths = scene.viewpoint.project(scene.points, size)
    np.testing.assert_allclose(pixels, expected, atol=1e-6)
    np.testing.assert_allclose(same_depths, depths)
    drawn = positions(groups(model_svg(model_arrays(model), size))[0])
    distances = np.linalg.norm(drawn[:, None] - expected[None], axis=2)
    assert distances.min(axis=0).max() < 0.1
    image = np.asarray(model_image(model_arrays(model), size)).astype(int)
    columns, rows = expected.astype(int).T
    assert (np.abs(image[rows, columns] - GREEN) < 40).all(axis=1).mean() > 0.8


def test_positions_behind_the_viewpoint_have_no_pixel() -> None:
    viewpoint = scene_of(make_model()).viewpoint
    behind = viewpoint.eye - (viewpoint.target - viewpoint.eye)
    pixels, depths = viewpoint.project(np.stack([behind, viewpoint.target]), (600, 400))
    assert np.isnan(pixels[0]).all() and depths[0] < 0 < depths[1]
    np.testing.assert_allclose(pixels[1], (300, 200), atol=1e-6)


def test_image_is_the_same_each_time_and_shows_the_cameras() -> None:
    model = model_arrays(make_model())
    image = np.asarray(model_image(model, (320, 200))).astype(int)
    np.testing.assert_array_equal(image, model_image(model, (320, 200)))
    assert image.shape == (200, 320, 3)
    assert ((np.abs(image - GREEN) < 12).all(axis=2)).sum() > 200
    red = (image[..., 0] > 150) & (image[..., 1] < 110)
    blue = (image[..., 2] > 150) & (image[..., 0] < 110)
    assert red.sum() > 5 and blue.sum() > 5  # the last and the first camera


def test_arrays_that_do_not_fit_are_refused() -> None:
    points, colors = np.zeros((2, 3)), np.zeros((2, 3), np.uint8)
    with pytest.raises(ValueError, match=r"points \[N, 3\]"):
        ModelArrays(points, colors[:1], (), ())
    with pytest.raises(ValueError, match="each of 0 poses"):
        ModelArrays(points, colors, (), (np.zeros((4, 3)),))


def test_png_files_can_be_written_after_pycolmap_was_imported(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """pycolmap exports the functions of its own zlib; if it is imported before Pillow, Pillow aborts in them."""
    code = f"""
from sfm_lightglue.colmap.drawing import model_arrays
import pycolmap
from sfm_lightglue.drawing.model import model_image
model_image(model_arrays(pycolmap.Reconstruction()), (1200, 800)).save({str(tmp_path / "a.png")!r})
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)
    assert (tmp_path / "a.png").stat().st_size > 1000
