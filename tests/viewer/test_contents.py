"""What reaches the renderer: points, cameras and tracks of one model or several, and the errors between two."""

import json
from dataclasses import replace

import numpy as np
import pycolmap
import pytest
from PIL import Image

from sfm_lightglue.colmap.model_table import ModelTable, read_model_table
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Sim3, rotation_from_rotvec
from sfm_lightglue.viewer.assemble import mean_of_each, moved, overlaid, side_by_side
from sfm_lightglue.viewer.compare import compare_models
from sfm_lightglue.viewer.contents import Contents, keypoints_of, track_of
from sfm_lightglue.viewer.models import (
    is_east_north_up,
    looks_like_sequence,
    path_segments,
    read_viewed_model,
)
from sfm_lightglue.viewer.open3d_worker import read_contents
from sfm_lightglue.viewer.scene_parts import first_view, turn_views
from tests.helpers.encoded_photos import encoded
from tests.helpers.phone_notes import apple_note, phone_exif
from tests.helpers.viewed_models import NUM_LOOSE, SIZE, write_viewed_scene

ASPECT = 4 / 3


@pytest.fixture(scope="module")
def scene_dir(tmp_path_factory):
    return write_viewed_scene(tmp_path_factory.mktemp("viewed") / "scene")


@pytest.fixture(scope="module")
def viewed(scene_dir):
    return read_viewed_model(scene_dir)


@pytest.fixture(scope="module")
def contents(viewed):
    return side_by_side([viewed], ASPECT)


def with_points(table: ModelTable, points: np.ndarray) -> ModelTable:
    return replace(table, arrays=replace(table.arrays, points=points))


def test_a_model_has_its_images_their_files_and_an_up_axis(viewed, contents, scene_dir):
    assert viewed.up @ [0, -1, 0] > 0.99 and viewed.up_source == "cameras"
    assert viewed.is_sequence
    assert contents.names.tolist() == [f"{row:03d}.jpg" for row in range(6)]
    assert contents.files[2] == str(scene_dir / "images" / "002.jpg")
    assert contents.image_sizes.tolist() == [list(SIZE)] * 6
    assert np.abs(contents.points).max() < 3 and np.linalg.norm(contents.eye) > 1


def test_gravity_of_phones_is_up_before_what_the_cameras_say(tmp_path):
    """The cameras look level, and the phones say that they looked 30 degrees down."""
    folder = write_viewed_scene(tmp_path / "scene")
    note = apple_note((-np.cos(np.pi / 6), 0, -np.sin(np.pi / 6)))
    for path in sorted((folder / "images").iterdir()):
        path.write_bytes(encoded(np.asarray(Image.open(path)), "JPEG", phone_exif(note, 1)))
    found = read_viewed_model(folder)
    assert found.up_source == "gravity"
    rotations = np.array([pose.R for pose in found.table.arrays.poses])
    forward = rotations[:, 2].mean(axis=0)
    assert forward @ found.up / np.linalg.norm(forward) == pytest.approx(-0.5, abs=0.01)


def test_tracks_and_keypoints_are_those_of_the_model(viewed, contents):
    table = viewed.table
    for point in (0, 17, len(contents.points) - 1):
        rows = np.flatnonzero(table.point_idx == point)
        track = track_of(contents, point)
        assert sorted(track.cameras.tolist()) == table.image_idx[rows].tolist()
        assert (np.diff(track.residuals_px) >= 0).all()
        by_camera = dict(zip(track.cameras.tolist(), track.xy.tolist(), strict=True))
        for row in rows:
            np.testing.assert_allclose(by_camera[int(table.image_idx[row])], table.xy[row], atol=1e-4)
    keypoints = keypoints_of(contents, 3)
    assert len(keypoints.xy) == (table.image_idx == 3).sum()
    assert len(keypoints.loose_xy) == (table.loose_image_idx == 3).sum() >= NUM_LOOSE


def test_points_and_cameras_out_of_reach_leave_and_tracks_stay_right(viewed):
    points = viewed.table.arrays.points.copy()
    points[5], points[9] = (1e6, 0, 0), (np.nan, 0, 0)
    full = side_by_side([viewed], ASPECT)
    left = side_by_side([replace(viewed, table=with_points(viewed.table, points))], ASPECT)
    assert len(left.points) == len(full.points) - 2
    for new, old in ((4, 4), (5, 6), (8, 10), (len(left.points) - 1, len(full.points) - 1)):
        assert track_of(left, new).cameras.tolist() == track_of(full, old).cameras.tolist()
        assert left.errors_px[new] == pytest.approx(full.errors_px[old])
    poses = list(viewed.table.arrays.poses)
    poses[1] = type(poses[1])(poses[1].R, np.array([1e6, 0, 0]))
    table = replace(viewed.table, arrays=replace(viewed.table.arrays, poses=tuple(poses)))
    fewer = side_by_side([replace(viewed, table=table)], ASPECT)
    assert fewer.names.tolist() == ["000.jpg", "002.jpg", "003.jpg", "004.jpg", "005.jpg"]
    assert len(keypoints_of(fewer, 1).xy) == len(keypoints_of(full, 2).xy)
    assert fewer.track_cameras.max() == 4


def test_map_coordinates_reach_the_renderer_small(viewed, contents):
    far = moved(viewed.table.arrays, Sim3(2.0, np.eye(3), np.array([4.5e5, 5.4e6, 100.0])))
    there = side_by_side([replace(viewed, table=replace(viewed.table, arrays=far))], ASPECT)
    for name in ("points", "frusta", "eye"):
        np.testing.assert_allclose(getattr(there, name), getattr(contents, name), atol=1e-5)


def test_moved_poses_see_moved_points_at_the_same_place(viewed):
    similarity = Sim3(1.7, rotation_from_rotvec(np.array([0.3, 0.5, -0.2])), np.array([4.0, -2.0, 1.0]))
    arrays = viewed.table.arrays
    there = moved(arrays, similarity)
    for before, after in zip(arrays.poses, there.poses, strict=True):
        np.testing.assert_allclose(after @ there.points, 1.7 * (before @ arrays.points), atol=1e-9)


def test_contents_come_out_of_a_file_as_they_went_in(contents, tmp_path):
    np.savez(tmp_path / "a.npz", **contents.as_arrays())
    found = read_contents(tmp_path / "a.npz")
    for name, array in contents.as_arrays().items():
        np.testing.assert_array_equal(getattr(found, name), array)
    assert isinstance(found, Contents) and str(found.names[1]) == "001.jpg"


def test_models_side_by_side_have_equal_size_the_same_up_and_a_gap(viewed):
    R = rotation_from_rotvec(np.array([0.0, 0.4, 1.2]))
    arrays = moved(viewed.table.arrays, Sim3(30.0, R, np.array([500.0, 0, 0])))
    other = replace(viewed, name="other", table=replace(viewed.table, arrays=arrays), up=R @ viewed.up)
    both = side_by_side([viewed, other], ASPECT)
    first, second = (both.points[both.model_of_point == model] for model in (0, 1))
    assert both.model_names.tolist() == [viewed.name, "other"]
    np.testing.assert_allclose(np.ptp(first @ both.up), np.ptp(second @ both.up), rtol=1e-4)
    # The same model twice: the second one is the first one, shifted to the right.
    shift = (second - first).mean(axis=0)
    np.testing.assert_allclose(second - first, np.broadcast_to(shift, first.shape), atol=1e-4)
    assert abs(shift @ both.up) < 1e-4
    cameras = both.frusta[both.model_of_camera == 1][:, 0] - both.frusta[both.model_of_camera == 0][:, 0]
    np.testing.assert_allclose(cameras, np.broadcast_to(shift, cameras.shape), atol=1e-4)
    assert track_of(both, len(first)).cameras.min() >= 6, "tracks of the second model have its cameras"


def test_a_small_model_beside_a_large_one_is_in_view_too(tmp_path):
    folders = [
        write_viewed_scene(tmp_path / str(num_images), num_images, num_points, with_photos=False)
        for num_images, num_points in ((60, 30_000), (8, 1500))
    ]
    both = side_by_side([read_viewed_model(folder) for folder in folders], ASPECT)
    size = (400, 300)
    assert {*both.model_of_point.tolist()} == {*both.model_of_camera.tolist()} == {0, 1}
    for view in (first_view(both), *turn_views(both, size, 8)):
        for positions in (both.points, both.frusta.reshape(-1, 3)):
            pixels, _ = view.project(positions.astype(np.float64), size)
            assert (pixels > 0).all() and (pixels < size).all()


def test_a_moved_copy_is_laid_over_the_first_model_without_errors(viewed):
    R = rotation_from_rotvec(np.array([0.4, -0.4, 1.2]))
    arrays = moved(viewed.table.arrays, Sim3(30.0, R, np.array([500.0, 0, 0])))
    other = replace(viewed, table=replace(viewed.table, arrays=arrays))
    comparison = compare_models(viewed.table, other.table)
    assert comparison.aligned.max_center_error < 1e-8
    assert comparison.aligned.max_rotation_error_deg < 1e-5
    both = overlaid(viewed, other, comparison, ASPECT)
    number = int((both.model_of_point == 0).sum())
    np.testing.assert_allclose(both.points[:number], both.points[number:], atol=1e-5)
    np.testing.assert_allclose(both.errors[0::2], both.errors[1::2], atol=1e-5)


def test_errors_between_models_are_drawn_listed_and_counted(viewed):
    poses = list(viewed.table.arrays.poses)
    center = poses[2].center + np.array([0.0, 0.3, 0.0])
    poses[2] = type(poses[2])(poses[2].R, -poses[2].R @ center)
    table = replace(viewed.table, arrays=replace(viewed.table.arrays, poses=tuple(poses)))
    comparison = compare_models(viewed.table, table)
    errors = comparison.aligned.center_errors
    assert max(errors, key=lambda name: errors[name]) == "002.jpg" and 0.15 < errors["002.jpg"] < 0.35
    both = overlaid(viewed, replace(viewed, table=table), comparison, ASPECT)
    lengths = np.linalg.norm(both.errors[1::2] - both.errors[0::2], axis=1)
    np.testing.assert_allclose(lengths / lengths.max(), both.error_values / both.error_values.max(), atol=1e-3)
    text = comparison.table()
    sizes = np.linalg.norm(both.frusta[:, 1] - both.frusta[:, 0], axis=1)
    alone = side_by_side([viewed], ASPECT).frusta
    assert sizes.min() > 0.8 * np.linalg.norm(alone[:, 1] - alone[:, 0], axis=1).max(), "frusta do not shrink"
    assert "6 common images" in text and text.index("002.jpg") < text.index("000.jpg")
    values = json.loads(json.dumps(comparison.as_dict()))
    assert values["num_common"] == 6 and values["center_error"]["max"] == pytest.approx(errors["002.jpg"])
    assert values["images"]["002.jpg"]["center_error"] == pytest.approx(errors["002.jpg"])


def test_models_without_common_images_are_not_compared(viewed):
    other = replace(viewed.table, names=tuple(f"other/{name}" for name in viewed.table.names))
    with pytest.raises(DataError, match="0 images with the same names"):
        compare_models(viewed.table, other)


def test_cameras_that_follow_their_names_are_a_sequence():
    line = np.column_stack([np.arange(30.0), np.zeros(30), np.zeros(30)])
    assert looks_like_sequence(line)
    assert not looks_like_sequence(np.random.default_rng(0).permutation(line))
    assert not looks_like_sequence(line[:4])


def test_a_trajectory_has_no_segment_where_there_is_a_gap():
    centers = np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [50, 0, 0], [51, 0, 0]])
    ends = path_segments(centers).reshape(-1, 2, 3)
    assert ends[:, 0, 0].tolist() == [0, 1, 50] and ends[:, 1, 0].tolist() == [1, 2, 51]
    assert path_segments(centers[:1]).shape == (0, 3)


def test_a_trajectory_counts_names_without_leading_zeros_as_people_do(tmp_path):
    folder = write_viewed_scene(tmp_path / "scene", 12, 60, with_photos=False) / "reconstruction" / "sparse" / "0"
    model = pycolmap.Reconstruction(folder)
    for image_id, image in model.images.items():
        image.name = f"{image_id}.jpg"
    model.write_binary(folder)
    found = read_viewed_model(folder)
    assert found.table.names[:3] == ("1.jpg", "10.jpg", "11.jpg")
    assert found.is_sequence
    ends = side_by_side([found], ASPECT).path.reshape(-1, 2, 3)
    lengths = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
    assert len(ends) == 11 and lengths.max() < 1.1 * lengths.min()


def test_a_model_in_metres_on_the_earth_has_z_upwards(tmp_path):
    scene = write_viewed_scene(tmp_path / "scene", num_images=3, num_points=20, with_photos=False)
    model = scene / "reconstruction" / "sparse" / "0"
    for content, is_up in (('{"frame": "given"}', False), ("not JSON", False), ('{"frame": "east_north_up"}', True)):
        (model / "georegistration.json").write_text(content)
        assert is_east_north_up(model) == is_up
    found = read_viewed_model(scene)
    assert found.up.tolist() == [0, 0, 1] and found.up_source == "GPS"


def test_a_model_without_content_is_an_error(tmp_path):
    (tmp_path / "model").mkdir()
    pycolmap.Reconstruction().write_binary(tmp_path / "model")
    with pytest.raises(DataError, match="nothing to show"):
        read_viewed_model(tmp_path / "model")


def test_means_leave_out_what_is_not_finite():
    rows, values = np.array([0, 0, 2, 2, 2]), np.array([1.0, 3.0, np.nan, 4.0, 6.0])
    np.testing.assert_array_equal(mean_of_each(rows, values, 4), [2.0, np.nan, 5.0, np.nan])


def test_the_table_reads_the_points_of_the_model(scene_dir):
    assert len(read_model_table(scene_dir).arrays.points) > 100
