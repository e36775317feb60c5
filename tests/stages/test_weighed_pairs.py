"""Still content and contradicting pairs are taken out of a scene, and of its database; a right scene stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PilImage

from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.extractors.sift import SiftConfig, SiftExtractor
from sfm_lightglue.geometry.transforms import Rigid3, relative_pose_error_deg, rotation_angle_deg
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.matchers.nearest import NearestMatcher
from sfm_lightglue.scene.camera_assignment import CameraConfig
from sfm_lightglue.scene.folder import load_scene
from sfm_lightglue.stages.cached import CachedExtractor, CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.into_database import PairCounts, extract_scene, match_scene
from sfm_lightglue.stages.matching import match_pairs
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.stages.weighed_pairs import PairSources, WeighedPairs, weigh_scene, write_weighed_pairs
from sfm_lightglue.store.store import Store
from sfm_lightglue.synthetic import SyntheticScene
from sfm_lightglue.two_view.config import TwoViewConfig
from sfm_lightglue.types import Features, ImagePair, TwoViewGeometry
from tests.helpers.colmap_databases import dump
from tests.helpers.exact_scenes import GIVEN, SIZE, ExactScene, ring_scene

CHECKS = ChecksConfig()
TABLES = ("matches", "two_view_geometries")


@dataclass(frozen=True, eq=False)
class Weighed:
    """A scene before and after weighing."""

    counts: PairCounts
    sources: PairSources
    result: WeighedPairs


def features_of_points(
    scene: ExactScene,
    fixed: np.ndarray | None = None,
    look_alikes: Mapping[int, int] | None = None,
    are_alike: bool = True,
) -> dict[str, Features]:
    """Features whose descriptors tell the points; with those of fixed pixels [K, 2] in every image.

    Args:
        scene: the points.
        fixed: pixels of a logo.
        look_alikes: points that have the descriptor of another point.
        are_alike: whether a point looks alike in different images.
    """
    rng = np.random.default_rng(0)
    of_points = rng.normal(size=(len(scene.points), 32))
    for row, twin in (look_alikes or {}).items():
        of_points[row] = of_points[twin]
    of_logo = rng.normal(size=(0 if fixed is None else len(fixed), 32))
    features = {}
    for name, (rows, pixels) in scene.observed.items():
        if not are_alike:
            of_points = rng.normal(size=of_points.shape)
        if fixed is not None:
            pixels = np.concatenate([pixels, fixed + rng.normal(scale=0.2, size=fixed.shape)])
        descriptors = np.concatenate([of_points[rows], of_logo])
        descriptors = descriptors + rng.normal(scale=0.1, size=descriptors.shape)
        num = len(pixels)
        features[name] = Features(
            pixels.astype(np.float32), np.ones(num, np.float32), descriptors.astype(np.float32), SIZE
        )
    return features


def weigh(
    features: Mapping[str, Features],
    pairs: Sequence[ImagePair],
    folder: Path,
    left_out: Sequence[ImagePair] = (),
) -> Weighed:
    store = Store(folder / "store")
    matcher, verifier = CachedMatcher(NearestMatcher(), store), CachedVerifier(TwoViewConfig(), 0, store)
    cameras = dict.fromkeys(features, GIVEN)
    counts = PairCounts(len(pairs))
    for result in match_pairs(pairs, features, cameras, matcher, verifier):
        counts.add(result)
    sources = PairSources(features, cameras, matcher, verifier)
    return Weighed(counts, sources, weigh_scene(counts, sources, CHECKS, left_out=left_out))


def sideways_scene(depths: tuple[float, float], num_images: int = 6, num_points: int = 250) -> ExactScene:
    """A camera that moves to the right and looks ahead."""
    poses = {f"{idx:02d}.jpg": Rigid3(np.eye(3), np.array([-0.3 * idx, 0.02 * idx, 0.0])) for idx in range(num_images)}
    rng = np.random.default_rng(0)
    depth = rng.uniform(*depths, num_points)
    rays = rng.uniform([-0.4, -0.3], [0.4, 0.4], (num_points, 2))
    return ExactScene(poses, np.column_stack([rays * depth[:, None] + [0.7, 0], depth]))


LOGO = np.random.default_rng(5).uniform([20, 20], [150, 90], (60, 2))


def test_a_right_scene_stays_as_it_is(tmp_path: Path) -> None:
    scene = ring_scene(8)
    weighed = weigh(features_of_points(scene), scene.pairs, tmp_path)
    assert weighed.result.kept.keys() == weighed.counts.verified.keys()
    assert len(weighed.result.kept) >= 20
    assert (weighed.result.contradicted, weighed.result.changed, weighed.result.still_content) == ({}, {}, None)


def test_nothing_verified_gives_nothing(tmp_path: Path) -> None:
    scene = ring_scene(3)
    result = weigh(features_of_points(scene, are_alike=False), scene.pairs, tmp_path).result
    assert (result.kept, result.contradicted, result.changed, result.still_content) == ({}, {}, {}, None)


def test_a_logo_that_outnumbers_the_scene_is_taken_out(tmp_path: Path) -> None:
    scene = ring_scene(6, 60)
    weighed = weigh(features_of_points(scene, LOGO), scene.pairs, tmp_path)
    before, result = weighed.counts.verified, weighed.result
    assert any(each.kind == "pure_rotation" for each in before.values()), "the logo wins nowhere"
    assert result.still_content is not None
    assert result.contradicted == {}
    assert len(result.kept) >= 10
    for pair, each in result.kept.items():
        assert each.kind == "general"
        assert each.still_fraction < 0.1
        assert max(relative_pose_error_deg(each.cam1_from_cam0, scene.relative_pose(pair))) < 5
    for pair, (matches, _) in result.changed.items():
        logo_starts = len(scene.observed[pair.name0][0])
        assert (matches.indices[:, 0] < logo_starts).mean() > 0.95, "matches of the logo are left"


def test_pairs_that_are_left_out_have_no_still_content_either(tmp_path: Path) -> None:
    scene = ring_scene(6, 60)
    result = weigh(features_of_points(scene, LOGO), scene.pairs, tmp_path, scene.pairs[:3]).result
    assert result.apart
    assert result.apart.keys() <= set(scene.pairs[:3])
    assert result.apart.keys() <= result.changed.keys()
    for record in result.apart.values():
        assert record.kind == "general"
        assert record.still_fraction < 0.1


def test_a_horizon_in_a_sideways_motion_is_kept(tmp_path: Path) -> None:
    """Points at infinity stand still too, but they agree with the motion of the near ones."""
    near, far = sideways_scene((4, 12)), sideways_scene((5000, 9000), num_points=100)
    scene = ExactScene(near.poses, np.concatenate([near.points, far.points]))
    weighed = weigh(features_of_points(scene), scene.pairs, tmp_path)
    assert weighed.result.changed == {}
    assert weighed.result.contradicted == {}
    assert weighed.result.kept.keys() == weighed.counts.verified.keys()


def test_pairs_of_look_alike_walls_are_contradicted(tmp_path: Path) -> None:
    """The first and the last cameras see copies of one wall, which are 135 degrees apart."""
    scene = ring_scene(8, 400)
    wall = np.random.default_rng(2).uniform(-1, 1, (70, 3)) * [2, 0.8, 1.5] + [0, -2.5, 0]
    turn = Rigid3.from_rotvec([0, 0, np.pi * 0.75], np.zeros(3))
    with_walls = ExactScene(scene.poses, np.concatenate([scene.points, wall, turn @ wall]))
    is_first, is_second = (lambda rows: (rows >= 400) & (rows < 470)), (lambda rows: rows >= 470)
    for idx, name in enumerate(sorted(scene.poses)):
        rows, pixels = with_walls.observed[name]
        hidden = is_first(rows) | is_second(rows)
        if idx < 3:
            hidden = is_second(rows) | (rows < 200)
        elif idx >= 5:
            hidden = is_first(rows) | ((rows >= 200) & (rows < 400))
        with_walls.observed[name] = rows[~hidden], pixels[~hidden]
    features = features_of_points(with_walls, look_alikes={470 + idx: 400 + idx for idx in range(70)})
    weighed = weigh(features, scene.pairs, tmp_path)

    def error_deg(pair: ImagePair) -> float:
        return rotation_angle_deg(weighed.counts.verified[pair].cam1_from_cam0.R @ scene.relative_pose(pair).R.T)

    wrong = {pair for pair in weighed.counts.verified if error_deg(pair) > 45}
    assert len(wrong) >= 4, "no look-alikes were verified"
    assert weighed.result.contradicted.keys() == wrong
    assert weighed.result.kept.keys() == weighed.counts.verified.keys() - wrong


@dataclass(frozen=True, eq=False)
class Rendered:
    """A rendered scene in a database, before and after weighing."""

    result: WeighedPairs
    before: list[str]
    after: list[str]


def weigh_folder(images: Path, folder: Path) -> Rendered:
    folder.mkdir()
    store = Store(folder / "store")
    scene = load_scene(images, CameraConfig())
    features = extract_scene(scene, CachedExtractor(SiftExtractor(SiftConfig(max_keypoints=800)), store))
    camera_from_name = {image.name: image.camera for image in scene.images}
    matcher, verifier = CachedMatcher(NearestMatcher(), store), CachedVerifier(TwoViewConfig(), 0, store)
    pairs = tuple(ImagePair(a, b) for a in scene.names for b in scene.names if a < b)
    path = folder / "database.db"
    with DatabaseWriter(path) as database:
        for image, of_image in features.read_all():
            database.add_image(image, of_image.keypoints)
        clock = Clock.for_stages(("match", "verify"))
        counts = match_scene(PairPlan(pairs), features, camera_from_name, database, matcher, verifier, clock)
    before = dump(path, *TABLES)
    result = weigh_scene(counts, PairSources(features, camera_from_name, matcher, verifier), CHECKS)
    with DatabaseWriter(path) as database:
        write_weighed_pairs(result, database)
    return Rendered(result, before, dump(path, *TABLES))


def test_the_database_of_a_right_scene_does_not_change(small_scene_dir: Path, tmp_path: Path) -> None:
    rendered = weigh_folder(small_scene_dir / "images", tmp_path / "out")
    assert len(rendered.result.kept) >= 10
    assert (rendered.result.contradicted, rendered.result.changed) == ({}, {})
    assert rendered.after == rendered.before


def test_a_logo_painted_into_all_images_leaves_the_database(
    small_scene: SyntheticScene, small_scene_dir: Path, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(small_scene_dir / "images", images)
    rng = np.random.default_rng(0)
    logo = PilImage.fromarray(np.kron(rng.integers(0, 255, (14, 36, 3), np.uint8), np.ones((6, 6, 1), np.uint8)))
    for path in images.iterdir():
        with PilImage.open(path) as photo:
            photo.load()
        photo.paste(logo, (8, 8))
        photo.save(path, quality=97, subsampling=0, exif=photo.getexif())
    rendered = weigh_folder(images, tmp_path / "out")
    assert rendered.result.still_content is not None
    assert rendered.result.changed
    assert rendered.after != rendered.before
    poses = small_scene.cam_from_world_from_name
    assert len(rendered.result.kept) >= 8
    for pair, each in rendered.result.kept.items():
        assert each.still_fraction < 0.1
        truth = poses[pair.name1] @ poses[pair.name0].inverse()
        assert max(relative_pose_error_deg(each.cam1_from_cam0, truth)) < 5
    for _, geometry in rendered.result.changed.values():
        assert not isinstance(geometry, TwoViewGeometry) or geometry.kind != "pure_rotation"
