"""Judged models of the mapping in the store: the start of densifying, also after an interrupted run."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pycolmap

from sfm_lightglue.arrays import AnyArray
from sfm_lightglue.colmap.quiet_log import quiet_log
from sfm_lightglue.errors import DataError
from sfm_lightglue.mapping.camera_groups import CameraGroup
from sfm_lightglue.mapping.judgement import JudgedModel
from sfm_lightglue.mapping.model_files import check_packed_models, pack_models
from sfm_lightglue.mapping.verdict import Check, ImageVerdict, ModelVerdict, Outcome
from sfm_lightglue.store.atomic_file import store_errors
from sfm_lightglue.store.store import Store
from sfm_lightglue.types import Camera

logger = logging.getLogger(__name__)

MAPPED_KIND = "mapped"
"""Kind of the entries in the store."""


def save_mapped(
    store: Store, key: str, judged: Sequence[JudgedModel], groups: Sequence[CameraGroup], work: Path
) -> None:
    """Save judged models, which may be none.

    Args:
        store: of the run.
        key: of everything that they depend on.
        judged: the models.
        groups: images that got another camera than in the scene.
        work: an existing folder for intermediate files.

    Raises:
        StoreError: if the store cannot be written.
    """
    packed = pack_models({_path(i): each.model for i, each in enumerate(judged)}, work)
    record = {
        "verdicts": [dataclasses.asdict(each.verdict) for each in judged],
        "groups": [dataclasses.asdict(group) for group in groups],
    }
    store.save(MAPPED_KIND, key, {"record": np.array(json.dumps(record, sort_keys=True)), **packed})


def read_mapped(store: Store, key: str, work: Path) -> tuple[list[JudgedModel], tuple[CameraGroup, ...]] | None:
    """The judged models of a key and their camera groups; None if the store has none, or a damaged entry. Not counted.

    Args:
        store: of the run.
        key: as for `save_mapped`.
        work: an existing folder for intermediate files.
    """
    arrays = store.read(MAPPED_KIND, key)
    if arrays is None:
        return None
    try:
        return _unpacked(arrays, work)
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:  # of JSON, or of its fields
        logger.warning("%s: not usable, will be computed again (%s)", store.path(MAPPED_KIND, key), error)
        return None


def _path(index: int) -> str:
    return f"mapped/{index}"


def _unpacked(arrays: Mapping[str, AnyArray], work: Path) -> tuple[list[JudgedModel], tuple[CameraGroup, ...]]:
    """The models of an entry.

    Raises:
        DataError: if the files of a model are incomplete or damaged.
        KeyError, TypeError, ValueError, AttributeError: if the verdicts are incomplete or damaged.
    """
    files = dict(arrays)
    record = json.loads(str(files.pop("record")))
    verdicts = [_verdict(values) for values in record["verdicts"]]
    groups = tuple(CameraGroup(tuple(group["names"]), Camera(**group["camera"])) for group in record["groups"])
    check_packed_models(files, [_path(i) for i in range(len(verdicts))])
    with store_errors(work):
        for name, content in files.items():
            path = work / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.tobytes())
    judged = []
    for index, verdict in enumerate(verdicts):
        with quiet_log():
            judged.append(JudgedModel(pycolmap.Reconstruction(work / _path(index)), verdict))
    return judged, groups


def _verdict(values: Mapping[str, Any]) -> ModelVerdict:
    outcome = values["outcome"]
    if outcome not in get_args(Outcome):
        raise ValueError(f"{outcome!r} is no outcome")
    return ModelVerdict(
        outcome,
        {name: Check(**check) for name, check in values["checks"].items()},
        {name: ImageVerdict(**image) for name, image in values["images"].items()},
        tuple(values.get("notes", ())),  # entries of earlier versions have none
        tuple((str(name0), str(name1)) for name0, name1 in values.get("left_out", ())),
        tuple(str(name) for name in values.get("maybe_folded", ())),
    )
