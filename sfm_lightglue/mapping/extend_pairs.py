"""Images that may see what an image sees, by the points that they share in a model with its verified partners."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pycolmap

from sfm_lightglue.mapping.extend_keypoints import num_observed, seen_points
from sfm_lightglue.types import ImagePair


class Covisibility:
    """How many points the images of a model share; counted for an image when it is asked for.

    Args:
        model: with points; it must not change.
    """

    def __init__(self, model: pycolmap.Reconstruction) -> None:
        self._model = model
        self._id_from_name = {model.images[image_id].name: image_id for image_id in model.reg_image_ids()}
        self.names = tuple(sorted(self._id_from_name))
        self._shared: dict[str, dict[str, int]] = {}

    def shared(self, name: str) -> dict[str, int]:
        """Numbers of shared points by name of image; empty for an image that the model does not have."""
        if name not in self._id_from_name:
            return {}
        if name not in self._shared:
            image_id = self._id_from_name[name]
            num_shared = num_observed(self._model, seen_points(self._model, [image_id]))
            self._shared[name] = {
                self._model.images[other].name: num for other, num in sorted(num_shared.items()) if other != image_id
            }
        return self._shared[name]

    def nearest(self, num: int) -> list[ImagePair]:
        """Each image with the `num` that share the most points with it, sorted."""
        if num == 0:  # the points of all images need not be counted
            return []
        pairs = set()
        for name in self.names:
            shared = self.shared(name)
            for other in sorted(shared, key=lambda one: (-shared[one], one))[:num]:
                pairs.add(ImagePair.from_names(name, other))
        return sorted(pairs)


def suggested_by_points(
    names: Sequence[str],
    verified: Mapping[ImagePair, int],
    asked: Collection[ImagePair],
    covisibility: Covisibility,
    num_verified: int,
    max_partners: int,
    excluded: Collection[ImagePair] = frozenset(),
) -> list[ImagePair]:
    """Pairs of images with those that share points with their verified partners, or are partners of these.

    An image gets pairs for the verified partners that it lacks, and one more, as some of them may not be verified.

    Args:
        names: images that the model does not have.
        verified: number of inliers by pair.
        asked: pairs that were matched.
        covisibility: of the model.
        num_verified: images with so many verified partners get no further pairs.
        max_partners: no image gets more pairs than this, matched ones included.
        excluded: pairs that are never suggested.
    """
    inliers_from_name: dict[str, dict[str, int]] = {}
    for pair, num in verified.items():
        inliers_from_name.setdefault(pair.name0, {})[pair.name1] = num
        inliers_from_name.setdefault(pair.name1, {})[pair.name0] = num
    num_asked = dict.fromkeys(names, 0)
    for pair in asked:
        for name in {pair.name0, pair.name1} & num_asked.keys():
            num_asked[name] += 1
    suggested: set[ImagePair] = set()
    for name in names:
        partners = inliers_from_name.get(name, {})
        if len(partners) >= num_verified:
            continue
        votes: dict[str, int] = {}
        for partner in partners:
            for other, num in (covisibility.shared(partner) | inliers_from_name[partner]).items():
                votes[other] = votes.get(other, 0) + num
        votes.pop(name, None)
        pairs = [ImagePair.from_names(name, one) for one in sorted(votes, key=lambda one: (-votes[one], one))]
        num_more = min(num_verified - len(partners) + 1, max_partners - num_asked[name])
        pairs = [pair for pair in pairs if pair not in asked and pair not in excluded]
        suggested.update(pairs[: max(0, num_more)])
    return sorted(suggested)
