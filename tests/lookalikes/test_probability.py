"""The probability of pairs: unknown cues add nothing, and the fraction of true pairs is that of the scene."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

from sfm_lightglue.lookalikes.cues import PairCues
from sfm_lightglue.lookalikes.probability import (
    PACKAGED_MODEL,
    OverlapModel,
    calibrated_probabilities,
    overlap_probabilities,
    packaged_model,
)
from tests.helpers.checkout import ROOT

MODEL = OverlapModel(("matched_low", "jaccard"), (0.2, 0.5), (0.1, 0.2), (2.0, 1.0), 0.5, 0.5)


def test_the_logit_is_linear_in_standard_cues():
    cues = [PairCues(matched_low=0.3, jaccard=0.3), PairCues(matched_low=0.2), PairCues()]
    np.testing.assert_allclose(MODEL.logits(cues), [0.5 + 2 - 1, 0.5, 0.5])


def test_the_fraction_of_true_pairs_of_a_scene_moves_doubtful_ones():
    doubtful = PairCues(matched_low=0.17, jaccard=0.5)
    sure, wrong = PairCues(matched_low=0.6, jaccard=0.9), PairCues(matched_low=0.0, jaccard=0.0)
    among_true = overlap_probabilities([doubtful, *[sure] * 40], MODEL)
    among_wrong = overlap_probabilities([doubtful, *[wrong] * 40], MODEL)
    assert among_true[0] == pytest.approx(overlap_probabilities([doubtful], MODEL)[0], abs=0.1)
    assert among_true[0] < 0.5
    assert among_wrong[0] < among_true[0] - 0.15
    assert among_true[1:].min() > 0.99
    assert among_wrong[1:].max() < 0.02


def test_the_order_of_the_pairs_does_not_matter():
    rng = np.random.default_rng(0)
    cues = [PairCues(matched_low=value, jaccard=other) for value, other in rng.uniform(0, 1, (20, 2)).tolist()]
    np.testing.assert_allclose(overlap_probabilities(cues, MODEL), overlap_probabilities(cues[::-1], MODEL)[::-1])
    assert len(overlap_probabilities([], MODEL)) == 0


def test_a_model_is_read_as_it_was_written():
    assert OverlapModel.from_mapping(json.loads(json.dumps(MODEL.as_mapping()))) == MODEL


def test_a_calibrated_probability_is_that_of_a_linear_function_of_the_logit():
    calibrated = replace(MODEL, slope=0.5, offset=-0.3)
    plain = replace(MODEL, weights=(1.0, 0.5), bias=0.25 - 0.3)
    cues = [PairCues(matched_low=value, jaccard=0.4) for value in (0.05, 0.2, 0.3)]
    np.testing.assert_allclose(calibrated_probabilities(cues, calibrated), overlap_probabilities(cues, plain))
    np.testing.assert_array_equal(overlap_probabilities(cues, calibrated), overlap_probabilities(cues, MODEL))
    assert len(calibrated_probabilities([], calibrated)) == 0


@pytest.mark.parametrize("slope", [0.0, -1.0])
def test_a_calibration_that_turns_the_order_around_is_refused(slope):
    with pytest.raises(ValueError, match="slope"):
        replace(MODEL, slope=slope)


def test_the_packaged_model_prefers_complete_overlaps():
    assert PACKAGED_MODEL.is_file()
    complete = PairCues(matched_low=0.4, matched_high=0.5, unmatched_cells_low=0.02, unmatched_cells_high=0.05)
    partial = PairCues(matched_low=0.05, matched_high=0.08, unmatched_cells_low=0.5, unmatched_cells_high=0.6)
    logits = packaged_model().logits([complete, partial])
    assert logits[0] > logits[1] + 1


@pytest.mark.parametrize(
    ("fields", "scales", "fraction"),
    [(("matched_low", "size"), (1.0, 1.0), 0.5), (("matched_low",), (0.0,), 0.5), (("matched_low",), (1.0,), 1.0)],
)
def test_numbers_that_do_not_fit_are_refused(fields, scales, fraction):
    zeros = (0.0,) * len(fields)
    with pytest.raises(ValueError, match="OverlapModel"):
        OverlapModel(fields, zeros, scales, zeros, 0.0, fraction)


def test_the_page_lists_the_cues_that_are_used_and_those_that_are_recorded_only() -> None:
    text = (ROOT / "docs/explanation/overlap-model.md").read_text()
    starts = "these twelve cues: ", "scenes-with-twins\\): ", "probability: "
    used, twins, recorded = (re.search(rf"{start}([^.]*)\.", text) for start in starts)
    assert used is not None
    assert twins is not None
    assert recorded is not None
    model = packaged_model()
    assert set(re.findall(r"`(\w+)`", used[1])) == set(model.fields)
    others = [*re.findall(r"`(\w+)`", twins[1]), *re.findall(r"`(\w+)`", recorded[1])]
    assert set(others) == set(PairCues.FIELDS) - set(model.fields)
    assert len(others) == len(set(others))
