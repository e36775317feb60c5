"""Models without common images are merged by their common points, and only if several pairs agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.colmap.image_points import pixels_of, point_ids_of
from sfm_lightglue.colmap.poses import poses_of_model
from sfm_lightglue.geometry.alignment import align_poses
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, rotation_from_rotvec
from sfm_lightglue.mapping import link_alignment, merging_by_points
from sfm_lightglue.mapping.link_alignment import LinkAlignment, align_by_links
from sfm_lightglue.mapping.merging_by_points import MergedPieces, PieceMerging, is_of_models_apart
from sfm_lightglue.mapping.model_alignment import NotMerged
from sfm_lightglue.mapping.pair_agreement import StoredPair
from sfm_lightglue.mapping.point_links import find_links
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import ring_scene
from tests.mapping.test_merging import MOVED, adjust, part

FIRST, SECOND = range(6), range(6, 12)


@pytest.fixture(scope="module")
def scene():
    return ring_scene(12)


@pytest.fixture(scope="module")
def model(scene) -> pycolmap.Reconstruction:
    from tests.helpers.exact_scenes import make_model

    return make_model(scene)


def pairs_of(
    model: pycolmap.Reconstruction, asks: Callable[[str, str], bool], wrong: Sequence[tuple[str, str]] = ()
) -> list[StoredPair]:
    """Verified pairs with all common points of two images; those of wrong pairs are matched in another order."""
    images = {model.images[k].name: model.images[k] for k in sorted(model.reg_image_ids())}
    found = []
    for name0, name1 in combinations(sorted(images), 2):
        if not asks(name0, name1):
            continue
        row0 = {int(k): row for row, k in enumerate(point_ids_of(images[name0])) if k >= 0}
        row1 = {int(k): row for row, k in enumerate(point_ids_of(images[name1])) if k >= 0}
        ids = sorted(row0.keys() & row1.keys())
        rows0, rows1 = np.array([row0[k] for k in ids]), np.array([row1[k] for k in ids])
        if (name0, name1) in wrong:
            rows1 = np.random.default_rng(1).permutation(rows1)
        points0, points1 = pixels_of(images[name0])[rows0], pixels_of(images[name1])[rows1]
        found.append(StoredPair(name0, name1, False, points0, points1, rows0, rows1, None, 0.5))
    return found


def merge(models: Sequence[pycolmap.Reconstruction], pairs: Sequence[StoredPair], **options: object) -> MergedPieces:
    return PieceMerging(pairs, adjust, lambda *_: True, **options).merge(models)


def test_two_halves_without_a_common_image_become_the_whole_model(scene, model) -> None:
    parts = [part(model, FIRST), part(model, SECOND, MOVED)]
    pieces = merge(parts, pairs_of(model, lambda *_: True))
    (merged,) = pieces.models
    assert set(poses_of_model(merged)) == set(scene.poses)
    aligned = align_poses(poses_of_model(merged), scene.poses)
    assert aligned.max_center_error < 0.02, "the ring has a diameter of 16"
    assert merged.num_points3D() <= model.num_points3D(), "points of both halves became one"
    assert merged.compute_num_observations() > 0.97 * model.compute_num_observations()
    (note,) = pieces.notes_of(merged)
    assert note.startswith("models of 6 and 6 images were merged by ")
    assert [each.num_reg_images() for each in parts] == [6, 6], "the given models are not changed"


def test_two_common_images_help(scene, model) -> None:
    pieces = merge([part(model, range(7)), part(model, range(5, 12), MOVED)], pairs_of(model, lambda *_: False))
    assert [each.num_reg_images() for each in pieces.models] == [12]
    assert align_poses(poses_of_model(pieces.models[0]), scene.poses).max_center_error < 0.02


def with_common_points(
    model: pycolmap.Reconstruction, num_points: int, num_far: int, has_others: bool = True
) -> list[pycolmap.Reconstruction]:
    """Two models with one common image, which observes few points of both; some are too far in the second model."""
    parts = [part(model, range(7)), part(model, range(6, 12), MOVED)]
    common = [next(each.images[k] for k in each.reg_image_ids() if each.images[k].name == "06.jpg") for each in parts]
    ids = [point_ids_of(image) for image in common]
    rows = np.flatnonzero((ids[0] >= 0) & (ids[1] >= 0))
    for number, row in enumerate(rows[num_points:].tolist()):  # the others have a point in one model only, or in none
        for side in (number % 2,) if has_others else range(2):
            parts[side].delete_observation(common[side].image_id, row)
    center = np.asarray(common[1].projection_center())
    for point_id in ids[1][rows[:num_far]].tolist():
        point = parts[1].points3D[point_id]
        point.xyz = center + 1.3 * (point.xyz - center)
    return parts


@pytest.mark.parametrize(("num_points", "num_far", "is_merged"), [(3, 0, True), (2, 0, False), (5, 2, False)])
def test_one_common_image_needs_few_points_of_both_models(
    scene, model, monkeypatch: pytest.MonkeyPatch, num_points: int, num_far: int, is_merged: bool
) -> None:
    """Only the scale is unknown then: three points of both models tell it, if few others say something else."""
    monkeypatch.setattr(link_alignment, "_MIN_BOTH_SHARED", 1000)
    parts = with_common_points(model, num_points, num_far)
    ((_, ratios),) = find_links(*parts, []).depth_ratios()
    assert len(ratios) == num_points
    assert np.median(ratios) == pytest.approx(1 / 2.7, rel=1e-3)
    asks = [("05.jpg", "06.jpg"), ("04.jpg", "06.jpg"), ("06.jpg", "07.jpg"), ("06.jpg", "08.jpg")]
    pieces = merge(parts, pairs_of(model, lambda *names: names in asks))
    if is_merged:
        assert align_poses(poses_of_model(pieces.models[0]), scene.poses).max_center_error < 0.1
        assert pieces.models[0].num_reg_images() == 12
    else:
        assert "the scale is not determined" in pieces.apart[0]


OF_COMMON = [("05.jpg", "06.jpg"), ("06.jpg", "07.jpg"), ("06.jpg", "08.jpg")]
"""Three pairs of the common image: with its own matches, each point of both models has at most four."""


@pytest.mark.parametrize(("num_pairs", "num_both"), [(3, 8), (2, 6)])
def test_one_common_image_needs_eight_matches_of_both_models_otherwise(
    scene, model, monkeypatch: pytest.MonkeyPatch, num_pairs: int, num_both: int
) -> None:
    monkeypatch.setattr(link_alignment, "MIN_SCALE_POINTS", 1000)
    monkeypatch.setattr(link_alignment, "_MIN_DEPTH_PAIRS", 2)
    asks = OF_COMMON[:num_pairs]
    links = find_links(*with_common_points(model, 2, 0, False), pairs_of(model, lambda *names: names in asks))
    found = align_by_links(links, 0)
    assert links.has_both.sum() == num_both
    if num_both >= 8:
        assert isinstance(found, LinkAlignment)
    else:
        assert isinstance(found, NotMerged)
        assert "points of both models fit" in found.reason


@pytest.mark.parametrize("rule", ["MIN_SCALE_POINTS", "_MIN_BOTH_SHARED"])
def test_an_image_that_a_doubtful_pair_carries_tells_no_scale(
    model, monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    """In the second model, it is at a place that looks alike: all matches fit, also those of believed pairs."""
    monkeypatch.setattr(link_alignment, rule, 1000)
    parts, pairs = with_common_points(model, 3, 0, False), pairs_of(model, lambda *names: names in OF_COMMON)
    doubtful = {ImagePair("06.jpg", "07.jpg"): 0.3}
    believed = find_links(*parts, [pair for pair in pairs if pair.name1 != "07.jpg"])
    links = find_links(*parts, pairs, doubtful)
    assert len(links) == len(believed), "the same matches"
    assert isinstance(align_by_links(believed, 0), LinkAlignment)
    found = align_by_links(links, 0)
    assert isinstance(found, NotMerged)
    assert "the scale is not determined" in found.reason
    elsewhere = find_links(*parts, pairs, {ImagePair("05.jpg", "08.jpg"): 0.3})
    assert elsewhere.doubted == frozenset(), "it does not carry the common image"


def test_of_candidates_that_fit_alike_the_points_of_both_models_decide(model, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = with_common_points(model, 3, 0)
    asks = [("04.jpg", "06.jpg"), *OF_COMMON]
    links = find_links(*parts, pairs_of(model, lambda *names: names in asks))
    right = align_by_links(links, 0)
    assert isinstance(right, LinkAlignment)
    by_image = next(iter(link_alignment._by_shared_images(links)))
    center = by_image @ -(links.source.R[0].T @ links.source.t[0])
    wrong = Sim3(0.9 * by_image.scale, by_image.R, 0.9 * by_image.t + 0.1 * center)
    monkeypatch.setattr(link_alignment, "_candidates", lambda *_: iter([wrong, by_image]))
    monkeypatch.setattr(link_alignment, "_refined", lambda _, similarity: similarity)
    monkeypatch.setattr(
        link_alignment, "_scores", lambda _, each: np.array([100.0 if one is wrong else 99.5 for one in each])
    )
    found = align_by_links(links, 0)
    assert isinstance(found, LinkAlignment)
    assert found.target_from_source is by_image


def test_a_common_image_is_known_to_agree_only_if_its_poses_do(model) -> None:
    links = find_links(part(model, range(7)), part(model, range(6, 12), MOVED), pairs_of(model, lambda *_: True))
    found = align_by_links(links, seed=0)
    assert isinstance(found, LinkAlignment)
    right = found.target_from_source
    assert links.shares_pose(right)
    turned = Sim3(right.scale, right.R @ rotation_from_rotvec(np.array([0, 0.1, 0])), right.t)
    assert not links.shares_pose(turned)
    assert not links.shares_pose(Sim3(right.scale, right.R, right.t + 2))
    apart = find_links(part(model, FIRST), part(model, SECOND, MOVED), pairs_of(model, lambda *_: True))
    assert not apart.shares_pose(right)


def test_the_scale_and_the_pose_are_found_despite_a_wrong_pair(model) -> None:
    pairs = pairs_of(model, lambda *_: True, wrong=[("02.jpg", "08.jpg"), ("05.jpg", "06.jpg")])
    found = align_by_links(find_links(part(model, FIRST), part(model, SECOND, MOVED), pairs), seed=0)
    assert isinstance(found, LinkAlignment)
    assert found.target_from_source.scale == pytest.approx(1 / 2.7, rel=2e-3)
    assert found.median_error_px < 1.5


@pytest.mark.parametrize(
    ("asks", "reason"),
    [
        (lambda a, b: (a, b) == ("05.jpg", "06.jpg"), "1 pairs of images connect their points"),
        (lambda a, b: a == "05.jpg", "pairs of images connect their points"),
    ],
)
def test_pairs_of_one_image_are_not_enough(model, asks, reason: str) -> None:
    pieces = merge([part(model, FIRST), part(model, SECOND, MOVED)], pairs_of(model, asks))
    assert [each.num_reg_images() for each in pieces.models] == [6, 6]
    (note,) = pieces.apart
    assert reason in note
    assert is_of_models_apart(note)


def test_models_without_a_link_are_not_asked_about(model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links are looked for only between models that pairs connect, also with the merged one."""
    asked: list[tuple[int, int, int]] = []

    def recorded(target, source, pairs, probability):
        asked.append((target.num_reg_images(), source.num_reg_images(), len(pairs)))
        return find_links(target, source, pairs, probability)

    monkeypatch.setattr(merging_by_points, "find_links", recorded)
    models = [part(model, range(5)), part(model, range(5, 9), MOVED), part(model, range(9, 12), MOVED)]
    pieces = merge(models, pairs_of(model, lambda _, b: b < "09.jpg"))
    assert [each.num_reg_images() for each in pieces.models] == [9, 3]
    assert asked == [(5, 4, 20)]
    assert pieces.apart == []


def test_wrong_pairs_merge_nothing(model) -> None:
    wrong = [(f"{a:02d}.jpg", f"{b:02d}.jpg") for a in FIRST for b in SECOND]
    pieces = merge([part(model, FIRST), part(model, SECOND, MOVED)], pairs_of(model, lambda *_: True, wrong))
    assert [each.num_reg_images() for each in pieces.models] == [6, 6]
    assert "fit" in pieces.apart[0]


def test_doubtful_pairs_merge_nothing(model) -> None:
    pairs = pairs_of(model, lambda *_: True)
    doubtful = {ImagePair(pair.name0, pair.name1): 0.2 for pair in pairs}
    models = [part(model, FIRST), part(model, SECOND, MOVED)]
    assert len(merge(models, pairs, probability=doubtful).models) == 2
    assert len(merge(models, pairs, probability={pair: 0.9 for pair in doubtful}).models) == 1


def test_models_of_other_places_that_look_alike_are_not_merged(scene, model) -> None:
    """Half of the pairs say that the second half is where it is, the others that it is turned by half a ring."""
    links = pairs_of(model, lambda a, b: (a < "06.jpg") == (b < "06.jpg") or int(a[:2]) % 2 == 0)
    rows = np.arange(len(scene.points))
    turned = Rigid3.from_rotvec([0.0, 0.0, np.pi], np.zeros(3)).R
    nearest = [int(np.linalg.norm(scene.points - turned @ scene.points[k], axis=1).argmin()) for k in rows]
    assert len(set(nearest)) > 10
    alike = pairs_of(model, lambda a, b: a < "06.jpg" <= b and int(a[:2]) % 2 == 1, wrong=[])
    shuffled = np.random.default_rng(3)
    others = [
        StoredPair(p.name0, p.name1, False, p.points0, p.points1[order], p.rows0, p.rows1[order], None, 0.5)
        for p in alike
        for order in [shuffled.permutation(len(p.rows0))]
    ]
    found = align_by_links(find_links(part(model, FIRST), part(model, SECOND, MOVED), [*links, *others]), seed=0)
    assert isinstance(found, NotMerged)
    assert "of 36 pairs" in found.reason or "of their common points" in found.reason


def test_a_merged_model_that_is_judged_worse_is_not_kept(model) -> None:
    models = [part(model, FIRST), part(model, SECOND, MOVED)]
    pieces = PieceMerging(pairs_of(model, lambda *_: True), adjust, lambda *_: False).merge(models)
    assert len(pieces.models) == 2
    assert "judged worse" in pieces.apart[0]


def test_the_same_seed_gives_the_same_alignment(model) -> None:
    links = find_links(part(model, FIRST), part(model, SECOND, MOVED), pairs_of(model, lambda *_: True))
    first, second = align_by_links(links, 3), align_by_links(links, 3)
    assert isinstance(first, LinkAlignment) and isinstance(second, LinkAlignment)
    assert first.target_from_source.scale == second.target_from_source.scale
    assert np.array_equal(first.target_from_source.R, second.target_from_source.R)


OF_ONE_IMAGE = [("03.jpg", "06.jpg"), ("04.jpg", "06.jpg"), ("05.jpg", "06.jpg")]


@pytest.mark.parametrize("num_joining", [0, 2, 3])
def test_pairs_of_one_image_are_enough_only_if_three_join_parts_better_than_all_others(model, num_joining: int) -> None:
    parts = [part(model, FIRST), part(model, SECOND, MOVED)]
    joining = [ImagePair(*names) for names in OF_ONE_IMAGE[:num_joining]]
    pieces = merge(parts, pairs_of(model, lambda *names: names in OF_ONE_IMAGE), joining=joining)
    if num_joining == 3:
        assert [each.num_reg_images() for each in pieces.models] == [12]
    else:
        assert [each.num_reg_images() for each in pieces.models] == [6, 6]
        assert "with different images on both sides are needed, or 3 of one image" in pieces.apart[0]


def test_pairs_of_an_image_of_both_models_are_no_evidence_of_their_own(model) -> None:
    """All of them lie in one of the models."""
    asks = [("06.jpg", f"{number:02d}.jpg") for number in (7, 8, 9)]
    pairs = pairs_of(model, lambda *names: names in asks)
    links = find_links(part(model, range(7)), part(model, range(6, 12), MOVED), pairs)
    assert links.shared == {"06.jpg"}
    found = align_by_links(links, 0, [ImagePair(*names) for names in asks])
    assert isinstance(found, NotMerged)
    assert "with different images on both sides are needed" in found.reason
