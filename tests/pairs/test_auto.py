"""What is chosen for a scene, what is said of it, and the bound of its number."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.pairs import loops, retrieval
from sfm_lightglue.pairs.auto import AutoConfig, AutoPairs
from sfm_lightglue.pairs.base import ExplainsChoice, PairContext
from sfm_lightglue.pairs.exhaustive import ExhaustivePairs
from sfm_lightglue.pairs.pair_sets import AllPairs, IndexedPairs, pairs_digest
from sfm_lightglue.pairs.sequential import SequentialConfig, SequentialPairs
from sfm_lightglue.pairs.spatial import SpatialConfig, pairs_by_position
from sfm_lightglue.retrieval.similar_images import SimilarImages
from sfm_lightglue.types import Camera, Features, ImagePair, Scene, SceneImage
from tests.helpers.walk_features import walk_features

CAMERA = Camera("SIMPLE_PINHOLE", 64, 48, (70, 32, 24))
NUM = 60
FRAMES = [f"frame_{i:03d}.jpg" for i in range(NUM)]
WORDS = [f"{chr(97 + i // 8)}{chr(97 + i % 8)}.jpg" for i in range(NUM)]

Place = tuple[float, float, float]


@pytest.fixture(autouse=True)
def one_retrieved_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retrieval finds one pair that nothing else selects, and images in the order of their names look alike."""

    class OnePair:
        def __init__(self, config: retrieval.RetrievalConfig) -> None:
            self.config = config

        def select(self, context: PairContext) -> IndexedPairs:
            names = context.scene.names
            return IndexedPairs.from_rows(names, np.array([[3, len(names) - 1]]))

    monkeypatch.setattr(retrieval, "RetrievalPairs", OnePair)
    monkeypatch.setattr(loops, "similar_images", lambda context: along_a_walk(context.scene.names))


def along_a_walk(names: tuple[str, ...]) -> SimilarImages:
    angles = np.linspace(0, 1.5, len(names))
    return SimilarImages(names, np.stack((np.cos(angles), np.sin(angles)), axis=1).astype(np.float32))


def scene_of(names: list[str], gps: list[Place | None] | None = None, **details: object) -> Scene:
    images = (
        SceneImage(name, Path(name), CAMERA, 0, "", gps_position=place, **details)  # type: ignore[arg-type]
        for name, place in sorted(zip(names, gps or [None] * len(names), strict=True))
    )
    return Scene(Path("photos"), tuple(images))


def select(scene: Scene, **options: int) -> tuple[AllPairs | IndexedPairs, str]:
    selector = AutoPairs(AutoConfig(**options))
    assert isinstance(selector, ExplainsChoice) and selector.explanation == ""
    selector.check(scene)
    pairs = selector.select(PairContext(scene))
    assert isinstance(pairs, (AllPairs, IndexedPairs))
    assert len(pairs) <= selector.num_pairs(scene)
    return pairs, selector.explanation


def street(count: int, step_deg: float = 1e-4) -> list[Place | None]:
    """A straight street, 11 metres a step."""
    return [(50.0 + i * step_deg, 8.0, 100.0) for i in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_all_pairs_of_few_images(count: int) -> None:
    scene = scene_of(FRAMES[:count], street(count))
    pairs, said = select(scene)
    exhaustive = ExhaustivePairs().select(PairContext(scene))
    assert isinstance(pairs, AllPairs)
    assert pairs_digest(pairs) == pairs_digest(exhaustive)
    assert said == f"exhaustive: {count} images are few enough for all pairs"


def test_one_image_more_is_another_choice() -> None:
    assert isinstance(select(scene_of(WORDS[:31]))[0], IndexedPairs)
    assert isinstance(select(scene_of(WORDS[:31]), exhaustive_up_to=31)[0], AllPairs)


def test_positions_that_are_spread_choose_neighbours_and_what_retrieval_finds() -> None:
    scene = scene_of(FRAMES, street(NUM))
    pairs, said = select(scene, num_neighbors=4)
    nearest = pairs_by_position(scene.images, SpatialConfig(4))
    assert pairs == nearest.union([ImagePair(FRAMES[3], FRAMES[-1])])
    assert ImagePair(FRAMES[3], FRAMES[-1]) not in nearest
    assert said.startswith("spatial+retrieval: 60 of 60 images have positions, spread over 65")


def test_a_few_images_without_a_position_do_not_matter() -> None:
    places = street(NUM)
    places[:5] = [None] * 5
    assert select(scene_of(FRAMES, places))[1].startswith("spatial+retrieval: 55 of 60 images")
    places[:7] = [None] * 7
    assert not select(scene_of(FRAMES, places))[1].startswith("spatial")


@pytest.mark.parametrize(
    "places",
    [
        [(50.0, 8.0, 100.0)] * NUM,  # all at one place
        street(NUM, 1e-6),  # around a statue
        [*street(20), *[(50.1, 8.0, 100.0)] * 40],  # the signal was lost
    ],
    ids=["one place", "a few metres", "repeated"],
)
def test_positions_that_do_not_tell_images_apart_are_not_used(places: list[Place | None]) -> None:
    assert select(scene_of(WORDS, places))[1] == (
        "retrieval: the images have neither positions that tell them apart nor the names of a video"
    )


def test_given_positions_count_like_gps() -> None:
    images = [SceneImage(name, Path(), CAMERA, 0, "", xyz_m=(float(i), 0, 0)) for i, name in enumerate(sorted(WORDS))]
    assert select(Scene(Path(), tuple(images)))[1].startswith("spatial+retrieval: 60 of 60 images")


def test_a_video_is_matched_in_its_order_with_loops() -> None:
    scene = scene_of(FRAMES)
    pairs, said = select(scene, window=3)
    assert pairs == SequentialPairs(SequentialConfig(3, loops=True)).select(PairContext(scene))
    assert len(pairs) > SequentialPairs(SequentialConfig(3)).num_pairs(scene)
    assert said == "sequential with loops: 100% of the images look most like those before or after"


def select_walk(
    features: dict[str, Features], monkeypatch: pytest.MonkeyPatch, **options: object
) -> tuple[IndexedPairs, str]:
    """Pairs of a video of which the second half comes by the places of the first half again."""
    places = np.concatenate([np.linspace(0, 1.5, NUM // 2)] * 2)
    vectors = np.stack((np.cos(places), np.sin(places)), axis=1).astype(np.float32)
    monkeypatch.setattr(loops, "similar_images", lambda context: SimilarImages(context.scene.names, vectors))
    monkeypatch.setattr(loops, "share_like_neighbors", lambda similar, frames: 1.0)
    selector = AutoPairs(AutoConfig(window=3, **options))  # type: ignore[arg-type]
    pairs = selector.select(PairContext(scene_of(FRAMES), features))
    assert isinstance(pairs, IndexedPairs)
    return pairs, selector.explanation


def walk_twice() -> dict[str, Features]:
    once = walk_features(FRAMES[: NUM // 2])
    return once | {name: once[FRAMES[i]] for i, name in enumerate(FRAMES[NUM // 2 :])}


def steps_of(pair: ImagePair) -> int:
    return abs(FRAMES.index(pair.name0) - FRAMES.index(pair.name1))


def test_far_frames_of_a_video_are_matched_if_their_keypoints_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second half of the walk shows the places of the first half again."""
    half = NUM // 2
    pairs, said = select_walk(walk_twice(), monkeypatch)
    everything, said_of_all = select_walk(walk_twice(), monkeypatch, closer_look=False)
    far = [pair for pair in pairs if steps_of(pair) > 3]
    at_one_place = [abs(FRAMES.index(pair.name0) % half - FRAMES.index(pair.name1) % half) < 6 for pair in far]
    assert sum(at_one_place) >= half - 3 and np.mean(at_one_place) > 0.8
    assert set(pairs) <= set(everything) and len(pairs) < 0.9 * len(everything)
    assert {ImagePair(*two) for two in pairwise(FRAMES)} <= set(pairs)
    assert f"; {len(everything) - len(pairs)} pairs beyond the window are left out" in said
    assert everything == select_walk({}, monkeypatch)[0] and "left out" not in said_of_all


def test_the_best_loop_of_each_frame_of_a_video_is_matched_whatever_its_keypoints_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs, said = select_walk(walk_features(FRAMES), monkeypatch)  # no frame shows the place of another half
    assert "left out" in said
    for i in range(NUM // 2):
        assert ImagePair(FRAMES[i], FRAMES[i + NUM // 2]) in pairs


def test_a_frame_that_does_not_match_its_neighbours_keeps_its_far_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    features = walk_twice()
    blurred = features[FRAMES[20]]
    noise = np.random.default_rng(0).normal(size=blurred.descriptors.shape)
    features[FRAMES[20]] = replace(blurred, descriptors=noise.astype(np.float32), key="blurred")
    pairs, _ = select_walk(features, monkeypatch)
    everything, _ = select_walk(features, monkeypatch, closer_look=False)
    of_frame = [pair for pair in everything if FRAMES[20] in (pair.name0, pair.name1)]
    assert set(of_frame) <= set(pairs) and max(steps_of(pair) for pair in of_frame) > 3


def test_numbered_photos_that_do_not_look_like_their_neighbours_are_no_video(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.linalg.qr(np.random.default_rng(0).normal(size=(NUM, NUM)))[0].astype(np.float32)
    monkeypatch.setattr(loops, "similar_images", lambda context: SimilarImages(context.scene.names, vectors))
    pairs, said = select(scene_of(FRAMES))
    assert list(pairs) == [ImagePair(FRAMES[3], FRAMES[-1])]
    assert said.startswith("retrieval: the names are numbered, but only ")


@pytest.mark.parametrize(
    "names",
    [WORDS, [*FRAMES[:-1], "IMG_007.jpg"], [f"{name}{i}.jpg" for i, name in enumerate(["left", "right"] * 30)]],
    ids=["words", "another name", "two names"],
)
def test_names_of_several_patterns_are_no_video(names: list[str]) -> None:
    assert select(scene_of(names))[1].startswith("retrieval: ")


def test_a_folder_for_each_part_of_a_video_is_one_video() -> None:
    names = [f"{part}/{i}.jpg" for part in ("inside", "outside") for i in range(30)]
    assert select(scene_of(names))[1].startswith("sequential")


def test_images_of_two_cameras_are_no_video() -> None:
    images = [SceneImage(name, Path(), CAMERA, i % 2, "") for i, name in enumerate(FRAMES)]
    assert select(Scene(Path(), tuple(images)))[1].startswith("retrieval: ")


@pytest.mark.parametrize(("option", "value"), [("exhaustive_up_to", -1), ("num_neighbors", 0), ("window", 0)])
def test_impossible_options_are_refused(option: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"`pairs\.{option}` must be at least"):
        AutoConfig(**{option: value})
