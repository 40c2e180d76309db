"""Bins and distances by the definitions of the metrics reference, in NumPy and SciPy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Binning:
    """The bins of one feature: intervals, single values or categories, other, missing, invalid."""

    feature_type: str
    edges: tuple[float, ...] = ()
    points: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    numbers: Numbers = field(default_factory=lambda: np.array([]), compare=False)

    @property
    def size(self) -> int:
        if self.edges:
            return len(self.edges) + 1 + len(self.points) + 2
        return len(self.points) + len(self.categories) + 1 + 2

    def index(self, value: object) -> int:
        missing, invalid = self.size - 2, self.size - 1
        if value is None:
            return missing
        if self.feature_type == "numeric":
            if isinstance(value, bool | str | list) or not math.isfinite(float(value)):  # type: ignore[arg-type]
                return invalid
            number = float(value)  # type: ignore[arg-type]
            if number in self.points:
                return (len(self.edges) + 1 if self.edges else 0) + self.points.index(number)
            if self.edges:
                return sum(edge < number for edge in self.edges)
            return len(self.points)
        if isinstance(value, list) or (
            self.feature_type == "boolean" and not isinstance(value, bool)
        ):
            return invalid
        category = category_text(value)
        if category in self.categories:
            return self.categories.index(category)
        return len(self.categories)


def category_text(value: object) -> str:
    """Give a category as text: 1 and 1.0 are the same."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    return str(value)


def make_binning(feature_type: str, values: Sequence[object]) -> Binning:
    """Make the bins of a feature from its baseline values."""
    if feature_type == "numeric":
        numbers = np.array(
            [
                float(value)
                for value in values
                if isinstance(value, int | float)
                and not isinstance(value, bool)
                and math.isfinite(value)
            ]
        )
        distinct, counts = np.unique(numbers, return_counts=True)
        if len(distinct) <= 20:
            return Binning(feature_type, points=tuple(distinct.tolist()), numbers=numbers)
        is_point = counts * 10 >= len(numbers)
        points = distinct[is_point]
        rest = numbers[~np.isin(numbers, points)]
        deciles = np.unique(np.quantile(rest, np.arange(1, 10) / 10))
        return Binning(
            feature_type, tuple(deciles.tolist()), tuple(points.tolist()), numbers=numbers
        )
    seen = Counter(
        category_text(value)
        for value in values
        if value is not None
        and not isinstance(value, list)
        and (feature_type == "categorical" or isinstance(value, bool))
    )
    ranked = sorted(seen, key=lambda category: (-seen[category], category))
    return Binning(feature_type, categories=tuple(ranked[:50]))


def smoothed(counts: Counts) -> NDArray[np.float64]:
    """Give shares with half a count added to each bin."""
    shares: NDArray[np.float64] = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    return shares


def psi_of(baseline: Counts, current: Counts) -> float:
    """Give the population stability index of two vectors of counts."""
    kept = baseline + current > 0
    p, q = smoothed(baseline[kept]), smoothed(current[kept])
    return float(np.sum((q - p) * np.log(q / p)))


def distances(baseline: Counts, current: Counts) -> dict[str, Any]:
    """Give the columns that depend on the two vectors of counts alone."""
    kept = baseline + current > 0
    a, b = baseline[kept], current[kept]
    p, q = smoothed(a), smoothed(b)
    mean = (p + q) / 2
    psi = float(np.sum((q - p) * np.log(q / p)))
    sampling = 1 / a.sum() + 1 / b.sum()
    noise = (len(a) - 1) * sampling
    divergence = (np.sum(p * np.log2(p / mean)) + np.sum(q * np.log2(q / mean))) / 2
    return {
        "baseline_count": int(a.sum()),
        "current_count": int(b.sum()),
        "bins_kept": len(a),
        "psi": psi,
        "kl_current_baseline": float(np.sum(q * np.log(q / p))),
        "kl_baseline_current": float(np.sum(p * np.log(p / q))),
        "js_distance": math.sqrt(max(float(divergence), 0.0)),
        "hellinger": math.sqrt(float(np.sum((np.sqrt(p) - np.sqrt(q)) ** 2)) / 2),
        "tv_distance": float(np.sum(np.abs(p - q))) / 2,
        "psi_noise": noise,
        "psi_debiased": max(psi - noise, 0.0),
    }


def p_value_of(
    baseline: Counts,
    current: Counts,
    design_effect: float = 1,
    baseline_effect: float = 1,
    decile_bins: int = 0,
) -> float:
    """Give the p-value of a PSI on bins of which those expected to hold under 5 rows are pooled.

    A design effect divides the number of rows that a side is worth. The first `decile_bins` are
    those that the baseline was cut into.
    """
    kept = baseline + current > 0
    is_decile = (np.arange(len(baseline)) < decile_bins)[kept]
    a, b = baseline[kept], current[kept]
    smaller, both = min(a.sum() / baseline_effect, b.sum() / design_effect), a.sum() + b.sum()
    is_rare = np.where(is_decile, a * smaller < 5 * a.sum(), (a + b) * smaller < 5 * both)
    if is_rare.any():
        a = np.append(a[~is_rare], a[is_rare].sum())
        b = np.append(b[~is_rare], b[is_rare].sum())
    if len(a) < 2:
        return 1.0
    p, q = smoothed(a), smoothed(b)
    statistic = np.sum((q - p) * np.log(q / p)) / (
        baseline_effect / a.sum() + design_effect / b.sum()
    )
    return float(stats.chi2.sf(statistic, len(a) - 1))


@cache
def _line(
    edges: tuple[float, ...], points: tuple[float, ...], least: float, greatest: float
) -> tuple[list[float], Numbers, Numbers]:
    """Give the places where distributions bend, and the share of each bin below and up to each."""
    bounds = list(pairwise([least, *edges, greatest])) if edges else []
    pieces = [*bounds, *((point, point) for point in points)]
    places = sorted({place for piece in pieces for place in piece})
    below = np.zeros((len(places), len(pieces)))
    up_to = np.zeros((len(places), len(pieces)))
    for row, place in enumerate(places):
        for column, (lower, upper) in enumerate(pieces):
            if upper > lower:
                share = min(max((place - lower) / (upper - lower), 0.0), 1.0)
                below[row, column] = up_to[row, column] = share
            else:
                below[row, column], up_to[row, column] = lower < place, lower <= place
    return places, below, up_to


def binned_distances(
    binning: Binning, baseline: Counts, current: Counts
) -> tuple[float | None, float | None]:
    """Give the Kolmogorov-Smirnov and the Wasserstein distance of the numbers as binned.

    The mass of an interval lies evenly in it, cut at the baseline's least and greatest number; that
    of a single value at the value. The second is in standard deviations of the baseline.
    """
    numbers = binning.numbers
    if not len(numbers):
        return None, None
    places, below, up_to = _line(
        binning.edges, binning.points, float(numbers.min()), float(numbers.max())
    )
    size = below.shape[1]
    a, b = baseline[:size], current[:size]
    if not a.sum() or not b.sum():
        return None, None
    difference = b / b.sum() - a / a.sum()
    left, right = below @ difference, up_to @ difference
    start, end = np.abs(right[:-1]), np.abs(left[1:])
    # A straight line from place to place: where it crosses zero, two triangles.
    with np.errstate(divide="ignore", invalid="ignore"):
        triangles = (start * start + end * end) / (2 * (start + end))
    heights = np.where(right[:-1] * left[1:] < 0, triangles, (start + end) / 2)
    area = float(np.sum(np.diff(places) * heights))
    deviation = float(np.std(numbers))
    return float(np.abs([left, right]).max()), area / deviation if deviation > 0 else None
