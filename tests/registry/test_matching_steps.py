"""In how many steps jobs match pairs, and which matcher is the thorough one."""

from __future__ import annotations

from sfm_lightglue.localization.config import LocalizeConfig
from sfm_lightglue.matchers.lightglue import LightGlueMatcherConfig
from sfm_lightglue.reconstruction.config import DatabaseConfig, ReconstructConfig
from sfm_lightglue.registry.builtin import MATCHERS
from sfm_lightglue.registry.matching_steps import quick_first, thorough_limits, without_quick_limits
from sfm_lightglue.registry.registry import Choice


def of(**options: float | None) -> Choice:
    return Choice("lightglue", LightGlueMatcherConfig(**options))  # type: ignore[arg-type]


def limits(choice: Choice) -> tuple[object, ...]:
    return tuple(getattr(choice.config, name) for name in ("first_keypoints", "enough_matches", "min_best_score"))


def test_a_reconstruction_begins_with_quick_limits_and_other_jobs_do_not() -> None:
    assert limits(ReconstructConfig().matcher) == (640, 40.0, 0.6)
    assert limits(LocalizeConfig().matcher) == (640, None, None)
    assert limits(DatabaseConfig().matcher) == (None, None, None)


def test_given_limits_stay() -> None:
    assert limits(quick_first(of(enough_matches=0.0))) == (640, 0.0, 0.6)
    assert limits(quick_first(of(min_best_score=0.0, first_keypoints=99))) == (99, 40.0, 0.0)
    assert limits(quick_first(of(first_keypoints=0))) == (0, None, None)
    nearest = MATCHERS.choose("nearest")
    assert quick_first(nearest) is nearest


def test_the_thorough_matcher_has_the_usual_limits() -> None:
    assert thorough_limits(quick_first(of())) == (80.0, 0.5)
    assert thorough_limits(of(first_keypoints=640)) is None, "there is only one"


def test_there_is_no_thorough_matcher_beside_given_limits_or_of_other_matchers() -> None:
    for options in ({"enough_matches": 30.0}, {"min_best_score": 0.55}, {"first_keypoints": 0}):
        assert thorough_limits(quick_first(of(**options))) is None
    assert thorough_limits(MATCHERS.choose("nearest")) is None


def test_the_configuration_of_a_record_has_the_same_thorough_matcher() -> None:
    config = ReconstructConfig()
    assert thorough_limits(ReconstructConfig.from_mapping(config.as_mapping()).matcher) == thorough_limits(
        config.matcher
    )


def test_other_jobs_with_the_options_of_a_reconstruction_have_the_usual_limits() -> None:
    table = ReconstructConfig().as_mapping()["matcher"]
    others = LocalizeConfig.from_mapping({"matcher": without_quick_limits(table)}).matcher
    assert limits(others) == (640, None, None)
    given = {"enough_matches": 40.0, "min_best_score": 0.3, "first_keypoints": 99}
    assert without_quick_limits(given) == given
