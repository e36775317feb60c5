"""Photos in the window: keypoints and parts of images are where they belong, also in turned photos."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sfm_lightglue.viewer import panels, photos
from sfm_lightglue.viewer.assemble import side_by_side
from sfm_lightglue.viewer.contents import keypoints_of, track_of
from sfm_lightglue.viewer.meshes import near_squares, screen_mesh, square_mesh, thumbnail_mesh
from sfm_lightglue.viewer.models import read_viewed_model
from sfm_lightglue.viewer.scene_parts import first_view, thumbnails_of
from tests.helpers.viewed_models import SIZE, write_viewed_scene

WINDOW = (640, 480)


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    scene = write_viewed_scene(tmp_path_factory.mktemp("panels") / "scene")
    return side_by_side([read_viewed_model(scene)], 4 / 3)


def count(image: Image.Image, color: tuple[int, int, int]) -> int:
    return int((np.asarray(image) == color).all(axis=2).sum())


def test_a_photo_has_both_kinds_of_keypoints(contents):
    panel = panels.camera_panel(contents, 2, photos.read_photo, 320)
    keypoints = keypoints_of(contents, 2)
    legend = 9 * 9  # the squares beside the numbers
    assert count(panel, panels.WITH_POINT) > 4 * len(keypoints.xy) / 2 + legend
    assert count(panel, panels.WITHOUT_POINT) > 3 * len(keypoints.loose_xy) / 2 + legend
    without = panels.camera_panel(
        replace(contents, track_cameras=np.zeros_like(contents.track_cameras)), 2, photos.read_photo, 320
    )
    assert count(without, panels.WITH_POINT) == legend
    assert panel.width >= 320 and panel.height > 240


def test_a_missing_photo_is_a_grey_one_with_its_keypoints(contents):
    nowhere = replace(contents, files=np.full(len(contents.files), "", dtype=contents.files.dtype))
    panel = panels.camera_panel(nowhere, 2, photos.read_photo, 320)
    assert count(panel, photos.MISSING) > 30_000 and count(panel, panels.WITH_POINT) > 100
    assert count(panels.track_panel(nowhere, 0, photos.read_photo), photos.MISSING) > 1000


def test_the_track_of_a_point_shows_the_dot_in_each_image(contents):
    point = int(np.argmax(contents.track_lengths))
    panel = np.asarray(panels.track_panel(contents, point, photos.read_photo)).astype(int)
    number = len(track_of(contents, point).cameras)
    assert number == 6
    cell = panels.CROP_SIDE_PX + 4
    for place in range(number):
        x = panels.MARGIN_PX + place % panels.CROPS_IN_ROW * cell + 2 + panels.CROP_SIDE_PX // 2
        y = panels.LINE_PX + panels.MARGIN_PX + place // panels.CROPS_IN_ROW * (cell + panels.LINE_PX) + 2
        middle = panel[y + panels.CROP_SIDE_PX // 2, x]
        assert middle[0] > 200 and middle[1] > 190 and middle[2] < 140, "the yellow dot of the keypoint"


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_part_around_a_keypoint_is_the_same_in_a_turned_photo(orientation, tmp_path):
    pixels = np.full((240, 320, 3), 40, np.uint8)
    pixels[100:110, 200:210] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    photo = photos.read_photo(str(tmp_path / "a.png"), 10_000)
    assert photo is not None
    crop = np.asarray(photos.crop_around(photo, np.array([205.0, 105.0]), 150))
    assert crop[75, 75].tolist() == [255, 0, 0] and crop[5, 5].tolist() == [40, 40, 40]
    x, y = photo.place(np.array([[205.0, 105.0]]))[0]
    assert photo.pixels[int(y), int(x)].tolist() == [255, 0, 0]
    edge = np.asarray(photos.crop_around(photo, np.array([0.0, 0.0]), 150))
    assert (edge == photos.MISSING).all(axis=2).mean() == pytest.approx(0.75, abs=0.05)


def test_a_file_that_is_no_photo_gives_none(tmp_path):
    (tmp_path / "a.jpg").write_text("no photo")
    for file in ("", str(tmp_path / "a.jpg"), str(tmp_path / "none.jpg")):
        assert photos.read_photo(file, 100) is None and photos.read_thumbnail(file) is None


def test_thumbnails_are_read_in_a_thread_and_unreadable_ones_are_left_out(contents):
    files = [str(file) for file in contents.files]
    reader = photos.ThumbnailReader([*files, "nowhere.jpg"])
    reader.wish(range(7))
    thread = reader._thread
    assert thread is not None
    for _ in range(500):
        if reader.num_read == 7:
            break
        thread.join(timeout=0.02)
    known = reader.known(range(7))
    assert sorted(known) == list(range(6))
    reader.wish(range(7))
    assert reader.num_read == 7
    first = photos.read_thumbnails(files[:1])[0]
    np.testing.assert_array_equal(known[0], first)


@pytest.mark.parametrize("number", [1, 2, 4, 5, 6])
def test_each_camera_has_its_own_thumbnail_in_the_atlas(contents, number):
    colors = np.arange(1, number + 1) * 30
    thumbnails = {row: np.full((photos.THUMBNAIL_PX,) * 2 + (3,), colors[row], np.uint8) for row in range(number)}
    made = thumbnails_of(contents, thumbnails)
    assert made is not None
    mesh, texture = made
    assert mesh.uvs.min() > 0 and mesh.uvs.max() < 1
    for place, triangle in enumerate(mesh.triangles):
        camera = int(triangle[0]) // 4
        uvs = mesh.uvs[3 * place : 3 * place + 3]
        columns, rows = (uvs * (texture.shape[1], texture.shape[0])).astype(int).T
        assert (texture[rows, columns] == colors[camera]).all()
        np.testing.assert_allclose(mesh.vertices[triangle], contents.frusta[camera, 1 + triangle % 4])
    assert thumbnails_of(contents, {}) is None


def test_the_upper_left_corner_of_a_thumbnail_is_that_of_the_image(contents):
    mesh = thumbnail_mesh(contents.frusta[:1], 128)
    uv_from_vertex = {int(vertex): uv for vertex, uv in zip(mesh.triangles.reshape(-1), mesh.uvs.tolist(), strict=True)}
    assert np.round([uv_from_vertex[vertex] for vertex in range(4)]).tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]


def test_a_picture_on_the_screen_covers_its_pixels(contents):
    view, box = first_view(contents), (20, 30, 220, 130)
    mesh = screen_mesh(view, WINDOW, box, 0.006)
    pixels, depths = view.project(mesh.vertices, WINDOW)
    np.testing.assert_allclose(pixels, [(20, 30), (220, 30), (220, 130), (20, 130)], atol=1e-6)
    np.testing.assert_allclose(depths, 0.006)


def test_near_points_are_larger_in_proportion(contents):
    view = first_view(contents)
    depths = view.project(contents.points.astype(np.float64), WINDOW)[1]
    limit = 1.1 * float(depths.max())
    rows, half_sides = near_squares(contents.points, view, 2.0, limit, WINDOW[1])
    np.testing.assert_array_equal(rows, np.flatnonzero(depths < limit / 1.2))
    mesh = square_mesh(contents.points[rows], half_sides, np.ones((len(rows), 3)), view)
    pixels, _ = view.project(mesh.vertices, WINDOW)
    corners = pixels.reshape(-1, 4, 2)
    sides = np.ptp(corners, axis=1)
    np.testing.assert_allclose(sides, np.repeat(2.0 * limit / depths[rows][:, None], 2, axis=1), rtol=1e-3)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    turning = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    assert (turning < 0).all(), "counter-clockwise on the screen, whose y points down"
    none, _ = near_squares(contents.points, view, 2.0, 0.01, WINDOW[1])
    assert len(none) == 0


def test_texts_and_scales_have_the_size_of_their_content():
    small = panels.text_panel([("a", "short")], "title")
    large = panels.text_panel([("a", "short"), ("b", "a much longer line of text")], "title")
    assert large.height == small.height + panels.LINE_PX and large.width > small.width
    scale = np.asarray(panels.legend_panel("0", "1", np.array([(1.0, 0, 0), (0, 0, 1.0)])))
    middle = scale[scale.shape[0] // 2]
    assert (middle[:, 0] > 230).any() and (middle[:, 2] > 230).any()
    assert SIZE == (320, 240)
