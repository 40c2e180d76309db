"""How often the 95 % intervals of AUC and F1 hold the true value."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.findings import Bar, Study, Table
from dbt_project.python.classification import binary_statistics

AUCS = (0.70, 0.80, 0.90, 0.95)
CLASS_ROWS = ((30, 30), (30, 300), (30, 3_000), (300, 300), (300, 3_000), (3_000, 3_000))
# Of the labelled rows, the share of positives that the threshold finds.
RECALLS = (0.5, 0.8)
LEAST, MOST = 0.92, 0.97
# So many rows are handed over at once.
_ROWS_AT_ONCE = 2_000_000


def interval_coverage(samples: int, seed: int) -> Study:
    """Score samples of two normal classes, whose AUC and F1 are known."""
    auc = {
        (auc, rows): _auc_coverage(auc, *rows, samples, seed) for auc in AUCS for rows in CLASS_ROWS
    }
    f1 = {
        (auc, recall, rows): _f1_coverage(auc, recall, *rows, samples, seed)
        for auc in AUCS
        for recall in RECALLS
        for rows in CLASS_ROWS
    }
    seen = [*auc.values(), *f1.values()]
    headers = [f"{positives:,} + {negatives:,}" for positives, negatives in CLASS_ROWS]
    return Study(
        title="Intervals: how often they hold the truth",
        method=(
            f"{samples:,} samples a cell of scores that are normal in both classes, so that the "
            "true AUC and F1 are known. Columns: rows of the positive and of the negative class "
            "(for F1, where classes are drawn, their mean). An interval at 95 % should hold the "
            "truth in 95 % of samples."
        ),
        tables=[
            Table(
                ("AUC", *headers),
                [
                    (f"{value:.2f}", *(f"{auc[value, rows]:.1%}" for rows in CLASS_ROWS))
                    for value in AUCS
                ],
            ),
            Table(
                ("F1 at AUC, recall", *headers),
                [
                    (
                        f"{value:.2f}, {recall:.0%}",
                        *(f"{f1[value, recall, rows]:.1%}" for rows in CLASS_ROWS),
                    )
                    for value in AUCS
                    for recall in RECALLS
                ],
            ),
        ],
        bars=[
            Bar("≥ 92 % everywhere", 100 * min(seen), least=100 * LEAST, unit=" %"),
            Bar("≤ 97 % everywhere", 100 * max(seen), most=100 * MOST, unit=" %"),
        ],
    )


def _auc_coverage(auc: float, positives: int, negatives: int, samples: int, seed: int) -> float:
    generator = np.random.default_rng([seed, 3, int(100 * auc), positives, negatives])
    distance = np.sqrt(2) * stats.norm.ppf(auc)
    total = positives + negatives
    is_positive = np.arange(total) < positives
    holds: list[NDArray[np.bool_]] = []
    while sum(map(len, holds)) < samples:
        count = min(samples - sum(map(len, holds)), max(1, _ROWS_AT_ONCE // total))
        score = generator.standard_normal((count, total)) + distance * is_positive
        labels = np.tile(is_positive, count).astype(np.int64)
        found = binary_statistics(
            group=np.repeat(np.arange(count), total),
            score=score.ravel(),
            positives=labels,
            negatives=1 - labels,
            threshold=0.0,
            group_count=count,
        )
        # Where all pairs are in order there is no interval, and it holds nothing.
        holds.append((found.auc_lower <= auc) & (auc <= found.auc_upper))
    return float(np.mean(np.concatenate(holds)))


def _f1_coverage(
    auc: float, recall: float, positives: int, negatives: int, samples: int, seed: int
) -> float:
    """Only the side of the threshold matters: the scores are 0 and 1."""
    generator = np.random.default_rng(
        [seed, 4, int(100 * auc), int(100 * recall), positives, negatives]
    )
    threshold = np.sqrt(2) * stats.norm.ppf(auc) - stats.norm.ppf(recall)
    total = positives + negatives
    found, missed = positives * recall, positives * (1 - recall)
    false = negatives * stats.norm.sf(threshold)
    truth = 2 * found / (found + false + positives)
    shares = np.array([found, missed, false, negatives - false]) / total
    drawn = generator.multinomial(total, shares, samples)
    nothing = np.zeros(samples, dtype=np.int64)
    statistics = binary_statistics(
        group=np.tile(np.arange(samples), 4),
        score=np.repeat([1.0, 0.0, 1.0, 0.0], samples),
        positives=np.concatenate([drawn[:, 0], drawn[:, 1], nothing, nothing]),
        negatives=np.concatenate([nothing, nothing, drawn[:, 2], drawn[:, 3]]),
        threshold=0.5,
        group_count=samples,
    )
    return float(np.mean((statistics.f1_lower <= truth) & (truth <= statistics.f1_upper)))
