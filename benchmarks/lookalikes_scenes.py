"""The scenes of the benchmark of look-alikes: rendered ones, two real walks, and scenes without look-alikes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from datasets.ground_truth import read_scene
from datasets.shared import find_scene_path, shared_data_root
from sfm_lightglue.errors import DataError
from sfm_lightglue.geometry.transforms import Rigid3
from sfm_lightglue.store.atomic_file import atomic_write
from sfm_lightglue.synthetic import Town, read_truth, write_scene, write_town
from sfm_lightglue.synthetic.lookalikes import LookalikeScene, connected_groups, overlap_matrix, render_lookalikes

SIZE = (400, 300)
"""(width, height) of the rendered images."""


def _scene(name: str, properties: str, seed: int) -> LookalikeScene:
    """A scene whose kind is its name without the digit; letters: d difference, n dense, o ordered, r revisit."""
    return LookalikeScene(name, name[:-1], *(letter in properties for letter in "dnor"), seed)


SCENES = (
    _scene("house1", "no", 101),
    _scene("house2", "d", 102),
    _scene("street1", "no", 103),
    _scene("street2", "r", 104),
    _scene("square1", "dn", 105),
    _scene("square2", "o", 106),
    _scene("tower1", "do", 107),
    _scene("tower2", "n", 108),
    _scene("shelves1", "n", 109),
    _scene("shelves2", "dor", 110),
    _scene("corridor1", "dno", 111),
    _scene("corridor2", "", 112),
    _scene("table1", "no", 113),
    _scene("table2", "dr", 114),
    _scene("rooms1", "", 115),
    _scene("rooms2", "dno", 116),
    _scene("pillars1", "nor", 117),
    _scene("pillars2", "d", 118),
    _scene("cars1", "n", 119),
    _scene("cars2", "dnor", 120),
    _scene("fence1", "o", 121),
    _scene("fence2", "dnr", 122),
    _scene("floors1", "dno", 123),
    _scene("floors2", "r", 124),
)
"""24 rendered scenes of 12 kinds."""

WALKS = {"street19": 0.98, "books21": 0.9}
"""Real walks with look-alikes, and the least rank correlation between number and place of a right model."""

PLAIN = (
    *("fountain_p11", "lund_door", "copr_drone", "brighton_beach", "cyprus_rotated", "lund_gps", "hololens"),
    *("tsukuba", "town"),
)
"""Scenes without look-alikes, on which nothing may be lost."""

SHUFFLED = "-shuffled"
"""End of the name of a walk whose images have names in random order."""

_TOWN_IMAGES = 30


@dataclass(frozen=True, eq=False, slots=True)
class LookalikeSet:
    """Images of a scene with what is known of the truth.

    Args:
        name: of the scene.
        image_root: folder of its images.
        poses: true cam_from_world by name; empty if they are not known.
        number_from_name: true numbers of the images of a walk, empty for other scenes.
        min_correlation: see `WALKS`.
        groups: names of the images that can be in one model.
        is_plain: whether it is without look-alikes.
    """

    name: str
    image_root: Path
    poses: Mapping[str, Rigid3]
    number_from_name: Mapping[str, int]
    min_correlation: float
    groups: tuple[tuple[str, ...], ...]
    is_plain: bool = False


def all_names() -> tuple[str, ...]:
    """Names of all scenes: rendered ones, walks, walks with shuffled names, and plain ones."""
    walks = [name + end for name in WALKS for end in ("", SHUFFLED)]
    return (*(scene.name for scene in SCENES), *walks, *PLAIN)


def open_set(name: str, work: Path, data: Path | None, seed: int = 0, shuffle: bool = False) -> LookalikeSet:
    """Render or find a scene.

    Args:
        name: one of `all_names`.
        work: folder of rendered scenes; what is there is not rendered again.
        data: folder of the shared data, None for the default.
        seed: added to the seed of a rendered scene; 0 for the suite.
        shuffle: give the images of rendered scenes names in random order.

    Raises:
        DataError: if there is no such scene.
    """
    rendered = {scene.name: scene for scene in SCENES}
    if name in rendered:
        scene = rendered[name]
        ordered = scene.ordered and not shuffle
        return rendered_set(replace(scene, seed=scene.seed + 1000 * seed, ordered=ordered), work)
    if name.removesuffix(SHUFFLED) in WALKS:
        return _walk(name, work, data)
    if name not in PLAIN:
        raise DataError(f"scene {name}: unknown; there are {', '.join(all_names())}")
    path = _town(work) if name == "town" else find_scene_path(name, data)
    truth = read_scene(path)
    images = tuple(sorted(entry.name for entry in truth.image_root.iterdir() if entry.is_file()))
    return LookalikeSet(name, truth.image_root, truth.cam_from_world_from_name, {}, 0, (images,), is_plain=True)


def rendered_set(scene: LookalikeScene, work: Path, size: tuple[int, int] = SIZE) -> LookalikeSet:
    """A rendered scene, from the folder if it was rendered before."""
    end = "" if scene.ordered else "_shuffled"
    root = work / f"{scene.name}_{size[0]}_{scene.seed}{end}"
    groups_file = root / "groups.json"
    if not groups_file.is_file() or not (root / "truth.json").is_file():
        print(f"rendering {root.name}", file=sys.stderr, flush=True)
        rendered = render_lookalikes(scene, size)
        write_scene(rendered, root)
        groups = connected_groups(rendered.names, overlap_matrix(rendered))
        with atomic_write(groups_file) as file:
            file.write(json.dumps(groups).encode())
    _, poses = read_truth(root)
    groups = tuple(tuple(group) for group in json.loads(groups_file.read_text(encoding="utf-8")))
    return LookalikeSet(scene.name, root / "images", poses, {}, 0, groups)


def _walk(name: str, work: Path, data: Path | None) -> LookalikeSet:
    """A real walk; with shuffled names, a folder of links to its images."""
    walk = name.removesuffix(SHUFFLED)
    root = shared_data_root(data) / "lookalikes" / walk / "images"
    paths = sorted(path for path in root.iterdir() if path.is_file())
    number_from_name = {path.name: number for number, path in enumerate(paths)}
    if name != walk:
        linked = work / name / "images"
        linked.mkdir(parents=True, exist_ok=True)
        number_from_name = {}
        for position, number in enumerate(np.random.default_rng(0).permutation(len(paths)).tolist()):
            link = linked / f"photo_{position:02d}{paths[number].suffix}"
            number_from_name[link.name] = number
            if not link.is_symlink():
                os.symlink(paths[number].resolve(), link)
        root = linked
    return LookalikeSet(name, root, {}, number_from_name, WALKS[walk], (tuple(sorted(number_from_name)),))


def _town(work: Path) -> Path:
    root = work / "town"
    if not (root / "truth.json").is_file():
        write_town(Town(_TOWN_IMAGES, (640, 480), 0), root, 1)
    return root
