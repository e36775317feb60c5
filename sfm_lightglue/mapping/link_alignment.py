"""The similarity between two models that share points, but too few images: robust, and checked by reprojection.

Candidates come from three connected points of both models, and from an image of one model that sees points of the
other. The best ones are refined on the matches that fit in both directions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pycolmap

from sfm_lightglue.arrays import BoolArray, Float64Array, IndexArray
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.geometry.transforms import Rigid3, Sim3, project_to_rotation
from sfm_lightglue.mapping.link_refinement import linearized, minimised
from sfm_lightglue.mapping.model_alignment import NotMerged
from sfm_lightglue.mapping.point_links import LinkSide, PointLinks
from sfm_lightglue.types import ImagePair

MAX_ERROR_PX = 8.0
"""Largest error of a match that fits, in pixels of images of up to 1600 pixels. The models were adjusted apart."""

MIN_INLIERS, MIN_INLIERS_OF_PAIR = 40, 12
"""Fewest matches that fit, of all pairs together and of a pair that counts."""

MIN_PAIRS = 2
"""Fewest pairs that count, with different images on both sides: a wrong pair is never alone decisive."""

_MIN_OF_ONE_IMAGE = 3
"""Fewest pairs that count of one image with as many images of the other model, which are enough, too, if these pairs
were found to join parts of the scene clearly better than all that contradict them. Otherwise they are no independent
evidence: an image of a place that looks alike fits all images of the other place, too. So do pairs of an image of both
models: they lie in one of these."""

_ENOUGH = (
    f"at least {MIN_PAIRS} with different images on both sides are needed, or {_MIN_OF_ONE_IMAGE} of one image that"
    " join parts of the scene"
)
"""Which pairs are enough, as text."""

_MIN_RATIO, _MIN_RATIO_OF_PAIR = 0.35, 0.3
"""Smallest fraction of the matches that fit, of all pairs with enough of them and of a pair that counts. Two halves of
a street of 29 images have focal lengths that differ by a tenth: 60 % of their matches fit, a third of those of the
worst pair. Random matches hardly fit; the adjustment of the merged model decides about the others."""

_MIN_PAIR_RATIO = 0.6
"""Smallest fraction of the pairs with enough matches that count: the others say something else."""

_MIN_BOTH = 15
"""Fewest matches that fit with a point of both models: they tell the scale."""

_MIN_BOTH_SHARED = 8
"""The same if the models share an image whose poses agree: then only the scale is not known. No doubtful pair may carry
its pose in either model: at a place that looks alike, all its matches fit, too."""

MIN_SCALE_POINTS = 3
"""Points of both models that such an image observes, from which these are enough. Each of them tells the scale alone.
Only pairs within the models tell where the image is: its matches fit at any scale, once its poses agree."""

_MAX_SCALE_DIFFERENCE, _MIN_SCALE_RATIO = 0.05, 0.75
"""Largest relative difference of the scale by such a point, and the smallest fraction of these points that differ by no
more."""

_MAX_SCALE_ERROR = 0.05
"""Largest relative standard deviation of the scale."""

_NUM_TRIPLES, _NUM_REFINED = 300, 4
"""Samples of three points, and candidates that are refined."""

_MAX_ERRORS_AT_ONCE = 100_000
"""Errors that are computed at a time, for the memory."""

_NEARLY_BEST = 0.99
"""Among candidates from this fraction of the highest score, the points of both models decide: the others tell the scale
hardly or not."""

_MIN_SEEN, _MIN_DEPTH_PAIRS = 15, 6
"""Fewest points of the other model that an image sees for a candidate, and those of them with a point of its own."""


@dataclass(frozen=True, eq=False, slots=True)
class LinkAlignment:
    """The position of one model in another.

    Args:
        target_from_source: between the worlds of the models.
        inliers: [K] the matches that fit.
        num_pairs: pairs of images with enough of them.
        median_error_px: of these matches, in pixels of images of up to 1600 pixels.
    """

    target_from_source: Sim3
    inliers: BoolArray
    num_pairs: int
    median_error_px: float


def align_by_links(links: PointLinks, seed: int, joining: Collection[ImagePair] = ()) -> LinkAlignment | NotMerged:
    """Align two models by their links.

    Args:
        links: between the models.
        seed: of the random samples.
        joining: pairs that join parts of the scene clearly better than all pairs that contradict them.

    Returns:
        The alignment, or why there is none that is sure.
    """
    enough = np.bincount(links.pair, minlength=links.num_pairs) >= MIN_INLIERS_OF_PAIR
    if _num_independent(links, enough, joining) < MIN_PAIRS:
        return NotMerged(f"{int(enough.sum())} pairs of images connect their points, {_ENOUGH}")
    best = best_alignment(links, seed)
    if best is None:
        return NotMerged("their common points leave no alignment")
    return _checked(links, best, enough, joining)


def best_alignment(links: PointLinks, seed: int, num_refined: int = _NUM_REFINED) -> Sim3 | None:
    """The similarity between the worlds of two models that most links fit, without any check; None if none is found.

    Args:
        links: between the models.
        seed: of the random samples.
        num_refined: candidates that are refined.
    """
    candidates = list(_candidates(links, seed))
    if not candidates:
        return None
    scores = _scores(links, candidates)
    found: list[tuple[float, Sim3]] = []
    for k in np.argsort(-scores, kind="stable")[:num_refined].tolist():
        refined = _refined(links, candidates[k])
        found += [(float(scores[k]), candidates[k]), (float(_scores(links, [refined])[0]), refined)]
    highest = max(score for score, _ in found)
    nearly = [each for each in found if each[0] >= _NEARLY_BEST * highest]
    return max(nearly, key=lambda each: (_num_both(links, each[1]), each[0]))[1]


def _num_both(links: PointLinks, similarity: Sim3) -> int:
    """Number of matches that fit with a point of both models."""
    return int(((links.errors_px(similarity) <= MAX_ERROR_PX) & links.has_both).sum())


def _checked(
    links: PointLinks, similarity: Sim3, enough: BoolArray, joining: Collection[ImagePair]
) -> LinkAlignment | NotMerged:
    errors = links.errors_px(similarity)
    inliers = errors <= MAX_ERROR_PX
    num = np.bincount(links.pair, minlength=links.num_pairs)
    num_fitting = np.bincount(links.pair[inliers], minlength=links.num_pairs)
    agrees = enough & (num_fitting >= _MIN_RATIO_OF_PAIR * num)
    counts = agrees & (num_fitting >= MIN_INLIERS_OF_PAIR)
    of_enough = enough[links.pair]
    ratio = float(inliers[of_enough].mean())
    if _num_independent(links, counts, joining) < MIN_PAIRS or inliers.sum() < MIN_INLIERS:
        return NotMerged(
            f"{int(inliers.sum())} common points of {int(counts.sum())} pairs of images fit one alignment: at least"
            f" {MIN_INLIERS} points are needed; of the pairs, {_ENOUGH}"
        )
    if ratio < _MIN_RATIO or agrees.sum() < _MIN_PAIR_RATIO * enough.sum():
        return NotMerged(
            f"only {int(agrees.sum())} of {int(enough.sum())} pairs of images and {ratio:.0%} of their common points"
            " fit the best alignment"
        )
    num_both, shares_pose = _num_both(links, similarity), links.shares_pose(similarity)
    if num_both < (_MIN_BOTH_SHARED if shares_pose else _MIN_BOTH) and not (
        shares_pose and _num_scale_points(links, similarity.scale) >= MIN_SCALE_POINTS
    ):
        return NotMerged("too few points of both models fit the best alignment: the scale is not determined")
    scale_error = _scale_error(links, similarity, inliers)
    if scale_error > _MAX_SCALE_ERROR:
        return NotMerged(f"their common points determine the scale only to {scale_error:.0%}")
    return LinkAlignment(similarity, inliers, int(counts.sum()), float(np.median(errors[inliers])))


def _num_independent(links: PointLinks, counts: BoolArray, joining: Collection[ImagePair]) -> int:
    """2 if two pairs have different images on both sides, or an image has several joining pairs; else 1, 0 without."""
    rows = np.flatnonzero(counts).tolist()
    sides = [(links.target.names[k], links.source.names[k]) for k in rows]
    for i, (target, source) in enumerate(sides):
        if any(target != other[0] and source != other[1] for other in sides[:i]):
            return 2
    partners: dict[str, set[str]] = {}
    for names in sides:
        if not links.shared & {*names} and ImagePair.from_names(*names) in joining:
            for name, other in (names, names[::-1]):
                partners.setdefault(name, set()).add(other)
    if any(len(names) >= _MIN_OF_ONE_IMAGE for names in partners.values()):
        return 2
    return min(len(sides), 1)


def _scores(links: PointLinks, similarities: Sequence[Sim3]) -> Float64Array:
    """Truncated qualities [C] of candidates; each pair counts at most as much as 100 matches."""
    scores = np.zeros(len(similarities))
    first_of_pair = np.unique(links.pair, return_index=True)[1]  # the links of a pair follow each other
    size = max(1, _MAX_ERRORS_AT_ONCE // max(len(links), 1))
    for start in range(0, len(similarities), size):
        errors = links.errors_px_of(similarities[start : start + size])
        fits = np.maximum(1 - (errors / MAX_ERROR_PX) ** 2, 0.0)
        scores[start : start + size] = np.minimum(np.add.reduceat(fits, first_of_pair, axis=0), 100).sum(axis=0)
    return scores


def _num_scale_points(links: PointLinks, scale: float) -> int:
    """Number of points of both models that shared images observe and that tell this scale; 0 if too many do not."""
    ratios = np.concatenate([np.zeros(0), *(ratios for _, ratios in links.depth_ratios())])
    is_near = np.abs(np.log(ratios / scale)) <= _MAX_SCALE_DIFFERENCE
    return int(is_near.sum()) if is_near.sum() >= _MIN_SCALE_RATIO * len(ratios) else 0


def _by_shared_images(links: PointLinks) -> Iterator[Sim3]:
    """The similarities by which the poses of a shared image are the same, and the points that it observes, too."""
    target, source = links.target, links.source
    for row, ratios in links.depth_ratios():
        if len(ratios) >= MIN_SCALE_POINTS:
            scale = float(np.median(ratios))
            turn = target.R[row].T
            yield Sim3(scale, project_to_rotation(turn @ source.R[row]), turn @ (scale * source.t[row] - target.t[row]))


def _candidates(links: PointLinks, seed: int) -> Iterator[Sim3]:
    target, source = links.target, links.source
    yield from _by_shared_images(links)
    both = np.flatnonzero(links.has_both)
    if len(both) >= 3:
        rows = both[np.random.default_rng(seed).integers(0, len(both), (_NUM_TRIPLES, 3))]
        is_triple = (rows[:, 0] != rows[:, 1]) & (rows[:, 0] != rows[:, 2]) & (rows[:, 1] != rows[:, 2])
        yield from _of_triples(source.xyz[rows[is_triple]], target.xyz[rows[is_triple]])
    for image_id in np.unique(source.image).tolist():
        found = _by_pose(source, target, source.image == image_id, seed)
        if found is not None:
            yield found
    for image_id in np.unique(target.image).tolist():
        found = _by_pose(target, source, target.image == image_id, seed)
        if found is not None:
            yield found.inverse()


def _of_triples(source: Float64Array, target: Float64Array) -> list[Sim3]:
    """The similarity of each three points [C, 3, 3] of both models; see `umeyama`."""
    means = source.mean(axis=1), target.mean(axis=1)
    centred_source, centred_target = source - means[0][:, None], target - means[1][:, None]
    U, D, Vt = np.linalg.svd(centred_target.transpose(0, 2, 1) @ centred_source)
    signs = np.ones((len(source), 3))
    signs[:, 2] = np.sign(np.linalg.det(U @ Vt))
    R = (U * signs[:, None, :]) @ Vt
    with np.errstate(divide="ignore", invalid="ignore"):
        scales = (D * signs).sum(axis=1) / (centred_source**2).sum(axis=(1, 2))
    t = means[1] - scales[:, None] * (R @ means[0][:, :, None])[..., 0]
    is_found = np.isfinite(scales) & (scales > 0)
    return [Sim3(float(scales[k]), R[k], t[k]) for k in np.flatnonzero(is_found).tolist()]


def _by_pose(own: LinkSide, other: LinkSide, of_image: BoolArray, seed: int) -> Sim3 | None:
    """The similarity to the other model by an image that sees its points; the scale is the ratio of depths."""
    rows = np.flatnonzero(of_image & other.has_point)
    if len(np.unique(other.point_id[rows])) < _MIN_SEEN:
        return None
    pose = _pose_from_rays(own, rows, other.xyz[rows], seed)
    if pose is None:
        return None
    both = rows[own.has_point[rows]]
    own_pose = Rigid3(own.R[rows[0]], own.t[rows[0]])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (pose @ other.xyz[both])[:, 2] / own.depths(own.xyz)[both]
    ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
    if len(ratios) < _MIN_DEPTH_PAIRS:
        return None
    scale = float(np.median(ratios))
    R = pose.R.T @ own_pose.R
    return Sim3(scale, R, pose.R.T @ (scale * own_pose.t - pose.t))


def _pose_from_rays(own: LinkSide, rows: IndexArray, xyz: Float64Array, seed: int) -> Rigid3 | None:
    """`cam_from_world` of an image in the other model, by RANSAC over points that it sees."""
    focal = float(own.px_per_radian[rows[0]])
    rays = own.rays[rows]
    in_front = rays[:, 2] > 0.1
    if in_front.sum() < _MIN_SEEN:
        return None
    rays, xyz = rays[in_front], xyz[in_front]
    half = 4 * focal
    size = int(2 * half)
    camera = pycolmap.Camera(model="SIMPLE_PINHOLE", width=size, height=size, params=[focal, half, half])
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = MAX_ERROR_PX
    options.ransac.random_seed = seed
    pixels = rays[:, :2] / rays[:, 2:] * focal + half
    with quiet_log():
        found = pycolmap.estimate_and_refine_absolute_pose(pixels, xyz, camera, options)
    return None if found is None else Rigid3.from_matrix(found["cam_from_world"].matrix())


def _refined(links: PointLinks, similarity: Sim3) -> Sim3:
    """The similarity with the least robust errors of the matches that nearly fit."""
    for factor in (3.0, 1.5, 1.0):
        near = links.errors_px(similarity) <= factor * MAX_ERROR_PX
        if near.sum() < MIN_INLIERS_OF_PAIR:
            return similarity
        similarity = minimised(links, similarity, near)
    return similarity


def _scale_error(links: PointLinks, similarity: Sim3, inliers: BoolArray) -> float:
    """Relative standard deviation of the scale. Matches of a pair share errors: ten of them count as one pixel."""
    residuals, J = linearized(links, similarity, inliers)
    num_pairs = len(np.unique(links.pair[inliers]))
    sigma = max(math.sqrt(float((residuals**2).sum()) / (6 * int(inliers.sum()))), 0.5)  # of three in both directions
    shared = max(1.0, float(inliers.sum()) / (10 * num_pairs))
    normal = J.T @ J
    covariance = np.linalg.pinv(normal, hermitian=True) * sigma**2 * shared
    return float(math.sqrt(max(covariance[6, 6], 0.0)))
