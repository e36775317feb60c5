"""The compiled kernels do what NumPy does, for any image and any number of threads."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from sfm_lightglue.arrays import UInt8Array
from sfm_lightglue.extractors.scale_space import BlobLimits, find_blobs
from sfm_lightglue.extractors.sift_descriptors import describe, orientations
from sfm_lightglue.geometry.point_positions import PointViews, best_positions
from sfm_lightglue.kernels import library
from sfm_lightglue.kernels.blobs import Patches
from sfm_lightglue.kernels.blobs import describe as describe_compiled
from sfm_lightglue.kernels.poses import find_in_front, sampson_errors
from sfm_lightglue.kernels.scale_space import blur_and_find, double_size, refine_extrema
from sfm_lightglue.mapping.observers import Observers
from sfm_lightglue.two_view.pose_batch import PointPairs, Poses, fit_poses, in_front, squared_errors
from tests.helpers.photos import textured

pytestmark = pytest.mark.skipif(library.compiled() is None, reason="the kernels are not compiled here")

EDGES = 10.0
ALL, FAINT = BlobLimits(0.02, 10**6), BlobLimits(0.02 / 3, 10**6)

HALF = np.array([0.5, 0.25], np.float32)
"""The half of a kernel that blurs."""

_Result = TypeVar("_Result")


@pytest.fixture
def kernels() -> ctypes.CDLL:
    compiled = library.compiled()
    assert compiled is not None
    return compiled


def in_numpy(function: Callable[[], _Result]) -> _Result:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "load_kernels", lambda: library.LoadedKernels(None, "switched off"))
        return function()


def images() -> dict[str, UInt8Array]:
    rng = np.random.default_rng(0)
    return {
        "texture": textured(401, 303),
        "noise": rng.integers(0, 256, (97, 131), dtype=np.uint8),  # more extrema than are reserved at first
        "narrow": textured(37, 200),
        "tiny": rng.integers(0, 256, (3, 4), dtype=np.uint8),
        "one row": rng.integers(0, 256, (1, 60), dtype=np.uint8),
        "constant": np.full((50, 60), 7, np.uint8),
        "steps": np.kron(rng.integers(0, 2, (12, 9), dtype=np.uint8) * 255, np.ones((8, 8), np.uint8)),  # equal values
    }


@pytest.mark.parametrize("name", images())
def test_blobs_differ_by_rounding_only(name: str) -> None:
    pixels = images()[name]
    found, space = find_blobs(pixels, EDGES, ALL, FAINT)
    expected, expected_space = in_numpy(lambda: find_blobs(pixels, EDGES, ALL, FAINT))
    for octave, others in zip(space.layers, expected_space.layers, strict=True):
        for layer, other in zip(octave, others, strict=True):
            np.testing.assert_allclose(layer, other, rtol=0, atol=2e-4)  # grey levels
    # A threshold decides otherwise about very few.
    assert abs(len(found) - len(expected)) <= 0.01 * len(expected)
    if len(expected) > 0:
        ours, theirs = (np.column_stack([each.keypoints, 4 * np.log(each.scales)]) for each in (found, expected))
        distances, rows = cKDTree(theirs).query(ours)
        same = distances < 1e-2
        assert same.mean() > 0.99
        np.testing.assert_allclose(found.contrasts[same], expected.contrasts[rows[same]], rtol=1e-3)
        np.testing.assert_array_equal(found.octave_idxs[same], expected.octave_idxs[rows[same]])


@pytest.mark.parametrize("name", ["texture", "noise", "narrow", "steps"])
def test_orientations_and_descriptors_differ_by_rounding_only(name: str) -> None:
    blobs, space = find_blobs(images()[name], EDGES, ALL, FAINT)
    assert len(blobs) >= 20
    found, expected = orientations(space, blobs), in_numpy(lambda: orientations(space, blobs))
    turns = np.abs(found[0] - expected[0])
    # Of two directions that are nearly as good, rounding may choose the other one.
    assert (np.minimum(turns, 2 * np.pi - turns) < 1e-2).mean() > 0.95
    assert (np.isfinite(found[1]) == np.isfinite(expected[1])).mean() > 0.95
    descriptors, others = describe(space, blobs, expected[0]), in_numpy(lambda: describe(space, blobs, expected[0]))
    np.testing.assert_allclose(descriptors, others, rtol=0, atol=2e-3)
    np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, atol=1e-5)


def test_threads_change_nothing() -> None:
    pixels = textured(300, 200)

    def features(_: int) -> bytes:
        blobs, space = find_blobs(pixels, EDGES, ALL, FAINT)
        return describe(space, blobs, orientations(space, blobs)[0]).tobytes()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(features, range(8)))) == 1


def test_arrays_that_a_kernel_cannot_read_are_refused(kernels: ctypes.CDLL) -> None:
    image = np.zeros((20, 30), np.float32)
    with pytest.raises(ValueError, match="another shape"):
        double_size(kernels, np.zeros((20, 30), np.uint8), image)
    with pytest.raises(TypeError, match="contiguous array of float32"):
        blur_and_find(kernels, [image] * 5 + [image.astype(np.float64)], [HALF] * 5, 0.1)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="contiguous"):
        refine_extrema(kernels, [np.zeros((30, 20), np.float32).T] * 6, np.zeros((1, 3), np.int64), EDGES)
    with pytest.raises(ValueError, match="have one size"):
        blur_and_find(kernels, [image] * 5 + [image[1:]], [HALF] * 5, 0.1)
    for num, half in ((5, HALF), (6, np.ones(40, np.float32))):
        with pytest.raises(ValueError, match="cannot be blurred"):
            blur_and_find(kernels, [image] * num, [half] * (num - 1), 0.1)
    with pytest.raises(ValueError, match="has 6 images"):
        refine_extrema(kernels, [image] * 5, np.zeros((1, 3), np.int64), EDGES)
    one = Patches(image, np.zeros((1, 2), np.float32), np.ones(1, np.float32), np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="22 numbers"):
        describe_compiled(kernels, one, np.zeros(5, np.float32), np.zeros((4, 20), np.float32))


def test_patches_across_the_border_read_nothing_outside(kernels: ctypes.CDLL) -> None:
    """Centres and sizes of any kind; the samples of a patch are within the image."""
    rng = np.random.default_rng(1)
    image = rng.random((40, 50)).astype(np.float32)
    centres = rng.uniform(-1e4, 1e4, (200, 2)).astype(np.float32)
    patches = Patches(image, centres, np.full(200, 300, np.float32), rng.uniform(0, 7, 200).astype(np.float32))
    found = describe_compiled(kernels, patches, np.linspace(-8, 8, 22, dtype=np.float32), np.ones((4, 20), np.float32))
    assert np.isfinite(found).all()


def matches_of_motion(num: int, noise: float) -> tuple[PointPairs, Poses]:
    """Matches of two images, a third of them wrong, and three poses near the true one."""
    rng = np.random.default_rng(num)
    world = rng.uniform((-2, -2, 4), (2, 2, 8), (num, 3))
    rotation = Rotation.from_rotvec((0.1, -0.2, 0.05))
    t = np.array([0.8, 0.1, 0.59])
    views = [each[:, :2] / each[:, 2:] + rng.normal(0, noise, (num, 2)) for each in (world, rotation.apply(world) + t)]
    views[1][: num // 3] = rng.uniform(-0.5, 0.5, (num // 3, 2))
    monomials = np.ones((15, num))
    monomials[:2], monomials[3:5] = views[0].T, views[1].T
    monomials[6:] = (monomials[3:6, None] * monomials[None, :3]).reshape(9, num)
    rays = (monomials[:3], monomials[3:6])
    points = PointPairs(monomials, *(ray / np.linalg.norm(ray, axis=0) for ray in rays), max_error=0.002)
    turns = Rotation.from_rotvec(rng.normal(0, 0.02, (3, 3))) * rotation
    steps = t + rng.normal(0, 0.05, (3, 3))
    return points, Poses(turns.as_matrix(), steps / np.linalg.norm(steps, axis=1, keepdims=True))


@pytest.mark.parametrize("max_residual", [None, 1.0], ids=["soft", "truncated"])
@pytest.mark.parametrize("num", [5, 8, 37, 400])
def test_fitted_poses_are_equal(num: int, max_residual: float | None) -> None:
    points, poses = matches_of_motion(num, 5e-4)
    masks = np.random.default_rng(0).random((3, num)) < 0.9
    found, expected = (
        fit_poses(points, poses, masks, max_residual),
        in_numpy(lambda: fit_poses(points, poses, masks, max_residual)),
    )
    np.testing.assert_allclose(found.R, expected.R, atol=1e-7)
    np.testing.assert_allclose(found.t, expected.t, atol=1e-7)
    np.testing.assert_allclose(np.linalg.det(found.R), 1, atol=1e-9)


@pytest.mark.parametrize("num", [1, 8, 37, 400])
def test_what_fits_a_pose_is_equal(num: int) -> None:
    points, poses = matches_of_motion(num, 5e-4)
    poses = Poses(np.concatenate([poses.R, -poses.R]), np.concatenate([poses.t, poses.t]))  # half of them behind
    expected = in_numpy(lambda: squared_errors(points, poses.essentials))
    np.testing.assert_allclose(squared_errors(points, poses.essentials), expected, rtol=1e-6, atol=1e-20)
    expected_front = in_numpy(lambda: in_front(points, poses))
    np.testing.assert_array_equal(in_front(points, poses), expected_front)
    assert expected_front.any() and not expected_front.all()


def test_points_of_another_number_are_refused(kernels: ctypes.CDLL) -> None:
    points, poses = matches_of_motion(20, 1e-3)
    with pytest.raises(ValueError, match="do not fit"):
        sampson_errors(kernels, points.monomials[:3], poses.essentials)
    with pytest.raises(ValueError, match="cannot have the shapes"):
        find_in_front(kernels, (points.rays0, points.rays1[:, 1:]), (poses.R, poses.t), 0.01)


def test_a_pose_without_matches_stays() -> None:
    points, poses = matches_of_motion(20, 1e-3)
    found = fit_poses(points, poses, np.zeros((3, 20), np.bool_))
    np.testing.assert_allclose(found.R, poses.R, atol=1e-12)
    np.testing.assert_allclose(found.t, poses.t, atol=1e-12)


@pytest.mark.parametrize("loss", [None, 0.5])
@pytest.mark.parametrize("is_matrix", [False, True])
def test_positions_of_points_are_equal(is_matrix: bool, loss: float | None) -> None:
    rng = np.random.default_rng(0)
    R = Rotation.from_rotvec(rng.normal(0, 0.1, (6, 3))).as_matrix()
    t, xyz = rng.normal(0, 0.5, (6, 3)), rng.uniform((-1, -1, 4), (1, 1, 6), (200, 3))
    point, image = rng.permutation(np.repeat(np.arange(200), 4)), rng.integers(0, 6, 800)
    in_camera = np.einsum("nij,nj->ni", R[image], xyz[point]) + t[image]
    xy = in_camera[:, :2] / in_camera[:, 2:] + rng.normal(0, 5e-4, (800, 2))
    scale = np.full(800, 1000.0)
    if is_matrix:
        scale = np.repeat(np.array([[900.0, 50.0], [20.0, 1100.0]])[:, :, None], 800, axis=2)
    views = PointViews.of(point, image, R, t, xy, scale)
    start = xyz + 0.02
    found = best_positions(views, start, loss, 8)
    np.testing.assert_allclose(found, in_numpy(lambda: best_positions(views, start, loss, 8)), atol=1e-4)
    assert np.median(np.linalg.norm(found - xyz, axis=1)) < 0.02


def test_errors_of_points_are_equal() -> None:
    rng = np.random.default_rng(0)
    R = Rotation.from_rotvec(rng.normal(0, 0.1, (3, 3))).as_matrix()
    seen = Observers(
        R, rng.normal(0, 1, (3, 3)), np.full(3, 900.0), np.full(3, 2.0), rng.integers(0, 3, 50), rng.random((50, 2))
    )
    xyz, point, keypoint = rng.normal(0, 3, (20, 3)), rng.integers(0, 20, 300), rng.integers(0, 50, 300)
    found, expected = (
        seen.squared_errors(xyz, point, keypoint),
        in_numpy(lambda: seen.squared_errors(xyz, point, keypoint)),
    )
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-9)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-12)
    with pytest.raises(IndexError, match="does not exist"):
        seen.squared_errors(xyz, point + 20, keypoint)
