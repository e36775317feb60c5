"""Merge models of one database that share points by verified matches, but fewer than three images.

Models are never merged on a guess: pairs with different images on both sides must agree on one alignment, and the
points that connect both sides must remain when the merged model is adjusted. Several pairs of one image are enough only
if they join parts of the scene clearly better than all pairs that contradict them. An image of both models tells where
they lie, and pairs with it confirm only the scale. So no doubtful pair may carry its pose.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, count, product

import pycolmap

from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.mapping.link_alignment import MIN_INLIERS, MIN_SCALE_POINTS, LinkAlignment, align_by_links
from sfm_lightglue.mapping.merging import MIN_REMAINING, Adjust, joined, point_of
from sfm_lightglue.mapping.model_alignment import MIN_COMMON, NotMerged, registered_images
from sfm_lightglue.mapping.pair_agreement import StoredPair
from sfm_lightglue.mapping.point_links import PointLinks, find_links
from sfm_lightglue.types import ImagePair

logger = logging.getLogger(__name__)

MERGING_VERSION = 7
"""Number to raise when a change of the code merges other models by points."""

_APART, _MERGED = "stay apart", "were merged by"

IsBetter = Callable[[pycolmap.Reconstruction, pycolmap.Reconstruction, pycolmap.Reconstruction], bool]


@dataclass(frozen=True, eq=False, slots=True)
class MergedPieces:
    """What became of models that could be one.

    Args:
        models: the merged ones and those that stay apart, the one with most images first.
        notes: of what each merged model was made and why, by `id` of the model.
        apart: of models that verified pairs connect but that were not merged, why.
    """

    models: list[pycolmap.Reconstruction]
    notes: dict[int, list[str]] = field(default_factory=dict)
    apart: list[str] = field(default_factory=list)

    def notes_of(self, model: pycolmap.Reconstruction) -> list[str]:
        """Of what a model was made; empty if it was not merged."""
        return self.notes.get(id(model), [])


@dataclass(frozen=True, eq=False, slots=True)
class PieceMerging:
    """Merges models by their common points.

    Args:
        pairs: verified pairs of the database.
        adjust: adjusts and filters a whole merged model.
        is_better: called with a merged model and the two models of which it was made; False keeps them apart.
        seed: of the random samples.
        probability: that a pair shows the same place, by pair; None if it is not known.
        joining: see `align_by_links`.
    """

    pairs: Sequence[StoredPair]
    adjust: Adjust
    is_better: IsBetter
    seed: int = 0
    probability: Mapping[ImagePair, float] | None = None
    joining: Collection[ImagePair] = ()

    def merge(self, models: Sequence[pycolmap.Reconstruction]) -> MergedPieces:
        """Merge models, those with most links first, until no two of them can be merged.

        Args:
            models: of one database; not changed.
        """
        remaining = dict(enumerate(models))
        notes: dict[int, list[str]] = {}
        refused: dict[tuple[int, int], str] = {}
        links = self._links(remaining, remaining)
        numbers = count(len(models))
        while True:
            waiting = [pair for pair in sorted(links) if pair not in refused and {*pair} <= remaining.keys()]
            if not waiting:
                break
            pair = max(waiting, key=lambda each: (len(links[each]), each))
            first, second = (remaining[number] for number in pair)
            found = self._merged(first, second, links[pair])
            sizes = f"{first.num_reg_images()} and {second.num_reg_images()} images"
            if isinstance(found, NotMerged):
                refused[pair] = f"models of {sizes} {_APART}: {found.reason}"
                logger.info("%s", refused[pair])
                continue
            merged, text = found
            earlier = [note for each in (first, second) for note in notes.get(id(each), [])]
            notes[id(merged)] = [*earlier, f"models of {sizes} {_MERGED} {text}"]
            logger.info("%s", notes[id(merged)][-1])
            remaining = {number: model for number, model in remaining.items() if number not in pair}
            number = next(numbers)
            remaining[number] = merged
            links |= self._links(remaining, [number])
        apart = [text for pair, text in sorted(refused.items()) if set(pair) <= remaining.keys()]
        ordered = sorted(remaining.values(), key=lambda model: -model.num_reg_images())
        return MergedPieces(ordered, notes, apart)

    def _links(
        self, models: Mapping[int, pycolmap.Reconstruction], new: Collection[int]
    ) -> dict[tuple[int, int], PointLinks]:
        """The links of new models with all others, where there are any, by both numbers, the smaller one first."""
        found = {}
        for numbers, pairs in sorted(self._pairs_between(models).items()):
            if {*numbers} & {*new}:
                first, second = (models[number] for number in numbers)
                target, source = (first, second) if _is_larger(first, second) else (second, first)
                links = find_links(target, source, pairs, self.probability)
                if len(links) > 0:
                    found[numbers] = links
        return found

    def _pairs_between(self, models: Mapping[int, pycolmap.Reconstruction]) -> dict[tuple[int, int], list[StoredPair]]:
        """The pairs between every two models that have some, or common images."""
        numbers_from_name: dict[str, list[int]] = {}
        for number, model in sorted(models.items()):
            for name, _ in sorted(registered_images(model)):
                numbers_from_name.setdefault(name, []).append(number)
        found: dict[tuple[int, int], list[StoredPair]] = {}
        for numbers in numbers_from_name.values():
            found |= {each: [] for each in combinations(numbers, 2)}
        for pair in self.pairs:
            sides = numbers_from_name.get(pair.name0, ()), numbers_from_name.get(pair.name1, ())
            for each in sorted({(min(both), max(both)) for both in product(*sides) if both[0] != both[1]}):
                found.setdefault(each, []).append(pair)
        return found

    def _merged(
        self, first: pycolmap.Reconstruction, second: pycolmap.Reconstruction, links: PointLinks
    ) -> tuple[pycolmap.Reconstruction, str] | NotMerged:
        """Two models as one, and by what they were merged, or why they stay apart."""
        target, source = (first, second) if _is_larger(first, second) else (second, first)
        if len(registered_images(target) & registered_images(source)) >= MIN_COMMON:
            return NotMerged("their common images contradict each other")
        alignment = align_by_links(links, self.seed, self.joining)
        if isinstance(alignment, NotMerged):
            return alignment
        merged = joined(target, source, alignment.target_from_source)
        connect_points(merged, links, alignment)
        num_images = merged.num_reg_images()
        sides = _own_images(target, source)
        before = _num_connecting(merged, sides)
        self.adjust(merged)
        if merged.num_reg_images() < num_images:
            return NotMerged("images of the merged model lost their poses when it was adjusted")
        after = _num_connecting(merged, sides)
        shares_pose = links.shares_pose(alignment.target_from_source)
        if after < max(MIN_REMAINING * before, MIN_SCALE_POINTS if shares_pose else MIN_INLIERS / 2):
            return NotMerged(f"only {after} of {before} points that connect them remain after an adjustment")
        if not self.is_better(merged, target, source):
            return NotMerged("the merged model is judged worse")
        return merged, f"{after} common points of {alignment.num_pairs} pairs of images"


def is_of_models_apart(note: str) -> bool:
    """Whether a note tells why models were not merged: it is outdated as soon as they are merged otherwise."""
    return _APART in note


def is_of_pieces(note: str) -> bool:
    """Whether a note tells that models were merged, or why they were not."""
    return _APART in note or _MERGED in note


def joining_note(sizes: tuple[int, int], num_pairs: int, found: str, of_next: str) -> str:
    """The note of a model that was merged by doubtful pairs.

    Args:
        sizes: numbers of images of both models before.
        num_pairs: that were kept apart before.
        found: how many of how many expected points are found in the images of the other model.
        of_next: the same at the next position.
    """
    return (
        f"models of {sizes[0]} and {sizes[1]} images {_MERGED} {num_pairs} pairs that may show places that look alike,"
        f" because {found} expected points are found at this position, and {of_next} at the next one;"
        " `lookalikes.mode` strict keeps them apart"
    )


def connect_points(merged: pycolmap.Reconstruction, links: PointLinks, alignment: LinkAlignment) -> None:
    """Make one point of the two points of a match that fits, and continue tracks by matches with one point.

    Args:
        merged: the joined models; changed in place.
        links: between them.
        alignment: of the models.
    """
    with quiet_log():
        for k in alignment.inliers.nonzero()[0].tolist():
            elements = [(int(side.image[k]), int(side.row[k])) for side in (links.target, links.source)]
            ids = [point_of(merged, *element) for element in elements]
            if ids[0] == ids[1]:
                continue
            if ids[0] is not None and ids[1] is not None:
                if not _images_of(merged, ids[0]) & _images_of(merged, ids[1]):
                    merged.merge_points3D(ids[0], ids[1])
                continue
            point_id, free = (ids[0], elements[1]) if ids[0] is not None else (ids[1], elements[0])
            if point_id is not None and free[0] not in _images_of(merged, point_id):
                merged.add_observation(point_id, pycolmap.TrackElement(*free))
        merged.update_point_3d_errors()


def _images_of(model: pycolmap.Reconstruction, point_id: int) -> set[int]:
    return {element.image_id for element in model.points3D[point_id].track.elements}


def _is_larger(first: pycolmap.Reconstruction, second: pycolmap.Reconstruction) -> bool:
    return bool(first.num_reg_images() >= second.num_reg_images())


def _own_images(target: pycolmap.Reconstruction, source: pycolmap.Reconstruction) -> tuple[set[int], set[int]]:
    ids = [set(model.reg_image_ids()) for model in (target, source)]
    return ids[0] - ids[1], ids[1] - ids[0]


def _num_connecting(model: pycolmap.Reconstruction, sides: tuple[set[int], set[int]]) -> int:
    """Number of points that are seen from both sides."""
    return sum(
        1
        for point_id in sorted(model.point3D_ids())
        if (images := _images_of(model, point_id)) & sides[0] and images & sides[1]
    )


__all__ = [
    "MERGING_VERSION",
    "MergedPieces",
    "PieceMerging",
    "connect_points",
    "is_of_models_apart",
    "is_of_pieces",
    "joining_note",
]
