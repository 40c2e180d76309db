"""Intervals: published values, scipy as oracle, and their meaning."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from dbt_project.python.intervals import (
    auc_interval,
    f1_interval,
    logit_interval,
    wilson_interval,
)


def _one(successes: int, trials: int) -> tuple[float, float]:
    lower, upper = wilson_interval(np.array([successes]), np.array([trials]))
    return float(lower[0]), float(upper[0])


def test_wilson_interval_equals_published_values() -> None:
    # Newcombe (1998), table I, method 3: 81 of 263 and 15 of 148.
    assert _one(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert _one(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert _one(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@given(st.integers(1, 10_000), st.data())
def test_wilson_interval_equals_scipy(trials: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, trials))
    expected = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert _one(successes, trials) == pytest.approx(
        (expected.low, expected.high), rel=1e-9, abs=1e-12
    )


def test_wilson_interval_without_trials_is_undefined() -> None:
    assert np.isnan(_one(0, 0)).all()


def test_wilson_interval_holds_the_rate_at_its_bounds() -> None:
    assert _one(0, 7)[0] == 0
    assert _one(7, 7)[1] == 1


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_f1_interval_holds_f1(tp: int, fp: int, fn: int) -> None:
    lower, upper = f1_interval(np.array([tp]), np.array([fp]), np.array([fn]))
    if tp + fp + fn == 0:
        assert np.isnan(lower[0])
        assert np.isnan(upper[0])
    else:
        f1 = 2 * tp / (2 * tp + fp + fn)
        assert 0 <= lower[0] <= f1 + 1e-12
        assert f1 - 1e-12 <= upper[0] <= 1


def test_f1_interval_is_wilson_mapped_back() -> None:
    # F1 = 0.8: F/(2 - F) = 2/3, 20 of 30.
    wilson = stats.binomtest(20, 30).proportion_ci(0.95, method="wilson")
    lower, upper = f1_interval(np.array([20]), np.array([4]), np.array([6]))
    assert lower[0] == pytest.approx(2 * wilson.low / (1 + wilson.low))
    assert upper[0] == pytest.approx(2 * wilson.high / (1 + wilson.high))


@given(st.floats(0.001, 0.999), st.floats(1e-8, 0.2))
def test_logit_interval_equals_its_definition(estimate: float, variance: float) -> None:
    half = stats.norm.ppf(0.975) * np.sqrt(variance) / (estimate * (1 - estimate))
    expected = special.expit(special.logit(estimate) + half * np.array([-1, 1]))
    lower, upper = logit_interval(np.array([estimate]), np.array([variance]))
    assert [lower[0], upper[0]] == pytest.approx(list(expected), rel=1e-9, abs=1e-12)


def test_logit_interval_at_the_bounds_is_undefined() -> None:
    lower, upper = logit_interval(np.array([0.0, 1.0]), np.array([0.0, 0.0]))
    assert np.isnan(lower).all()
    assert np.isnan(upper).all()


def test_auc_interval_takes_the_assumed_spread_for_five_rows_of_each_class() -> None:
    # A = 0.8: exponential scores spread 2A²/(1+A) - A² = 16/225 and A/(2-A) - A² = 2/75.
    of_positives, of_negatives, positive, negative = 0.001, 0.0004, 31, 101
    variance = (30 * 0.001 + 5 * 16 / 225 / 31) / 35 + (100 * 0.0004 + 5 * 2 / 75 / 101) / 105
    lower, upper = auc_interval(
        np.array([0.8]),
        np.array([of_positives]),
        np.array([of_negatives]),
        np.array([positive]),
        np.array([negative]),
    )
    expected = logit_interval(np.array([0.8]), np.array([variance]))
    np.testing.assert_allclose((lower, upper), expected, rtol=1e-12)
