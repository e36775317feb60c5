"""The stages of an extension: database, matching, registration, finishing, judgement."""

from __future__ import annotations

import copy
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sfm_lightglue.arrays import Float32Array, IndexArray
from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.colmap.model_database import (
    read_matched_pairs,
    read_stored_names,
    write_database_of_model,
)
from sfm_lightglue.errors import ReconstructionError
from sfm_lightglue.execution.executor import Executor
from sfm_lightglue.execution.progress import Progress
from sfm_lightglue.extractors.base import DENSE_VERSION
from sfm_lightglue.mapping.base import MappingTask
from sfm_lightglue.mapping.cached_models import MapStatistics, PackedModels, PairStatistics, keep_models
from sfm_lightglue.mapping.dense_keypoints import DenseKeypoints, with_all_keypoints
from sfm_lightglue.mapping.densify import DENSIFY_VERSION
from sfm_lightglue.mapping.extend import EXTEND_VERSION, Extending
from sfm_lightglue.mapping.extend_keypoints import RowsFromName
from sfm_lightglue.mapping.extend_pairs import Covisibility
from sfm_lightglue.mapping.extend_registration import read_arrivals
from sfm_lightglue.mapping.incremental import MappingConfig
from sfm_lightglue.mapping.judgement import JUDGEMENT_VERSION, JudgedModel
from sfm_lightglue.mapping.model_files import CLOUD_MODEL
from sfm_lightglue.mapping.pair_agreement import read_stored_pairs
from sfm_lightglue.mapping.short_tracks import num_views_of_points
from sfm_lightglue.mapping.verdict import ImageVerdict, ModelVerdict
from sfm_lightglue.mapping.weighing import WEIGHING_VERSION
from sfm_lightglue.pairs.pair_sets import IndexedPairs, pairs_digest
from sfm_lightglue.pairs.transitive import connected_images
from sfm_lightglue.reconstruction.components import Components
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.extend_base import ExtendedScene, ExtensionBase, is_refined, unpacked_model
from sfm_lightglue.reconstruction.extend_finish import ExtensionFinishing
from sfm_lightglue.reconstruction.extend_judgement import ExtensionJudge, as_registered
from sfm_lightglue.reconstruction.extend_matching import CHOSEN, ArrivalMatching, MatchedArrivals
from sfm_lightglue.reconstruction.image_status import image_verdicts
from sfm_lightglue.reconstruction.pair_record import own_probabilities_of_evidence, probabilities_of_evidence
from sfm_lightglue.refinement.config import REFINEMENT_VERSION
from sfm_lightglue.stages.cached import CachedMatcher, CachedVerifier
from sfm_lightglue.stages.clock import Clock
from sfm_lightglue.stages.features import SceneFeatures
from sfm_lightglue.stages.turned_images import TURNS_VERSION
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.store.store import Store, make_key
from sfm_lightglue.two_view.verification import verification_identity
from sfm_lightglue.types import ImagePair

if TYPE_CHECKING:
    import pycolmap

logger = logging.getLogger(__name__)

_NUM_AMONG = 5
"""Images of a model with other keypoints than ours are matched with so many that share points with them."""


@dataclass(frozen=True, eq=False, slots=True)
class PreparedExtension:
    """A model that is ready to be extended.

    Args:
        model: as it was before, with all keypoints.
        rows_from_name: keypoints of the rows of the features of all images.
        matched: what was matched.
        database: of the published results.
        arrivals: names of the images that may come in.
        has_our_keypoints: whether the points of the model are observed at our keypoints already.
    """

    model: pycolmap.Reconstruction
    rows_from_name: RowsFromName
    matched: MatchedArrivals
    database: Path
    arrivals: tuple[str, ...]
    has_our_keypoints: bool


@dataclass(frozen=True, eq=False, slots=True)
class ExtensionJob:
    """An extension, with the features of all images."""

    config: ReconstructConfig
    extended: ExtendedScene
    base: ExtensionBase
    features: SceneFeatures
    components: Components
    excluded: Sequence[ImagePair]
    trusted: Sequence[ImagePair]
    store: Store
    clock: Clock
    executor: Executor
    progress: Progress

    def prepare(self, database: Path, is_ours: bool) -> PreparedExtension:
        """Make the database: with the ids of the model, all keypoints, and the matches of the images that may come in.

        Args:
            database: path of the file, which does not exist yet.
            is_ours: whether the model has our keypoints.
        """
        with self.clock.stage("write"):
            model, rows = self._with_our_keypoints(is_ours)
            with store_errors(database):
                if is_ours and self.base.database is not None:
                    os.replace(self.base.database, database)
                else:
                    write_database_of_model(model, database)
        registered = {model.images[image_id].name for image_id in model.reg_image_ids()}
        arrivals = tuple(name for name in sorted(self.features) if name not in registered)
        with self.clock.stage("match"):
            matched = self._match(database, model, rows, arrivals, 0 if is_ours else _NUM_AMONG)
        self.store.flush()
        return PreparedExtension(model, rows, matched, database, arrivals, is_ours)

    def has_our_keypoints(self) -> bool:
        """Whether model and database have the same ids of images, and the keypoints of the features in their order."""
        if self.base.database is None:
            return False
        model, stored = self.base.model, read_stored_names(self.base.database)
        if any(stored.get(image_id) != model.images[image_id].name for image_id in model.reg_image_ids()):
            return False
        num_from_name = self._num_detected()
        for name, keypoints in self.base.read_detected():
            if name in self.features and not self._turned_to(name, keypoints):
                return False
            if len(keypoints) != num_from_name.pop(name, len(keypoints)):
                return False
        return not num_from_name

    def _num_detected(self) -> dict[str, int]:
        """Number of the keypoints of the images of the model that extractors found, by name."""
        images = [self.base.model.images[image_id] for image_id in self.base.model.reg_image_ids()]
        return {image.name: image.num_points2D() - self.base.num_found(image.name) for image in images}

    def _turned_to(self, name: str, keypoints: Float32Array) -> bool:
        """Whether an image has these keypoints, as it is or after quarter turns, in which it is left then."""
        for turns in range(4):
            if turns > 0:
                self.features.turn(name, turns)
            if np.array_equal(keypoints, self.features.dense(name).keypoints):
                return True
        self.features.turn(name, 0)
        return False

    def _with_our_keypoints(self, is_ours: bool) -> tuple[pycolmap.Reconstruction, dict[str, IndexArray]]:
        """The model with all keypoints, and those of the rows of the features of all images."""
        model, known = self.base.model, dict[str, int]()
        if is_ours:  # as many as the features have: these need not be read again
            known = self._num_detected()
        rows = {
            name: np.arange(known[name] if name in known else len(self.features.dense(name).keypoints))
            for name in self.features
        }
        if is_ours:
            return model, rows
        keypoints = DenseKeypoints.from_model(self.base.model, self.features.dense)
        starts = keypoints.starts[:-1].tolist()
        joined = zip(keypoints.names, keypoints.number_from_row, starts, strict=True)
        rows |= {name: numbers - start for name, numbers, start in joined}
        return with_all_keypoints(self.base.model, self.features.dense), rows

    def _match(
        self,
        database: Path,
        model: pycolmap.Reconstruction,
        rows: dict[str, IndexArray],
        arrivals: Sequence[str],
        num_among: int,
    ) -> MatchedArrivals:
        stored_names = set(read_stored_names(database).values())
        stored = read_matched_pairs(database)
        matcher = CachedMatcher(self.components.matcher, self.store)
        verifier = CachedVerifier(self.config.two_view, self.config.seed, self.store)
        cameras = {image.name: image.camera for image in self.features.decoded_images}
        with DatabaseWriter(database, {camera_id: camera_id for camera_id in model.cameras}) as writer:
            matching = ArrivalMatching(
                self.config,
                self.features,
                cameras,
                matcher,
                verifier,
                writer,
                [image for image in self.features.decoded_images if image.name not in stored_names],
                stored,
                self.excluded,
                rows,
                self.executor,
                self.progress,
            )
            return matching.run(arrivals, Covisibility(model), num_among)

    def build(self, prepared: PreparedExtension, work: Path, key: str) -> PackedModels:
        """Extend the model, judge it, and keep all models in the store; a worse model is left out, and that is told.

        Args:
            prepared: the model and what was matched.
            work: an existing folder for intermediate files.
            key: of the models.

        Raises:
            ReconstructionError: if no image comes into a model from elsewhere, or the extended model is worse.
        """
        copied = work / "mapping.db"  # pycolmap changes the header of a database that it opens
        with store_errors(copied):
            shutil.copyfile(prepared.database, copied)
        pairs = *self._probabilities(), frozenset(self.trusted), self.config.lookalikes.mode != "off"
        judge = ExtensionJudge(
            copied,
            self.config.checks,
            self.extended.constant_camera_ids,
            self.extended.guessed_camera_ids,
            *pairs,
        )
        task = MappingTask(
            copied,
            work,
            len(self.features),
            self.extended.constant_camera_ids,
            self.executor.num_workers,
            self.config.seed,
            self.progress,
        )
        judged, verdicts, problem = self._grown(prepared, judge, task)
        if judged is None and self.base.packed is None:
            raise ReconstructionError(
                f"{self.extended.scene.root}: the model is not extended, because"
                f" {problem or 'no image of the folder sees enough of its points'}"
            )
        if problem is not None:
            logger.warning("the extended model is not published, the one before stays, because %s", problem)
        return self._kept(prepared, judged, verdicts, problem, copied, key, work)

    def _probabilities(self) -> tuple[dict[ImagePair, float], dict[ImagePair, float]]:
        """That pairs of the model before show the same place, if its scene has twins, and by their own cues if not."""
        evidence = None if self.base.packed is None else self.base.packed.statistics.pairs.evidence
        return probabilities_of_evidence(evidence, self.trusted), own_probabilities_of_evidence(evidence, self.trusted)

    def _grown(
        self, prepared: PreparedExtension, judge: ExtensionJudge, task: MappingTask
    ) -> tuple[JudgedModel | None, dict[str, ImageVerdict], str | None]:
        """The extended model, None if nothing came in or it is worse; verdicts of images that it lost; the problem."""
        model, mapping = copy.deepcopy(prepared.model), self.config.mapping.config
        limits = mapping if isinstance(mapping, MappingConfig) else MappingConfig()
        extending = Extending(
            prepared.rows_from_name,
            self.features.dense,
            self.config.density,
            limits,
            task,
            self.executor,
            self.progress,
        )
        with self.clock.stage("map"):
            pixels = self.base.keypoints_of(
                self.features, prepared.arrivals, prepared.database, prepared.has_our_keypoints
            )
            cameras = {model.images[image_id].camera_id for image_id in model.reg_image_ids()}
            arrivals = read_arrivals(task.database, prepared.arrivals, pixels, cameras)
            if not prepared.has_our_keypoints:
                extending.observe(model, prepared.matched.links)
            added = extending.register(model, arrivals, prepared.matched.links)
            names = {model.images[image_id].name for image_id in added}
            _, taken = judge.without_doubtful(model, names, has_checks=False)  # it is judged again when it is finished
        added = [image_id for image_id in added if image_id in model.images]
        if not added:
            return None, taken, None
        paths = {image.name: image.path for image in self.extended.scene.images}
        finishing = ExtensionFinishing(
            extending,
            paths,
            self.config.refine,
            self.clock,
            self.executor,
            prepared.has_our_keypoints,
            prepared.model if is_refined(prepared.model, prepared.rows_from_name, self.features) else None,
        )
        finishing.finish(model, added, num_views_of_points(prepared.model))
        with self.clock.stage("map"):
            judged, more = judge.without_doubtful(model, names - taken.keys())
            problem = judge.problem(prepared.model, judged)
        taken |= more
        if problem is not None:
            rejected = {name: ImageVerdict("doubtful", "model_rejected") for name in names - taken.keys()}
            return None, taken | rejected, problem
        if model.num_reg_images() == prepared.model.num_reg_images():
            return None, taken, None
        return judge.with_signs(prepared.model, judged), taken, None

    def _kept(
        self,
        prepared: PreparedExtension,
        judged: JudgedModel | None,
        verdicts: dict[str, ImageVerdict],
        problem: str | None,
        database: Path,
        key: str,
        work: Path,
    ) -> PackedModels:
        """All models of the run, with the extended one instead of the first."""
        before = self.base.packed.statistics if self.base.packed is not None else MapStatistics((), {})
        others = [
            JudgedModel(
                self._model(statistics.path, work),
                ModelVerdict(
                    statistics.verdict,
                    statistics.checks,
                    {},
                    statistics.notes,
                    maybe_folded=statistics.maybe_folded,
                ),
            )
            for statistics in before.models
            if judged is None or statistics.path != CLOUD_MODEL
        ]
        placed = [statistics.georegistration for statistics in before.models]
        if judged is not None:
            notes, folded = (before.models[0].notes, before.models[0].maybe_folded) if before.models else ((), ())
            others = [as_registered(judged, notes, folded), *others]
            placed = placed or [None]
        num_keypoints = {name: len(self.features[name]) for name in self.features}
        found = image_verdicts(num_keypoints, others[:1] if judged is not None else [], prepared.matched.weighed)
        images = {name: image for name, image in before.images.items() if name in self.features}
        for name in prepared.arrivals:
            if name not in images or images[name].status != "other_model":
                images[name] = verdicts.get(name, found[name])
        images |= {name: found[name] for name in (others[0].verdict.images if judged is not None else ())}
        pairs = self._pairs(before.pairs, prepared, database, problem)
        num_found = before.num_found if prepared.has_our_keypoints else {}
        rest = tuple(self.features.skipped), before.camera_groups, num_found
        scene = MapStatistics((), dict(sorted(images.items())), pairs, *rest)
        with self.clock.stage("write"):
            return keep_models(self.store, key, others, placed, scene, work)

    def _model(self, path: str, work: Path) -> pycolmap.Reconstruction:
        assert self.base.packed is not None  # else there are no other models
        return unpacked_model(self.base.packed.files, path, work)

    def _pairs(
        self, before: PairStatistics, prepared: PreparedExtension, database: Path, problem: str | None
    ) -> PairStatistics:
        chosen = CHOSEN if problem is None else f"{CHOSEN}; the extended model was not published, because {problem}"
        verified = [ImagePair.from_names(pair.name0, pair.name1) for pair in read_stored_pairs(database)]
        sizes = np.bincount(connected_images(IndexedPairs.from_pairs(sorted(self.features), verified)), minlength=1)
        components = tuple(sorted((int(size) for size in sizes if size > 1), reverse=True))
        num_pairs = before.num_pairs + prepared.matched.num_pairs
        return replace(before, chosen=chosen, num_pairs=num_pairs, num_verified=len(verified), components=components)


def extension_key(job: ExtensionJob, is_ours: bool) -> str:
    """Key of everything that the models of an extension depend on.

    Args:
        job: the extension.
        is_ours: whether the model that is extended has our keypoints.
    """
    config, extended = job.config, job.extended
    values: list[Any] = [
        [(image.name, image.content_digest, image.camera, image.camera_idx) for image in extended.scene.images],
        [sorted(extended.constant_camera_ids), sorted(extended.guessed_camera_ids)],
        [config.density, config.max_keypoints_dense, config.refine, config.mapping.config, config.checks],
        [DENSE_VERSION, DENSIFY_VERSION, REFINEMENT_VERSION, JUDGEMENT_VERSION, WEIGHING_VERSION, EXTEND_VERSION],
        [TURNS_VERSION, config.lookalikes.mode],
    ]
    return make_key(
        "extended",
        job.base.key,
        *values,
        [job.base.database is not None, is_ours],
        pairs_digest(job.excluded),
        pairs_digest(job.trusted),
        job.components.extractor.identity,
        job.components.matcher.identity,
        verification_identity(config.two_view),
        config.seed,
        job.executor.num_workers == 1,
    )
