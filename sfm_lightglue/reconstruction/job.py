"""The stages of a reconstruction after the selection of pairs: match, weigh, map, judge, densify, refine."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from sfm_lightglue.colmap.database_writer import DatabaseWriter, given_camera_idxs, keep_first_keypoints
from sfm_lightglue.colmap.image_points import keypoints_of_models
from sfm_lightglue.colmap.model_database import append_keypoints
from sfm_lightglue.colmap.rig_config import read_rigs
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.mapping.base import Mapper, MappingTask
from sfm_lightglue.mapping.cached_models import MapStatistics, PackedModels, keep_models
from sfm_lightglue.mapping.camera_groups import CameraGroup, find_camera_groups
from sfm_lightglue.mapping.colors import color_points
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.mapped_models import MAPPED_KIND, read_mapped, save_mapped
from sfm_lightglue.messages import shortened
from sfm_lightglue.reconstruction.components import Components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.finish import Finishing, move_to_metres
from sfm_lightglue.reconstruction.folds import FoldSearch
from sfm_lightglue.reconstruction.grouped_images import with_groups
from sfm_lightglue.reconstruction.image_status import image_verdicts
from sfm_lightglue.reconstruction.job_values import FilledDatabase, ModelKeys
from sfm_lightglue.reconstruction.known_folds import has_known_fold, left_out_pairs, taken_back_pairs
from sfm_lightglue.reconstruction.map_and_judge import against_of, doubtful_pairs, map_and_judge, quality, weights_of
from sfm_lightglue.reconstruction.misplaced import with_misplaced_told
from sfm_lightglue.reconstruction.no_model import explain_no_model
from sfm_lightglue.reconstruction.pair_record import pair_statistics, tell_unverified, with_left_out
from sfm_lightglue.reconstruction.second_chance import SecondLook, tell_second_look, with_tried
from sfm_lightglue.reconstruction.second_mapping import map_with_added, with_joining_note
from sfm_lightglue.reconstruction.snapshot_folder import new_folder, snapshot_folder
from sfm_lightglue.reconstruction.thorough_pairs import (
    asks_for_more,
    tell_doubt,
    thorough_job,
    was_thorough,
    with_thorough,
)
from sfm_lightglue.reconstruction.told_folds import without_many_signs
from sfm_lightglue.reconstruction.turns import find_turns, turns_key
from sfm_lightglue.reconstruction.unfolding import map_unfolded, told_as_before
from sfm_lightglue.scene.local_frame import positions_m_from_name
from sfm_lightglue.stages.added_pairs import AddedPairs, add_verified, decode_added, encode_added, with_added_kept
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.into_database import match_scene
from sfm_lightglue.stages.pair_plan import PairPlan
from sfm_lightglue.stages.turned_images import decode_turns, encode_turns, turn_images
from sfm_lightglue.stages.weighed_pairs import PairSources, weigh_scene, write_weighed_pairs
from sfm_lightglue.store.atomic_file import publish_file, store_errors
from sfm_lightglue.store.output_folder import SNAPSHOTS_FOLDER
from sfm_lightglue.store.publication import SQLITE_SIDE_FILES
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.types import ImagePair, Scene

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Job:
    """What the stages after the selection of pairs have in common."""

    config: ReconstructConfig
    scene: Scene
    features: SceneFeatures
    plan: PairPlan
    components: Components
    store: Store
    clock: Clock
    executor: Executor
    progress: Progress
    keys: ModelKeys
    trusted: tuple[ImagePair, ...] = ()
    """Pairs that the user named: they take part in mapping if they are verified."""
    growth: Path | None = None  # folder of the models that grow, for a viewer


def build_models(job: Job, mapper: Mapper, work: Path, database: Path) -> tuple[PackedModels, str | None]:
    """Match, map, judge, densify and refine; returns also why no model can be built, None if there is a model.

    Args:
        job: the run.
        mapper: builds the models.
        work: an existing folder for intermediate files.
        database: path of a new database.
    """
    job, filled, (judged, groups) = _map_scene(job, mapper, work, database)
    tell_unverified(job.trusted, filled.weighed)
    finishing = Finishing(
        job.features.dense,
        job.scene.images,
        job.config.density,
        job.config.refine,
        mapper.config,
        _task(job, filled, work),
        filled.path,
        job.config.checks,
        filled.guessed_camera_ids,
        job.clock,
        job.executor,
        job.progress,
        weights_of(filled.weighed, job.trusted),
        against_of(filled.weighed, job.trusted),
    )
    judged = with_misplaced_told(finishing.finish(judged), filled.weighed, job.trusted)
    num_keypoints = {name: job.features.num_keypoints_from_name[name] for name in job.features}
    added = _added_before(job)
    images = with_tried(image_verdicts(num_keypoints, judged, filled.weighed), added)
    tell_second_look(added, images, judged)
    chosen = with_thorough(with_left_out(job.plan.chosen, filled.num_left_out), job)
    pairs = pair_statistics(tuple(sorted(job.features)), chosen, filled.num_pairs, filled.weighed)
    num_found = append_keypoints(filled.path, keypoints_of_models(each.model for each in judged))
    statistics = MapStatistics((), images, pairs, tuple(job.features.skipped), tuple(groups), num_found)
    if not judged:
        found = filled.num_pairs, filled.weighed
        message = explain_no_model(job.scene.root, list(num_keypoints.values()), *found, job.config)
        return PackedModels(statistics, {}), message
    with job.clock.stage("write"):
        path_from_name = {image.name: image.path for image in job.scene.images}
        color_points([each.model for each in judged], path_from_name, job.executor, job.progress)
        metres = [move_to_metres(job.scene, each) for each in judged]
        return keep_models(job.store, job.keys.finished, judged, metres, statistics, work), None


def _map_scene(
    job: Job, mapper: Mapper, work: Path, database: Path
) -> tuple[Job, FilledDatabase, tuple[list[JudgedModel], Sequence[CameraGroup]]]:
    """The database and the judged models of the mapping, and the job that made them.

    The models are read back from the store: an interrupted run, which maps nothing again, goes on from the same values.
    If the first matches leave doubts, pairs are matched more thoroughly, and the scene is mapped anew.
    """
    thorough = thorough_job(job)
    if thorough is not None and was_thorough(job):
        return _map_scene(thorough, mapper, work, database)
    mapped = read_mapped(job.store, job.keys.mapped, new_folder(work / "mapped-before"))
    job.store.count(MAPPED_KIND, hit=mapped is not None)
    if mapped is not None:
        return job, fill_database(job, database, mapped[1]), mapped
    filled = fill_database(job, database)
    groups: Sequence[CameraGroup] = ()
    with snapshot_folder(job.store.root / SNAPSHOTS_FOLDER, job.keys.mapped, len(job.features)) as snapshots:
        doubtful = partial(doubtful_pairs, trusted=job.trusted, limit=job.config.lookalikes.min_probability)
        how = partial(fill_database, job), partial(_map, job, mapper, snapshots), doubtful
        asks = None if thorough is None else partial(asks_for_more, job, thorough)
        filled, judged = map_unfolded(job.store, job.keys.mapped, filled, *how, work, asks)
        is_settled = thorough is None or not was_thorough(job)
        if is_settled:
            tell_doubt(job, filled.weighed, judged)
            filled, judged, groups = _map_rest(job, mapper, filled, judged, work, snapshots)
    if thorough is not None and not is_settled:
        with store_errors(filled.path):
            filled.path.unlink()
        return _map_scene(thorough, mapper, new_folder(work / "thorough"), database)
    with job.clock.stage("map"):
        loaded = read_mapped(job.store, job.keys.mapped, new_folder(work / "mapped-again"))
    return job, filled, loaded or (judged, groups)


def _map_rest(
    job: Job, mapper: Mapper, filled: FilledDatabase, judged: list[JudgedModel], work: Path, snapshots: Path | None
) -> tuple[FilledDatabase, list[JudgedModel], Sequence[CameraGroup]]:
    """Group cameras, take a second look, and keep the models of the mapping."""
    groups: Sequence[CameraGroup] = ()
    first = judged[0] if judged and judged[0].verdict.outcome != "rejected" else None
    if first and first.model.num_points3D() > 0 and job.config.cameras.mode == "auto" and not job.config.rig:
        filled, judged, groups = _map_with_camera_groups(job, mapper, filled, judged, work, snapshots)
    filled, judged, added = _second_look(job, mapper, filled, judged, groups, work)
    with job.clock.stage("map"):
        job.store.save(MAPPED_KIND, make_key("added", job.keys.mapped), encode_added(added))
        save_mapped(job.store, job.keys.mapped, judged, groups, new_folder(work / "mapped"))
    return filled, judged, groups


def _added_before(job: Job) -> AddedPairs:
    """The pairs that an earlier run or step added."""
    found = job.store.read_as(MAPPED_KIND, make_key("added", job.keys.mapped), decode_added)
    return AddedPairs() if found is None else found


def _look(job: Job) -> SecondLook:
    return SecondLook(job.config, job.features, job.plan, job.components, job.store, job.executor, job.progress)


def _second_look(
    job: Job,
    mapper: Mapper,
    filled: FilledDatabase,
    judged: list[JudgedModel],
    groups: Sequence[CameraGroup],
    work: Path,
) -> tuple[FilledDatabase, list[JudgedModel], AddedPairs]:
    """Add pairs for images that are left over and between models, and go on with mapping.

    More matches of the ordinary keypoints come first: they cost little, and may spare everything else.
    """
    added = AddedPairs()
    if job.scene.known_poses:  # nothing is to change them
        return filled, judged, added
    cameras = {image.name: image.camera for image in with_groups(job.features.decoded_images, groups)}
    distrusted = taken_back_pairs(job.store, job.keys.mapped) | left_out_pairs(job.store, job.keys.mapped)
    for name in ("thorough", "second-chance"):
        with job.clock.stage("match"):
            known = judged, filled.weighed, cameras
            found = _look(job).find_thorough(*known) if name == "thorough" else _look(job).find(*known, distrusted)
        if found.pairs:
            again = _map_with_added(job, mapper, (filled, judged), groups, added, found, new_folder(work / name))
            found = found.without_pairs() if again is None else found
            filled, judged = (filled, judged) if again is None else again
        added = added.joined(found)
    return filled, judged, added


def _map_with_added(
    job: Job,
    mapper: Mapper,
    before: tuple[FilledDatabase, list[JudgedModel]],
    groups: Sequence[CameraGroup],
    added: AddedPairs,
    found: AddedPairs,
    folder: Path,
) -> tuple[FilledDatabase, list[JudgedModel]] | None:
    """Go on with mapping, with the pairs that were added before and those just found; None if it is no better."""
    (filled, judged), taken_back = before, taken_back_pairs(job.store, job.keys.mapped)
    second = fill_database(job, folder / filled.path.name, groups, added.joined(found))
    with job.clock.stage("map"), _mapping_task(job, second, folder) as task:
        known = second.weighed, job.config, second.guessed_camera_ids
        again = map_with_added(mapper.config, task, *known, judged, found.pairs, job.trusted, taken_back)
    if again is None:
        for name in sorted(found.altered):
            job.features.alter(name, None)
        return None
    with store_errors(filled.path):
        publish_file(second.path, filled.path, SQLITE_SIDE_FILES)
    return replace(second, path=filled.path), with_joining_note(again, found)


def fill_database(
    job: Job, path: Path, groups: Sequence[CameraGroup] = (), added: AddedPairs | None = None
) -> FilledDatabase:
    """Match and verify all pairs into a new database, without those that contradict the others.

    If images match no other one unless they are turned, they are turned, and everything is matched again: the store
    has the pairs of all other images.

    Args:
        job: the run.
        path: of the new database.
        groups: images that get another camera than in the scene.
        added: pairs of a second look; None for those of an earlier run.
    """
    added = _added_before(job) if added is None else added
    _look(job).use(added)
    key = turns_key(job)
    turns = job.store.read_as(MAPPED_KIND, key, decode_turns)
    if turns is None:  # decided once, with the cameras of the scene
        filled = _fill(job, path, groups, added)
        turns = find_turns(job, filled.weighed)
        job.store.save(MAPPED_KIND, key, encode_turns(turns))
        if not turns:
            return filled
        with store_errors(path):
            path.unlink()
    turn_images(job.features, turns)
    return _fill(job, path, groups, added)


def _fill(job: Job, path: Path, groups: Sequence[CameraGroup], added: AddedPairs) -> FilledDatabase:
    """The database of the images as they are turned now."""
    config, store = job.config, job.store
    images = {image.name: image for image in with_groups(job.features.decoded_images, groups)}
    given = frozenset() if config.cameras.refine else given_camera_idxs(tuple(images.values()))
    matcher = CachedMatcher(job.components.matcher, store)
    verifier = CachedVerifier(config.two_view, config.seed, store)
    with DatabaseWriter(path) as database:
        with job.clock.stage("write"):
            num_images = len(job.features)
            job.progress("write", 0, num_images)
            for num_done, (image, features) in enumerate(job.features.read_all(job.executor), start=1):
                is_dense = config.density.is_on
                keypoints = job.features.dense(image.name).keypoints if is_dense else features.keypoints
                database.add_image(images[image.name], keypoints)
                job.progress("write", num_done, num_images)
        camera_from_name = {name: images[name].camera for name in job.features}
        counts = match_scene(
            job.plan,
            job.features,
            camera_from_name,
            database,
            matcher,
            verifier,
            job.clock,
            job.executor,
            job.progress,
            config.lookalikes.mode != "off",
        )
        with job.clock.stage("verify"):
            add_verified(added, counts, job.features, database)
            positions = positions_m_from_name(job.scene.images)
            sources = PairSources(job.features, camera_from_name, matcher, verifier, dict(added.pairs), positions)
            folds = left_out_pairs(store, job.keys.mapped), has_known_fold(store, job.keys.mapped)
            options = config.checks, job.executor, job.progress, config.lookalikes, job.trusted
            weighed = weigh_scene(counts, sources, *options, *folds)
            weighed = with_added_kept(weighed, added)
            write_weighed_pairs(weighed, database)
        constant = frozenset(database.camera_id(idx) for idx in given)
        guessed = frozenset(
            database.camera_id(images[name].camera_idx)
            for name in job.features
            if images[name].camera.source in {"guessed", "estimated"}
        )
    if config.rig_file is not None:
        read_rigs(config.rig_file).apply(path)
    store.flush()  # mapping takes long
    if weighed.num_without_still > 0:
        logger.warning(
            "matches at the same pixel of many images (a logo, a frame, a standing background) were taken out of %d of"
            " %d pairs",
            weighed.num_without_still,
            counts.num_pairs,
        )
    return FilledDatabase(path, counts.num_pairs, weighed, constant, guessed, counts.num_left_out)


def _map(
    job: Job,
    mapper: Mapper,
    snapshots: Path | None,
    filled: FilledDatabase,
    work: Path,
    name: str,
    cuts: bool = False,
    suspects: bool = False,
) -> list[JudgedModel]:
    """Map and judge a database; `name` is that of the attempt in the folder of the snapshots."""
    if not filled.weighed.kept:
        return []
    with job.clock.stage("map"), _mapping_task(job, filled, work) as prepared:
        task = replace(prepared, snapshots=snapshots and snapshots / name, growth=job.growth)
        left_out, taken_back = (each(job.store, job.keys.mapped) for each in (left_out_pairs, taken_back_pairs))
        options = cuts, left_out, suspects, bool(task.known_poses), taken_back
        search = FoldSearch(job.trusted, *options) if job.config.lookalikes.mode != "off" else None
        return map_and_judge(mapper, task, filled.weighed, job.config.checks, filled.guessed_camera_ids, search)


@contextmanager
def _mapping_task(job: Job, filled: FilledDatabase, work: Path) -> Iterator[MappingTask]:
    """The task of mapping, with a copy of a database that has only the keypoints that matchers see."""
    task = _task(job, filled, work)
    with store_errors(task.database):
        shutil.copyfile(filled.path, task.database)
    if job.config.density.is_on:
        keep_first_keypoints(task.database, {name: job.features.num_keypoints_from_name[name] for name in job.features})
    yield task
    with store_errors(task.database):
        task.database.unlink()


def _task(job: Job, filled: FilledDatabase, work: Path) -> MappingTask:
    # pycolmap changes the header of a database that it opens, so the one that is published is not opened again.
    constant, workers, poses = filled.constant_camera_ids, job.executor.num_workers, job.scene.known_poses
    database, seed = work / "mapping.db", job.config.seed
    return MappingTask(database, work, len(job.features), constant, workers, seed, job.progress, known_poses=poses)


def _map_with_camera_groups(
    job: Job, mapper: Mapper, filled: FilledDatabase, judged: list[JudgedModel], work: Path, snapshots: Path | None
) -> tuple[FilledDatabase, list[JudgedModel], Sequence[CameraGroup]]:
    """Map again with several cameras if the images of a shared camera clearly have several focal lengths."""
    with job.clock.stage("map"):
        groups = find_camera_groups(judged[0].model, filled.constant_camera_ids, job.executor.num_workers)
    if not groups:
        return filled, judged, ()
    work = work / "camera-groups"
    work.mkdir()
    second = fill_database(job, work / filled.path.name, groups)
    judged_again = without_many_signs(_map(job, mapper, snapshots, second, work, make_key("groups", groups)))
    if quality(judged_again) < quality(judged):
        return filled, judged, ()
    with store_errors(filled.path):
        publish_file(second.path, filled.path, SQLITE_SIDE_FILES)
    focal_lengths = ", ".join(f"{group.camera.params[0]:.0f} px ({shortened(group.names, 3)})" for group in groups)
    logger.warning(
        "images that seemed to share a camera have %d focal lengths, so they got a camera each: %s; `cameras.mode`"
        " single keeps one camera",
        len(groups),
        focal_lengths,
    )
    told = told_as_before(job.store, job.keys.mapped, judged_again, judged)
    return replace(second, path=filled.path), told, groups
