"""Images of a folder, with the cameras that a COLMAP database has for them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sfm_lightglue.colmap.known_images import KnownImage
from sfm_lightglue.errors import ConfigError, DataError
from sfm_lightglue.messages import shortened
from sfm_lightglue.types import Scene

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JoinedScene:
    """Images of a folder, with the cameras of a database.

    Args:
        scene: the images.
        known: the images of the database that are among them.
        camera_id_from_idx: COLMAP's ids of the cameras that are in the database.
    """

    scene: Scene
    known: tuple[KnownImage, ...]
    camera_id_from_idx: Mapping[int, int]


def join_scene(found: Scene, known: Sequence[KnownImage], database: Path, known_only: bool = False) -> JoinedScene:
    """Give the images of a folder the cameras that a database has for them.

    An image that is not in the database gets a camera of the database if the images that it would share a camera with
    all have that camera, and the camera is alone in its rig.

    Args:
        found: images of the folder, with the cameras that a new database would have.
        known: images of the database.
        database: for messages.
        known_only: leave out images that are not in the database.

    Raises:
        ConfigError: if `known_only` is set and the database contains no image.
        DataError: if fewer than two images are left, or an image does not have the size of its camera.
    """
    if known_only and not known:
        raise ConfigError(
            f"{database}: contains no image, so `known_only=True` would leave out all images; do without it, or name a"
            " database that contains images"
        )
    known_from_name = {image.name: image for image in known}
    here = tuple(known_from_name[image.name] for image in found.images if image.name in known_from_name)
    _report_missing(found, known, here, database)
    _require_sizes(found, known_from_name, database)
    news = [image.name for image in found.images if image.name not in known_from_name]
    if known and news:
        done = "left out" if known_only else "added"
        logger.warning("%s: %d images that it does not contain are %s: %s", database, len(news), done, shortened(news))
    shared = _cameras_to_share(found, known_from_name)
    idx_from_key: dict[object, int] = {}
    images = []
    for image in found.images:
        owner = known_from_name.get(image.name) or shared.get(image.camera_idx)
        if known_only and image.name not in known_from_name:
            continue
        key = ("new", image.camera_idx) if owner is None else ("known", owner.camera_id)
        camera = image.camera if owner is None else owner.camera
        camera_idx = idx_from_key.setdefault(key, len(idx_from_key))
        images.append(replace(image, camera=camera, camera_idx=camera_idx))
    if len(images) < 2:
        raise DataError(f"{found.root}: only one usable image ({images[0].name}); there is no pair to match")
    camera_id_from_idx = {idx: key[1] for key, idx in idx_from_key.items() if key[0] == "known"}  # type: ignore[index]
    return JoinedScene(Scene(found.root, tuple(images), found.skipped), here, camera_id_from_idx)


def _report_missing(found: Scene, known: Sequence[KnownImage], here: Sequence[KnownImage], database: Path) -> None:
    if known and not here:
        raise DataError(
            f"{database}: none of its {len(known)} images ({known[0].name}, ...) is a readable image below"
            f" {found.root}; give the folder that its names are relative to"
        )
    present = {image.name for image in here}
    missing = [image.name for image in known if image.name not in present]
    if missing:
        logger.warning(
            "%s: %d of its images have no readable file below %s; they keep their features and the matches among"
            " them: %s",
            database,
            len(missing),
            found.root,
            shortened(missing),
        )


def _require_sizes(found: Scene, known_from_name: Mapping[str, KnownImage], database: Path) -> None:
    wrong = [
        f"{image.name} has {image.camera.width} x {image.camera.height} pixels, its camera"
        f" {known.camera.width} x {known.camera.height}"
        for image in found.images
        if (known := known_from_name.get(image.name)) is not None and known.camera.size != image.camera.size
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise DataError(
            f"{database}: {wrong[0]}{more}; are these the images that it was made from, neither resized nor rotated?"
        )


def _cameras_to_share(found: Scene, known_from_name: Mapping[str, KnownImage]) -> dict[int, KnownImage]:
    """For each camera of the folder, an image with the one camera of the database that all of its images have."""
    owners: dict[int, list[KnownImage]] = {}
    for image in found.images:
        if image.name in known_from_name:
            owners.setdefault(image.camera_idx, []).append(known_from_name[image.name])
    return {
        camera_idx: images[0]
        for camera_idx, images in owners.items()
        if len({image.camera_id for image in images}) == 1 and images[0].is_alone_in_rig
    }
