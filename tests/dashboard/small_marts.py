"""A few weeks of one model, by hand, in tables that have the columns of the marts' contracts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from ingest.raw_tables import quoted

MARTS = Path(__file__).parents[2] / "dbt_project/models/marts"

# Wednesday; the week of the 16th runs yet.
NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)
WEEKS = tuple(datetime(2026, 3, day, tzinfo=UTC) for day in (2, 9, 16))
BASELINE_ID = "bl_small"
RUN_VERSION = 1_773_800_000_000_000
# The columns of a breach that do not matter to where it is shown.
RULE = {"model_name": "shop", "granularity": "week", "segment_key": "all", "comparator": ">="}


def mart_columns() -> dict[str, dict[str, str]]:
    """Give the columns and types of every mart, as their contracts say."""
    return {
        model["name"]: {column["name"]: column["data_type"] for column in model["columns"]}
        for path in sorted(MARTS.glob("_*models.yml"))
        for model in yaml.safe_load(path.read_text())["models"]
    }


def create_empty_marts(client: Any, database: str) -> None:
    """Make the database and every mart in it, without rows."""
    client.command(f"create database if not exists {quoted(database)}")
    for mart, columns in mart_columns().items():
        typed = ", ".join(f"{quoted(name)} {of_type}" for name, of_type in columns.items())
        client.command(
            f"create table {quoted(database)}.{quoted(mart)} ({typed})"
            " engine = MergeTree order by tuple()"
        )


def insert(client: Any, database: str, mart: str, rows: list[dict[str, Any]]) -> None:
    """Insert rows; the columns that a row does not name get their defaults."""
    names = list(rows[0])
    client.insert(
        mart, [[row[name] for name in names] for row in rows], column_names=names, database=database
    )


def fill(client: Any, database: str) -> None:
    """Put the story into the marts: `age` drifts in the second week, `idle` never predicted."""
    of_shop = {"model_name": "shop", "model_version": "1"}
    everyone = {**of_shop, "segment_key": "all", "segment_value": "all"}
    web = {**of_shop, "segment_key": "channel", "segment_value": "web"}
    last = WEEKS[2] + timedelta(days=1, hours=3)
    model = {"is_configured": 1, "task": "binary", "positive_label": "yes", "threshold": 0.5,
             "min_rows": 300}  # fmt: skip
    insert(client, database, "dim_models", [
        {"model_name": "shop", **model, "active_version": "1", "owner": "shop-team",
         "runbook_url": "https://runbooks.example/shop", "model_versions": ["0", "1"],
         "prediction_count": 9_000, "first_predicted_at": WEEKS[0], "last_predicted_at": last},
        {"model_name": "idle", **model, "active_version": "1", "owner": "", "runbook_url": "",
         "model_versions": [], "prediction_count": 0, "first_predicted_at": None,
         "last_predicted_at": None},
    ])  # fmt: skip
    insert(client, database, "dim_segments", [
        {**segment, "is_declared": 1, "prediction_count": count, "first_predicted_at": WEEKS[0],
         "last_predicted_at": last}
        for segment, count in ((everyone, 9_000), (web, 6_000),
                               ({**web, "segment_value": "shop|floor"}, 3_000))
    ])  # fmt: skip
    insert(client, database, "dim_baseline_bins", [
        {"baseline_id": BASELINE_ID, "feature_name": "age", "bin_index": index, "bin_count": 4,
         "kind": kind, "lower": lower, "upper": upper, "category": category}
        for index, (kind, lower, upper, category) in enumerate((
            ("interval", float("-inf"), 30.0, ""), ("interval", 30.0, float("inf"), ""),
            ("missing", None, None, "__missing__"), ("invalid", None, None, "__invalid__")))
    ])  # fmt: skip
    drift = []
    for feature, values in {
        "age": ((0.02, "ok", ""), (0.912, "drift", ""), (0.3, "not_evaluated", "window_open")),
        "city": ((0.01, "ok", ""), (0.15, "warning", ""), (0.2, "not_evaluated", "window_open")),
        "__score__": ((0.01, "ok", ""), (0.03, "ok", ""), (0.9, "not_evaluated", "window_open")),
    }.items():
        for start, (psi, verdict, reason) in zip(WEEKS, values, strict=True):
            drift.append({
                **everyone, "baseline_id": BASELINE_ID, "comparison": "baseline",
                "feature_name": feature, "window_start": start,
                "feature_type": "categorical" if feature == "city" else "numeric",
                "window_end": start + timedelta(days=7), "baseline_scope": "segment",
                "baseline_count": 1_000, "current_count": 400, "psi": psi, "q_value": 1e-9,
                "kl_current_baseline": 0.4, "kl_baseline_current": 0.5, "verdict": verdict,
                "reason": reason, "baseline_bin_counts": [500, 450, 50, 0],
                "current_bin_counts": [100, 280, 20, 0], "run_version": RUN_VERSION,
            })  # fmt: skip
    of_web = [{**row, **web, "psi": 0.05, "verdict": "ok"} for row in drift[:3]]
    insert(client, database, "fct_feature_drift_weekly", drift + of_web)
    insert(client, database, "fct_model_performance_weekly", [
        {**everyone, "window_start": start, "window_end": start + timedelta(days=7),
         "status": status, "prediction_count": 3_000, "labeled_count": labeled,
         "label_coverage": labeled / 3_000, "prevalence": 0.2,
         "auc": auc, "auc_lower": auc - 0.02, "auc_upper": auc + 0.02, "baseline_auc": 0.8,
         "is_auc_beyond_interval": beyond, "f1": auc - 0.2, "f1_lower": auc - 0.23,
         "f1_upper": auc - 0.17, "baseline_f1": 0.6, "is_f1_beyond_interval": beyond,
         "run_version": RUN_VERSION}
        for start, status, auc, labeled, beyond in zip(
            WEEKS, ("final", "final", "provisional"), (0.801, 0.712, 0.777), (2_950, 2_900, 300),
            (0, 1, 0), strict=True)
    ])  # fmt: skip
    insert(client, database, "fct_data_quality_weekly", [
        {**everyone, "feature_name": feature, "window_start": start,
         "window_end": start + timedelta(days=7), "row_count": 3_000, "null_rate": null,
         "missing_rate": 0.0, "type_mismatch_rate": 0.0, "baseline_null_rate": baseline,
         "run_version": RUN_VERSION}
        for feature, baseline, nulls in (("age", 0.05, (0.05, 0.30, 0.31)),
                                         ("city", 0.0, (0.0, 0.0, 0.0)),
                                         ("gust", 0.8, (0.8, 0.82, 0.79)))
        for start, null in zip(WEEKS, nulls, strict=True)
    ])  # fmt: skip
    insert(client, database, "fct_service_weekly", [
        {**segment, "window_start": start, "window_end": start + timedelta(days=7),
         "prediction_count": count, "rate_per_second": count / 604_800, "error_rate": 0.01,
         "latency_p50_ms": 4.0, "latency_p95_ms": 9.0, "latency_p99_ms": 21.0,
         "run_version": RUN_VERSION}
        for segment, share in ((everyone, 1.0), (web, 0.5))
        for start, count in ((week, int(3_000 * share)) for week in WEEKS)
    ])  # fmt: skip
    insert(client, database, "rpt_service_live", [
        {**of_shop, "landed_minute": NOW - timedelta(minutes=minute),
         "prediction_count": 100 + minute,
         "rejected_count": int(minute == 2), "error_count": 0, "latency_p50_ms": 3.0,
         "latency_p95_ms": 8.0, "latency_p99_ms": 15.0, "last_predicted_at": NOW,
         "last_landed_at": NOW - timedelta(minutes=minute)}
        for minute in (1, 2, 3)
    ])  # fmt: skip
    breach = {**RULE, "windows_breaching": 2, "windows_considered": 3}
    insert(client, database, "fct_breaches", [
        {**breach, "breach_id": "a", "monitor_name": "ages_drifted", "model_version": "1",
         "metric": "psi", "segment_value": "all", "feature_name": "age", "threshold": 0.25,
         "severity": "warn", "status": "open", "reason": "", "opened_at": WEEKS[2],
         "resolved_at": None, "breaching_window_count": 1, "worst_value": 0.912,
         "last_value": 0.912},
        {**breach, "breach_id": "b", "monitor_name": "auc_fell", "model_version": "1",
         "metric": "auc", "segment_value": "all", "feature_name": "", "threshold": 0.75,
         "severity": "error", "status": "open", "reason": "", "opened_at": WEEKS[1],
         "resolved_at": None, "breaching_window_count": 1, "worst_value": 0.712,
         "last_value": 0.712},
        {**breach, "breach_id": "c", "monitor_name": "nulls_rose", "model_version": "1",
         "metric": "null_rate", "segment_value": "all", "feature_name": "age", "threshold": 0.2,
         "severity": "warn", "status": "resolved", "reason": "recovered", "opened_at": WEEKS[0],
         "resolved_at": WEEKS[1], "breaching_window_count": 1, "worst_value": 0.3,
         "last_value": 0.3},
        {**breach, "breach_id": "d", "monitor_name": "labels_missing", "model_version": "",
         "metric": "label_coverage", "segment_value": "", "feature_name": "", "threshold": 0.9,
         "severity": "error", "status": "not_evaluated", "reason": "below_min_rows",
         "opened_at": None, "resolved_at": None, "breaching_window_count": 0, "worst_value": None,
         "last_value": None},
    ])  # fmt: skip
    insert(client, database, "fct_predictions", [
        {"prediction_id": f"p{number}", "model_name": "shop", "model_version": "1",
         "predicted_at": at, "predicted_hour": at.replace(minute=0, second=0),
         "number_features": {"age": 31.5} if number else {}, "score": 0.4,
         "segments": {"channel": channel}, "label": None}
        for number, (at, channel) in enumerate((
            (WEEKS[1], "web"),
            (WEEKS[1] + timedelta(days=6, hours=23, minutes=59), "web"),
            (WEEKS[1] + timedelta(hours=5), "shop|floor"),
            (WEEKS[2], "web")))
    ])  # fmt: skip
