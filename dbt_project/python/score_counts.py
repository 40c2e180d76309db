"""Labelled rows counted by score: what the statistics of binary classifiers are computed from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from dbt_project.python.undefined import Booleans, Floats, Integers


@dataclass(frozen=True)
class ScoreCounts:
    """Rows in order of (group, score), each pair once; `group` lies in [0, group_count)."""

    group: Integers
    score: Floats
    positives: Integers
    negatives: Integers
    group_count: int

    @classmethod
    def sorted_from(
        cls,
        group: ArrayLike,
        score: ArrayLike,
        positives: ArrayLike,
        negatives: ArrayLike,
        group_count: int,
    ) -> ScoreCounts:
        """Sort rows that come in any order and may repeat a score; see `binary_statistics`."""
        groups = np.asarray(group, dtype=np.int64)
        scores = np.asarray(score, dtype=np.float64) + 0.0  # -0.0 and 0.0 are one score
        counts = [np.asarray(c, dtype=np.int64) for c in (positives, negatives)]
        if not groups.ndim == 1 == scores.ndim or any(
            c.shape != groups.shape for c in (scores, *counts)
        ):
            raise ValueError("group, score, positives and negatives must be vectors of one length")
        if groups.size and not (groups.min() >= 0 and groups.max() < group_count):
            raise ValueError(f"group must lie in [0, {group_count})")
        if not np.isfinite(scores).all():
            raise ValueError("score must be finite: leave rows without a score out")
        if any((c < 0).any() for c in counts):
            raise ValueError("positives and negatives are counts: they cannot be negative")
        order = np.lexsort((scores, groups))
        groups, scores = groups[order], scores[order]
        is_first = np.ones(len(groups), dtype=np.bool_)
        is_first[1:] = (groups[1:] != groups[:-1]) | (scores[1:] != scores[:-1])
        starts = np.flatnonzero(is_first)
        merged = [np.add.reduceat(c[order], starts) if len(starts) else c for c in counts]
        return cls(groups[starts], scores[starts], merged[0], merged[1], group_count)

    def _ends(self) -> tuple[Integers, Integers]:
        """Give, per group, the range of its rows."""
        ids = np.arange(self.group_count)
        return (
            np.searchsorted(self.group, ids, side="left"),
            np.searchsorted(self.group, ids, side="right"),
        )

    def sum_integers(self, values: Integers) -> Integers:
        """Sum per group, exactly."""
        starts, ends = self._ends()
        totals = np.concatenate(([0], np.cumsum(values)))
        return np.asarray(totals[ends] - totals[starts], dtype=np.int64)

    def sum_floats(self, values: Floats) -> Floats:
        """Sum per group; a group's sum does not depend on the others' values."""
        sums = np.zeros(self.group_count)
        starts, ends = self._ends()
        has_rows = ends > starts
        if has_rows.any():
            sums[has_rows] = np.add.reduceat(values, starts[has_rows])
        return sums

    def before(self, values: Integers) -> Integers:
        """Give, per row, the sum over the rows of its group with a lower score."""
        starts, _ = self._ends()
        totals = np.concatenate(([0], np.cumsum(values)))
        return np.asarray(totals[:-1] - totals[starts[self.group]], dtype=np.int64)

    def all_probabilities(self) -> Booleans:
        """Tell, per group, whether all its scores lie in [0, 1]."""
        is_outside = ((self.score < 0) | (self.score > 1)).astype(np.int64)
        return np.asarray(self.sum_integers(is_outside) == 0, dtype=np.bool_)
