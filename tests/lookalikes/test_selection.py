"""Which pairs take part in mapping: parts are never joined by one doubtful pair, and trusted pairs always take part."""

import numpy as np
import pytest

from sfm_lightglue.errors import ConfigError
from sfm_lightglue.lookalikes.config import LookalikesConfig
from sfm_lightglue.lookalikes.selection import select_pairs
from tests.helpers.lookalike_views import Walk

AUTO, STRICT, OFF = (LookalikesConfig(mode) for mode in ("auto", "strict", "off"))
WALK = Walk([0, 100, 200, 1500, 1600, 1700, 2400])
TRUE = [(0, 1, 0.99), (1, 2, 0.98), (3, 4, 0.97), (4, 5, 0.96)]
WRONG = [(0, 6, 0.01), (1, 6, 0.01), (2, 6, 0.02)]


def select(listed, config=AUTO, trusted=()):
    pairs = [WALK.pair(i, j) if abs(i - j) < 3 else WALK.pair(i, j, 0.0) for i, j, _ in listed]
    probabilities = np.array([probability for _, _, probability in listed])
    is_trusted = np.array([(i, j) in trusted for i, j, _ in listed])
    selection = select_pairs(WALK.images, pairs, probabilities, is_trusted, config)
    return {(i, j) for (i, j, _), used in zip(listed, selection.is_used.tolist(), strict=True) if used}, selection.part


def names(listed):
    return {(i, j) for i, j, _ in listed}


def test_one_doubtful_pair_joins_no_parts():
    used, part = select([*TRUE, *WRONG, (2, 3, 0.45)])
    assert used == names(TRUE)
    assert part[0] == part[2] != part[3]


def test_several_doubtful_pairs_without_a_common_image_join_parts():
    joining = [(2, 3, 0.49), (1, 4, 0.48), (0, 5, 0.47)]
    assert select([*TRUE, *WRONG, *joining])[0] == names(TRUE)  # the probability that one is true is .86
    enough = [(2, 3, 0.49), (1, 4, 0.49), (0, 5, 0.49)]
    config = LookalikesConfig(min_probability=0.7)
    surer = [(i, j, probability + 0.1) for i, j, probability in enough]
    used, part = select([*TRUE, *WRONG, *surer], config)
    assert used == names([*TRUE, *surer])
    assert part[0] == part[5]


def test_pairs_of_one_image_are_no_independent_evidence():
    star = [(2, 3, 0.49), (2, 4, 0.49), (2, 5, 0.49)]
    assert select([*TRUE, *WRONG, *star])[0] == names(TRUE)


def test_a_doubtful_pair_that_tracks_confirm_takes_part():
    used, _ = select([*TRUE, *WRONG, (0, 2, 0.2)])
    assert used == names(TRUE) | {(0, 2)}


def test_confirmed_pairs_are_told():
    pairs = [WALK.pair(0, 1), WALK.pair(1, 2), WALK.pair(0, 2), WALK.pair(2, 6, 0.0)]
    selection = select_pairs(WALK.images, pairs, np.array([0.9, 0.9, 0.2, 0.01]), np.zeros(4, np.bool_), AUTO)
    assert selection.is_confirmed.tolist() == [False, False, True, False]
    assert selection.is_used.all()
    assert not selection.has_look_alikes


def test_a_doubtful_pair_that_tracks_cross_takes_no_part():
    pairs = [WALK.pair(0, 1), WALK.pair(1, 2), WALK.pair(0, 2, shift=1), *(WALK.pair(i, 6, 0.0) for i in range(3))]
    probabilities = np.array([0.9, 0.9, 0.2, 0.01, 0.01, 0.01])
    selection = select_pairs(WALK.images, pairs, probabilities, np.zeros(6, np.bool_), AUTO)
    assert selection.is_used.tolist() == [True, True, False, False, False, False]


def test_a_scene_without_wrong_pairs_keeps_all():
    listed = [*TRUE, (2, 3, 0.45), (5, 6, 0.05)]
    assert select(listed)[0] == names(listed)
    trusted = {(0, 6), (1, 6)}
    assert select([*TRUE, *WRONG], trusted=trusted)[0] == names([*TRUE, *WRONG])  # only one is left


def test_pairs_that_look_wrong_but_are_confirmed_are_no_sign_of_look_alikes():
    listed = [*TRUE, (0, 2, 0.01), (3, 5, 0.01), (5, 6, 0.01), (2, 3, 0.3)]
    assert select(listed)[0] == names(listed)


def test_strict_uses_no_doubtful_pair_and_off_uses_all():
    listed = [*TRUE, (0, 2, 0.4), (2, 3, 0.45)]
    assert select(listed, STRICT)[0] == names(TRUE)
    assert select([*listed, *WRONG], OFF)[0] == names([*listed, *WRONG])


@pytest.mark.parametrize("config", [AUTO, STRICT])
def test_a_trusted_pair_always_takes_part(config):
    used, part = select([*TRUE, *WRONG, (2, 3, 0.001)], config, trusted={(2, 3)})
    assert (2, 3) in used
    assert part[0] == part[3]


def test_the_order_of_the_pairs_does_not_matter():
    listed = [*TRUE, *WRONG, (0, 2, 0.2), (2, 3, 0.49), (1, 4, 0.48)]
    assert select(listed)[0] == select(listed[::-1])[0]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"mode": "always"}, "auto, off or strict"),
        ({"min_probability": 1.5}, "min_probability"),
        ({"trust_pairs": 3}, "path of a file"),
    ],
)
def test_bad_options_are_refused(values, text):
    with pytest.raises(ConfigError, match=text):
        LookalikesConfig(**values)
