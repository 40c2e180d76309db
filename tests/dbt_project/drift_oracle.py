"""Drift by the definitions of the metrics reference, in NumPy and SciPy, independent of the SQL."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Counts = NDArray[np.int64]
Pair = tuple[str, str]
WARNING, DRIFT, FALSE_DISCOVERY_RATE = 0.10, 0.25, 0.10
RANKS = {"": 0, "hour": 1, "day": 2, "week": 3, "month": 4}


@dataclass(frozen=True)
class Row:
    """One prediction or baseline row; a feature that is absent is an absent key."""

    features: Mapping[str, Any]
    at: datetime | None
    segments: Mapping[str, str] = field(default_factory=dict)
    score: float | None = None
    value: float | None = None
    label: str | None = None


@dataclass(frozen=True)
class Model:
    """What the configuration says of a model, and the type of each feature of its baseline."""

    name: str
    task: str
    types: Mapping[str, str]
    min_rows: int = 300
    positive_label: str = ""
    threshold: float = 0.5
    segment_sets: Sequence[Sequence[str]] = ()
    min_granularity: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Binning:
    """The bins of one feature: intervals, single values or categories, other, missing, invalid."""

    feature_type: str
    edges: tuple[float, ...] = ()
    points: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()

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
            return Binning(feature_type, points=tuple(distinct.tolist()))
        is_point = counts * 10 >= len(numbers)
        points = distinct[is_point]
        rest = numbers[~np.isin(numbers, points)]
        deciles = np.unique(np.quantile(rest, np.arange(1, 10) / 10))
        return Binning(feature_type, edges=tuple(deciles.tolist()), points=tuple(points.tolist()))
    seen = Counter(
        category_text(value)
        for value in values
        if value is not None
        and not isinstance(value, list)
        and (feature_type == "categorical" or isinstance(value, bool))
    )
    ranked = sorted(seen, key=lambda category: (-seen[category], category))
    return Binning(feature_type, categories=tuple(ranked[:50]))


def segment_pairs(row: Row, model: Model) -> list[Pair]:
    """Give the segments that a row counts in."""
    return [
        ("all", "all"),
        *(
            ("|".join(keys), "|".join(row.segments.get(key, "__missing__") for key in keys))
            for keys in model.segment_sets
        ),
    ]


def with_output(row: Row, model: Model) -> dict[str, Any]:
    """Give a row's features, and with them its score and its predicted class or number, if any."""
    found = dict(row.features)
    if model.task == "regression":
        return found if row.value is None else {**found, "__prediction__": row.value}
    if row.score is not None:
        found["__score__"] = row.score
    if model.task == "binary" and isinstance(row.score, float) and math.isfinite(row.score):
        is_positive = row.score >= model.threshold
        found["__prediction__"] = ("" if is_positive else "not ") + model.positive_label
    elif row.label is not None:
        found["__prediction__"] = row.label
    return found


def window_start(moment: datetime, granularity: str) -> datetime:
    """Give the start of the window that holds a time; weeks start on Monday."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if granularity == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if granularity == "month" else day


def window_end(start: datetime, granularity: str) -> datetime:
    """Give the end (exclusive) of the window that starts at a time."""
    if granularity == "month":
        return (start + timedelta(days=32)).replace(day=1)
    return start + timedelta(days=7 if granularity == "week" else 1)


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


def p_value_of(baseline: Counts, current: Counts, decile_bins: int = 0) -> float:
    """Give the p-value of a PSI on bins of which those expected to hold under 5 rows are pooled.

    The first `decile_bins` are those that the baseline was cut into.
    """
    kept = baseline + current > 0
    is_decile = (np.arange(len(baseline)) < decile_bins)[kept]
    a, b = baseline[kept], current[kept]
    smaller, both = min(a.sum(), b.sum()), a.sum() + b.sum()
    is_rare = np.where(is_decile, a * smaller < 5 * a.sum(), (a + b) * smaller < 5 * both)
    if is_rare.any():
        a = np.append(a[~is_rare], a[is_rare].sum())
        b = np.append(b[~is_rare], b[is_rare].sum())
    if len(a) < 2:
        return 1.0
    p, q = smoothed(a), smoothed(b)
    statistic = np.sum((q - p) * np.log(q / p)) / (1 / a.sum() + 1 / b.sum())
    return float(stats.chi2.sf(statistic, len(a) - 1))


Features = Mapping[str, Counts]


def _everything(_: Row) -> None:
    return None


def _counted(
    rows: Sequence[Row],
    model: Model,
    binnings: Mapping[str, Binning],
    group: Callable[[Row], object],
) -> dict[tuple[Any, Pair], tuple[int, dict[str, Counts], Counter[str]]]:
    """Count rows by group and segment: how many, bins of each feature, features without bins."""
    sizes: Counter[tuple[Any, Pair]] = Counter()
    bins: dict[tuple[Any, Pair], dict[str, Counts]] = {}
    unknown: dict[tuple[Any, Pair], Counter[str]] = defaultdict(Counter)
    for row in rows:
        values = with_output(row, model)
        indices = {name: binning.index(values.get(name)) for name, binning in binnings.items()}
        extra = [name for name in values if name not in binnings]
        for pair in segment_pairs(row, model):
            key = (group(row), pair)
            sizes[key] += 1
            counts = bins.setdefault(
                key,
                {
                    name: np.zeros(binning.size, dtype=np.int64)
                    for name, binning in binnings.items()
                },
            )
            for name, index in indices.items():
                counts[name][index] += 1
            unknown[key].update(extra)
    return {key: (size, bins[key], unknown[key]) for key, size in sizes.items()}


def feature_types(model: Model, rows: Sequence[Row]) -> dict[str, str]:
    """Give the type of each feature of the baseline, the model's output included."""
    output = {name for row in rows for name in with_output(row, model) if name.startswith("__")}
    numeric = {"__score__"} | ({"__prediction__"} if model.task == "regression" else set())
    return dict(model.types) | {
        name: "numeric" if name in numeric else "categorical" for name in output
    }


def make_binnings(model: Model, baseline: Sequence[Row]) -> dict[str, Binning]:
    """Make the bins of every feature of a baseline."""
    values = [with_output(row, model) for row in baseline]
    return {
        name: make_binning(feature_type, [row.get(name) for row in values])
        for name, feature_type in feature_types(model, baseline).items()
    }


def baseline_psi_p95(
    model: Model, baseline: Sequence[Row], binnings: Mapping[str, Binning], granularity: str
) -> dict[tuple[Pair, str], float]:
    """Give how much the baseline's own windows differ from the whole of it, where that is known."""
    timed = [row for row in baseline if row.at is not None]
    whole = _counted(baseline, model, binnings, _everything)
    windows = _counted(
        timed, model, binnings, lambda row: window_start(row.at, granularity) if row.at else None
    )
    found: dict[tuple[Pair, str], list[float]] = defaultdict(list)
    for (_, pair), (size, counts, _) in windows.items():
        if size >= model.min_rows:
            for name in binnings:
                found[pair, name].append(psi_of(whole[None, pair][1][name], counts[name]))
    return {key: float(np.quantile(psis, 0.95)) for key, psis in found.items() if len(psis) >= 2}


def expected_drift(
    model: Model, baseline: Sequence[Row] | None, current: Sequence[Row], granularity: str
) -> dict[tuple[datetime, str, str, str], dict[str, Any]]:
    """Give the rows of the drift mart by (window_start, segment_key, segment_value, feature_name).

    `baseline` is None where the model version has none.
    """
    binnings = make_binnings(model, baseline) if baseline else {}
    types = feature_types(model, baseline) if baseline else {}
    whole = _counted(baseline or [], model, binnings, _everything)
    p95 = baseline_psi_p95(model, baseline, binnings, granularity) if baseline else {}
    windows = _counted(
        current, model, binnings, lambda row: window_start(row.at, granularity) if row.at else None
    )
    pooled: dict[tuple[datetime, Pair], list[Pair]] = defaultdict(list)
    for (start, pair), (size, _, _) in windows.items():
        if size < model.min_rows and pair[0] != "all":
            pooled[start, (pair[0], "__small__")].append(pair)
    found = {}
    for start, pair in [*windows, *pooled]:
        members = pooled.get((start, pair), [pair])
        parts = [windows[start, member] for member in members]
        size = sum(part[0] for part in parts)
        unknown: Counter[str] = sum((part[2] for part in parts), Counter())
        for name, binning in binnings.items():
            empty = np.zeros(binning.size, dtype=np.int64)
            own = sum(
                (whole[None, member][1][name] for member in members if (None, member) in whole),
                empty,
            )
            is_own = own.sum() >= model.min_rows
            is_whole = not is_own or pair == ("all", "all")
            row = _measured(
                own if is_own else whole[None, ("all", "all")][1][name],
                sum((part[1][name] for part in parts), empty),
                len(binning.edges) + 1 if is_whole and binning.edges else 0,
            )
            row["feature_type"] = types[name]
            row["baseline_scope"] = "segment" if is_own else "all"
            row["psi_baseline_p95"] = p95.get((pair if is_own else ("all", "all"), name))
            row["reason"] = _obstacle(model, name, granularity, size, row["baseline_count"])
            found[start, *pair, name] = row
        for name, count in unknown.items():
            found[start, *pair, name] = _unmeasured(
                count, "not_in_baseline" if baseline else "no_baseline"
            )
    for (start, *_), row in found.items():
        row["window_end"] = window_end(start, granularity)
    _judge(found)
    return found


def _obstacle(model: Model, name: str, granularity: str, size: int, baseline_count: int) -> str:
    if RANKS[granularity] < RANKS[model.min_granularity.get(name, "")]:
        return "below_min_granularity"
    if size < model.min_rows:
        return "below_min_rows"
    return "baseline_below_min_rows" if baseline_count < model.min_rows else ""


def _measured(baseline: Counts, current: Counts, decile_bins: int) -> dict[str, Any]:
    row = distances(baseline, current)
    row["p_value"] = p_value_of(baseline, current, decile_bins)
    row["q_value"] = None
    row["baseline_bin_counts"] = baseline.tolist()
    row["current_bin_counts"] = current.tolist()
    row["is_saturated"] = int(row["tv_distance"] > 0.99)
    return row


def _unmeasured(count: int, reason: str) -> dict[str, Any]:
    columns = [*distances(np.ones(2, np.int64), np.ones(2, np.int64)), "p_value", "q_value"]
    return dict.fromkeys([*columns, "psi_baseline_p95"], None) | {
        "baseline_count": 0,
        "current_count": count,
        "bins_kept": 0,
        "baseline_bin_counts": [],
        "current_bin_counts": [],
        "is_saturated": 0,
        "feature_type": "",
        "baseline_scope": "none",
        "reason": reason,
    }


def _judge(rows: Mapping[tuple[datetime, str, str, str], dict[str, Any]]) -> None:
    families: dict[datetime, list[dict[str, Any]]] = defaultdict(list)
    for (start, *_), row in rows.items():
        if row["reason"]:
            row["p_value"] = None
            few = ("below_min_rows", "baseline_below_min_rows")
            is_few = row["reason"] in few
            row["verdict"] = "insufficient_data" if is_few else "not_evaluated"
        else:
            families[start].append(row)
    for family in families.values():
        adjusted = stats.false_discovery_control([row["p_value"] for row in family], method="bh")
        for row, q_value in zip(family, adjusted, strict=True):
            row["q_value"] = float(q_value)
            is_significant = q_value <= FALSE_DISCOVERY_RATE
            own = row["psi_baseline_p95"]
            is_unusual = own is None or row["psi"] > own
            row["verdict"] = "ok"
            if row["psi"] >= WARNING and is_significant and is_unusual:
                row["verdict"] = "drift" if row["psi"] >= DRIFT else "warning"
            elif row["psi"] >= WARNING:
                row["reason"] = "within_baseline_variation" if is_significant else "not_significant"
