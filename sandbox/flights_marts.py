"""What the report of the demo reads from the marts, as the read-only analyst.

Dates that it gives are those of 2013: the warehouse's less the weeks by which the flights were
moved. Every value in a statement is a bound parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dbt_project.python.classification import binary_statistics
from sandbox.flights_data import MODEL_NAME, MODEL_VERSION, POSITIVE_LABEL

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Findings:
    """What the marts say; rows have the columns that the statements below name.

    `baseline` is empty where none is registered. `gauges` are what the publication sent to
    CloudWatch, `retraining` is the latest run, empty where there was none.
    """

    weeks: int
    counts: Row
    rejects: Sequence[Row]
    baseline: Row
    months: Sequence[Row]
    verdicts: Mapping[str, int]
    feature_drift: Sequence[Row]
    segment_drift: Sequence[Row]
    breaches: Sequence[Row]
    gauges: Sequence[Row] = ()
    retraining: Row = field(default_factory=dict)


def read_findings(
    client: Client, weeks: int, *, raw_database: str = "raw", publication_run_id: str = ""
) -> Findings:
    """Read all of it; `client` is in the database of the marts.

    `publication_run_id` names the publication whose gauges are wanted.
    """
    marts = _Marts(client, weeks, {"raw": raw_database, "publication": publication_run_id})
    return Findings(
        weeks=weeks,
        counts=marts.row(_COUNTS),
        rejects=marts.rows(_REJECTS),
        baseline=marts.row(_BASELINE),
        months=marts.months(),
        verdicts={row["verdict"]: row["comparisons"] for row in marts.rows(_VERDICTS)},
        feature_drift=marts.rows(_FEATURE_DRIFT),
        segment_drift=marts.rows(_SEGMENT_DRIFT),
        breaches=marts.rows(_BREACHES),
        gauges=marts.rows(_GAUGES),
        retraining=marts.row(_RETRAINING),
    )


def months_of_2013(client: Client, weeks: int) -> Sequence[Row]:
    """Give AUC and F1, with intervals, by the original month of prediction (UTC).

    Moved by weeks, the months of 2013 are no windows of the marts, so this goes back to the
    labelled rows, with the very functions of the marts. Not moved (by 0 weeks), the figures are
    those of fct_model_performance_monthly.
    """
    return _Marts(client, weeks).months()


class _Marts:
    def __init__(self, client: Client, weeks: int, names: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._bound = {
            "model": MODEL_NAME,
            "version": MODEL_VERSION,
            "weeks": weeks,
            "positive": POSITIVE_LABEL,
            **(names or {}),
        }

    def rows(self, statement: str) -> Sequence[Row]:
        return list(self._client.query(statement, parameters=self._bound).named_results())

    def row(self, statement: str) -> Row:
        """Give the only row; an empty one where there is none."""
        return next(iter(self.rows(statement)), {})

    def months(self) -> Sequence[Row]:
        totals = self.rows(_MONTHS)
        scored = self._client.query_np(_MONTH_SCORES, parameters=self._bound)
        if not totals or not len(scored):
            return []
        months = np.array([row["month"] for row in totals], dtype="datetime64[D]")
        statistics = binary_statistics(
            np.searchsorted(months, scored["month"].astype("datetime64[D]")),
            scored["score"].astype(np.float64),
            scored["positives"].astype(np.int64),
            scored["negatives"].astype(np.int64),
            self.row(_THRESHOLD)["threshold"],
            len(totals),
        )
        names = ("auc", "auc_lower", "auc_upper", "f1", "f1_lower", "f1_upper", "prevalence")
        return [
            {**row, **{name: float(getattr(statistics, name)[index]) for name in names}}
            for index, row in enumerate(totals)
        ]


_COUNTS = """
select
    count() as predictions,
    countIf(label is not null) as labelled,
    sum(duplicate_count) as duplicates,
    max(predicted_at) as last_predicted_at
from fct_predictions
where model_name = {model:String} and model_version = {version:String}
"""

_REJECTS = """
select event_type, reject_reason, count() as events
from fct_rejected_events
group by event_type, reject_reason
order by events desc, event_type, reject_reason
"""

_BASELINE = """
select
    statistics.auc as auc,
    statistics.f1 as f1,
    statistics.prevalence as prevalence,
    dim_baselines.row_count as row_count
from int_performance_statistics as statistics
inner join dim_baselines on statistics.baseline_id = dim_baselines.baseline_id
where
    statistics.granularity = 'baseline'
    and statistics.segment_key = 'all'
    and dim_baselines.is_active = 1
    and dim_baselines.model_name = {model:String}
    and dim_baselines.model_version = {version:String}
"""

_MONTHS = """
select
    toStartOfMonth(predicted_at - toIntervalWeek({weeks:Int32}), 'UTC') as month,
    count() as predictions,
    countIf(label is not null) as labelled
from fct_predictions
where model_name = {model:String} and model_version = {version:String}
group by month
order by month
"""

_MONTH_SCORES = """
select
    toStartOfMonth(predicted_at - toIntervalWeek({weeks:Int32}), 'UTC') as month,
    assumeNotNull(fct_predictions.score) as score,
    countIf(label = {positive:String}) as positives,
    countIf(label != {positive:String}) as negatives
from fct_predictions
where
    model_name = {model:String}
    and model_version = {version:String}
    and label is not null
    and fct_predictions.score is not null
group by month, score
"""

_THRESHOLD = """
select assumeNotNull(threshold) as threshold from dim_models where model_name = {model:String}
"""

_VERDICTS = """
select verdict, count() as comparisons
from fct_feature_drift_weekly
where
    model_name = {model:String}
    and model_version = {version:String}
    and comparison = 'baseline'
group by verdict
"""

_FEATURE_DRIFT = """
select
    feature_name,
    segment_key,
    segment_value,
    toDate(window_start) - toIntervalWeek({weeks:Int32}) as week,
    current_count,
    psi,
    psi_baseline_p95,
    kl_current_baseline,
    kl_baseline_current,
    q_value,
    verdict
from fct_feature_drift_weekly
where
    model_name = {model:String}
    and model_version = {version:String}
    and comparison = 'baseline'
    and segment_key = 'all'
    and verdict in ('ok', 'warning', 'drift')
order by verdict = 'drift' desc, verdict = 'warning' desc, psi desc, feature_name, week
limit 1 by feature_name
limit 12
"""

_SEGMENT_DRIFT = """
select
    feature_name,
    segment_key,
    segment_value,
    toDate(window_start) - toIntervalWeek({weeks:Int32}) as week,
    current_count,
    psi,
    psi_baseline_p95,
    kl_current_baseline,
    kl_baseline_current,
    q_value,
    verdict
from fct_feature_drift_weekly
where
    model_name = {model:String}
    and model_version = {version:String}
    and comparison = 'baseline'
    and segment_key != 'all'
    and verdict in ('warning', 'drift')
order by verdict = 'drift' desc, psi desc, feature_name, segment_key, segment_value, week
limit 1 by feature_name, segment_key
limit 12
"""

_BREACHES = """
select
    status,
    severity,
    monitor_name,
    metric,
    segment_key,
    segment_value,
    feature_name,
    granularity,
    comparator,
    threshold,
    breaching_window_count,
    worst_value,
    toDate(opened_at) - toIntervalWeek({weeks:Int32}) as opened_on,
    toDate(resolved_at) - toIntervalWeek({weeks:Int32}) as resolved_on,
    reason
from fct_breaches
where model_name = {model:String} and model_version in ('', {version:String})
order by
    severity = 'error' desc,
    monitor_name,
    breaching_window_count desc,
    opened_at,
    segment_value,
    feature_name
"""

_GAUGES = """
select
    metric_name,
    arrayStringConcat(
        arrayMap(
            dimension -> dimension.2,
            arrayFilter(dimension -> dimension.1 not in ('Model', 'ModelVersion'), dimensions)
        ),
        ', '
    ) as about,
    argMax(metric_values[1], state) as value,
    any(unit) as unit
from {raw:Identifier}.metric_publications
where run_id = {publication:String}
group by metric_name, dimensions
having max(state) = 'sent'
order by about != '', metric_name, about
"""

_RETRAINING = """
select
    *,
    toDate(training_from) - toIntervalWeek({weeks:Int32}) as trained_from,
    toDate(cut_off) - toIntervalWeek({weeks:Int32}) as trained_until,
    toDate(evaluation_until) - toIntervalWeek({weeks:Int32}) as compared_until
from fct_retraining_runs
where model_name = {model:String}
order by started_at desc
limit 1
"""
