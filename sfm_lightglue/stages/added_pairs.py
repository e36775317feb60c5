"""Verified pairs that a second look at a scene adds, and what was tried for which image."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.database_writer import DatabaseWriter
from sfm_lightglue.stages.into_database import PairCounts, record_of
from sfm_lightglue.stages.weighed_pairs import WeighedPairs
from sfm_lightglue.store.encoding import (
    arrays_from_geometry,
    arrays_from_matches,
    geometry_from_arrays,
    matches_from_arrays,
)
from sfm_lightglue.types import Features, ImagePair, Matches, TwoViewGeometry

_MIN_OVERLAP = 0.5
"""Smallest probability of a true overlap of an added pair whose rotation contradicts the others."""

AddedPair = tuple[Matches, TwoViewGeometry]
"""Matches of the ordinary keypoints of a pair, and their geometry."""


@dataclass(frozen=True, eq=False, slots=True)
class AddedPairs:
    """The pairs that a second look adds to a scene.

    Args:
        pairs: by pair of images.
        tried: what was tried for images that were left over, in order, by name.
        notes: what users should know, of the scene.
        altered: by which attempt the features of an image were found that replace its ordinary ones, by name.
        joining: verified pairs that were kept apart, and take part because they tell how two models lie to each other.
        joining_note: what users should know of a model that these pairs join; not stored, as the model keeps it.
    """

    pairs: Mapping[ImagePair, AddedPair] = field(default_factory=dict)
    tried: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    altered: Mapping[str, str] = field(default_factory=dict)
    joining: frozenset[ImagePair] = frozenset()
    joining_note: str = ""

    def without_pairs(self) -> AddedPairs:
        """The same without pairs, if mapping with them was no improvement."""
        return replace(self, pairs={}, altered={}, joining=frozenset(), joining_note="")

    def joined(self, other: AddedPairs) -> AddedPairs:
        """Both, this one first; of a pair of both, that of the other.

        If the other one replaces the features of an image, the pairs of this one that match its former features are
        dropped.
        """
        replaced = {name for name, text in other.altered.items() if self.altered.get(name) != text}
        pairs = {pair: found for pair, found in self.pairs.items() if not {pair.name0, pair.name1} & replaced}
        tried = {name: self.tried.get(name, ()) + texts for name, texts in other.tried.items()}
        return AddedPairs(
            {**pairs, **other.pairs},
            {**self.tried, **tried},
            tuple(dict.fromkeys(self.notes + other.notes)),
            {**self.altered, **other.altered},
            self.joining | other.joining,
            self.joining_note or other.joining_note,
        )


def add_verified(
    added: AddedPairs, counts: PairCounts, features: Mapping[str, Features], database: DatabaseWriter
) -> None:
    """Count the added pairs as verified ones, and write them into a database with all others.

    Args:
        added: pairs of images with features; others are left out.
        counts: of the stage "match"; changed in place.
        features: by name of image.
        database: with the images and the other pairs.
    """
    for pair, (matches, geometry) in sorted(added.pairs.items()):
        if pair.name0 in features and pair.name1 in features:
            both = features[pair.name0], features[pair.name1]
            counts.verified[pair] = record_of(both, matches, geometry, counts.keeps_inliers)
            database.replace_geometry(pair, matches, geometry)


def with_added_kept(weighed: WeighedPairs, added: AddedPairs) -> WeighedPairs:
    """Let added pairs take part in mapping although their rotations contradict those of the others.

    The pose of a pair of very different images is uncertain, above all with long focal lengths. The image is registered
    by points, and its model is judged by the matches. Pairs that may show places that look alike stay out, but for
    those that tell how two models lie to each other.

    Args:
        weighed: the pairs of the scene.
        added: of them.
    """
    kept = {
        pair: record
        for pair, record in weighed.contradicted.items()
        if pair in added.pairs and (pair not in weighed.overlaps or weighed.overlaps[pair].probability >= _MIN_OVERLAP)
    }
    doubtful = {**weighed.apart, **weighed.contradicted}
    joining = added.joining & doubtful.keys()
    kept |= {pair: doubtful[pair] for pair in sorted(joining)}
    contradicted, apart = (
        {pair: record for pair, record in records.items() if pair not in kept}
        for records in (weighed.contradicted, weighed.apart)
    )
    both = {**weighed.kept, **kept}
    in_order = {pair: both[pair] for pair in ImagePair.in_order(both)}
    joined = weighed.joined | (added.joining & both.keys())
    return replace(weighed, kept=in_order, contradicted=contradicted, apart=apart, joined=joined)


def encode_added(added: AddedPairs) -> dict[str, AnyArray]:
    """Added pairs as arrays of an entry of the store."""
    pairs = sorted(added.pairs)
    record = {
        "pairs": [[pair.name0, pair.name1] for pair in pairs],
        "tried": {name: list(texts) for name, texts in added.tried.items()},
        "notes": list(added.notes),
        "altered": dict(added.altered),
        "joining": [[pair.name0, pair.name1] for pair in sorted(added.joining)],
    }
    arrays: dict[str, AnyArray] = {"record": np.array(json.dumps(record, sort_keys=True))}
    for number, pair in enumerate(pairs):
        matches, geometry = added.pairs[pair]
        for kind, values in (("matches", arrays_from_matches(matches)), ("geometry", arrays_from_geometry(geometry))):
            arrays |= {f"{number}/{kind}/{name}": array for name, array in values.items()}
    return arrays


def decode_added(arrays: Mapping[str, AnyArray]) -> AddedPairs:
    """The added pairs of an entry of the store.

    Raises:
        Exception: if it holds something else.
    """
    record = json.loads(str(arrays["record"]))
    pairs = dict(_decoded_pairs(record["pairs"], arrays))
    tried = {str(name): tuple(map(str, texts)) for name, texts in record["tried"].items()}
    altered = {str(name): str(text) for name, text in record["altered"].items()}
    joining = frozenset(ImagePair(str(name0), str(name1)) for name0, name1 in record["joining"])
    return AddedPairs(pairs, tried, tuple(map(str, record["notes"])), altered, joining)


def _decoded_pairs(names: list[list[str]], arrays: Mapping[str, AnyArray]) -> Iterator[tuple[ImagePair, AddedPair]]:
    for number, (name0, name1) in enumerate(names):
        values = {
            kind: {
                key.removeprefix(f"{number}/{kind}/"): array
                for key, array in arrays.items()
                if key.startswith(f"{number}/{kind}/")
            }
            for kind in ("matches", "geometry")
        }
        rows = range(int(values["matches"]["indices"].max(initial=-1)) + 1)
        asked = values["matches"].get("asked0", rows), values["matches"].get("asked1", rows)  # of all keypoints
        matches = matches_from_arrays(values["matches"], "", asked)
        geometry = geometry_from_arrays(values["geometry"], len(matches))
        if not isinstance(geometry, TwoViewGeometry):
            raise ValueError("a pair without geometry")
        yield ImagePair(name0, name1), (matches, geometry)
