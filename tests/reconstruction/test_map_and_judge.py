"""A wrong model is mapped again from other pairs, by a mapper whose models are known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pycolmap
import pytest

from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.merging_by_points import PieceMerging
from sfm_lightglue.reconstruction.folds import FoldSearch
from sfm_lightglue.reconstruction.map_and_judge import map_and_judge, num_published, probabilities_of, tell_notes
from sfm_lightglue.stages.into_database import VerifiedPairRecord
from sfm_lightglue.stages.pair_doubt import PairOverlap
from sfm_lightglue.types import ImagePair
from tests.helpers.exact_scenes import ExactScene, make_model, ring_scene, turned_about_vertical, write_database
from tests.helpers.judged_models import TURNED, record, weighed_pairs

NAMES = tuple(f"{idx:02d}.jpg" for idx in range(10))
BEST = ImagePair(NAMES[3], NAMES[4])
Build = Callable[[MappingTask], list[pycolmap.Reconstruction]]


class KnownMapper:
    """Returns models that a test chooses, and keeps the tasks."""

    config = None
    version = "known"

    def __init__(self, build: Build) -> None:
        self._build = build
        self.tasks: list[MappingTask] = []

    def map(self, task: MappingTask) -> list[pycolmap.Reconstruction]:
        assert task.work.is_dir()
        self.tasks.append(task)
        return self._build(task)

    @property
    def starts(self) -> list[ImagePair | None]:
        return [task.initial_pair for task in self.tasks]


@pytest.fixture(scope="module")
def scene() -> ExactScene:
    return ring_scene()


def bent(scene: ExactScene) -> pycolmap.Reconstruction:
    """Half of the cameras at another wall: the verified pairs contradict the model."""
    turn = Rigid3.from_rotvec([0, 0, np.pi / 2], np.zeros(3))
    poses = turned_about_vertical(scene.poses, NAMES[5:], 90)
    return make_model(scene, poses, dict.fromkeys(NAMES[5:], turn.inverse() @ scene.points))


def part(scene: ExactScene, *idxs: int) -> pycolmap.Reconstruction:
    return make_model(scene, {NAMES[idx]: scene.poses[NAMES[idx]] for idx in idxs})


def records(scene: ExactScene, **special: VerifiedPairRecord) -> Mapping[tuple[str, str], VerifiedPairRecord]:
    kept = {(pair.name0, pair.name1): record(weight=1.0) for pair in scene.pairs}
    return (
        kept
        | {(BEST.name0, BEST.name1): record(weight=9.0)}
        | {(NAMES[int(key[1])], NAMES[int(key[2])]): each for key, each in special.items()}
    )


def run(
    scene: ExactScene, folder: Path, build: Build, **special: VerifiedPairRecord
) -> tuple[KnownMapper, list[JudgedModel]]:
    folder.mkdir(exist_ok=True)
    mapper = KnownMapper(build)
    task = MappingTask(write_database(folder / "database.db", scene), folder, 10, frozenset({1}), seed=3)
    return mapper, map_and_judge(mapper, task, weighed_pairs(records(scene, **special)), ChecksConfig())


def test_a_right_model_is_not_mapped_again(scene: ExactScene, tmp_path: Path) -> None:
    mapper, judged = run(scene, tmp_path, lambda task: [make_model(scene)])
    assert mapper.starts == [None]
    assert [each.verdict.outcome for each in judged] == ["accepted"]
    assert num_published(judged) == 10


def test_nothing_is_mapped_again_without_a_model(scene: ExactScene, tmp_path: Path) -> None:
    mapper, judged = run(scene, tmp_path, lambda task: [])
    assert mapper.starts == [None]
    assert judged == []


def test_the_right_model_of_the_second_attempt_is_returned(scene: ExactScene, tmp_path: Path) -> None:
    """It starts from the pair with the most evidence."""
    mapper, judged = run(scene, tmp_path, lambda task: [make_model(scene) if task.initial_pair else bent(scene)])
    assert mapper.starts == [None, BEST]
    assert [each.verdict.outcome for each in judged] == ["accepted"]
    first, second = mapper.tasks
    assert first.work != second.work
    assert (second.database, second.seed, second.constant_camera_ids) == (first.database, 3, frozenset({1}))


def test_a_pair_without_translation_starts_no_model(scene: ExactScene, tmp_path: Path) -> None:
    mapper, _ = run(
        scene,
        tmp_path,
        lambda task: [make_model(scene) if task.initial_pair else bent(scene)],
        _78=VerifiedPairRecord("pure_rotation", TURNED.cam1_from_cam0, 99.0, 500, 0.0),
        _12=record(weight=20.0),
    )
    assert mapper.starts == [None, ImagePair(NAMES[1], NAMES[2])]


def test_at_most_four_attempts(scene: ExactScene, tmp_path: Path) -> None:
    mapper, judged = run(scene, tmp_path, lambda task: [bent(scene)])
    assert len(mapper.tasks) == 4
    assert len(set(mapper.starts)) == 4, "each attempt starts from another pair"
    assert [each.verdict.outcome for each in judged] == ["rejected"]
    assert judged[0].model.num_reg_images() == 10


def test_the_attempt_with_the_most_published_images_is_kept(scene: ExactScene, tmp_path: Path) -> None:
    sizes = iter([None, 4, 6, 5])

    def build(task: MappingTask) -> list[pycolmap.Reconstruction]:
        size = next(sizes)
        return [bent(scene)] if size is None else [bent(scene), part(scene, *range(9, 9 - size, -1))]

    mapper, judged = run(scene, tmp_path, build)
    assert len(mapper.tasks) == 4
    assert num_published(judged) == 6
    assert [each.verdict.outcome for each in judged] == ["accepted", "rejected"]


def test_starts_lie_among_the_images_that_are_doubted(scene: ExactScene, tmp_path: Path) -> None:
    """The images of a published model need no other start."""

    def build(task: MappingTask) -> list[pycolmap.Reconstruction]:
        return [part(scene, *range(5)), bent(scene)]

    mapper, judged = run(scene, tmp_path, build)
    published = set(NAMES[:5])
    for start in mapper.starts[1:]:
        assert start is not None
        assert not {start.name0, start.name1} & published
    assert num_published(judged) == 5


@pytest.mark.parametrize(("looks_for_parts", "num_images", "num_attempts"), [(True, 8, 2), (True, 7, 4), (False, 7, 2)])
def test_few_images_that_an_accepted_model_left_over_start_no_attempt(
    scene: ExactScene, tmp_path: Path, looks_for_parts: bool, num_images: int, num_attempts: int
) -> None:
    """In a scene with look-alikes, parts of a wrong model may be found from other starts, if they are worth it."""

    def build(task: MappingTask) -> list[pycolmap.Reconstruction]:
        return [part(scene, *range(num_images))] if task.initial_pair else [part(scene, *range(5)), bent(scene)]

    mapper = KnownMapper(build)
    task = MappingTask(write_database(tmp_path / "database.db", scene), tmp_path, 10, frozenset({1}), seed=3)
    weighed = replace(weighed_pairs(records(scene)), has_twins=looks_for_parts)
    judged = map_and_judge(mapper, task, weighed, ChecksConfig(), search=FoldSearch())
    assert len(mapper.starts) == num_attempts
    assert num_published(judged) == num_images


def test_a_model_with_few_points_is_not_mapped_again(scene: ExactScene, tmp_path: Path) -> None:
    """No verified pair contradicts it: another start would give the same."""
    mapper, judged = run(scene, tmp_path, lambda task: [make_model(scene, max_points=dict.fromkeys(NAMES, 6))])
    assert mapper.starts == [None]
    assert judged[0].verdict.outcome == "rejected"


def halves(scene: ExactScene, num_common: int) -> list[pycolmap.Reconstruction]:
    """Two overlapping parts with the identifiers of the whole model, the second in another world."""
    parts = []
    for kept in (NAMES[:6], NAMES[6 - num_common :]):
        model = make_model(scene)
        manager = pycolmap.ObservationManager(model)
        for image_id in sorted(model.reg_image_ids()):
            if model.images[image_id].name not in kept:
                manager.deregister_frame(model.images[image_id].frame_id)
        model.tear_down()
        parts.append(model)
    parts[1].transform(pycolmap.Sim3d(np.column_stack([3 * np.eye(3), [4, 5, 6]])))
    return parts


def test_models_that_share_three_images_are_merged(scene: ExactScene, tmp_path: Path) -> None:
    mapper, judged = run(scene, tmp_path, lambda task: halves(scene, 3))
    assert mapper.starts == [None]
    assert [(each.verdict.outcome, each.model.num_reg_images()) for each in judged] == [("accepted", 10)]


def test_models_stay_apart_if_the_pairs_contradict_the_merged_one(scene: ExactScene, tmp_path: Path) -> None:
    """Each part agrees with its pairs; the pairs between the parts do not agree with the whole."""
    turn = Rigid3.from_rotvec([0, 0, 0.6], np.array([1.0, 0, 0]))
    across = {pair: turn for pair in scene.pairs if pair.name0 in NAMES[:3] and pair.name1 in NAMES[6:]}
    task = MappingTask(write_database(tmp_path / "database.db", scene, wrong=across), tmp_path, 10)
    mapper = KnownMapper(lambda task: halves(scene, 3))
    judged = map_and_judge(mapper, task, weighed_pairs(records(scene)), ChecksConfig())
    assert [(each.verdict.outcome, each.model.num_reg_images()) for each in judged] == [
        ("accepted", 7),
        ("accepted", 6),
    ]


@pytest.mark.parametrize("is_right", [True, False])
def test_notes_are_told_if_a_model_is_published(
    is_right: bool, scene: ExactScene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def build(task: MappingTask) -> list[pycolmap.Reconstruction]:
        task.notes.append("built with relaxed thresholds")
        return [make_model(scene) if is_right else bent(scene)]

    _, judged = run(scene, tmp_path, build)
    assert caplog.text == "", "another attempt may replace it"
    tell_notes(judged)
    assert caplog.text.count("built with relaxed thresholds") == int(is_right)
    tell_notes(judged, {"built with relaxed thresholds"})
    assert caplog.text.count("built with relaxed thresholds") == int(is_right)
    assert [each.verdict.notes for each in judged] == [("built with relaxed thresholds",)] * len(judged)


def test_a_model_has_the_notes_of_its_attempt(scene: ExactScene, tmp_path: Path) -> None:
    def build(task: MappingTask) -> list[pycolmap.Reconstruction]:
        task.notes.append(f"from {task.initial_pair}")
        return [make_model(scene) if task.initial_pair == BEST else bent(scene)]

    _, (judged,) = run(scene, tmp_path, build)
    assert judged.verdict.notes == (f"from {BEST}",)


def test_a_merged_model_has_the_notes_of_its_parts(scene: ExactScene, tmp_path: Path) -> None:
    def build(task: MappingTask) -> list[pycolmap.Reconstruction]:
        task.notes.append("in parts")
        return halves(scene, 3)

    _, (judged,) = run(scene, tmp_path, build)
    assert judged.model.num_reg_images() == 10
    assert judged.verdict.notes == ("in parts",)


def test_a_doubtful_pair_that_joins_parts_connects_models_but_is_no_surer_evidence_for_poses(
    scene: ExactScene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def merging(*args: object) -> PieceMerging:
        seen.append(args[-2:])
        return PieceMerging(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("sfm_lightglue.reconstruction.map_and_judge.PieceMerging", merging)
    other = ImagePair(NAMES[0], NAMES[6])
    overlaps = {BEST: PairOverlap(0.3, PairCues()), other: PairOverlap(0.2, PairCues())}
    weighed = replace(weighed_pairs(records(scene)), overlaps=overlaps, joined=frozenset({BEST}))
    mapper = KnownMapper(lambda task: [part(scene, 0, 1, 2, 3, 4), part(scene, 5, 6, 7, 8, 9)])
    task = MappingTask(write_database(tmp_path / "database.db", scene), tmp_path, 10, frozenset({1}), seed=3)
    map_and_judge(mapper, task, weighed, ChecksConfig())
    assert seen[0] == ({BEST: 0.5, other: 0.2}, {BEST})
    map_and_judge(mapper, task, weighed, ChecksConfig(), search=FoldSearch(frozenset({other})))
    assert seen[-1] == ({BEST: 0.5}, {BEST, other}), "a trusted pair connects models, too"
    assert probabilities_of(weighed, ()) == {BEST: 0.3, other: 0.2}
