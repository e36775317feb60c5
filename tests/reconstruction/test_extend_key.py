"""What the models of an extension depend on is part of their key."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from sfm_lightglue.execution.executor import SERIAL
from sfm_lightglue.reconstruction import extend_run
from sfm_lightglue.reconstruction.config import ReconstructConfig
from sfm_lightglue.reconstruction.extend_base import ExtendedScene
from sfm_lightglue.reconstruction.extend_run import ExtensionJob, extension_key
from sfm_lightglue.types import ImagePair, Scene

IDENTITY = SimpleNamespace(identity="one")
EXTENDED = ExtendedScene(Scene(Path("photos"), ()), frozenset(), frozenset())


def job(**values):
    base, components = SimpleNamespace(key="base", database=None), SimpleNamespace(extractor=IDENTITY, matcher=IDENTITY)
    fields = dict.fromkeys(ExtensionJob.__slots__) | {
        "config": ReconstructConfig(),
        "extended": EXTENDED,
        "base": base,
        "components": components,
        "excluded": (),
        "trusted": (),
        "executor": SERIAL,
    }
    return ExtensionJob(**fields | values)


def test_the_key_is_repeatable():
    assert extension_key(job(), True) == extension_key(job(), True)


@pytest.mark.parametrize(
    "other",
    [
        {"excluded": (ImagePair("a.jpg", "b.jpg"),)},
        {"trusted": (ImagePair("a.jpg", "b.jpg"),)},
        {"extended": replace(EXTENDED, constant_camera_ids=frozenset({1}))},
        {"extended": replace(EXTENDED, guessed_camera_ids=frozenset({1}))},
    ],
)
def test_excluded_pairs_and_the_kinds_of_cameras_are_in_the_key(other):
    assert extension_key(job(**other), True) != extension_key(job(), True)


def test_the_kind_of_keypoints_and_the_version_of_weighing_are_in_the_key(monkeypatch):
    key = extension_key(job(), True)
    assert extension_key(job(), False) != key
    assert extension_key(job(base=SimpleNamespace(key="base", database=Path("database.db"))), True) != key
    monkeypatch.setattr(extend_run, "WEIGHING_VERSION", -1)
    assert extension_key(job(), True) != key


def test_the_order_of_camera_ids_does_not_matter():
    many = [frozenset(ids) for ids in ([1, 9, 17, 33], [33, 17, 9, 1])]
    first, second = (extension_key(job(extended=replace(EXTENDED, constant_camera_ids=ids)), True) for ids in many)
    assert first == second
