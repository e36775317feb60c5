"""Judge models before they are published: is a model well determined, and do the verified pairs agree with it?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray, Float64Array
from sfm_lightglue.colmap.image_points import observed_ids
from sfm_lightglue.colmap.model_parts import partners_in_frames, take_out_images
from sfm_lightglue.mapping.center_uncertainty import center_uncertainty
from sfm_lightglue.mapping.checks_config import ChecksConfig
from sfm_lightglue.mapping.intrinsics_checks import intrinsics_checks, worst_checks
from sfm_lightglue.mapping.mapper_errors import opened_database
from sfm_lightglue.mapping.outweighed import outweighed_images
from sfm_lightglue.mapping.pair_agreement import (
    PairAgreement,
    StoredPair,
    agreement_of_pairs,
    read_stored_pairs,
    triangulated_share,
)
from sfm_lightglue.mapping.verdict import CENTERS_CHECK, Check, ImageReason, ImageVerdict, ModelVerdict, Outcome
from sfm_lightglue.types import ImagePair

JUDGEMENT_VERSION = 27
"""Part of a model's key. Raise it when the same model would get another verdict, when a scene would be mapped again
for another reason or with other cameras, or when other models would be merged."""

_MIN_IMAGES = 2

_MIN_RAW_AGREEMENT = 0.6
"""Agreement by all pairs from which a model may pass by those that are probable by their own cues: .76 in the right
model of a corridor with equal doors."""

_IMPROBABLE_NOTE = (
    "more verified pairs contradict this model than checks.min_agreement allows; it is published because these are"
    " improbable by their own cues: they may show different places that look alike"
)


@dataclass(frozen=True, slots=True)
class JudgedModel:
    """A model with its verdict; without the doubtful images if it is reduced."""

    model: pycolmap.Reconstruction
    verdict: ModelVerdict


def judge_models(
    models: Sequence[pycolmap.Reconstruction],
    database: Path,
    config: ChecksConfig,
    constant_camera_ids: frozenset[int] = frozenset(),
    adjust: Callable[[pycolmap.Reconstruction], None] | None = None,
    guessed_camera_ids: frozenset[int] = frozenset(),
    has_checks: bool = True,
    probability: Mapping[ImagePair, float] | None = None,
    against: Mapping[ImagePair, float] | None = None,
    doubtful_inliers: Mapping[ImagePair, AnyArray] | None = None,
    has_known_poses: bool = False,
) -> list[JudgedModel]:
    """Judge models, and take doubtful images out of them.

    Args:
        models: of the mapper; changed in place if they are reduced.
        database: from which they were built.
        config: limits.
        constant_camera_ids: cameras whose intrinsics were not refined.
        adjust: adjusts a model after images were taken out.
        guessed_camera_ids: cameras whose focal length is not known from EXIF data, beside those that the database
            marks.
        has_checks: False leaves out the checks of whole models but those of their cameras, where only the doubtful
            images are wanted.
        probability: that a pair shows the same place, where it is known: the less probable a pair is, the less it
            counts for or against a model. For scenes with twins; None or empty for others.
        against: that a pair shows the same place by its own cues, for scenes with places that look alike: a right model
            contradicts all pairs of different places. So a model whose agreement is too small, but not below .6, passes
            if it is large enough with pairs that count the less, the less probable they are; a note tells that. None or
            empty for other scenes.
        doubtful_inliers: in a scene with twins, keypoints [K, 2] of the inliers of probably wrong pairs: images are
            taken out, all at once, if more of them, by their probability, contradict their poses than pairs agree with
            them. None or empty for other scenes.
        has_known_poses: whether the poses were given, so that they are not uncertain.

    Returns:
        The published models, accepted or reduced, the one with most images first; then the rejected ones. Published
        models without an image that an earlier one lacks are left out.
    """
    models = [model for model in models if model.num_reg_images() > 0]
    if not models:
        return []
    pairs = read_stored_pairs(database)
    focal_from_id = _known_focal_lengths(database, constant_camera_ids | guessed_camera_ids)
    options = config, adjust, has_checks, probability or {}, against or {}, doubtful_inliers or {}, has_known_poses
    judge = _Judge(pairs, focal_from_id, constant_camera_ids, *options)
    judged = [judge.judge(model) for model in models]
    ordered = sorted(
        judged, key=lambda each: (each.verdict.outcome == "rejected", -each.model.num_reg_images())
    )  # a stable sort: models with as many images keep the order of the mapper
    return _without_repetitions(ordered)


def _without_repetitions(judged: Sequence[JudgedModel]) -> list[JudgedModel]:
    """Leave out published models whose images are all in one before: the mapper may start from one pair repeatedly."""
    kept: list[JudgedModel] = []
    published: list[set[str]] = []
    for each in judged:
        images = each.verdict.images
        names = {name for name, image in images.items() if image.status == "registered"}
        if each.verdict.outcome != "rejected":
            if any(names <= earlier for earlier in published):
                continue
            published.append(names)
        kept.append(each)
    return kept


def _known_focal_lengths(database: Path, others: frozenset[int]) -> dict[int, float]:
    """Focal lengths in pixels that were known before mapping, by camera, without those of other cameras."""
    with opened_database(database) as opened:
        return {
            camera.camera_id: camera.mean_focal_length()
            for camera in opened.read_all_cameras()
            if camera.has_prior_focal_length and camera.camera_id not in others
        }


@dataclass(frozen=True, eq=False, slots=True)
class _Judge:
    pairs: list[StoredPair]
    focal_from_id: dict[int, float]
    constant_camera_ids: frozenset[int]
    config: ChecksConfig
    adjust: Callable[[pycolmap.Reconstruction], None] | None
    has_checks: bool
    probability: Mapping[ImagePair, float]
    against: Mapping[ImagePair, float]
    doubtful_inliers: Mapping[ImagePair, AnyArray]
    has_known_poses: bool

    def judge(self, model: pycolmap.Reconstruction) -> JudgedModel:
        num_images = model.num_reg_images()
        doubtful: dict[str, ImageVerdict] = {}
        is_weighed = False
        while True:  # each round takes out at least one image
            intrinsics = self._intrinsics(model)
            agreements = self._agreements(model)
            supports = _supports(model, agreements)
            found = self._doubtful(supports)
            if not found and not is_weighed:  # once: it finds all images whose pose is outweighed
                found, is_weighed = self._outweighed(model, supports), True
            found = found or self._with_bad_cameras(model, intrinsics, supports)
            found = _with_whole_frames(model, found, supports)
            if not found or len(supports) - len(found) < _MIN_IMAGES:
                break
            if 1 - (len(doubtful) + len(found)) / num_images < self.config.min_kept_images:
                break  # the model is going to be rejected: leave it as it is
            doubtful |= found
            take_out_images(model, found)
            if self.adjust is not None:
                self.adjust(model)
        remaining = found
        kept_share = 1 - (len(doubtful) + len(remaining)) / num_images
        checks = self._checks(model, agreements, kept_share) if self.has_checks else {}
        checks |= worst_checks(intrinsics)
        is_rejected = len(remaining) > 0 or not all(check.passed for check in checks.values())
        images = {
            name: ImageVerdict("registered", None, None, support.num_points, support.share)
            for name, support in supports.items()
        }
        images |= remaining
        images |= doubtful
        outcome: Outcome = "reduced" if doubtful else "accepted"
        notes = (_IMPROBABLE_NOTE,) if not is_rejected and self._is_mild(checks, agreements) else ()
        verdict = ModelVerdict(outcome, checks, dict(sorted(images.items())), notes)
        return JudgedModel(model, verdict.as_rejected() if is_rejected else verdict)

    def _agreements(self, model: pycolmap.Reconstruction) -> list[PairAgreement]:
        limits = self.config.max_pair_error_px, self.config.max_rotation_error_deg
        found = agreement_of_pairs(model, self.pairs, *limits)
        names = [ImagePair.from_names(*_names(each)) for each in found]
        probabilities = [self.probability.get(name, 1.0) for name in names]
        return [replace(each, weight=each.weight * p) for each, p in zip(found, probabilities, strict=True)]

    def _agreement(self, agreements: Sequence[PairAgreement]) -> float:
        """The share of the pairs that agree; by their own cues if it is too small otherwise, and not far too small."""
        share = _share(agreements) or 0.0
        if not self.against or not _MIN_RAW_AGREEMENT <= share < self.config.min_agreement:
            return share
        probable = [self.against.get(ImagePair.from_names(*_names(each)), 1.0) for each in agreements]
        own = _share([replace(each, weight=each.weight * p) for each, p in zip(agreements, probable, strict=True)])
        return max(share, own or 0.0)

    def _is_mild(self, checks: Mapping[str, Check], agreements: Sequence[PairAgreement]) -> bool:
        """Whether a model passes only because improbable pairs count less."""
        return "min_agreement" in checks and (_share(agreements) or 0.0) < self.config.min_agreement

    def _probable_pairs(self) -> list[StoredPair]:
        """The pairs that show the same place rather than two."""
        names = [ImagePair.from_names(pair.name0, pair.name1) for pair in self.pairs]
        return [pair for pair, name in zip(self.pairs, names, strict=True) if self.probability.get(name, 1.0) >= 0.5]

    def _doubtful(self, supports: Mapping[str, _Support]) -> dict[str, ImageVerdict]:
        found: dict[str, ImageVerdict] = {}
        for name, support in supports.items():
            reason: ImageReason | None = None
            if support.num_points < self.config.min_points_per_image:
                reason = "few_points"
            elif support.share is not None and support.share < self.config.min_support:
                reason = "contradicts"
            elif not support.is_connected:
                reason = "not_connected"
            if reason is not None:
                found[name] = ImageVerdict("doubtful", reason, None, support.num_points, support.share)
        return found

    def _outweighed(self, model: pycolmap.Reconstruction, supports: Mapping[str, _Support]) -> dict[str, ImageVerdict]:
        """The images against which more speaks than for them among places that look alike."""
        names = outweighed_images(model, self.pairs, self.doubtful_inliers, self.probability)
        return {
            name: ImageVerdict("doubtful", "contradicts", None, supports[name].num_points, supports[name].share)
            for name in names
        }

    def _checks(
        self, model: pycolmap.Reconstruction, agreements: Sequence[PairAgreement], kept_share: float
    ) -> dict[str, Check]:
        config = self.config
        static = sum(each.weight for each in agreements if each.agrees is None)
        total = sum(each.weight for each in agreements)
        points_per_image = [model.images[i].num_points3D for i in sorted(model.reg_image_ids())]
        checks = {
            "min_kept_images": Check.at_least(kept_share, config.min_kept_images),
            "min_points_per_image": Check.at_least(float(np.median(points_per_image)), config.min_points_per_image),
            "min_agreement": Check.at_least(self._agreement(agreements), config.min_agreement),
            "max_static_pairs": Check.at_most(static / total if total else 1.0, config.max_static_pairs),
        }
        if model.num_points3D() == 0:
            return checks
        triangulated = triangulated_share(model, self._probable_pairs())
        if triangulated is None and self.probability:  # too few pairs are probable
            triangulated = triangulated_share(model, self.pairs)
        if triangulated is not None:
            checks["min_triangulated"] = Check.at_least(triangulated, config.min_triangulated)
        angle, in_front = _angles_and_cheirality(model)
        checks["min_triangulation_angle_deg"] = Check.at_least(angle, config.min_triangulation_angle_deg)
        checks["min_cheirality"] = Check.at_least(in_front, config.min_cheirality)
        if not self.has_known_poses:
            uncertainty = center_uncertainty(model, self.constant_camera_ids, self.focal_from_id.keys())
            if uncertainty is not None:
                checks[CENTERS_CHECK] = Check.at_most(uncertainty, config.max_center_uncertainty)
        return checks

    def _intrinsics(self, model: pycolmap.Reconstruction) -> dict[int, dict[str, Check]]:
        """Checks of the refined cameras; empty without points, which determine no intrinsics."""
        if model.num_points3D() == 0:
            return {}
        return intrinsics_checks(model, self.focal_from_id, self.constant_camera_ids, self.config)

    def _with_bad_cameras(
        self,
        model: pycolmap.Reconstruction,
        intrinsics: Mapping[int, Mapping[str, Check]],
        supports: Mapping[str, _Support],
    ) -> dict[str, ImageVerdict]:
        """Images of cameras that fail a check, if they are few: one weak image must not reject a whole model."""
        bad = {camera_id for camera_id, checks in intrinsics.items() if not all(c.passed for c in checks.values())}
        images = [model.images[image_id] for image_id in sorted(model.reg_image_ids())]
        names = [image.name for image in images if image.camera_id in bad]
        if 1 - len(names) / len(images) < self.config.min_kept_images:
            return {}  # the checks reject the model
        return {
            name: ImageVerdict("doubtful", "intrinsics", None, supports[name].num_points, supports[name].share)
            for name in names
        }


@dataclass(frozen=True, slots=True)
class _Support:
    """How well an image is supported.

    Args:
        num_points: observed in it.
        share: weighted share of its pairs that agree; None without such a pair.
        is_connected: whether it belongs to the largest part of the model.
    """

    num_points: int
    share: float | None
    is_connected: bool


def _supports(model: pycolmap.Reconstruction, agreements: Sequence[PairAgreement]) -> dict[str, _Support]:
    """The support of each registered image, by name."""
    num_points = {model.images[i].name: model.images[i].num_points3D for i in model.reg_image_ids()}
    agreements_from_name: dict[str, list[PairAgreement]] = {name: [] for name in sorted(num_points)}
    for each in agreements:
        for name in _names(each):
            agreements_from_name[name].append(each)
    connected = _largest_part(list(agreements_from_name), agreements)
    return {
        name: _Support(num_points[name], _share(own), name in connected) for name, own in agreements_from_name.items()
    }


def _with_whole_frames(
    model: pycolmap.Reconstruction, found: Mapping[str, ImageVerdict], supports: Mapping[str, _Support]
) -> dict[str, ImageVerdict]:
    """Doubtful images, and those that leave the model with them, for the same reason."""
    partners = partners_in_frames(model, found)
    return dict(found) | {
        name: replace(found[partner], num_points=supports[name].num_points, support=supports[name].share)
        for name, partner in partners.items()
    }


def _names(agreement: PairAgreement) -> tuple[str, str]:
    return agreement.pair.name0, agreement.pair.name1


def _share(agreements: Sequence[PairAgreement]) -> float | None:
    total = sum(each.weight for each in agreements if each.agrees is not None)
    return sum(each.weight for each in agreements if each.agrees) / total if total else None


def _largest_part(names: Sequence[str], agreements: Sequence[PairAgreement]) -> set[str]:
    """The most images that are connected by pairs which do not contradict the model.

    Nothing determines where one part lies in relation to another, for example after the images between them were taken
    out.
    """
    part_from_name = {name: {name} for name in names}
    for each in agreements:
        part0, part1 = (part_from_name[name] for name in _names(each))
        if each.agrees is not False and part0 is not part1:
            part0 |= part1
            part_from_name.update(dict.fromkeys(part1, part0))
    return max(part_from_name.values(), key=len, default=set())


def _angles_and_cheirality(model: pycolmap.Reconstruction) -> tuple[float, float]:
    """Median over the points of the largest angle to the ray of its first image, and share of observations in front."""
    point_ids, points = np.array(sorted(model.point3D_ids()), np.int64), model.points3D
    xyz = np.array([points[point_id].xyz for point_id in point_ids.tolist()])
    first = np.full((len(xyz), 3), np.nan)
    smallest_cosine = np.ones(len(xyz))
    num_in_front = num_observations = 0
    for image_id in sorted(model.reg_image_ids()):
        image = model.images[image_id]
        rows = np.searchsorted(point_ids, observed_ids(image))
        if len(rows) == 0:
            continue
        matrix: Float64Array = image.cam_from_world().matrix()
        in_camera = xyz[rows] @ matrix[:, :3].T + matrix[:, 3]
        num_in_front += int((in_camera[:, 2] > 0).sum())
        num_observations += len(rows)
        rays = in_camera @ matrix[:, :3]
        rays /= np.maximum(np.linalg.norm(rays, axis=1, keepdims=True), 1e-12)
        is_new = np.isnan(first[rows, 0])
        first[rows[is_new]] = rays[is_new]
        np.minimum.at(smallest_cosine, rows, (rays * first[rows]).sum(axis=1))
    angles = np.degrees(np.arccos(np.clip(smallest_cosine, -1, 1)))
    return float(np.median(angles)), num_in_front / max(num_observations, 1)
