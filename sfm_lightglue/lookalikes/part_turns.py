"""Rotations of the images of a part against each other, along its surest pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sfm_lightglue.arrays import BoolArray, Float64Array
from sfm_lightglue.lookalikes.views import PairView

AGREES_DEG, DIFFERS_DEG = 12.0, 30.0
"""Two pairs between the same parts say the same if the rotations between the parts that follow from them differ by at
most the first angle, and different things from the second one on. Errors of weak pairs, and those that add up within a
part, stay below it."""


@dataclass(frozen=True, eq=False, slots=True)
class PartTurns:
    """Rotations of images, each from the frame of its part.

    Args:
        rotations: [N, 3, 3] of `cam_from_part`.
    """

    rotations: Float64Array

    @classmethod
    def of_pairs(
        cls, num_images: int, pairs: Sequence[PairView], weights: Float64Array, is_used: BoolArray
    ) -> PartTurns:
        """The rotations along a tree of the used pairs with the largest weights.

        Args:
            num_images: of the scene.
            pairs: of the scene.
            weights: [P] of the pairs.
            is_used: [P] pairs that connect the images of a part.
        """
        part = list(range(num_images))
        members = {image: [image] for image in part}
        rotations = np.broadcast_to(np.eye(3), (num_images, 3, 3)).copy()
        used = np.flatnonzero(is_used)
        for idx in used[np.argsort(-weights[used], kind="stable")].tolist():
            pair = pairs[idx]
            kept, moved = part[pair.image0], part[pair.image1]
            if kept == moved:
                continue
            turn = rotations[pair.image1].T @ pair.rotation @ rotations[pair.image0]  # moved part from kept part
            if len(members[moved]) > len(members[kept]):  # the smaller part is moved
                kept, moved, turn = moved, kept, turn.T
            rotations[members[moved]] = rotations[members[moved]] @ turn
            for image in members[moved]:
                part[image] = kept
            members[kept] += members.pop(moved)
        return cls(rotations)

    def between(self, pair: PairView, is_swapped: bool) -> Float64Array:
        """The rotation [3, 3] from the part of the first image of a pair to that of the second one.

        Args:
            pair: between two parts.
            is_swapped: give the rotation from the part of the second image.
        """
        turn: Float64Array = self.rotations[pair.image1].T @ pair.rotation @ self.rotations[pair.image0]
        return turn.T if is_swapped else turn
