"""What calibration draws from, and that peers compute the same PSI as the reference."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.calibration.populations import POPULATIONS, Population, shifted_deciles


@pytest.mark.parametrize("population", POPULATIONS, ids=lambda population: population.name)
def test_baselines_are_drawn_from_the_shares_given(population: Population) -> None:
    counts, shares = population.draw(np.random.default_rng(1), 1000, 400)
    assert (counts.sum(axis=1) == 1000).all()
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    difference = counts.mean(axis=0) / 1000 - shares.mean(axis=0)
    assert np.abs(difference).max() < 0.005


def test_shifted_deciles_equal_normal_probabilities() -> None:
    unmoved, moved = shifted_deciles(np.array([0.0, 0.5]))
    np.testing.assert_allclose(unmoved, 0.1)
    below = stats.norm.cdf(stats.norm.ppf(0.1), loc=0.5)
    assert moved[0] == pytest.approx(below)
    assert moved.sum() == pytest.approx(1)
