"""Populations to draw baselines and windows from, as counts of bins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.calibration.drift_windows import Counts

Floats = NDArray[np.float64]
Shares = Callable[[np.random.Generator, int, int], tuple[Counts, Floats]]


@dataclass(frozen=True)
class Population:
    """What baselines and windows are drawn from.

    `draw` takes the rows of a baseline and a number of baselines, and gives the counts of each and
    the true shares of its bins.
    """

    name: str
    draw: Shares
    least_share: float
    is_cut_at_deciles: bool = False


def deciles(
    generator: np.random.Generator, baseline_rows: int, baselines: int
) -> tuple[Counts, Floats]:
    """Cut each baseline at its own deciles, so that their true shares vary.

    Between every tenth of N ordered uniforms lies a share of Dirichlet distribution.
    """
    per_bin = baseline_rows // 10
    shares = generator.dirichlet([per_bin] * 9 + [per_bin + 1], baselines)
    return np.full((baselines, 10), per_bin), shares


def shifted_deciles(sigmas: Floats) -> Floats:
    """Give the shares in the deciles of a normal feature after each of some shifts of its mean."""
    edges = stats.norm.ppf(np.arange(1, 10) / 10)
    moved = stats.norm.cdf(edges - sigmas[:, None])
    return np.asarray(np.diff(moved, prepend=0.0, append=1.0))


def fixed(shares: Floats) -> Shares:
    """Have bins whose true shares are given."""

    def draw(
        generator: np.random.Generator, baseline_rows: int, baselines: int
    ) -> tuple[Counts, Floats]:
        counts = generator.multinomial(baseline_rows, shares, baselines)
        return counts, np.broadcast_to(shares, counts.shape)

    return draw


def _proportional(weights: NDArray[np.floating[Any]]) -> Floats:
    return np.asarray(weights / weights.sum(), dtype=np.float64)


def _populations() -> tuple[Population, ...]:
    geometric = _proportional(0.5 ** np.arange(20))
    zipf = _proportional(1.0 / np.arange(1, 51))
    rare = np.array([0.99, 0.01])
    return (
        Population("deciles of a continuous feature", deciles, 0.1, is_cut_at_deciles=True),
        Population("the same deciles, in a segment", fixed(np.full(10, 0.1)), 0.1),
        Population("20 bins, each half of the one before", fixed(geometric), geometric.min()),
        Population("50 categories by Zipf's law", fixed(zipf), zipf.min()),
        Population("a flag that 1 % of rows have", fixed(rare), rare.min()),
    )


POPULATIONS = _populations()
