"""Marts made by hand: the columns that the gauges read, with the types of the dbt models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_NAMES = "model_name LowCardinality(String), model_version LowCardinality(String)"
_SEGMENT = "segment_key LowCardinality(String), segment_value LowCardinality(String)"
_WINDOW = "window_start DateTime('UTC'), window_end DateTime('UTC')"
_RULE = (
    "metric LowCardinality(String), segment_key LowCardinality(String), "
    "feature_name LowCardinality(String), granularity String, comparator String, "
    "threshold Float64, windows_breaching UInt16, windows_considered UInt16, severity String"
)

COLUMNS: Mapping[str, str] = {
    "int_run_ledger": "model_name String, run_version UInt64, invocation_id String",
    "dim_models": (
        "model_name LowCardinality(String), active_version String, owner String, runbook_url String"
    ),
    "int_monitor_rules": (
        f"monitor_name String, model_name LowCardinality(String), {_RULE}, problem String, "
        "actions String default 'alarm|retrain'"
    ),
    "fct_breaches": (
        f"monitor_name LowCardinality(String), {_NAMES}, {_RULE}, "
        "segment_value LowCardinality(String), status String, reason String, "
        "last_value Nullable(Float64), muted_until Nullable(DateTime('UTC'))"
    ),
    "fct_feature_drift_weekly": (
        f"{_NAMES}, comparison String, {_SEGMENT}, feature_name LowCardinality(String), {_WINDOW}, "
        "psi Nullable(Float64), verdict String"
    ),
    "fct_data_quality_daily": (
        f"{_NAMES}, {_SEGMENT}, feature_name LowCardinality(String), {_WINDOW}, row_count UInt64, "
        "null_rate Float64"
    ),
    "fct_model_performance_weekly": (
        f"{_NAMES}, {_SEGMENT}, {_WINDOW}, status String, auc Nullable(Float64), "
        "f1 Nullable(Float64), label_coverage Nullable(Float64)"
    ),
    "fct_service_daily": (
        f"{_NAMES}, {_SEGMENT}, {_WINDOW}, rate_per_second Float64, "
        "latency_p99_ms Nullable(Float64), last_predicted_at Nullable(DateTime64(3, 'UTC'))"
    ),
}

_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "dim_models": {"active_version": "1", "owner": "", "runbook_url": ""},
    "int_monitor_rules": {
        "segment_key": "all",
        "feature_name": "",
        "granularity": "week",
        "comparator": "<",
        "threshold": 0.5,
        "windows_breaching": 1,
        "windows_considered": 1,
        "severity": "error",
        "problem": "",
        "metric": "auc",
    },
    "fct_breaches": {
        "model_version": "1",
        "segment_key": "all",
        "segment_value": "all",
        "feature_name": "",
        "granularity": "week",
        "comparator": "<",
        "threshold": 0.5,
        "windows_breaching": 1,
        "windows_considered": 1,
        "severity": "error",
        "metric": "auc",
        "status": "open",
        "reason": "",
        "last_value": 0.4,
    },
}
_OF_SEGMENT = {"model_version": "1", "segment_key": "all", "segment_value": "all"}


@dataclass(frozen=True)
class MartTables:
    """A database of hand-made marts beside a raw database with the outbox."""

    client: Any
    database: str
    raw_database: str

    def create(self, *names: str) -> None:
        """Create these marts, or all of them."""
        self.client.command(f"create database if not exists {self.database}")
        for name in names or COLUMNS:
            self.client.command(
                f"create table {self.database}.{name} ({COLUMNS[name]}) "
                "engine = MergeTree order by tuple()"
            )

    def record_builds(self, at: datetime, *marts: str) -> None:
        """Record in the ledger that these incremental marts, or all of them, were computed."""
        for mart in marts or (name for name in COLUMNS if name.endswith(("_daily", "_weekly"))):
            version = int(at.timestamp() * 1_000_000)
            self.client.insert(
                f"{self.database}.int_run_ledger",
                [[mart, version, "invocation"]],
                column_names=["model_name", "run_version", "invocation_id"],
            )

    def fill(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Add rows, which give the columns that matter."""
        defaults = _DEFAULTS.get(name, _OF_SEGMENT)
        for row in rows:
            values = {**defaults, **row}
            self.client.insert(
                f"{self.database}.{name}", [list(values.values())], column_names=list(values)
            )

    def replace(self, name: str, *rows: Mapping[str, Any]) -> None:
        """Put these rows in place of those there are."""
        self.client.command(f"truncate table {self.database}.{name}")
        self.fill(name, *rows)

    def publications(self) -> list[tuple[Any, ...]]:
        """Give the outbox: run, metric and state of each datum, with how often it was marked so."""
        rows = self.client.query(
            "select run_id, metric_name, toString(max(state)) as latest, "
            "countEqual(groupArray(toString(state)), latest) "
            f"from {self.raw_database}.metric_publications "
            "group by run_id, metric_name, dimensions order by run_id, metric_name, dimensions"
        ).result_rows
        return [tuple(row) for row in rows]
