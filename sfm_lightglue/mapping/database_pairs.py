"""Which pairs of the database that a mapper works with were matched, and pairs that lose their geometry in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pycolmap

from sfm_lightglue.mapping.mapper_errors import opened_database
from sfm_lightglue.types import ImagePair


def matched_pairs(database: Path) -> frozenset[ImagePair]:
    """The pairs that were matched, also those without matches or without a geometry.

    Raises:
        StoreError: if the database cannot be read.
    """
    with opened_database(database) as opened:
        names = {image.image_id: image.name for image in opened.read_all_images()}
        pair_ids, _ = opened.read_num_matches()
    found = set()
    for pair_id in pair_ids:
        id0, id1 = pycolmap.pair_id_to_image_pair(pair_id)
        found.add(ImagePair(*sorted((names[id0], names[id1]))))
    return frozenset(found)


def remove_geometries(database: Path, pairs: Iterable[ImagePair]) -> None:
    """Take the geometry of pairs out of a database, so that they take no part in mapping; their matches stay.

    Raises:
        StoreError: if the database cannot be written.
    """
    with opened_database(database) as opened, pycolmap.DatabaseTransaction(opened):
        id_from_name = {image.name: image.image_id for image in opened.read_all_images()}
        for pair in sorted(pairs):
            opened.delete_two_view_geometry(id_from_name[pair.name0], id_from_name[pair.name1])
