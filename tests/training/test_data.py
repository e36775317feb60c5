"""Training pairs: rendered views are consistent with their depth, labels with reprojection."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.synthetic.photo_scenes.curved import Relief, Round
from sfm_lightglue.synthetic.photo_scenes.posed_camera import PosedCamera
from sfm_lightglue.synthetic.photo_scenes.scene_layouts import SCENE_LAYOUTS
from sfm_lightglue.synthetic.photo_scenes.surfaces import Light, Plane, Surface, Texture
from sfm_lightglue.synthetic.photo_scenes.textures import smooth_noise
from sfm_lightglue.synthetic.photo_scenes.views import RenderedView, ViewConfig, render, render_views, trace
from sfm_lightglue.synthetic.photo_scenes.visibility import shared_view
from sfm_lightglue.training.data.labelled_pairs import SceneConfig, make_scene, split_photos
from sfm_lightglue.training.data.labelled_scenes import PairLabels, TrainingScene, quantised
from sfm_lightglue.training.data.labels import IGNORED, MATCHED, UNMATCHABLE, LabelConfig, SeenKeypoints, label_pair
from sfm_lightglue.training.data.shards import photo_paths
from tests.helpers.rendered_scenes import CONFIG, SMALL, pattern, same

DAYLIGHT = Light(np.array([0, -1.0, 0]), 0.3, 0.7)


def labelled(views: tuple[RenderedView, ...], scene: TrainingScene, view: int) -> tuple[SeenKeypoints, RenderedView]:
    found = scene.views[view]
    return SeenKeypoints(found.keypoints, found.scales, views[view].depth, views[view].camera), views[view]


def texture(seed: int, width_m: float, alpha: np.ndarray | None = None) -> Texture:
    return Texture.from_pixels(pattern(seed), width_m, alpha)


def facing_plane(x: float, y: float, z: float, size: tuple[float, float], seed: int) -> Plane:
    """A rectangle with its corner at (x, y, z), in front of a camera at the origin that looks along z."""
    return Plane(Rigid3(np.eye(3), np.array([x, y, z])), texture(seed, size[0]), size)


def camera_at(x: float, y: float = 0.0, z: float = 0.0, focal_px: float = 300.0) -> PosedCamera:
    return PosedCamera(focal_px, (320, 240), Rigid3(np.eye(3), -np.array([x, y, z])))


def sampled_world_points(view_depth: np.ndarray, camera: PosedCamera, step: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """World points [N, 3] and their pixels [N, 2], computed without the code under test."""
    y, x = np.mgrid[3 : view_depth.shape[0] : step, 3 : view_depth.shape[1] : step]
    x, y = x.ravel(), y.ravel()
    z = view_depth[y, x].astype(np.float64)
    rays = np.linalg.inv(camera.K) @ np.stack([x + 0.5, y + 0.5, np.ones(len(x))])
    R, t = camera.cam_from_world.R, camera.cam_from_world.t
    return (R.T @ (rays * z - t[:, None])).T[z > 0], np.stack([x + 0.5, y + 0.5], 1)[z > 0]


def surfaces_under_test() -> dict[str, tuple[Surface, PosedCamera]]:
    rng = np.random.default_rng(3)
    slanted = Rigid3.from_rotvec(np.array([0.6, 0.5, 0.1]), np.array([-2.2, -1.5, 4.5]))
    hills = (smooth_noise(rng, (96, 96), 5) + 1).astype(np.float32) * 0.3
    turned = Rigid3.from_rotvec(np.array([1.2, 0.2, 0.3]), np.array([0.2, 0.1, 4.0]))
    lying = Rigid3.from_rotvec(np.array([0.7, 0.0, 0.0]), np.array([-3.0, -2.0, 4.0]))
    return {
        "plane": (Plane(slanted, texture(0, 2.0), (5.0, 4.0), two_sided=True), camera_at(0.1)),
        "cylinder": (Round(turned, texture(1, 3.0), 1.0, 2.5), camera_at(0.1)),
        "inside": (Round(turned, texture(1, 3.0), 6.0, 30.0, inside=True), camera_at(0.1)),
        "sphere": (Round(turned, texture(2, 3.0), 1.2), camera_at(0.1)),
        "relief": (Relief(lying, texture(3, 3.0), (6.0, 6.0), hills), camera_at(0.0)),
    }


@pytest.mark.parametrize("name", ["plane", "cylinder", "inside", "sphere", "relief"])
def test_depths_lie_on_the_surface(name):
    surface, camera = surfaces_under_test()[name]
    depth, _ = trace([surface], camera)
    points, _ = sampled_world_points(np.where(np.isfinite(depth), depth, 0), camera)
    assert len(points) > 200
    local = surface.world_from_local.inverse() @ points
    if isinstance(surface, Plane):
        assert np.abs(local[:, 2]).max() < 1e-4
        assert (local[:, :2] > -0.1).all() and (local[:, :2] < np.array(surface.size_m) + 0.1).all()
    elif isinstance(surface, Round):
        radii = np.linalg.norm(local[:, : 3 if surface.height_m is None else 2], axis=1)
        assert np.abs(radii - surface.radius_m).max() < 1e-3
        towards = ((camera.cam_from_world.center - points) * (points - surface.world_from_local.t)).sum(1)
        if surface.height_m is None:
            assert (towards > 0).all(), "the far side of a sphere is visible"
    elif isinstance(surface, Relief):
        cells = local[:, :2] / np.array(surface.size_m) * surface.heights_m.shape[::-1] - 0.5
        maps = cells.astype(np.float32)[:, None]
        heights = cv2.remap(surface.heights_m, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        assert np.abs(local[:, 2] + heights[:, 0]).max() < 2e-2  # remap rounds to 1/32 of a cell
        assert heights.max() - heights.min() > 0.1, "no hills"


@pytest.mark.parametrize("name", ["plane", "cylinder", "inside", "sphere", "relief"])
def test_the_same_point_has_the_same_colour_in_two_views(name):
    """Colours are equal at pixels that show the same point according to depth."""
    surface, camera0 = surfaces_under_test()[name]
    near = camera0.cam_from_world.center + np.array([0.25, -0.1, 0.1])
    tilt = Rigid3.from_rotvec(np.array([0.02, 0.06, 0.2]), np.zeros(3))
    camera1 = PosedCamera(280.0, (320, 240), tilt @ Rigid3(np.eye(3), -near))
    images, depths = zip(
        *(render([surface], camera, DAYLIGHT, np.random.default_rng(0)) for camera in (camera0, camera1)), strict=True
    )
    points, pixels0 = sampled_world_points(depths[0], camera0)
    pixels1, z1 = camera1.project(points)
    inside = ((pixels1 > 2) & (pixels1 < (318, 238))).all(1)
    at1 = np.floor(pixels1[inside]).astype(int)
    seen = np.abs(depths[1][at1[:, 1], at1[:, 0]] - z1[inside]) < 0.03 * z1[inside]
    pixels1, pixels0 = pixels1[inside][seen], pixels0[inside][seen]
    assert len(pixels1) > 150
    colours0, colours1 = (
        cv2.remap(cv2.GaussianBlur(image, (0, 0), 1.5), (at - 0.5).astype(np.float32)[:, None], None, cv2.INTER_LINEAR)
        for image, at in zip(images, (pixels0, pixels1), strict=True)
    )
    difference = np.abs(colours0.astype(float) - colours1).mean()
    shifted = cv2.remap(
        cv2.GaussianBlur(images[1], (0, 0), 1.5), (pixels1 + 5).astype(np.float32)[:, None], None, cv2.INTER_LINEAR
    )
    assert difference < 0.45 * np.abs(colours0.astype(float) - shifted).mean()


def test_minified_textures_are_filtered():
    """A fine chequerboard far away is grey, without moiré."""
    chequer = (np.indices((512, 512)).sum(0) % 2 * 255).astype(np.uint8)
    tile = Texture.from_pixels(np.repeat(chequer[..., None], 3, axis=2), 1.0)
    plane = Plane(Rigid3(np.eye(3), np.array([-20.0, -20.0, 8.0])), tile, (40.0, 40.0))
    image, _ = render([plane], camera_at(0), Light(np.array([0, 0, -1.0]), 0, 1), np.random.default_rng(0))
    assert image.std() < 3 and abs(image.mean() - 127.5) < 3


def two_planes() -> tuple[list[Surface], PosedCamera, PosedCamera]:
    """A wall at 8 m and a sheet at 4 m that occludes a part of it; the second camera is 0.4 m to the right."""
    wall = facing_plane(-8, -6, 8, (16, 12), 0)
    sheet = facing_plane(-0.5, -1, 4, (1.5, 2), 1)
    return [wall, sheet], camera_at(0), camera_at(0.4)


def test_labels_of_two_planes_follow_their_disparities():
    """Disparity f b / z: 300 * 0.4 / 8 = 15 px for the wall, 30 px for the sheet; occluded points are unmatchable."""
    surfaces, camera0, camera1 = two_planes()
    depth0, depth1 = (render(surfaces, camera, DAYLIGHT, np.random.default_rng(0))[1] for camera in (camera0, camera1))
    assert set(np.unique(depth0.round(4))) == {4.0, 8.0}
    # The sheet spans x = 122.5 to 235 in view 0 and 92.5 to 205 in view 1. In view 1, its left part occludes the
    # wall that view 0 shows at 107.5 to 122.5.
    keypoints0 = np.array([[60, 50], [150, 100], [115, 120], [10, 60], [250, 30], [180, 60]], np.float32)
    keypoints1 = np.array([[45, 50], [120, 101], [100, 120], [310, 10], [238.9, 30], [152.9, 62.5]], np.float32)
    scales = np.full(6, 5, np.float32)
    matches, state0, state1 = label_pair(
        SeenKeypoints(keypoints0, scales, depth0, camera0),
        SeenKeypoints(keypoints1, scales, depth1, camera1),
        LabelConfig(),
    )
    assert matches.tolist() == [[0, 0], [1, 1]]
    # 2 is occluded, 3 outside; errors of 3.9 and 3.8 px at 4 and 5 are too large for a match, and too small for
    # an unmatchable point.
    assert state0.tolist() == [MATCHED, MATCHED, UNMATCHABLE, UNMATCHABLE, IGNORED, IGNORED]
    # In view 1, keypoint 2 shows a part of the sheet without keypoint in view 0; 3 is at x = 325 in view 0: outside.
    assert state1.tolist() == [MATCHED, MATCHED, UNMATCHABLE, UNMATCHABLE, IGNORED, IGNORED]


def test_keypoints_of_different_scales_do_not_match():
    surfaces, camera0, camera1 = two_planes()
    depth0, depth1 = (render(surfaces, camera, DAYLIGHT, np.random.default_rng(0))[1] for camera in (camera0, camera1))
    keypoints0, keypoints1 = np.array([[60, 50]], np.float32), np.array([[45, 50]], np.float32)
    for factor, num_matches in ((1.0, 1), (1.9, 1), (2.1, 0), (0.4, 0)):
        matches, state0, _ = label_pair(
            SeenKeypoints(keypoints0, np.array([6], np.float32), depth0, camera0),
            SeenKeypoints(keypoints1, np.array([6 * factor], np.float32), depth1, camera1),
            LabelConfig(),
        )
        assert len(matches) == num_matches
        assert state0.tolist() == [MATCHED if num_matches else IGNORED]


def test_labels_of_swapped_views_are_swapped():
    surfaces, camera0, _ = two_planes()
    camera1 = camera_at(0.5, 0.1, 0.3, focal_px=380)
    rng = np.random.default_rng(4)
    seen = []
    for camera in (camera0, camera1):
        depth = render(surfaces, camera, DAYLIGHT, rng)[1]
        keypoints = (rng.random((800, 2)) * (320, 240)).astype(np.float32)
        seen.append(SeenKeypoints(keypoints, rng.uniform(3, 9, 800).astype(np.float32), depth, camera))
    matches, state0, state1 = label_pair(seen[0], seen[1], LabelConfig())
    back, back1, back0 = label_pair(seen[1], seen[0], LabelConfig())
    assert len(matches) > 10
    assert sorted(map(tuple, matches.tolist())) == sorted((i, j) for j, i in back.tolist())
    assert np.array_equal(state0, back0) and np.array_equal(state1, back1)


def test_no_keypoints_give_no_labels():
    surfaces, camera0, camera1 = two_planes()
    depth = render(surfaces, camera0, DAYLIGHT, np.random.default_rng(0))[1]
    none = SeenKeypoints(np.zeros((0, 2), np.float32), np.zeros(0, np.float32), depth, camera0)
    one = SeenKeypoints(np.array([[60, 50]], np.float32), np.ones(1, np.float32), depth, camera1)
    for first, second in ((none, one), (one, none), (none, none)):
        matches, state0, state1 = label_pair(first, second, LabelConfig())
        assert matches.shape == (0, 2) and matches.dtype == np.int32
        assert (len(state0), len(state1)) == (len(first.keypoints), len(second.keypoints))
        assert MATCHED not in state0


def independent_reprojection(seen: SeenKeypoints, other: SeenKeypoints) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and depths in the other view of each keypoint, from the depth of the pixel that contains it."""
    columns, rows = np.floor(seen.keypoints).astype(int).T
    z = seen.depth[rows, columns].astype(np.float64)
    rays = np.linalg.inv(seen.camera.K) @ np.concatenate([seen.keypoints.T, np.ones((1, len(z)))])
    relative = other.camera.cam_from_world.as_matrix() @ np.linalg.inv(seen.camera.cam_from_world.as_matrix())
    moved = other.camera.K @ (relative[:3, :3] @ (rays * z) + relative[:3, 3:])
    with np.errstate(all="ignore"):
        return (moved[:2] / moved[2]).T, np.where(z > 0, moved[2], 0)


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_labels_fit_reprojection_in_rendered_scenes(photo_folder, seed):
    paths = photo_paths(photo_folder)
    scene = make_scene(paths, seed, CONFIG)
    assert len(scene.views) == 3
    rendered = rendered_like(paths, seed)
    for pair in scene.pairs:
        seen0, _ = labelled(rendered, scene, pair.view0)
        seen1, _ = labelled(rendered, scene, pair.view1)
        check_labels(seen0, seen1, pair.matches, pair.state0, 0)
        check_labels(seen1, seen0, pair.matches, pair.state1, 1)
        assert 0 < pair.overlap <= 1


def rendered_like(paths: tuple[Path, ...], seed: int) -> tuple[RenderedView, ...]:
    """The views that `make_scene` renders."""
    own, _ = split_photos(paths, np.random.default_rng([seed, 2]))
    return render_views(own, seed, SMALL)


def check_labels(seen: SeenKeypoints, other: SeenKeypoints, matches: np.ndarray, state: np.ndarray, side: int) -> None:
    pixels, z = independent_reprojection(seen, other)
    mine, theirs = matches[:, side], matches[:, 1 - side]
    assert len(np.unique(mine)) == len(mine), "one to one"
    assert sorted(mine.tolist()) == np.flatnonzero(state == MATCHED).tolist()
    # Within 3 px; the depth of the pixel differs a little from that at the keypoint.
    errors = np.linalg.norm(pixels[mine] - other.keypoints[theirs], axis=1)
    assert (errors >= 3.0).sum() <= max(1, 0.03 * len(errors)) and (errors < 6).all(), np.sort(errors)[-5:]
    for row in np.flatnonzero(state == UNMATCHABLE):
        x, y = pixels[row]
        width, height = other.camera.size
        if z[row] <= 0 or not (0 <= x < width and 0 <= y < height):
            continue
        occluded = other.depth[int(y), int(x)] < z[row] * 0.97
        distances = np.linalg.norm(other.keypoints - pixels[row], axis=1)
        assert occluded or len(distances) == 0 or distances.min() > 4.5


def test_scenes_have_occlusion_parallax_and_positives(photo_folder):
    """Views of each layout have matches, and occlusion between them."""
    paths = photo_paths(photo_folder)
    hidden, num_positives = 0, 0
    for kind in range(len(SCENE_LAYOUTS)):
        shares = tuple(float(idx == kind) for idx in range(len(SCENE_LAYOUTS)))
        views = render_views(paths, 10 + kind, replace(SMALL, layout_shares=shares, hardness=0.2))
        for view in views:
            height, width = view.depth.shape
            assert view.image.shape == (height, width, 3) and view.camera.size == (width, height)
            assert (view.depth > 0).mean() > 0.2 and view.image.std() > 5
        depths = np.concatenate([view.depth[view.depth > 0] for view in views])
        assert np.quantile(depths, 0.95) > 1.05 * np.quantile(depths, 0.05)
        scene = make_scene(paths, 10 + kind, replace(CONFIG, views=replace(SMALL, layout_shares=shares, hardness=0.2)))
        num_positives += sum(len(pair.matches) for pair in scene.pairs)
        hidden += count_hidden(views)
    assert num_positives > 300
    assert hidden > 250


def count_hidden(views: tuple[RenderedView, ...]) -> int:
    """Number of sampled points of the first view that are occluded in the second view."""
    points, _ = sampled_world_points(views[0].depth, views[0].camera)
    pixels, z = views[1].camera.project(points)
    width, height = views[1].camera.size
    inside = (z > 0.1) & (pixels >= 1).all(1) & (pixels < (width - 1, height - 1)).all(1)
    at = np.floor(pixels[inside]).astype(int)
    seen = views[1].depth[at[:, 1], at[:, 0]]
    return int(((seen > 0) & (seen < 0.9 * z[inside])).sum())


def test_the_same_seed_gives_the_same_scene(photo_folder):
    paths = photo_paths(photo_folder)
    assert same(make_scene(paths, 5, CONFIG), make_scene(paths, 5, CONFIG))
    assert not same(make_scene(paths, 5, CONFIG), make_scene(paths, 6, CONFIG))


def test_there_is_one_keypoint_per_position(photo_folder):
    for view in make_scene(photo_paths(photo_folder), 1, CONFIG).views:
        assert 0 < len(view) <= 200
        assert len(np.unique(np.floor(view.keypoints), axis=0)) == len(view)


def test_unrelated_pairs_have_no_match(photo_folder):
    config = replace(CONFIG, unrelated_share=2 / 3)  # one of three views is always unrelated
    scene = make_scene(photo_paths(photo_folder), 3, config)
    unrelated = [pair for pair in scene.pairs if pair.overlap == 0]
    assert [(pair.view0, pair.view1) for pair in unrelated] == [(0, 2), (1, 2)]
    for pair in unrelated:
        assert len(pair.matches) == 0
        assert (pair.state0 == UNMATCHABLE).all() and (pair.state1 == UNMATCHABLE).all()
        assert len(pair.state0) == len(scene.views[pair.view0]) > 0


def test_quantised_descriptors_have_small_errors(photo_folder):
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(128, 0.5), 50).astype(np.float32)
    roots = np.sqrt(shares)
    assert np.abs(quantised(roots) / 512 - roots)[roots < 0.49].max() <= 1 / 1024 + 1e-6
    for view in make_scene(photo_paths(photo_folder), 1, CONFIG).views:
        assert np.abs(np.linalg.norm(view.root_sift, axis=1) - 1).max() < 1e-5


def test_overlap_is_the_fraction_that_both_see():
    surfaces, camera0, _ = two_planes()
    wall = surfaces[:1]
    for shift_m, expected in ((0.0, 1.0), (4.0, 1 - 150 / 320), (20.0, 0.0)):
        camera1 = camera_at(shift_m)
        depths = []
        for camera in (camera0, camera1):
            depth, _ = trace(wall, camera)
            depths.append(np.where(np.isfinite(depth), depth, 0).astype(np.float32))
        assert abs(shared_view(depths[0], camera0, depths[1], camera1) - expected) < 0.06


def test_wrong_configurations_are_refused():
    with pytest.raises(ConfigError):
        ViewConfig(layout_shares=(1.0,))
    with pytest.raises(ConfigError):
        LabelConfig(max_error_px=6)
    with pytest.raises(ConfigError):
        SceneConfig(unrelated_share=0.9)
    with pytest.raises(ConfigError):
        SceneConfig(views=ViewConfig(num_views=1))
    with pytest.raises(ValueError, match="matches"):
        PairLabels(0, 1, np.array([[0, 0]], np.int32), np.zeros(1, np.int8), np.zeros(1, np.int8), 0.5)
