"""The contract of pair selectors, for each pair selector of the registry that needs no file."""

import pytest

from sfm_lightglue.registry.builtin import PAIR_SELECTORS
from sfm_lightglue.testing import PairSelectorContract


class TestExhaustive(PairSelectorContract):
    @classmethod
    def build(cls):
        return PAIR_SELECTORS.build(PAIR_SELECTORS.choose("exhaustive"))


class TestSequential(PairSelectorContract):
    @classmethod
    def build(cls):
        return PAIR_SELECTORS.build(PAIR_SELECTORS.choose("sequential", {"window": 2}))


def test_all_selectors_without_files_are_tested():
    assert set(PAIR_SELECTORS.builtin_names) - {"file"} == {"exhaustive", "sequential"}


def test_the_error_for_a_contract_without_a_component_names_build():
    with pytest.raises(NotImplementedError, match="PairSelectorContract must define `build`"):
        PairSelectorContract.build()
