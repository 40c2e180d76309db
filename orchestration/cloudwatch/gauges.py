"""What the marts say now, as gauges: of each model, of each rule, and of what is in breach."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from ingest.raw_tables import quoted
from orchestration.cloudwatch.metric_data import Datum, Dimensions

EVALUATIONS_COMPLETED = "EvaluationsCompleted"
RULE_BREACHED = "RuleBreached"

# Everything that the gauges are read from, in the database of the marts.
_RELATIONS = (
    "dim_models",
    "int_monitor_rules",
    "fct_breaches",
    "fct_feature_drift_weekly",
    "fct_data_quality_daily",
    "fct_model_performance_weekly",
    "fct_service_daily",
    "int_run_ledger",
)
_WITHOUT_WHICH_NOTHING = ("dim_models", "int_monitor_rules", "fct_breaches")

# Of the window that closed last. Weeks for drift and performance: a day has too few rows or labels
# in many models, and cyclic features drift in it for ever.
_DRIFT = """
with newest as (

    select model_name, model_version, max(window_start) as window_start
    from {fct_feature_drift_weekly}
    where
        comparison = 'baseline'
        and segment_key = 'all'
        and window_end <= toDateTime({{now:Int64}}, 'UTC')
    group by model_name, model_version

),

judged as (

    select
        model_name,
        model_version,
        verdict,
        if(verdict in ('ok', 'warning', 'drift'), psi, null) as judged_psi
    from {fct_feature_drift_weekly}
    where
        comparison = 'baseline'
        and segment_key = 'all'
        and (model_name, model_version, window_start) in (
            select model_name, model_version, window_start from newest
        )

)

select
    model_name,
    model_version,
    max(judged_psi) as worst_psi,
    if(
        countIf(verdict in ('ok', 'warning', 'drift')) = 0,
        null,
        countIf(verdict = 'drift') / countIf(verdict in ('ok', 'warning', 'drift'))
    ) as drifted_share
from judged
group by model_name, model_version
"""

_DATA_QUALITY = """
with newest as (

    select model_name, model_version, max(window_start) as window_start
    from {fct_data_quality_daily}
    where segment_key = 'all' and window_end <= toDateTime({{now:Int64}}, 'UTC')
    group by model_name, model_version

)

select model_name, model_version, max(null_rate) as worst_null_rate
from {fct_data_quality_daily}
where
    segment_key = 'all'
    and row_count > 0
    and (model_name, model_version, window_start) in (
        select model_name, model_version, window_start from newest
    )
group by model_name, model_version
"""

_PERFORMANCE = """
select model_name, model_version, auc, f1, label_coverage
from {fct_model_performance_weekly}
where
    segment_key = 'all'
    and status = 'final'
    and window_end <= toDateTime({{now:Int64}}, 'UTC')
order by window_start desc
limit 1 by model_name, model_version
"""

_SERVICE = """
select model_name, model_version, latency_p99_ms, rate_per_second
from {fct_service_daily}
where segment_key = 'all' and window_end <= toDateTime({{now:Int64}}, 'UTC')
order by window_start desc
limit 1 by model_name, model_version
"""

_FRESHNESS = """
select
    model_name,
    model_version,
    toUnixTimestamp64Milli(max(last_predicted_at)) / 1000 as last_predicted_epoch
from {fct_service_daily}
where segment_key = 'all' and last_predicted_at is not null
group by model_name, model_version
"""

_MODELS = """
select model_name, active_version, owner, runbook_url
from {dim_models}
order by model_name
"""

# When each mart was last computed to its end: run versions are microseconds.
_BUILDS = """
select model_name, max(run_version) / 1000000 as built_epoch
from {int_run_ledger}
where has({{marts:Array(String)}}, model_name)
group by model_name
"""

_RULES = """
with states as (

    select
        monitor_name,
        -- A mute that has ended since the run mutes no more.
        countIf(
            status = 'open' and ifNull(muted_until <= toDateTime({{now:Int64}}, 'UTC'), 1)
        ) as open_count,
        anyIf(reason, status = 'not_evaluated') as obstacle
    from {fct_breaches}
    group by monitor_name

)

select
    rules.monitor_name as monitor_name,
    rules.model_name as model_name,
    rules.metric as metric,
    rules.segment_key as segment_key,
    rules.feature_name as feature_name,
    rules.granularity as granularity,
    rules.comparator as comparator,
    rules.threshold as threshold,
    rules.windows_breaching as windows_breaching,
    rules.windows_considered as windows_considered,
    rules.severity as severity,
    rules.actions as actions,
    rules.problem as problem,
    states.open_count as open_count,
    states.obstacle as obstacle
from {int_monitor_rules} as rules
left join states on rules.monitor_name = states.monitor_name
order by rules.model_name, rules.monitor_name
"""

# The worst first: errors, then by how many thresholds the last value is away from the threshold.
_OPEN_BREACHES = """
select
    model_name,
    model_version,
    metric,
    segment_key,
    segment_value,
    feature_name,
    granularity,
    last_value
from {fct_breaches}
where status = 'open' and ifNull(muted_until <= toDateTime({{now:Int64}}, 'UTC'), 1)
order by
    severity = 'error' desc,
    abs(last_value - threshold) / greatest(abs(threshold), 1e-9) desc,
    model_name,
    model_version,
    metric,
    segment_key,
    segment_value,
    feature_name,
    granularity
"""

# What is measured, by query and column: name and unit of the gauge.
_GAUGES: tuple[tuple[str, str, Mapping[str, tuple[str, str]]], ...] = (
    (
        "fct_feature_drift_weekly",
        _DRIFT,
        {"worst_psi": ("WorstPSI", "None"), "drifted_share": ("DriftedShare", "None")},
    ),
    ("fct_data_quality_daily", _DATA_QUALITY, {"worst_null_rate": ("WorstNullRate", "None")}),
    (
        "fct_model_performance_weekly",
        _PERFORMANCE,
        {
            "auc": ("AUC", "None"),
            "f1": ("F1", "None"),
            "label_coverage": ("LabelCoverage", "None"),
        },
    ),
    (
        "fct_service_daily",
        _SERVICE,
        {
            "latency_p99_ms": ("LatencyP99", "Milliseconds"),
            "rate_per_second": ("Throughput", "Count/Second"),
        },
    ),
)
OPEN_BREACHES = "OpenBreaches"
FRESHNESS = "Freshness"
MODEL_GAUGES: tuple[str, ...] = (
    *(name for _, _, columns in _GAUGES for name, _ in columns.values()),
    OPEN_BREACHES,
    FRESHNESS,
)


class QueryClient(Protocol):
    """The part of a clickhouse-connect client that reads."""

    def query(self, query: str, /, *, parameters: dict[str, Any]) -> Any:
        """Run a query; the answer has `column_names` and `result_rows`."""


@dataclass(frozen=True)
class Model:
    """A model, the version that it is judged by ('' where it never predicted), who answers."""

    name: str
    version: str
    owner: str = ""
    runbook_url: str = ""


@dataclass(frozen=True)
class Rule:
    """A rule of monitors.csv, or one that features.csv implies, and how it stands.

    `obstacle` says why it could not be evaluated; '' where it was. A rule whose incidents are muted
    now is not breached.
    """

    name: str
    model_name: str
    metric: str
    segment_key: str
    feature_name: str
    granularity: str
    comparator: str
    threshold: float
    windows_breaching: int
    windows_considered: int
    severity: str
    actions: str = ""
    problem: str = ""
    obstacle: str = ""
    is_breached: bool = False

    @property
    def rings(self) -> bool:
        """Whether it has an alarm: one can be evaluated, and its actions do not leave it out."""
        return not self.problem and "alarm" in (self.actions or "alarm")

    @property
    def in_words(self) -> str:
        """The rule as a sentence would have it."""
        what = f"{self.metric} of {self.model_name}"
        if self.feature_name:
            every = "every feature" if self.feature_name == "*" else f"feature {self.feature_name}"
            what = f"{self.metric} of {every} of {self.model_name}"
        where = "" if self.segment_key == "all" else f" in a value of {self.segment_key}"
        if self.model_name == "*":
            what, where = f"{self.metric} of any {self.segment_key}", ""
        return (
            f"{what}{where} {self.comparator} {self.threshold:g} in {self.windows_breaching} of "
            f"the last {self.windows_considered} windows ({self.granularity})"
        )


@dataclass(frozen=True)
class Evaluation:
    """The marts at one moment.

    `essential` are the gauges of models and rules, `details` those of what is in breach, the worst
    first. `undefined` names what has no value now, `not_evaluated` the rules that say nothing,
    `problems` what a person must mend. Where `is_complete` is false, models and rules are unknown.
    """

    models: tuple[Model, ...] = ()
    rules: tuple[Rule, ...] = ()
    essential: tuple[Datum, ...] = ()
    details: tuple[Datum, ...] = ()
    undefined: tuple[str, ...] = ()
    not_evaluated: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    is_complete: bool = True


def evaluate(
    client: QueryClient, database: str, now: datetime, *, stale_after: timedelta
) -> Evaluation:
    """Read the marts of `database` into gauges stamped `now`.

    Where a mart was not computed for `stale_after`, no model has a heartbeat: what is published
    then is an old evaluation, and its alarm must say so.

    The stamp is the time of the evaluation, not of the data's window: CloudWatch shows older
    datums late, and alarms on them later. Marts that do not exist are a problem, not an error.
    Raises the client's errors.
    """
    warehouse = _Warehouse(client, database, now)
    missing = warehouse.missing()
    problems: tuple[str, ...] = ()
    if missing:
        names = ", ".join(missing)
        problems = (f"database {database} has no {names}: driftline dbt build makes them",)
    if any(relation in missing for relation in _WITHOUT_WHICH_NOTHING):
        return Evaluation(problems=problems, is_complete=False)

    figures = _figures(warehouse, missing)
    latest = {} if "fct_service_daily" in missing else _latest_predictions(warehouse)
    models = tuple(_model(row, latest) for row in warehouse.rows(_MODELS))
    rules = tuple(_rule(row) for row in warehouse.rows(_RULES))
    breaches = list(warehouse.rows(_OPEN_BREACHES))

    essential: list[Datum] = []
    stale = "" if "int_run_ledger" in missing else _staleness(warehouse, stale_after)
    if stale and models:
        problems += (stale,)
    else:
        essential += [_heartbeat(model, now) for model in models]
    essential += [_rule_gauge(rule, now) for rule in rules if _is_evaluated(rule)]
    undefined = []
    for model in models:
        open_count = sum(breach["model_name"] == model.name for breach in breaches)
        for name, (value, unit) in _model_figures(
            model, figures, open_count, latest, missing, now
        ).items():
            if value is None:
                undefined.append(f"{name} of {model.name} {model.version}".rstrip())
            else:
                essential.append(Datum(name, model_dimensions(model), value, unit, now))
    return Evaluation(
        models=models,
        rules=rules,
        essential=tuple(essential),
        details=_details(breaches, now),
        undefined=tuple(undefined),
        not_evaluated=tuple(
            f"{rule.name}: {rule.problem or rule.obstacle}"
            for rule in rules
            if not _is_evaluated(rule)
        ),
        problems=problems,
    )


def within_budget(
    evaluation: Evaluation, budget: int
) -> tuple[tuple[Datum, ...], tuple[Datum, ...]]:
    """Part the gauges into at most `budget` to publish and those left out.

    Each name with its dimensions is billed by the month. Heartbeats and rules come first, then
    the gauges of models, then what is in breach, the worst first.
    """
    datums = (*evaluation.essential, *evaluation.details)
    return datums[:budget], datums[budget:]


@dataclass(frozen=True)
class _Warehouse:
    client: QueryClient
    database: str
    now: datetime

    def rows(self, sql: str, **parameters: Any) -> Iterable[dict[str, Any]]:
        relations = {name: f"{quoted(self.database)}.{quoted(name)}" for name in _RELATIONS}
        answer = self.client.query(
            sql.format(**relations), parameters={"now": int(self.now.timestamp()), **parameters}
        )
        for row in answer.result_rows:
            yield dict(zip(answer.column_names, row, strict=True))

    def missing(self) -> tuple[str, ...]:
        answer = self.client.query(
            "select name from system.tables where database = {database:String}",
            parameters={"database": self.database},
        )
        present = {name for (name,) in answer.result_rows}
        return tuple(relation for relation in _RELATIONS if relation not in present)


_Figures = Mapping[tuple[str, str], Mapping[str, float | None]]


def _figures(warehouse: _Warehouse, missing: Sequence[str]) -> _Figures:
    figures: dict[tuple[str, str], dict[str, float | None]] = {}
    for relation, sql, _ in _GAUGES:
        if relation not in missing:
            for row in warehouse.rows(sql):
                key = (row.pop("model_name"), row.pop("model_version"))
                figures.setdefault(key, {}).update(row)
    return figures


def _staleness(warehouse: _Warehouse, stale_after: timedelta) -> str:
    built = {mart: None for mart, _, _ in _GAUGES} | {
        row["model_name"]: datetime.fromtimestamp(row["built_epoch"], UTC)
        for row in warehouse.rows(_BUILDS, marts=[mart for mart, _, _ in _GAUGES])
    }
    late = [
        f"{mart} ({at:%Y-%m-%d %H:%M} UTC)" if at else f"{mart} (never)"
        for mart, at in built.items()
        if at is None or warehouse.now - at > stale_after
    ]
    if not late:
        return ""
    hours = stale_after / timedelta(hours=1)
    return (
        f"not computed within {hours:g} hours: {', '.join(late)}. No heartbeat was published; "
        "see that driftline dbt build runs and succeeds"
    )


def _latest_predictions(warehouse: _Warehouse) -> Mapping[tuple[str, str], datetime]:
    return {
        (row["model_name"], row["model_version"]): datetime.fromtimestamp(
            row["last_predicted_epoch"], UTC
        )
        for row in warehouse.rows(_FRESHNESS)
    }


def _model(row: Mapping[str, Any], latest: Mapping[tuple[str, str], datetime]) -> Model:
    name, version = row["model_name"], row["active_version"]
    if not version:
        # models.csv does not say: the version that predicted last.
        versions = [(at, of) for (model_name, of), at in latest.items() if model_name == name]
        version = max(versions)[1] if versions else ""
    return Model(name, version, row["owner"], row["runbook_url"])


def _rule(row: Mapping[str, Any]) -> Rule:
    values = dict(row)
    return Rule(
        name=values.pop("monitor_name"),
        is_breached=(values.pop("open_count") or 0) > 0,
        obstacle=values.pop("obstacle") or "",
        **values,
    )


def _is_evaluated(rule: Rule) -> bool:
    return not rule.problem and not rule.obstacle


def _model_figures(
    model: Model,
    figures: _Figures,
    open_count: int,
    latest: Mapping[tuple[str, str], datetime],
    missing: Sequence[str],
    now: datetime,
) -> dict[str, tuple[float | None, str]]:
    of_model = figures.get((model.name, model.version), {})
    values: dict[str, tuple[float | None, str]] = {}
    for relation, _, columns in _GAUGES:
        if relation not in missing:
            for column, (name, unit) in columns.items():
                values[name] = (of_model.get(column), unit)
    values[OPEN_BREACHES] = (float(open_count), "Count")
    if "fct_service_daily" not in missing:
        last = latest.get((model.name, model.version))
        # A clock that runs behind the model server's must not make data younger than now.
        age = None if last is None else max((now - last).total_seconds(), 0.0)
        values[FRESHNESS] = (age, "Seconds")
    return values


def heartbeat_dimensions(model: Model) -> Dimensions:
    """Give the dimensions of a model's heartbeat: without a version, so that it outlives one."""
    return (("Model", model.name),)


def rule_dimensions(rule: Rule) -> Dimensions:
    """Give the dimensions of a rule's gauge."""
    return (("Model", rule.model_name), ("Rule", rule.name))


def model_dimensions(model: Model) -> Dimensions:
    """Give the dimensions of the gauges of a model's version."""
    # CloudWatch takes no empty value; a model without a version has never predicted.
    return (("Model", model.name), ("ModelVersion", model.version or "none"))


def _heartbeat(model: Model, now: datetime) -> Datum:
    return Datum(EVALUATIONS_COMPLETED, heartbeat_dimensions(model), 1.0, "Count", now)


def _rule_gauge(rule: Rule, now: datetime) -> Datum:
    return Datum(RULE_BREACHED, rule_dimensions(rule), float(rule.is_breached), "None", now)


def _details(breaches: Iterable[Mapping[str, Any]], now: datetime) -> tuple[Datum, ...]:
    by_key: dict[tuple[str, Dimensions], Datum] = {}
    for breach in breaches:
        if breach["last_value"] is None:
            continue
        dimensions = [("Model", breach["model_name"])]
        # Rejects are those of a topic, and CloudWatch takes no empty value.
        if breach["model_version"]:
            dimensions.append(("ModelVersion", breach["model_version"]))
        if breach["segment_key"] != "all":
            dimensions.append(("Segment", f"{breach['segment_key']}={breach['segment_value']}"))
        if breach["feature_name"]:
            dimensions.append(("Feature", breach["feature_name"]))
        dimensions.append(("Granularity", breach["granularity"]))
        words = breach["metric"].split("_")
        name = "Breaching" + "".join(word.capitalize() for word in words)
        datum = Datum(name, tuple(dimensions), breach["last_value"], "None", now)
        # Two rules may watch the same value: it is sent once.
        by_key.setdefault(datum.key, datum)
    return tuple(by_key.values())
