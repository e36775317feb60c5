"""What every pair selector of the registry keeps."""

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


def test_all_selectors_are_looked_at_that_need_no_file():
    assert set(PAIR_SELECTORS.builtin_names) - {"file"} == {"exhaustive", "sequential"}


def test_a_contract_without_a_component_says_what_to_do():
    with pytest.raises(NotImplementedError, match="PairSelectorContract must define `build`"):
        PairSelectorContract.build()
