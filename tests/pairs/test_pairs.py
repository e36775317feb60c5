"""Which images are matched: all, neighbours, or those that a file lists."""

import dataclasses
import logging
import re
from pathlib import Path

import pytest

from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.pairs.base import PairContext
from sfm_lightglue.pairs.exhaustive import ExhaustivePairs
from sfm_lightglue.pairs.from_file import PairsFromFile, PairsFromFileConfig
from sfm_lightglue.pairs.sequential import SequentialConfig, SequentialPairs
from sfm_lightglue.scene.natural_order import natural_order
from sfm_lightglue.types import Camera, ImagePair, Scene, SceneImage, SkippedImage

CAMERA = Camera("SIMPLE_PINHOLE", 64, 48, (70, 32, 24))


def make_scene(*names, skipped=()):
    return Scene(
        Path(),
        tuple(SceneImage(name, Path(name), CAMERA, 0, "") for name in sorted(names)),
        tuple(SkippedImage(name, "bad") for name in skipped),
    )


def frames(count):
    return [f"frame{i}.jpg" for i in range(count)]


@pytest.mark.parametrize("count", [1, 2, 7, 30])
def test_exhaustive_is_every_pair_once_and_sorted(count):
    pairs = ExhaustivePairs().select(PairContext(make_scene(*frames(count))))
    assert len(pairs) == len(set(pairs)) == count * (count - 1) // 2
    assert list(pairs) == sorted(pairs)


def offsets(pairs):
    """How far apart the frames of the pairs are."""
    number = {name: i for i, name in enumerate(frames(100))}
    return {abs(number[pair.name0] - number[pair.name1]) for pair in pairs}


def test_a_window_of_neighbours_in_natural_order():
    """frame2 follows frame1 and not frame10, whatever the order of characters says."""
    pairs = SequentialPairs(SequentialConfig(window=3, quadratic=False)).select(PairContext(make_scene(*frames(12))))
    assert offsets(pairs) == {1, 2, 3}
    assert len(pairs) == 11 + 10 + 9
    assert ImagePair.from_names("frame2.jpg", "frame1.jpg") in pairs
    assert ImagePair.from_names("frame1.jpg", "frame10.jpg") not in pairs
    assert list(pairs) == sorted(set(pairs))


def test_quadratic_reaches_twice_as_far_with_each_step():
    pairs = SequentialPairs(SequentialConfig(window=5)).select(PairContext(make_scene(*frames(40))))
    assert offsets(pairs) == {1, 2, 3, 4, 5, 8, 16}
    assert len(pairs) == sum(40 - offset for offset in (1, 2, 3, 4, 5, 8, 16))


def test_a_window_wider_than_the_scene_is_exhaustive():
    scene = make_scene(*frames(6))
    assert SequentialPairs(SequentialConfig(window=100)).select(PairContext(scene)) == ExhaustivePairs().select(
        PairContext(scene)
    )
    assert SequentialPairs().select(PairContext(make_scene("one.jpg"))) == ()


def test_natural_order():
    expected = ["2", "10", "a1b2", "a1b10", "a02", "a10", "b/1", "b/2", "b/10", "img", "ü1"]
    for start in range(len(expected)):
        assert sorted(expected[start:] + expected[:start], key=natural_order) == expected
    assert natural_order("a1") != natural_order("a01")  # no two names are equal, so the order is the same each time


def test_a_window_of_none_is_refused():
    with pytest.raises(ConfigError, match="window"):
        SequentialConfig(window=0)


NAMES = ["a.jpg", "b.jpg", "my photo.jpg", "my photo 2.jpg", 'quo"te.jpg', "sub/ü ö.png", "猫.jpg"]


def select(tmp_path, text, *, names=NAMES, skipped=(), encoding="utf-8"):
    path = tmp_path / "pairs.txt"
    path.write_bytes(text.encode(encoding))
    return PairsFromFile(PairsFromFileConfig(str(path))).select(PairContext(make_scene(*names, skipped=skipped)))


@pytest.mark.parametrize(
    ("line", "pair"),
    [
        ("a.jpg b.jpg", ("a.jpg", "b.jpg")),
        ("b.jpg a.jpg", ("a.jpg", "b.jpg")),
        ("  a.jpg \t  b.jpg  ", ("a.jpg", "b.jpg")),
        ("a.jpg\tb.jpg", ("a.jpg", "b.jpg")),
        ("a.jpg my photo.jpg", ("a.jpg", "my photo.jpg")),
        ("my photo.jpg my photo 2.jpg", ("my photo.jpg", "my photo 2.jpg")),
        ("my photo.jpg\tmy photo 2.jpg", ("my photo.jpg", "my photo 2.jpg")),
        ('"my photo.jpg" "my photo 2.jpg"', ("my photo.jpg", "my photo 2.jpg")),
        ('a.jpg "my photo.jpg"', ("a.jpg", "my photo.jpg")),
        ('quo"te.jpg a.jpg', ("a.jpg", 'quo"te.jpg')),
        ("sub/ü ö.png 猫.jpg", ("sub/ü ö.png", "猫.jpg")),
    ],
)
def test_names_of_all_kinds_are_read(tmp_path, line, pair):
    assert select(tmp_path, line) == (ImagePair.from_names(*pair),)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_comments_blank_lines_and_repetitions(tmp_path, encoding, newline):
    lines = ["# all pairs", "", "b.jpg 猫.jpg", "   ", "a.jpg b.jpg", "b.jpg a.jpg", "  # the end"]
    pairs = select(tmp_path, newline.join(lines), encoding=encoding)
    assert pairs == (ImagePair("a.jpg", "b.jpg"), ImagePair("b.jpg", "猫.jpg"))


def test_a_name_may_begin_like_a_comment(tmp_path):
    assert select(tmp_path, "#1.jpg a.jpg\n# a comment", names=["#1.jpg", "a.jpg"]) == (ImagePair("#1.jpg", "a.jpg"),)


@pytest.mark.parametrize(
    ("line", "unknown", "nearest"),
    [
        ("a.jpg c.png", ["c.png"], None),
        ("a.jpg .", ["."], None),
        ("a.jpg aa.jpg", ["aa.jpg"], None),
        ("a.jpg bb.jpg", ["bb.jpg"], "b.jpg"),
        ("a.jpg b.png", ["b.png"], "b.jpg"),
        ("a.jpg B.JPG", ["B.JPG"], "b.jpg"),
        ("a.jpg ü ö.png", ["ü ö.png"], "sub/ü ö.png"),
        ("other/a.jpg b.jpg", ["other/a.jpg"], "a.jpg"),
        ("a.jpg sub/ü ü.png", ["sub/ü ü.png"], "sub/ü ö.png"),
        ("my photo 3.jpg a.jpg", ["my photo 3.jpg"], "my photo 2.jpg"),
        ('"a.jpg" "bb.jpg"', ["bb.jpg"], "b.jpg"),
        ("a.jpg b.jpg 17", ["b.jpg 17"], "b.jpg"),
        ("aa.jpg bb.jpg", ["aa.jpg", "bb.jpg"], "a.jpg"),
    ],
)
def test_a_wrong_name_is_told_with_file_line_and_the_closest_names(tmp_path, line, unknown, nearest):
    """Never a name that stands in the line already as the other photo, nor a name of no photo."""
    with pytest.raises(DataError) as error:
        select(tmp_path, f"# header\na.jpg b.jpg\n{line}\n")
    told, _, hint = str(error.value).partition("; ")
    assert told == f"{tmp_path / 'pairs.txt'}:3: no image {' and no image '.join(map(repr, unknown))} in ."
    if nearest is None:
        assert hint == "names look like 'a.jpg'"
    else:
        assert hint.startswith("the closest names are ")
        assert nearest in re.findall("'([^']+)'", hint)[: len(unknown)]


@pytest.mark.parametrize("line", ["a.jpg", "one of many words"])
def test_a_line_without_two_names_is_told_by_its_number(tmp_path, line):
    with pytest.raises(DataError, match=r"pairs\.txt:2: expected two names of images of \., got "):
        select(tmp_path, f"a.jpg b.jpg\n{line}\n")


@pytest.mark.parametrize("prefix", ["images/", "./images/", "castle/images/", "./", "{root}/"])
@pytest.mark.parametrize("names", [["a.jpg", "b.jpg"], ["left/1.jpg", "right/1.jpg"], ["ü ö.jpg", "b.jpg"]])
def test_names_may_begin_with_the_name_of_the_folder(tmp_path, prefix, names):
    root = tmp_path / "castle" / "images"
    first, second = (f"{prefix.format(root=root)}{name}" for name in names)
    scene = dataclasses.replace(make_scene(*names), root=root)
    (tmp_path / "pairs.txt").write_text(f"{first} {second}\n{names[1]} {first}\n", encoding="utf-8")
    found = PairsFromFile(PairsFromFileConfig(str(tmp_path / "pairs.txt"))).select(PairContext(scene))
    assert found == (ImagePair.from_names(*names),)


def test_what_is_close_is_sought_without_the_name_of_the_folder(tmp_path):
    scene = dataclasses.replace(make_scene("view_1.jpg", "view_2.jpg"), root=tmp_path / "photographs")
    (tmp_path / "pairs.txt").write_text("photographs/view_1.jpg photographs/viw_2.jpg\n")
    with pytest.raises(
        DataError, match=r"no image 'photographs/viw_2\.jpg' in .*; the closest names are 'view_2\.jpg'$"
    ):
        PairsFromFile(PairsFromFileConfig(str(tmp_path / "pairs.txt"))).select(PairContext(scene))


def test_a_folder_that_holds_one_of_its_own_name_is_never_guessed_at(tmp_path):
    """images/a.jpg is then the photo below it: with the prefix left out it would be another one."""
    names = ["a.jpg", "b.jpg", "images/a.jpg"]
    scene = dataclasses.replace(make_scene(*names), root=tmp_path / "images")
    selector = PairsFromFile(PairsFromFileConfig(str(tmp_path / "pairs.txt")))
    (tmp_path / "pairs.txt").write_text("images/a.jpg b.jpg\n")
    assert selector.select(PairContext(scene)) == (ImagePair.from_names("images/a.jpg", "b.jpg"),)
    (tmp_path / "pairs.txt").write_text("images/a.jpg images/b.jpg\n")
    with pytest.raises(
        DataError, match=r"pairs\.txt:1: no image 'images/b\.jpg' in .*; the closest names are 'b\.jpg'"
    ):
        selector.select(PairContext(scene))


def test_bad_photos_and_a_photo_with_itself_are_passed_over(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "sfm_lightglue"):
        pairs = select(tmp_path, "a.jpg b.jpg\na.jpg bad.jpg\na.jpg a.jpg\n", skipped=["bad.jpg"])
    assert pairs == (ImagePair("a.jpg", "b.jpg"),)
    assert [record.getMessage().rpartition("pairs.txt")[2] for record in caplog.records] == [
        ":2: skipped (a.jpg bad.jpg)",
        ":3: skipped (a.jpg a.jpg)",
    ]


def test_photos_that_a_list_of_images_leaves_out_are_passed_over(tmp_path, caplog):
    (tmp_path / "my other.jpg").touch()
    scene = dataclasses.replace(make_scene("a.jpg", "b.jpg"), root=tmp_path)
    selector = PairsFromFile(PairsFromFileConfig(str(tmp_path / "pairs.txt")))
    (tmp_path / "pairs.txt").write_text("a.jpg b.jpg\na.jpg my other.jpg\nmy other.jpg my other.jpg\n")
    assert selector.select(PairContext(scene)) == (ImagePair("a.jpg", "b.jpg"),)
    assert "pairs.txt: skipped 2 lines with photos that are not used (the first is line 2)" in caplog.text
    (tmp_path / "pairs.txt").write_text("a.jpg b.jpg\na.jpg my.jpg\n")
    with pytest.raises(DataError, match=r"pairs\.txt:2: no image 'my\.jpg'"):
        selector.select(PairContext(scene))


@pytest.mark.parametrize("text", ["", "# nothing\n", "a.jpg bad.jpg"])
def test_a_file_without_a_pair_is_refused(tmp_path, text):
    with pytest.raises(DataError, match="lists no pair"):
        select(tmp_path, text, skipped=["bad.jpg"])


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes("ü.jpg a.jpg".encode("latin-1"))
    cannot_be_read = r"cannot be read \((?!\[Errno)"
    told = {"missing.txt": cannot_be_read, ".": cannot_be_read, "latin.txt": "the list of pairs is not UTF-8"}
    for name, reason in told.items():
        place = tmp_path / name
        with pytest.raises(DataError, match=rf"{place.name}(:1)?: {reason}"):
            PairsFromFile(PairsFromFileConfig(str(place))).select(PairContext(make_scene("a.jpg")))


@pytest.mark.parametrize("count", [0, 1, 2, 9, 40])
@pytest.mark.parametrize("window", [1, 5, 10**9])
def test_the_number_of_sequential_pairs_is_known_before(count, window):
    selector, scene = SequentialPairs(SequentialConfig(window=window)), make_scene(*frames(count))
    assert len(selector.select(PairContext(scene))) == selector.num_pairs(scene)
