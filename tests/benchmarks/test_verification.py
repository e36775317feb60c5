"""Two checkouts verify the same matched pairs; here a checkout beside itself."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.verification import as_table, compare, error_deg
from benchmarks.verification_checkouts import CheckoutVerifier, Verdict, plain_pair
from tests.helpers.checkout import ROOT
from tests.helpers.point_views import SIZE, make_features, make_views


def test_equal_checkouts_give_equal_verdicts():
    views = make_views(num_points=60, outlier_ratio=0.2)
    noise = np.random.default_rng(0).uniform(0, SIZE, (2, len(views.matches), 2))
    apart = replace(views, features=tuple(make_features(points, SIZE) for points in noise))
    pairs = [
        plain_pair(one.features, one.matches, one.cameras, truth, truth is not None)
        for one, truth in ((views, views.pose), (apart, None))
    ]
    with CheckoutVerifier(ROOT) as this, CheckoutVerifier(ROOT) as other:
        verdicts = compare({"points": pairs}, {"a: this": this, "b: other": other}, 2)
    rows = list(zip(*verdicts["points"].values(), strict=True))
    assert len(rows) == 4
    for (_, one), (_, another) in rows:
        assert one.cpu_s > 0
        assert np.array_equal(one.R, another.R)
    table = [[cell.strip() for cell in line.split("|")] for line in as_table(verdicts).splitlines()[2:]]
    assert [row[1:4] for row in table] == [["points", "a: this", "4"], ["points", "b: other", "4"]]
    assert [row[-3] for row in table] == ["2", "2"]  # the pair without a common view is rejected
    assert table[1][-2] == "1.00"
    assert float(table[0][9]) > 0.8


def test_a_rejected_pair_has_an_infinite_error():
    assert error_deg(Verdict(0.0, None, None), (np.eye(3), np.ones(3))) == np.inf


def test_a_folder_that_is_no_checkout_is_refused(tmp_path, capfd):
    with CheckoutVerifier(tmp_path) as verifier, pytest.raises((EOFError, BrokenPipeError)):
        verifier.verify({}, 0)
    assert "not a checkout of this project" in capfd.readouterr().err
