"""What the page reads from the marts. Every column is defined in docs/metrics.md.

Each function is one query, bounded by the windows of the view; every value is a bound parameter.
Raises WarehouseError where the warehouse does not answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import Any, Protocol, TypeVar

from dashboard.view import ModelSpan, View
from dashboard.warehouse import Row

_SEGMENTS_AT_MOST = 1_000
_BREACHES_AT_MOST = 200
_HISTORY_AT_MOST = 15


class Rows(Protocol):
    """What a query needs of a Warehouse."""

    def rows(self, statement: str, parameters: Mapping[str, object] | None = None) -> list[Row]:
        """Give the rows of a statement."""
        ...


@dataclass(frozen=True)
class ModelHealth:
    """The newest state of a model, all segments together.

    `drift_*` are of the newest closed week, `performance_*` and what belongs to it of the newest
    final one, `service_*` of the newest closed one; a start is None where there is no such week.
    """

    model_name: str
    model_version: str
    task: str
    owner: str
    is_configured: int
    prediction_count: int
    last_predicted_at: datetime | None
    open_error_count: int
    open_warning_count: int
    unevaluated_rule_count: int
    drift_window_start: datetime | None
    drifted_count: int
    warning_count: int
    evaluated_count: int
    compared_count: int
    performance_window_start: datetime | None
    auc: float | None
    baseline_auc: float | None
    is_auc_beyond_interval: int | None
    f1: float | None
    baseline_f1: float | None
    is_f1_beyond_interval: int | None
    label_coverage: float | None
    service_window_start: datetime | None
    service_prediction_count: int
    rate_per_second: float | None
    latency_p99_ms: float | None
    error_rate: float | None


@dataclass(frozen=True)
class DriftCell:
    """One feature in one window: a cell of the heat map."""

    feature_name: str
    window_start: datetime
    window_end: datetime
    psi: float | None
    q_value: float | None
    psi_baseline_p95: float | None
    current_count: int
    verdict: str
    reason: str


@dataclass(frozen=True)
class DriftDetail:
    """A cell of the heat map opened: both histograms and what follows from them."""

    baseline_id: str
    feature_name: str
    feature_type: str
    window_start: datetime
    window_end: datetime
    baseline_scope: str
    baseline_count: int
    current_count: int
    psi: float | None
    kl_current_baseline: float | None
    kl_baseline_current: float | None
    js_distance: float | None
    q_value: float | None
    psi_baseline_p95: float | None
    verdict: str
    reason: str
    is_saturated: int
    baseline_bin_counts: Sequence[int]
    current_bin_counts: Sequence[int]


@dataclass(frozen=True)
class Bin:
    """A bin of a baseline; `lower` and `upper` are None where it is open or has no numbers."""

    bin_index: int
    kind: str
    lower: float | None
    upper: float | None
    category: str


@dataclass(frozen=True)
class PerformanceWindow:
    """AUC and F1 of a window, with intervals and the baseline's."""

    window_start: datetime
    window_end: datetime
    status: str
    prediction_count: int
    labeled_count: int
    label_coverage: float | None
    prevalence: float | None
    auc: float | None
    auc_lower: float | None
    auc_upper: float | None
    baseline_auc: float | None
    is_auc_beyond_interval: int | None
    f1: float | None
    f1_lower: float | None
    f1_upper: float | None
    baseline_f1: float | None
    is_f1_beyond_interval: int | None
    reason: str


@dataclass(frozen=True)
class QualityWindow:
    """Shares of nulls, missing keys and wrong types of a feature in a window."""

    feature_name: str
    window_start: datetime
    row_count: int
    null_rate: float
    missing_rate: float
    type_mismatch_rate: float | None
    baseline_null_rate: float | None
    baseline_missing_rate: float | None
    baseline_type_mismatch_rate: float | None


@dataclass(frozen=True)
class ServiceWindow:
    """Volume, errors and latencies of a window."""

    window_start: datetime
    window_end: datetime
    prediction_count: int
    rate_per_second: float
    error_rate: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None


@dataclass(frozen=True)
class LiveMinute:
    """A minute of the last hour of raw events that landed."""

    model_name: str
    model_version: str
    landed_minute: datetime
    prediction_count: int
    rejected_count: int
    error_count: int
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    last_predicted_at: datetime | None
    last_landed_at: datetime


@dataclass(frozen=True)
class Breach:
    """An incident, or a rule that could not be evaluated."""

    monitor_name: str
    model_version: str
    metric: str
    segment_key: str
    segment_value: str
    feature_name: str
    granularity: str
    comparator: str
    threshold: float
    windows_breaching: int
    windows_considered: int
    severity: str
    status: str
    reason: str
    opened_at: datetime | None
    last_seen_at: datetime | None
    resolved_at: datetime | None
    breaching_window_count: int
    worst_value: float | None
    worst_window_start: datetime | None
    last_value: float | None
    muted_until: datetime | None
    retracted_at: datetime | None


@dataclass(frozen=True)
class Breaches:
    """The rules of a model: open incidents, the latest that are over, rules not evaluated.

    `retracted` are incidents that late data or another rule undid, `muted` breaches in silence.
    """

    runbook_url: str
    open: Sequence[Breach]
    open_count: int
    resolved: Sequence[Breach]
    resolved_count: int
    not_evaluated: Sequence[Breach]
    retracted: Sequence[Breach] = ()
    muted: Sequence[Breach] = ()


RowType = TypeVar("RowType")


def _columns(row_type: type[Any]) -> str:
    return ", ".join(field.name for field in fields(row_type))


def _read(
    warehouse: Rows, row_type: type[RowType], statement: str, parameters: Mapping[str, object]
) -> list[RowType]:
    found = warehouse.rows(statement, parameters)
    names = [field.name for field in fields(row_type)]  # type: ignore[arg-type]
    return [row_type(**{name: row[name] for name in names}) for row in found]


# A new run of dbt, and a mart that is made anew without a version, change this.
STAMP = """
with newest as (

    select
        (select max(run_version) from fct_feature_drift_weekly) as drift,
        (select max(run_version) from fct_data_quality_weekly) as quality,
        (select max(run_version) from fct_model_performance_weekly) as performance,
        (select max(run_version) from fct_service_weekly) as service

)

select
    greatest(drift, quality, performance, service) as run_version,
    (select count() from dim_models) as model_count,
    concat(
        toString(drift), '-', toString(quality), '-', toString(performance), '-',
        toString(service), '-',
        toString((
            select groupBitXor(sipHash64(breach_id, status, last_seen_at, worst_value))
            from fct_breaches
        )), '-',
        toString((
            select groupBitXor(sipHash64(model_name, active_version, prediction_count))
            from dim_models
        ))
    ) as stamp
from newest
"""

_HEALTH = """
with models as (

    select
        model_name,
        if(active_version != '', active_version, model_versions[-1]) as model_version,
        task,
        owner,
        is_configured,
        prediction_count,
        last_predicted_at
    from dim_models

),

breaches as (

    select
        model_name,
        countIf(status = 'open' and severity = 'error') as open_error_count,
        countIf(status = 'open' and severity != 'error') as open_warning_count,
        countIf(status = 'not_evaluated') as unevaluated_rule_count
    from fct_breaches
    group by model_name

),

drift as (

    select
        model_name,
        model_version,
        toNullable(window_start) as drift_window_start,
        countIf(verdict = 'drift') as drifted_count,
        countIf(verdict = 'warning') as warning_count,
        countIf(verdict in ('ok', 'warning', 'drift')) as evaluated_count,
        count() as compared_count
    from fct_feature_drift_weekly
    where
        segment_key = 'all'
        and comparison = 'baseline'
        and not startsWith(feature_name, '__')
        and window_end <= {now:DateTime('UTC')}
    group by model_name, model_version, window_start
    having countIf(position(reason, 'window_open') > 0) = 0
    order by window_start desc
    limit 1 by model_name, model_version

),

performance as (

    select
        model_name,
        model_version,
        toNullable(window_start) as performance_window_start,
        auc, baseline_auc, is_auc_beyond_interval, f1, baseline_f1, is_f1_beyond_interval,
        label_coverage
    from fct_model_performance_weekly
    where segment_key = 'all' and status = 'final'
    order by window_start desc
    limit 1 by model_name, model_version

),

service as (

    select
        model_name,
        model_version,
        toNullable(window_start) as service_window_start,
        prediction_count as service_prediction_count,
        toNullable(rate_per_second) as rate_per_second,
        latency_p99_ms, error_rate
    from fct_service_weekly
    where segment_key = 'all' and window_end <= {now:DateTime('UTC')}
    order by window_start desc
    limit 1 by model_name, model_version

)

select *
from models
left join breaches using (model_name)
left join drift using (model_name, model_version)
left join performance using (model_name, model_version)
left join service using (model_name, model_version)
order by open_error_count desc, open_warning_count desc, model_name
"""

_SPANS = """
with versions as (

    select
        model_name,
        active_version,
        arrayJoin(
            if(empty(model_versions), [active_version], model_versions)
        ) as model_version
    from dim_models

),

spans as (

    select
        model_name,
        model_version,
        toNullable(min(first_predicted_at)) as first_predicted_at,
        toNullable(max(last_predicted_at)) as last_predicted_at
    from dim_segments
    where segment_key = 'all'
    group by model_name, model_version

)

select
    model_name,
    model_version,
    model_version = active_version as is_active,
    first_predicted_at,
    last_predicted_at
from versions
left join spans using (model_name, model_version)
order by model_name, model_version
"""

_SEGMENTS = f"""
select segment_key, segment_value
from dim_segments
where
    model_name = {{model_name:String}}
    and model_version = {{model_version:String}}
    and (is_declared = 1 or prediction_count > 0)
order by segment_key = 'all' desc, segment_key, prediction_count desc, segment_value
limit {_SEGMENTS_AT_MOST} by segment_key
"""  # noqa: S608 -- the limit is a constant of this module

# Of the chosen feature, window, both or neither: what deserves a look first. A window that runs
# yet comes last: half of it is no comparison.
_WORST_CELL = """
select feature_name, toDate(window_start) as window_day
from `{mart}`
where
    {is_of_view}
    and comparison = 'baseline'
    and ({{feature_name:String}} = '' or feature_name = {{feature_name:String}})
    and ({{window_start:String}} = '' or toString(toDate(window_start)) = {{window_start:String}})
order by
    window_end <= {{now:DateTime('UTC')}} and position(reason, 'window_open') = 0 desc,
    verdict in ('ok', 'warning', 'drift') desc,
    window_start desc,
    indexOf(['drift', 'warning', 'ok'], verdict) = 0,
    indexOf(['drift', 'warning', 'ok'], verdict),
    psi desc,
    feature_name
limit 1
"""

_IS_OF_VIEW = """model_name = {model_name:String}
    and model_version = {model_version:String}
    and segment_key = {segment_key:String}
    and segment_value = {segment_value:String}
    and window_start >= {start:DateTime('UTC')}
    and window_start < {end:DateTime('UTC')}"""


def health(warehouse: Rows, now: datetime) -> list[ModelHealth]:
    """Give every model's newest state; those in breach first."""
    return _read(warehouse, ModelHealth, _HEALTH, {"now": _clickhouse_time(now)})


def model_spans(warehouse: Rows) -> list[ModelSpan]:
    """Give every model version, ordered by name and version."""
    return [
        ModelSpan(
            model_name=row["model_name"],
            model_version=row["model_version"],
            is_active=bool(row["is_active"]),
            first_day=_day_of(row["first_predicted_at"]),
            last_day=_day_of(row["last_predicted_at"]),
        )
        for row in warehouse.rows(_SPANS)
    ]


def segments(warehouse: Rows, span: ModelSpan) -> list[tuple[str, str]]:
    """Give pairs (segment_key, segment_value) of a version: everyone first, then by size."""
    parameters = {"model_name": span.model_name, "model_version": span.model_version}
    found = warehouse.rows(_SEGMENTS, parameters)
    return [(row["segment_key"], row["segment_value"]) for row in found]


def feature_names(warehouse: Rows, view: View) -> list[str]:
    """Give the features that have a row in the view, the model's output last."""
    statement = f"""
select distinct feature_name
from `{view.mart("feature_drift")}`
where
    {_IS_OF_VIEW}
order by startsWith(feature_name, '__'), feature_name
"""  # noqa: S608 -- the mart's name is one of three
    return [row["feature_name"] for row in warehouse.rows(statement, view.parameters())]


def worst_cell(
    warehouse: Rows, view: View, feature_name: str, window_start: str, now: datetime
) -> tuple[str, date] | None:
    """Give the cell that deserves a look first, among those of a feature or window if chosen.

    `window_start` is an ISO date; an empty text leaves feature or window open.
    """
    statement = _WORST_CELL.format(mart=view.mart("feature_drift"), is_of_view=_IS_OF_VIEW)
    parameters = {
        **view.parameters(),
        "feature_name": feature_name,
        "window_start": window_start,
        "now": _clickhouse_time(now),
    }
    found = warehouse.rows(statement, parameters)
    return (found[0]["feature_name"], found[0]["window_day"]) if found else None


def drift_cells(warehouse: Rows, view: View) -> list[DriftCell]:
    """Give every feature and window of the view."""
    statement = f"""
select {_columns(DriftCell)}
from `{view.mart("feature_drift")}`
where
    {_IS_OF_VIEW}
    and comparison = 'baseline'
order by window_start, feature_name
"""  # noqa: S608 -- names come from this module and View.mart
    return _read(warehouse, DriftCell, statement, view.parameters())


def drift_detail(
    warehouse: Rows, view: View, feature_name: str, window_start: date
) -> tuple[DriftDetail, list[Bin]] | None:
    """Give a cell with its histograms and the bins of its baseline; None where there is none."""
    statement = f"""
select {_columns(DriftDetail)}
from `{view.mart("feature_drift")}`
where
    {_IS_OF_VIEW}
    and comparison = 'baseline'
    and feature_name = {{feature_name:String}}
    and window_start = {{window_start:DateTime('UTC')}}
"""  # noqa: S608 -- names come from this module and View.mart
    parameters = {
        **view.parameters(),
        "feature_name": feature_name,
        "window_start": f"{window_start} 00:00:00",
    }
    found = _read(warehouse, DriftDetail, statement, parameters)
    if not found:
        return None
    bins = f"""
select {_columns(Bin)}
from dim_baseline_bins
where baseline_id = {{baseline_id:String}} and feature_name = {{feature_name:String}}
order by bin_index
"""  # noqa: S608 -- the columns are those of Bin
    of_baseline = {"baseline_id": found[0].baseline_id, "feature_name": feature_name}
    return found[0], _read(warehouse, Bin, bins, of_baseline)


def performance(warehouse: Rows, view: View) -> list[PerformanceWindow]:
    """Give the performance of every window of the view, in order."""
    statement = f"""
select {_columns(PerformanceWindow)}
from `{view.mart("model_performance")}`
where
    {_IS_OF_VIEW}
order by window_start
"""  # noqa: S608 -- names come from this module and View.mart
    return _read(warehouse, PerformanceWindow, statement, view.parameters())


def quality(warehouse: Rows, view: View) -> list[QualityWindow]:
    """Give the data quality of every feature and window of the view, in order."""
    statement = f"""
select {_columns(QualityWindow)}
from `{view.mart("data_quality")}`
where
    {_IS_OF_VIEW}
    and not startsWith(feature_name, '__')
order by feature_name, window_start
"""  # noqa: S608 -- names come from this module and View.mart
    return _read(warehouse, QualityWindow, statement, view.parameters())


def service(warehouse: Rows, view: View) -> list[ServiceWindow]:
    """Give volume and latencies of every window of the view, in order."""
    statement = f"""
select {_columns(ServiceWindow)}
from `{view.mart("service")}`
where
    {_IS_OF_VIEW}
order by window_start
"""  # noqa: S608 -- names come from this module and View.mart
    return _read(warehouse, ServiceWindow, statement, view.parameters())


# Of every model, so that all open pages share one answer.
LIVE = f"""
select {_columns(LiveMinute)}
from rpt_service_live
where landed_minute is not null
order by model_name, model_version, landed_minute
"""  # noqa: S608 -- the columns are those of LiveMinute


def live_minutes(found: Sequence[Row], view: View) -> list[LiveMinute]:
    """Pick the minutes of the view's version from the rows of `LIVE`, in order."""
    names = [field.name for field in fields(LiveMinute)]
    return [
        LiveMinute(**{name: row[name] for name in names})
        for row in found
        if (row["model_name"], row["model_version"]) == (view.model_name, view.model_version)
    ]


def breaches(warehouse: Rows, model_name: str) -> Breaches:
    """Give the incidents of a model: errors first, the newest first, as many as fit on a page."""
    statement = f"""
with ranked as (

    select
        {_columns(Breach)},
        (select max(runbook_url) from dim_models where model_name = {{model_name:String}})
            as runbook_url,
        count() over (partition by status) as status_count,
        row_number() over (
            partition by status
            order by severity = 'error' and status not in ('resolved', 'retracted') desc,
                coalesce(retracted_at, resolved_at, opened_at) desc, monitor_name, feature_name,
                segment_value
        ) as position_in_status
    from fct_breaches
    where model_name = {{model_name:String}}

)

select *
from ranked
where
    position_in_status
    <= if(status in ('resolved', 'retracted'), {_HISTORY_AT_MOST}, {_BREACHES_AT_MOST})
order by status, position_in_status
"""  # noqa: S608 -- columns and limits are those of this module
    found = warehouse.rows(statement, {"model_name": model_name})
    names = [field.name for field in fields(Breach)]
    statuses = ("open", "resolved", "retracted", "muted", "not_evaluated")
    by_status: dict[str, list[Breach]] = {status: [] for status in statuses}
    counts = dict.fromkeys(by_status, 0)
    for row in found:
        by_status[row["status"]].append(Breach(**{name: row[name] for name in names}))
        counts[row["status"]] = row["status_count"]
    return Breaches(
        runbook_url=found[0]["runbook_url"] if found else "",
        open=by_status["open"],
        open_count=counts["open"],
        resolved=by_status["resolved"],
        resolved_count=counts["resolved"],
        not_evaluated=by_status["not_evaluated"],
        retracted=by_status["retracted"],
        muted=by_status["muted"],
    )


def _clickhouse_time(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S}"


def _day_of(time: datetime | None) -> date | None:
    return None if time is None else time.date()
