"""Options of densifying."""

import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.mapping.density_config import DensityConfig


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"level": "thick"}, "density.level"),
        ({"max_error_px": 0.0}, "density.max_error_px"),
        ({"min_track_length": 1}, "density.min_track_length"),
        ({"max_ratio": 2.0}, "density.max_ratio"),
    ],
)
def test_impossible_options_are_named(values, name):
    with pytest.raises(ConfigError, match=name):
        DensityConfig(**values)


def test_images_choose_no_more_partners_than_there_are():
    config = DensityConfig(max_matched_partners=4, max_partners=3)
    assert [config.num_matched_partners(num) for num in (0, 1, 2, 4, 9)] == [0, 0, 1, 3, 3]
