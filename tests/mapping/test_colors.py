"""Colours of points: the mean of the images that can be read, alike for any number of threads."""

from pathlib import Path

import numpy as np
import PIL.Image
import pycolmap

from sfm_lightglue.execution.executor import SERIAL, Executor, ThreadExecutor
from sfm_lightglue.mapping.colors import color_points
from tests.helpers.dense_models import model_of

WIDTH, HEIGHT = 64, 48


def pictures(folder: Path, num: int) -> tuple[dict[str, Path], list[np.ndarray]]:
    """Files of random colours, and their pixels."""
    rng = np.random.default_rng(3)
    paths, pixels = {}, []
    for number in range(num):
        pixels.append(rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))
        paths[f"{number}.png"] = folder / f"{number}.png"
        PIL.Image.fromarray(pixels[-1]).save(paths[f"{number}.png"])
    return paths, pixels


def model_with(seen: list[list[int]], keypoints: list[np.ndarray]) -> pycolmap.Reconstruction:
    """A model whose images observe points, keypoint by keypoint."""
    num_points = max(max(row, default=-1) for row in seen) + 1
    poses = [(np.eye(3), np.array([0.1 * number, 0, 0])) for number in range(len(seen))]
    return model_of(np.tile([0.0, 0.0, 5.0], (num_points, 1)), poses, seen, keypoints)


def random_model(num_images: int, num_points: int) -> tuple[pycolmap.Reconstruction, list[np.ndarray]]:
    rng = np.random.default_rng(4)
    keypoints = [rng.uniform(0, (WIDTH, HEIGHT), (num_points, 2)) for _ in range(num_images)]
    return model_with([list(range(num_points))] * num_images, keypoints), keypoints


def colored(model: pycolmap.Reconstruction, paths: dict[str, Path], executor: Executor = SERIAL) -> np.ndarray:
    assert color_points([model], paths, executor) == [set()]
    return np.array([model.points3D[point_id].color for point_id in sorted(model.point3D_ids())])


def test_a_point_has_the_mean_colour_of_its_pixels(tmp_path: Path) -> None:
    paths, pixels = pictures(tmp_path, 3)
    model, keypoints = random_model(3, 20)
    values = [one[xy[:, 1].astype(int), xy[:, 0].astype(int)] for one, xy in zip(pixels, keypoints, strict=True)]
    np.testing.assert_array_equal(colored(model, paths), np.round(np.mean(values, axis=0)))


def test_threads_give_the_same_colours(tmp_path: Path) -> None:
    paths, _ = pictures(tmp_path, 6)
    model, _ = random_model(6, 200)
    one, two = (colored(pycolmap.Reconstruction(model), paths, ThreadExecutor(workers)) for workers in (1, 2))
    assert len(np.unique(one, axis=0)) > 100
    np.testing.assert_array_equal(one, two)


def test_points_that_no_readable_image_shows_are_left(tmp_path: Path) -> None:
    paths, pixels = pictures(tmp_path, 4)
    paths["2.png"].write_bytes(b"no image")
    paths["3.png"].unlink()
    corner = np.array([[0.5, 0.5]])
    seen = [[0], [1], [0, 1, 2], [2]]  # the last point is in images that cannot be read alone
    model = model_with(seen, [corner, corner, np.repeat(corner, 3, axis=0), corner])
    first, second, last = sorted(model.point3D_ids())
    reports = []
    assert color_points([model], paths, progress=lambda *report: reports.append(report)) == [{last}]
    for point_id, one in ((first, pixels[0]), (second, pixels[1]), (last, np.zeros((1, 1, 3)))):
        np.testing.assert_array_equal(model.points3D[point_id].color, one[0, 0])
    assert reports == [("colour", done, 4) for done in range(5)]


def test_a_model_without_points_stays_as_it_is(tmp_path: Path) -> None:
    paths, _ = pictures(tmp_path, 2)
    model = model_with([[], []], [np.array([[0.5, 0.5]])] * 2)
    assert color_points([model], paths) == [set()]
    assert model.num_points3D() == 0
