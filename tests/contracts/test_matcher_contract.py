"""The contract of matchers, for each matcher of the registry."""

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.registry.builtin import MATCHERS
from sfm_lightglue.testing import MatcherContract
from tests.contracts.components import build


class TestMatcher(MatcherContract):
    @pytest.fixture(scope="class", params=MATCHERS.builtin_names)
    @classmethod
    def matcher(cls, request, pair):
        built = build(MATCHERS, request.param)
        try:
            built.match(*pair)
        except ConfigError as error:
            if "dimensions" not in str(error):
                raise
            pytest.skip(f"{request.param} does not match SIFT features: {error}")
        return built
