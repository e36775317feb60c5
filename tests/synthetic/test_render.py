"""The synthetic scene: its images, depths and poses must be consistent with each other."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image as PilImage

from sfm_lightglue.arrays import Float64Array
from sfm_lightglue.errors import DataError, StoreError
from sfm_lightglue.geometry.epipolar import essential_from_pose, squared_sampson_errors
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.images.image import Image
from sfm_lightglue.synthetic import (
    SyntheticScene,
    corresponding_points,
    files,
    read_truth,
    render,
    render_scene,
    write_scene,
)
from sfm_lightglue.synthetic.rays import Rays, Shape, cast
from sfm_lightglue.synthetic.shapes import Box, Cylinder, Relief, Sphere
from sfm_lightglue.synthetic.textures import MipTexture
from sfm_lightglue.synthetic.world import GROUND

NUM_IMAGES, SIZE = 6, (320, 240)


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return render_scene(NUM_IMAGES, SIZE, seed=0)


def world_points(scene: SyntheticScene, name: str) -> Float64Array:
    """Points [N, 3] of all pixels of an image that show a surface."""
    depth = scene.depths[name].astype(np.float64)
    y, x = np.nonzero(depth)
    normalised = np.stack([x + 0.5, y + 0.5, np.ones(len(x))], 1) @ np.linalg.inv(scene.K).T
    return scene.cam_from_world_from_name[name].inverse() @ (normalised * depth[y, x, None])


def colors_at(image: np.ndarray, pixels: Float64Array) -> Float64Array:
    """Bilinear colours [M, 3] at pixels in COLMAP's convention."""
    x, y = (pixels - 0.5).astype(np.float32).T
    return cv2.remap(image.astype(np.float32), x[None], y[None], cv2.INTER_LINEAR)[0].astype(np.float64)


def test_scene_is_complete(scene: SyntheticScene) -> None:
    assert len(scene.names) == NUM_IMAGES
    assert list(scene.names) == sorted(scene.names)
    assert list(scene.depths) == list(scene.cam_from_world_from_name) == list(scene.names)
    assert scene.camera.size == SIZE
    for name in scene.names:
        assert scene.images[name].shape == (SIZE[1], SIZE[0], 3)
        assert scene.images[name].dtype == np.uint8
        assert scene.depths[name].shape == (SIZE[1], SIZE[0])
        assert scene.depths[name].dtype == np.float32
        assert np.isfinite(scene.depths[name]).all()
        assert 0.5 < (scene.depths[name] > 0).mean() < 1, "expected surface and sky"
    centers = [pose.center for pose in scene.cam_from_world_from_name.values()]
    assert scene.extent_m == pytest.approx(max(np.linalg.norm(a - b) for a in centers for b in centers))


def test_same_seed_same_bytes_for_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    def rendered(num_threads: int, seed: int) -> list[bytes]:
        monkeypatch.setattr(render.os, "cpu_count", lambda: num_threads)
        scene = render_scene(2, (96, 72), seed)
        return [array.tobytes() for view in (scene.images, scene.depths) for array in view.values()]

    first = rendered(1, 3)
    assert rendered(4, 3) == first
    assert all(a != b for a, b in zip(rendered(4, 4), first, strict=True))


def test_corresponding_points_have_the_same_colour(scene: SyntheticScene) -> None:
    pixels0, pixels1 = corresponding_points(scene, "view_02.jpg", "view_03.jpg", step=2)
    assert len(pixels0) > 5000
    image0, image1 = (scene.images[name].astype(np.float64) for name in ("view_02.jpg", "view_03.jpg"))
    colors0 = colors_at(image0, pixels0)
    difference = np.abs(colors0 - colors_at(image1, pixels1)).mean(1)
    shifted = np.abs(colors0 - colors_at(image1, pixels1 + np.array([1.0, 0.0]))).mean(1)
    assert np.median(difference) < 5
    assert np.median(shifted) > 1.8 * np.median(difference), "an error of one pixel is not detected"


def test_correspondences_obey_the_epipolar_geometry(scene: SyntheticScene) -> None:
    name0, name1 = "view_01.jpg", "view_04.jpg"
    poses = scene.cam_from_world_from_name
    pixels0, pixels1 = corresponding_points(scene, name0, name1)
    K_inv = np.linalg.inv(scene.K)
    F = K_inv.T @ essential_from_pose(poses[name1] @ poses[name0].inverse()) @ K_inv
    assert len(pixels0) > 300
    assert np.sqrt(squared_sampson_errors(F, pixels0, pixels1)).max() < 1e-3


def test_depths_of_two_views_describe_one_surface(scene: SyntheticScene) -> None:
    name0, name1 = "view_01.jpg", "view_04.jpg"
    points = scene.cam_from_world_from_name[name1] @ world_points(scene, name0)[::3]
    pixels = ((points / points[:, 2:]) @ scene.K.T)[:, :2]
    inside = ((pixels > 1) & (pixels < np.array(SIZE) - 1)).all(1)
    inverse = 1 / np.where(scene.depths[name1] > 0, scene.depths[name1], np.float32(1e6))
    ratio = colors_at(inverse, pixels[inside]) * points[inside, 2]
    assert np.median(np.abs(ratio - 1)) < 2e-4, "visible points differ in depth"
    assert (ratio > 1.05).mean() > 0.03, "nothing is occluded"
    # At borders, the nearest of the neighbouring pixels is used.
    nearest = colors_at(cv2.dilate(inverse, np.ones((3, 3), np.uint8)), pixels[inside]) * points[inside, 2]
    assert (nearest < 0.99).mean() < 1e-3, "points behind the surface are visible"


def test_views_have_occlusion(scene: SyntheticScene) -> None:
    name0, name1 = scene.names[0], scene.names[-1]
    pose = scene.cam_from_world_from_name[name1]
    points = pose @ world_points(scene, name0)
    pixels = (points / points[:, 2:]) @ scene.K.T
    inside = ((pixels[:, :2] > 1) & (pixels[:, :2] < np.array(SIZE) - 1)).all(1) & (points[:, 2] > 0)
    num_visible = len(corresponding_points(scene, name0, name1, step=1)[0])
    assert 0.3 * inside.sum() < num_visible < 0.95 * inside.sum()


def test_scene_is_not_planar(scene: SyntheticScene) -> None:
    points = world_points(scene, scene.names[0])
    thickness = np.linalg.svd(points - points.mean(0), full_matrices=False)[1] / np.sqrt(len(points))
    assert thickness[2] > 0.3
    pixels0, pixels1 = corresponding_points(scene, scene.names[1], scene.names[3], step=4)
    _, inliers = cv2.findHomography(pixels0, pixels1, cv2.RANSAC, 2.0)
    assert inliers.mean() < 0.7


def test_rays_to_the_sky_do_not_cross_the_ground(scene: SyntheticScene) -> None:
    steps = np.arange(0.2, 18, 0.05)
    for name, pose in scene.cam_from_world_from_name.items():
        y, x = np.nonzero(scene.depths[name] == 0)
        pixels = np.stack([x + 0.5, y + 0.5, np.ones(len(x))], 1)[::7]
        rays = pixels @ np.linalg.inv(scene.K).T @ pose.R
        px, py, pz = (pose.center[:, None] + rays[..., None] * steps).transpose(1, 0, 2).astype(np.float32)
        below = (pz < GROUND.height(px, py)[0] - 0.01) & (px**2 + py**2 < (GROUND.radius_m - 0.1) ** 2)
        assert not below.any(), name


def test_ground_truth_and_images_are_read_back(scene: SyntheticScene, tmp_path: Path) -> None:
    write_scene(scene, tmp_path)
    entry = json.loads((tmp_path / "truth.json").read_text())[scene.names[0]]
    assert (entry["width"], entry["height"], entry["dist"]) == (*SIZE, [])
    assert entry["K"][0][2] == SIZE[0] / 2 - 0.5, "expected OpenCV's convention"
    cameras, poses = read_truth(tmp_path)
    assert set(cameras) == set(poses) == set(scene.names)
    focal, cx, cy = scene.camera.params
    for name in scene.names:
        assert cameras[name].params == (focal, focal, cx, cy)
        assert_allclose(poses[name].as_matrix(), scene.cam_from_world_from_name[name].as_matrix(), atol=1e-12)
        stored = np.asarray(PilImage.open(tmp_path / "images" / name)).astype(float)
        assert np.abs(stored - scene.images[name]).mean() < 4


def test_exif_has_the_exact_focal_length(scene: SyntheticScene, tmp_path: Path) -> None:
    write_scene(scene, tmp_path)
    exifs = [Image.read(tmp_path / "images" / name).exif for name in scene.names]
    for exif in exifs:
        assert exif.focal_length_px == pytest.approx(scene.camera.params[0], rel=1e-9)
    assert len({exif.camera_id for exif in exifs}) == 1 and exifs[0].camera_id
    camera = dataclasses.replace(scene.camera, params=(scene.camera.params[0] + 1, *scene.camera.params[1:]))
    with pytest.raises(ValueError, match="EXIF"):
        write_scene(dataclasses.replace(scene, camera=camera), tmp_path)


def test_an_interrupted_scene_is_incomplete(
    scene: SyntheticScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_scene(scene, tmp_path)
    written = files._write

    def fail_at_the_third(path: Path, content: bytes) -> None:
        if path.name == scene.names[2]:
            raise StoreError("disk full")
        written(path, content)

    monkeypatch.setattr(files, "_write", fail_at_the_third)
    with pytest.raises(StoreError):
        write_scene(scene, tmp_path)
    with pytest.raises(DataError, match=r"truth\.json"):
        read_truth(tmp_path)


def test_progress_and_limits() -> None:
    calls: list[tuple[str, int, int]] = []
    render_scene(2, (64, 64), progress=lambda stage, done, total: calls.append((stage, done, total)))
    assert calls == [("render", 1, 2), ("render", 2, 2)]
    with pytest.raises(ValueError, match="2 images"):
        render_scene(1)
    with pytest.raises(ValueError, match="64"):
        render_scene(2, (640, 48))


POSE = Rigid3.from_rotvec(np.array([0.3, -0.5, 0.8]), np.array([0.4, -0.3, 0.6]))
SOLIDS = [Box(POSE, (0.5, 0.8, 0.3)), Cylinder(POSE, 0.4, 0.7), Sphere(POSE, 0.6)]


def inside_solid(shape: Shape, points: np.ndarray) -> np.ndarray:
    """Whether local points [3, N] are in the solid, by its definition: [N]."""
    if isinstance(shape, Box):
        return (np.abs(points) <= np.array(shape.half_size_m)[:, None]).all(0)
    if isinstance(shape, Cylinder):
        return (np.hypot(*points[:2]) <= shape.radius_m) & (np.abs(points[2]) <= shape.half_height_m)
    assert isinstance(shape, Sphere)
    return (points**2).sum(0) <= shape.radius_m**2


def random_rays(count: int = 400) -> Rays:
    rng = np.random.default_rng(5)
    origins = rng.normal(size=(3, count))
    origins = 4 * origins / np.linalg.norm(origins, axis=0)
    targets = rng.uniform(-1, 1, (3, count)) + POSE.t[:, None]
    return Rays(origins.astype(np.float32), (targets - origins).astype(np.float32))


@pytest.mark.parametrize("shape", SOLIDS, ids=lambda shape: type(shape).__name__)
def test_first_hit_equals_that_of_marching_along_the_ray(shape: Shape) -> None:
    rays = random_rays()
    t, shape_idx = cast([shape], rays)
    local = shape.to_local(rays)
    steps = np.linspace(0, 2, 2001)
    marched = np.array([inside_solid(shape, local.origins + step * local.directions) for step in steps])
    hit = marched.any(0)
    assert 0.2 < hit.mean() < 0.9
    assert (hit <= np.isfinite(t)).all(), "rays that enter the solid are misses"
    assert (np.isfinite(t) & ~hit).mean() < 0.02, "more hits than at corners between steps"
    assert_allclose(t[hit], steps[marched.argmax(0)][hit], atol=1.1e-3)
    assert_allclose(shape_idx[hit], 0)


@pytest.mark.parametrize("shape", SOLIDS, ids=lambda shape: type(shape).__name__)
def test_patches_cover_the_surface(shape: Shape) -> None:
    rays = shape.to_local(random_rays())
    t = shape.hit(rays)
    surface = rays.at(t)[:, np.isfinite(t)]
    patches = shape.patch_of(surface)
    for patch in np.unique(patches).tolist():
        points = surface[:, patches == patch]
        uv = shape.uv(patch, points)
        assert (uv >= -1e-4).all()
        assert (uv <= np.array(shape.patch_sizes_m[patch])[:, None] + 1e-4).all()
        assert_allclose(shape.points(patch, uv), points, atol=2e-3 if isinstance(shape, Sphere) else 1e-4)
        normals = np.broadcast_to(shape.normals(patch, points), points.shape)
        assert_allclose((normals**2).sum(0), 1, atol=1e-5)
        assert not inside_solid(shape, points + 0.01 * normals).any(), "normals do not point outwards"
        assert inside_solid(shape, points - 0.01 * normals).mean() > 0.9


def test_rays_hit_the_relief_at_its_height() -> None:
    relief = Relief(Rigid3.identity(), 3.0, 0.02, ((0.1, 1.0, 0.5, 0.2), (0.05, -0.6, 1.3, 1.0)))
    rng = np.random.default_rng(2)
    targets = np.concatenate([rng.uniform(-2, 2, (2, 500)), np.zeros((1, 500))]).astype(np.float32)
    targets[2] = relief.height(targets[0], targets[1])[0]
    origin = np.array([[0.5], [-4.0], [2.0]], np.float32)
    t = relief.hit(Rays(origin, targets - origin))
    assert_allclose(t, 1, atol=1e-5)
    assert np.isinf(relief.hit(Rays(origin, origin))).all(), "rays upwards hit the relief"


def test_texture_lookup_averages_over_the_footprint() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
    texture = MipTexture.from_image(image, (2.0, 1.0), wraps=False)
    x, y = rng.integers(0, 128, 300), rng.integers(0, 64, 300)
    uv = np.stack([(x + 0.5) / 64, (y + 0.5) / 64]).astype(np.float32)
    sharp = texture.sample([uv], np.full(300, 1 / 64, np.float32))
    assert_allclose(sharp, image[y, x], atol=1e-3)
    assert_allclose(texture.sample([uv, uv], np.full(300, 1 / 64, np.float32)), sharp, atol=1e-3)
    blurred = texture.sample([uv], np.full(300, 10.0, np.float32))
    assert np.abs(blurred - image.mean((0, 1))).max() < 25
    assert texture.sample([np.zeros((2, 0), np.float32)], np.zeros(0, np.float32)).shape == (0, 3)
