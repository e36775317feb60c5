"""What every extractor of the registry keeps."""

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
        except WeightsError as error:  # some load them when they are first needed
            pytest.skip(f"{request.param} needs weights that are not here: {error}")
        return built


def test_a_contract_without_a_component_says_what_to_do():
    with pytest.raises(NotImplementedError, match="ExtractorContract must define `build`"):
        ExtractorContract.build()
