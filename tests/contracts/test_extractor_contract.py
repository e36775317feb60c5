"""The contract of extractors, for each extractor of the registry."""

import pytest

from sfm_lightglue.errors import WeightsError
from sfm_lightglue.images.image import Image
from sfm_lightglue.registry.builtin import EXTRACTORS
from sfm_lightglue.testing import ExtractorContract, textured
from tests.contracts.components import build


class TestExtractor(ExtractorContract):
    @pytest.fixture(scope="class", params=EXTRACTORS.builtin_names)
    @classmethod
    def extractor(cls, request):
        built = build(EXTRACTORS, request.param)
        try:
            built.extract(Image.from_array(textured(64, 64)))
        except WeightsError as error:  # some load their weights at the first use
            pytest.skip(f"{request.param} needs missing weights: {error}")
        return built


def test_the_error_for_a_contract_without_a_component_names_build():
    with pytest.raises(NotImplementedError, match="ExtractorContract must define `build`"):
        ExtractorContract.build()
