"""Every mapper of the registry passes the contract."""

import pytest

from sfm_lightglue.registry.builtin import MAPPERS
from sfm_lightglue.testing import MapperContract


class TestIncremental(MapperContract):
    @classmethod
    def build(cls):
        return MAPPERS.build(MAPPERS.choose("incremental"))


class TestGlobal(MapperContract):
    @classmethod
    def build(cls):
        return MAPPERS.build(MAPPERS.choose("global"))


class TestHierarchical(MapperContract):
    @classmethod
    def build(cls):
        return MAPPERS.build(MAPPERS.choose("hierarchical", {"max_part_size": 6, "part_overlap": 4}))


class TestKnownPoses(MapperContract):
    @classmethod
    def build(cls):
        return MAPPERS.build(MAPPERS.choose("known_poses"))

    @classmethod
    def known_poses(cls, truth):
        return truth


class TestAuto(MapperContract):
    @classmethod
    def build(cls):
        return MAPPERS.build(MAPPERS.choose("auto"))


def test_all_mappers_are_tested():
    assert set(MAPPERS.builtin_names) == {"incremental", "global", "hierarchical", "auto", "known_poses"}


def test_a_contract_without_a_component_reports_what_to_define():
    with pytest.raises(NotImplementedError, match="MapperContract must define `build`"):
        MapperContract.build()
