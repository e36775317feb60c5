"""Several pair selectors by one name, the options of their common table, and excluded pairs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.pairs.base import CountsPairs, ExcludesPairs, ExplainsChoice, PairContext
from sfm_lightglue.pairs.pair_sets import AllPairs, pairs_digest
from sfm_lightglue.reconstruction.config import DatabaseConfig
from sfm_lightglue.registry.builtin import PAIR_SELECTORS
from sfm_lightglue.types import Camera, ImagePair, Scene, SceneImage

CAMERA = Camera("SIMPLE_PINHOLE", 64, 48, (70, 32, 24))


def walk(count: int) -> Scene:
    """Images a metre apart in the order of their names."""
    images = (SceneImage(f"{i:02d}.jpg", Path(), CAMERA, 0, "", xyz_m=(i, 0.0, 0.0)) for i in range(count))
    return Scene(Path("walk"), tuple(images))


def select(scene: Scene, name: str, **options: object) -> list[ImagePair]:
    return list(PAIR_SELECTORS.build(PAIR_SELECTORS.choose(name, options)).select(PairContext(scene)))


def test_a_union_has_the_pairs_of_all_parts(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("00.jpg 11.jpg\n03.jpg 02.jpg\n")
    scene, path = walk(12), str(tmp_path / "pairs.txt")
    parts = {*select(scene, "sequential", window=2), *select(scene, "file", path=path)}
    assert select(scene, "sequential + file", window=2, path=path) == sorted(parts)
    assert len(parts) == 11 + 10 + 1
    assert select(walk(1), "sequential+spatial") == []


@pytest.mark.parametrize("name", ["exhaustive+sequential", "spatial+exhaustive"])
def test_a_union_with_all_pairs_is_all_pairs_without_an_object_or_a_row_for_each(name: str) -> None:
    pairs = PAIR_SELECTORS.build(PAIR_SELECTORS.choose(name)).select(PairContext(walk(9)))
    assert isinstance(pairs, AllPairs) and pairs == AllPairs(walk(9).names)


def test_an_option_goes_to_every_part_that_has_it() -> None:
    choice = PAIR_SELECTORS.choose("sequential+spatial+covisibility", {"num_neighbors": 3, "window": 4})
    sequential, spatial, covisibility = choice.config.parts
    assert (sequential.window, spatial.num_neighbors, covisibility.num_neighbors) == (4, 3, 3)


@pytest.mark.parametrize(
    "table",
    [
        {"name": "sequential"},
        {"name": "sequential+spatial", "window": 3},
        {"name": "spatial+covisibility", "num_neighbors": 7, "model": "sparse/0"},
        {"name": "spatial+covisibility"},
        {"name": "exhaustive", "exclude": "not these.txt"},
        {"name": "sequential+file", "path": "a list.txt", "exclude": "b.txt"},
    ],
)
def test_the_record_of_a_configuration_repeats_it(table: dict[str, object]) -> None:
    config = DatabaseConfig.from_mapping({"pairs": table})
    recorded = config.as_mapping()["pairs"]
    assert recorded.items() >= table.items()
    assert DatabaseConfig.from_mapping({"pairs": recorded}) == config


@pytest.mark.parametrize("name", ["exhaustive", "sequential", "sequential+spatial"])
def test_excluded_pairs_are_left_out(tmp_path: Path, name: str) -> None:
    (tmp_path / "not.txt").write_text("01.jpg 00.jpg\n# far apart\n00.jpg 11.jpg\n")
    scene = walk(12)
    excluded = {ImagePair("00.jpg", "01.jpg"), ImagePair("00.jpg", "11.jpg")}
    chosen = select(scene, name)
    assert select(scene, name, exclude=str(tmp_path / "not.txt")) == [one for one in chosen if one not in excluded]
    selector = PAIR_SELECTORS.build(PAIR_SELECTORS.choose(name, {"exclude": str(tmp_path / "not.txt")}))
    assert isinstance(selector, ExcludesPairs)
    assert set(selector.excluded(scene)) == excluded


def test_a_list_of_excluded_pairs_may_be_empty_but_not_wrong(tmp_path: Path) -> None:
    path, scene = tmp_path / "not.txt", walk(3)
    path.write_text("# none\n")
    assert select(scene, "exhaustive", exclude=str(path)) == list(AllPairs(scene.names))
    path.write_text("00.jpg 1.jpg\n")
    selector = PAIR_SELECTORS.build(PAIR_SELECTORS.choose("exhaustive", {"exclude": str(path)}))
    with pytest.raises(DataError, match=r"not\.txt:1: no image '1\.jpg' in walk"):
        selector.check(scene)
    path.unlink()
    with pytest.raises(DataError, match=r"not\.txt: cannot be read"):
        selector.check(scene)


def test_a_single_selector_without_excluded_pairs_is_itself() -> None:
    scene = walk(5)
    pairs = PAIR_SELECTORS.build(PAIR_SELECTORS.choose("exhaustive", {"exclude": ""})).select(PairContext(scene))
    assert isinstance(pairs, AllPairs)
    assert pairs_digest(pairs) == pairs_digest(AllPairs(scene.names))


@pytest.mark.parametrize(
    ("name", "explanation"),
    [
        ("sequential+auto+spatial", "sequential; exhaustive: 5 images are few enough for all pairs; spatial"),
        ("sequential+spatial", ""),
    ],
)
def test_a_union_with_an_explanation_names_every_part(name: str, explanation: str) -> None:
    selector = PAIR_SELECTORS.build(PAIR_SELECTORS.choose(name))
    assert isinstance(selector, ExplainsChoice) and selector.explanation == ""
    selector.select(PairContext(walk(5)))
    assert selector.explanation == explanation


def test_the_number_of_pairs_of_a_union_is_bounded() -> None:
    for count in (0, 1, 4, 30):
        selector = PAIR_SELECTORS.build(PAIR_SELECTORS.choose("sequential+spatial", {"window": 2}))
        assert isinstance(selector, CountsPairs)
        num_selected = len(selector.select(PairContext(walk(count))))
        assert num_selected <= selector.num_pairs(walk(count)) <= count * (count - 1) // 2


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("sequential+sptial", {}, r"unknown pairs 'sptial' \(did you mean 'spatial'\?\)"),
        ("sequential+", {}, r"pairs 'sequential\+': expected different names with \+ between them"),
        ("spatial+spatial", {}, "expected different names"),
        ("sequential+spatial", {"windw": 3}, r"unknown option 'windw' \(did you mean 'window'\?\); expected one of"),
        ("sequential+spatial", {"window": "x"}, "pairs sequential: window: expected int, got 'x'"),
        ("sequential+spatial", {"exclud": "x"}, "did you mean 'exclude'"),
        ("sequential", {"exclude": 3}, "pairs: exclude: expected str, got 3"),
        ("sequential+file", {"max_distance_m": 3.0}, "unknown option 'max_distance_m'"),
    ],
)
def test_wrong_names_and_options_are_answered_with_the_nearest_ones(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        PAIR_SELECTORS.choose(name, options)
