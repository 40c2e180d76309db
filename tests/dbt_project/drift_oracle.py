"""Drift by the definitions of the metrics reference, in NumPy and SciPy, independent of the SQL."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from scipy import stats

from tests.dbt_project.distance_oracle import (
    Binning,
    Counts,
    binned_distances,
    distances,
    make_binning,
    p_value_of,
    psi_of,
)

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
    truth: str | None = None
    """What came true, if that is known; `label` is what was predicted."""
    entity: str | None = None


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
    hourly_sets: Sequence[Sequence[str]] = ()
    cluster_key: str = ""


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
    if granularity == "hour":
        return moment.replace(minute=0, second=0, microsecond=0)
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if granularity == "week":
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if granularity == "month" else day


def window_end(start: datetime, granularity: str) -> datetime:
    """Give the end (exclusive) of the window that starts at a time."""
    if granularity == "month":
        return (start + timedelta(days=32)).replace(day=1)
    return (
        start + {"hour": timedelta(hours=1), "day": timedelta(1), "week": timedelta(7)}[granularity]
    )


def previous_window(start: datetime, granularity: str) -> datetime:
    """Give the start of the window that ends where another one starts."""
    return window_start(start - timedelta(microseconds=1), granularity)


@dataclass
class Cell:
    """What was counted of one group and segment.

    `sizes` are the rows of each feature, `bins` the counts of those that have bins.
    """

    size: int = 0
    sizes: Counter[str] = field(default_factory=Counter)
    bins: dict[str, Counts] = field(default_factory=dict)
    clusters: set[object] = field(default_factory=set)
    has_cluster: bool = False

    def add(
        self, values: Mapping[str, Any], binnings: Mapping[str, Binning], cluster: object
    ) -> None:
        self.size += 1
        self.has_cluster |= cluster is not None
        self.clusters.add(object() if cluster is None else cluster)
        # Of the label only rows that have one count.
        for name in (set(binnings) - {"__label__"}) | set(values):
            self.sizes[name] += 1
            if name in binnings:
                self.counts(name, binnings[name])[binnings[name].index(values.get(name))] += 1

    def counts(self, name: str, binning: Binning) -> Counts:
        return self.bins.setdefault(name, np.zeros(binning.size, dtype=np.int64))


Cells = Mapping[tuple[Any, Pair], Cell]


def _everything(_: Row) -> None:
    return None


def _counted(
    rows: Sequence[Row],
    model: Model,
    binnings: Mapping[str, Binning],
    group: Callable[[Row], object],
) -> Cells:
    """Count rows by group and segment."""
    cells: dict[tuple[Any, Pair], Cell] = defaultdict(Cell)
    for row in rows:
        values = with_output(row, model)
        if row.truth is not None:
            values["__label__"] = truth_of(row, model)
        for pair in segment_pairs(row, model):
            cells[group(row), pair].add(values, binnings, _cluster(row, model))
    return cells


def _cluster(row: Row, model: Model) -> object:
    if model.cluster_key == "entity_id":
        return row.entity
    found: object = row.segments.get(model.cluster_key, row.features.get(model.cluster_key))
    return found


def _design_effect(model: Model, cells: Sequence[Cell]) -> float | None:
    """Give the rows for each distinct cluster, None where there are no clusters."""
    if not model.cluster_key or not cells:
        return None
    return sum(cell.size for cell in cells) / len(set().union(*(cell.clusters for cell in cells)))


def feature_types(model: Model, rows: Sequence[Row]) -> dict[str, str]:
    """Give the type of each feature of the baseline, output and label included."""
    found = {name for row in rows for name in with_output(row, model) if name.startswith("__")}
    if any(row.truth is not None for row in rows):
        found.add("__label__")
    numeric = {"__score__"}
    if model.task == "regression":
        numeric |= {"__prediction__", "__label__"}
    return dict(model.types) | {
        name: "numeric" if name in numeric else "categorical" for name in found
    }


def values_of(model: Model, rows: Sequence[Row], name: str) -> list[Any]:
    """Give the values of a feature that count: of the label only those that are known."""
    if name != "__label__":
        return [with_output(row, model).get(name) for row in rows]
    return [truth_of(row, model) for row in rows if row.truth is not None]


def truth_of(row: Row, model: Model) -> float | str | None:
    """Give what came true of a row, for a regression as a number."""
    is_number = model.task == "regression" and row.truth is not None
    return float(row.truth or "") if is_number else row.truth


def make_binnings(model: Model, baseline: Sequence[Row]) -> dict[str, Binning]:
    """Make the bins of every feature of a baseline."""
    return {
        name: make_binning(feature_type, values_of(model, baseline, name))
        for name, feature_type in feature_types(model, baseline).items()
    }


def baseline_psi_p95(
    model: Model, baseline: Sequence[Row], binnings: Mapping[str, Binning], granularity: str
) -> dict[tuple[str, Pair, str], float]:
    """Give what 95 % of the baseline's own windows stay below: by comparison, segment, feature."""
    timed = [row for row in baseline if row.at is not None]
    whole = _counted(baseline, model, binnings, _everything)
    windows = _counted(
        timed, model, binnings, lambda row: window_start(row.at, granularity) if row.at else None
    )
    found: dict[tuple[str, Pair, str], list[float]] = defaultdict(list)
    for (start, pair), cell in windows.items():
        earlier = windows.get((previous_window(start, granularity), pair), Cell())
        for name, binning in binnings.items():
            counts = cell.counts(name, binning)
            if cell.sizes[name] >= model.min_rows:
                psi = psi_of(whole[None, pair].counts(name, binning), counts)
                found["baseline", pair, name].append(psi)
                if earlier.sizes[name] >= model.min_rows:
                    psi = psi_of(earlier.counts(name, binning), counts)
                    found["previous", pair, name].append(psi)
    return {key: float(np.quantile(psis, 0.95)) for key, psis in found.items() if len(psis) >= 2}


Key = tuple[str, datetime, str, str, str]


def expected_drift(
    model: Model, baseline: Sequence[Row] | None, current: Sequence[Row], granularity: str
) -> dict[Key, dict[str, Any]]:
    """Give the rows of the drift mart.

    By (comparison, window_start, segment_key, segment_value, feature_name); `baseline` is None
    where the model version has none.
    """
    binnings = make_binnings(model, baseline) if baseline else {}
    types = feature_types(model, baseline) if baseline else {}
    whole = _counted(baseline or [], model, binnings, _everything)
    has_clusters = any(cell.has_cluster for cell in whole.values())
    p95 = baseline_psi_p95(model, baseline, binnings, granularity) if baseline else {}
    windows = _counted(
        current, model, binnings, lambda row: window_start(row.at, granularity) if row.at else None
    )
    hourly = {"all", *("|".join(keys) for keys in model.hourly_sets)}
    groups: dict[tuple[datetime, str, str, str], list[Pair]] = defaultdict(list)
    for (start, pair), cell in windows.items():
        if granularity == "hour" and pair[0] not in hourly:
            continue
        for name in cell.sizes:
            groups[start, *pair, name].append(pair)
            # Of the label its own rows count, of a feature that few rows have all of them.
            size = cell.sizes[name] if name == "__label__" else cell.size
            if size < model.min_rows and pair[0] != "all":
                groups[start, pair[0], "__small__", name].append(pair)
    found: dict[Key, dict[str, Any]] = {}
    for (start, segment_key, segment_value, name), members in groups.items():
        cells = [windows[start, member] for member in members]
        count = sum(cell.sizes[name] for cell in cells)
        size = count if name == "__label__" else sum(cell.size for cell in cells)
        for comparison in ("baseline", "previous"):
            if comparison == "baseline":
                keys: list[tuple[Any, Pair]] = [(None, member) for member in members]
                references = [whole[key] for key in keys if key in whole]
            else:
                earlier = previous_window(start, granularity)
                keys = [(earlier, member) for member in members]
                references = [windows[key] for key in keys if key in windows]
                references = [cell for cell in references if cell.sizes[name]]
            pair = (segment_key, segment_value)
            if name not in binnings:
                row = _unmeasured(count, "not_in_baseline" if baseline else "no_baseline")
            else:
                binning = binnings[name]
                empty = np.zeros(binning.size, dtype=np.int64)
                own = sum((cell.counts(name, binning) for cell in references), empty)
                scope = "segment"
                if comparison == "baseline" and own.sum() < model.min_rows:
                    scope, pair, references = "all", ("all", "all"), [whole[None, ("all", "all")]]
                    own = references[0].counts(name, binning)
                if comparison == "previous" and not own.sum():
                    scope = "none"
                effect = _design_effect(model, cells)
                of_reference = _design_effect(model, references)
                if comparison == "baseline" and not has_clusters:
                    of_reference = None
                counts = sum((cell.counts(name, binning) for cell in cells), empty)
                if scope == "none":
                    row = _unmeasured(count, "no_previous_window") | {
                        "current_bin_counts": counts.tolist()
                    }
                else:
                    row = _measured(binning, own, counts, effect, of_reference)
                    row["psi_baseline_p95"] = p95.get((comparison, pair, name))
                    row["baseline_scope"] = scope
                    row["reason"] = ""
                row["feature_type"] = types[name]
                row["reason"] = _obstacle(model, name, granularity, size, row) or row["reason"]
                if not row["reason"]:
                    is_whole = scope == "all" or segment_key == "all"
                    is_cut = comparison == "baseline" and is_whole and binning.edges
                    row["p_value"] = p_value_of(
                        own,
                        counts,
                        effect or 1,
                        of_reference or 1,
                        len(binning.edges) + 1 if is_cut else 0,
                    )
                if comparison == "previous" and row["reason"] == "baseline_below_min_rows":
                    row["reason"] = "previous_below_min_rows"
            row["design_effect"] = _design_effect(model, cells)
            row["window_end"] = window_end(start, granularity)
            found[comparison, start, segment_key, segment_value, name] = row
    _judge(found)
    return found


def _obstacle(model: Model, name: str, granularity: str, size: int, row: Mapping[str, Any]) -> str:
    if RANKS[granularity] < RANKS[model.min_granularity.get(name, "")]:
        return "below_min_granularity"
    if row["reason"]:
        return ""
    if size < model.min_rows:
        return "below_min_rows"
    return "baseline_below_min_rows" if row["baseline_count"] < model.min_rows else ""


def _measured(
    binning: Binning,
    baseline: Counts,
    current: Counts,
    design_effect: float | None,
    baseline_effect: float | None,
) -> dict[str, Any]:
    row = distances(baseline, current)
    row["ks_binned"], row["wasserstein_binned"] = binned_distances(binning, baseline, current)
    effects = (design_effect or 1, baseline_effect or 1)
    row["p_value"] = None
    row["psi_noise"] = (row["bins_kept"] - 1) * (
        effects[0] / row["current_count"] + effects[1] / row["baseline_count"]
    )
    row["psi_debiased"] = max(row["psi"] - row["psi_noise"], 0.0)
    row["q_value"] = None
    row["baseline_bin_counts"] = baseline.tolist()
    row["current_bin_counts"] = current.tolist()
    shared = np.minimum(baseline / baseline.sum(), current / current.sum()).sum()
    row["is_saturated"] = int(shared < 0.01)
    row["baseline_design_effect"] = baseline_effect
    return row


def _unmeasured(count: int, reason: str) -> dict[str, Any]:
    columns = [*distances(np.ones(2, np.int64), np.ones(2, np.int64)), "p_value", "q_value"]
    columns += ["psi_baseline_p95", "ks_binned", "wasserstein_binned", "baseline_design_effect"]
    return dict.fromkeys(columns, None) | {
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


def _judge(rows: Mapping[Key, dict[str, Any]]) -> None:
    families: dict[tuple[str, datetime], list[dict[str, Any]]] = defaultdict(list)
    for (comparison, start, *_), row in rows.items():
        if row["reason"]:
            is_few = row["reason"].endswith("below_min_rows")
            row["verdict"] = "insufficient_data" if is_few else "not_evaluated"
        else:
            families[comparison, start].append(row)
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
