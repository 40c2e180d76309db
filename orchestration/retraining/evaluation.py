"""Challenger against champion, on the same rows that neither has seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dbt_project.python.classification import MIN_LABELS_OF_A_CLASS, binary_statistics

Floats = NDArray[np.float64]
Booleans = NDArray[np.bool_]

METRICS = ("auc", "f1")

# The 0.975 quantile of the standard normal distribution: intervals are at 95 %.
_Z = 1.959963984540054


@dataclass(frozen=True)
class Estimate:
    """A value with its interval at 95 %; NaN where undefined."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True)
class Comparison:
    """One metric of both, each with its own interval, and challenger minus champion.

    The difference's interval is paired: both are measured on the same rows, so it is narrower than
    the two intervals beside each other suggest.
    """

    champion: Estimate
    challenger: Estimate
    difference: Estimate

    @property
    def is_better(self) -> bool:
        """Tell whether the challenger is better beyond the interval of the difference."""
        return self.difference.lower > 0


@dataclass(frozen=True)
class Evaluation:
    """The comparisons by metric (METRICS), and the rows behind them."""

    positive_count: int
    negative_count: int
    auc: Comparison
    f1: Comparison

    def of(self, metric: str) -> Comparison:
        """Give the comparison of `auc` or `f1`."""
        return {"auc": self.auc, "f1": self.f1}[metric]


def evaluate(
    is_positive: Booleans,
    champion_scores: Floats,
    challenger_scores: Floats,
    *,
    champion_threshold: float,
    challenger_threshold: float,
) -> Evaluation:
    """Compare two sets of scores of the same rows; all arrays have the shape (n,).

    Values and their own intervals are those of the performance marts (binary_statistics). Raises
    ValueError where shapes differ, and where a class has fewer than MIN_LABELS_OF_A_CLASS rows:
    intervals mean nothing there.
    """
    rows = len(is_positive)
    if not champion_scores.shape == challenger_scores.shape == (rows,):
        raise ValueError("labels and scores must be vectors of one length")
    positives = int(is_positive.sum())
    if min(positives, rows - positives) < MIN_LABELS_OF_A_CLASS:
        raise ValueError(
            f"{positives} positive and {rows - positives} negative rows: each class needs "
            f"{MIN_LABELS_OF_A_CLASS}"
        )
    statistics = binary_statistics(
        np.repeat([0, 1], rows),
        np.concatenate([champion_scores, challenger_scores]),
        np.tile(is_positive.astype(np.int64), 2),
        np.tile((~is_positive).astype(np.int64), 2),
        np.array([champion_threshold, challenger_threshold]),
        2,
    )

    def comparison(metric: str, difference: Estimate) -> Comparison:
        of_both = [
            Estimate(
                *(
                    float(getattr(statistics, metric + part)[side])
                    for part in ("", "_lower", "_upper")
                )
            )
            for side in (0, 1)
        ]
        return Comparison(of_both[0], of_both[1], difference)

    return Evaluation(
        positives,
        rows - positives,
        auc=comparison("auc", auc_difference(is_positive, champion_scores, challenger_scores)),
        f1=comparison(
            "f1",
            f1_difference(
                is_positive,
                champion_scores >= champion_threshold,
                challenger_scores >= challenger_threshold,
            ),
        ),
    )


def auc_difference(
    is_positive: Booleans, champion_scores: Floats, challenger_scores: Floats
) -> Estimate:
    """Give AUC of the challenger minus that of the champion, with DeLong's paired interval.

    DeLong, DeLong and Clarke-Pearson, "Comparing the areas under two or more correlated receiver
    operating characteristic curves" (Biometrics, 1988). The structural components of the
    difference are the differences of the components, which carries the covariance along.
    """
    of_positives, of_negatives = (
        challenger - champion
        for challenger, champion in zip(
            _structural_components(is_positive, challenger_scores),
            _structural_components(is_positive, champion_scores),
            strict=True,
        )
    )
    variance = of_positives.var(ddof=1) / len(of_positives) + of_negatives.var(ddof=1) / len(
        of_negatives
    )
    return _wald(float(of_positives.mean()), float(variance))


def _structural_components(is_positive: Booleans, scores: Floats) -> tuple[Floats, Floats]:
    """Give V10 of each positive (share of negatives below it) and V01 of each negative.

    From midranks, so ties count half: the rank among all less the rank within its own class is
    the number of the other class below. Sun and Xu, "Fast implementation of DeLong's algorithm"
    (IEEE Signal Processing Letters, 2014).
    """
    of_positives, of_negatives = scores[is_positive], scores[~is_positive]
    # Sorted once, then two look-ups: the mean of `left` and `right` is what lies below, ties half.
    negatives, positives = np.sort(of_negatives), np.sort(of_positives)
    below = _below(negatives, of_positives)
    above = len(positives) - _below(positives, of_negatives)
    return below / len(negatives), above / len(positives)


def _below(ordered: Floats, values: Floats) -> Floats:
    left = np.searchsorted(ordered, values, side="left")
    right = np.searchsorted(ordered, values, side="right")
    return np.asarray((left + right) / 2, dtype=np.float64)


def f1_difference(
    is_positive: Booleans, champion_called: Booleans, challenger_called: Booleans
) -> Estimate:
    """Give F1 of the challenger minus that of the champion, with a paired interval.

    F1 = 2 sum(hit) / sum(called + positive) is a ratio of two means, so each row's influence on it
    is (2 hit - F1 (called + positive)) / mean(called + positive) (Taylor linearisation of a ratio,
    Särndal, Swensson and Wretman, "Model assisted survey sampling", 1992, section 5.6); the
    variance of the difference is that of the rows' difference of influences over n.
    """
    champion, of_champion = _f1_influence(is_positive, champion_called)
    challenger, of_challenger = _f1_influence(is_positive, challenger_called)
    influence = of_challenger - of_champion
    return _wald(challenger - champion, float(influence.var(ddof=1)) / len(influence))


def _f1_influence(is_positive: Booleans, is_called: Booleans) -> tuple[float, Floats]:
    hits = (is_positive & is_called).astype(np.float64)
    weights = is_positive.astype(np.float64) + is_called
    f1 = 2 * hits.sum() / weights.sum()
    return float(f1), (2 * hits - f1 * weights) / weights.mean()


def _wald(difference: float, variance: float) -> Estimate:
    half_width = _Z * float(np.sqrt(variance))
    return Estimate(difference, difference - half_width, difference + half_width)
