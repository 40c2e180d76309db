"""The dbt project over databases and configuration of a test's own, fed with raw events."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
from dbt.cli.main import dbtRunner

from ingest.raw_tables import create_raw_tables
from tests.warehouse_fixtures import ClickHouseProcess

REPOSITORY = Path(__file__).parents[2]
MODEL = "late"
HEADERS = {
    "models": (
        "model_name,task,positive_label,threshold,active_version,label_maturity_hours,min_rows,"
        "cluster_key,owner,runbook_url,incidents_per_week"
    ),
    "features": "model_name,feature_name,type,min,max,nullable,min_granularity",
    "segment_sets": "model_name,segment_key,min_granularity",
    "monitors": (
        "monitor_name,model_name,metric,segment_key,feature_name,granularity,comparator,threshold,"
        "min_rows,windows_breaching,windows_considered,severity,actions"
    ),
    "mutes": "monitor_name,muted_from,muted_until,reason",
    "retraining": (
        "model_name,trainer,monitors,breaching_windows,lookback_days,cooldown_hours,training_days,"
        "evaluation_days,minimum_evaluation_rows,metric"
    ),
}
# dbt cannot load a seed without rows.
UNUSED = {
    "features": "other,unused,,,,,",
    "segment_sets": "other,unused,",
    "monitors": "unused,late,psi,all,*,month,>=,1000,1,1,1,warn",
    "mutes": "unused,2000-01-01,2000-01-02,unused",
    "retraining": "other,unused:train,,1,0,24,90,14,100,auc",
}


def time_text(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def prediction(
    prediction_id: str,
    at: datetime,
    features: Mapping[str, Any],
    *,
    score: float = 0.5,
    version: str = "1",
    segments: Mapping[str, str] | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Give the event of one prediction; `others` are its optional fields (latency_ms, status)."""
    return {
        "schema_version": 1,
        "prediction_id": prediction_id,
        "model_name": MODEL,
        "model_version": version,
        "predicted_at": time_text(at),
        "features": dict(features),
        "prediction": {"score": score},
        "segments": dict(segments or {}),
        **others,
    }


@dataclass
class MonitoredWarehouse:
    """Two databases called after a test module, emptied by `empty`, and its seeds."""

    server: ClickHouseProcess
    folder: Path
    name: str
    selected: Sequence[str]
    landed: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.client = self.server.client()
        self.seeds = self.folder / "seeds"
        self.seeds.mkdir(parents=True, exist_ok=True)
        self.raw = f"{self.name}_raw"
        self.empty()

    def empty(self) -> None:
        """Start anew: no rows, the default configuration."""
        self.configure()
        for database in (self.name, self.raw):
            self.client.command(f"drop database if exists {database}")
            self.client.command(f"create database {database}")
        create_raw_tables(self.client, self.raw)

    def configure(
        self,
        *,
        models: Sequence[str] = (f"{MODEL},binary,yes,0.5,1,48,20,,,",),
        **seeds: Sequence[str],
    ) -> None:
        """Write the seeds: lines of features, segment_sets and monitors, without headers."""
        for name, header in HEADERS.items():
            rows = models if name == "models" else seeds.get(name) or [UNUSED[name]]
            (self.seeds / f"{name}.csv").write_text("\n".join([header, *rows]) + "\n")

    def land(self, events: Iterable[Mapping[str, Any]], table: str = "prediction_events") -> None:
        """Insert events as the loader would."""
        rows = []
        for event in events:
            self.landed += 1
            rows.append((table, self.landed, json.dumps(event)))
        now = datetime.now(UTC)
        self.client.insert(
            f"{self.raw}.{table}",
            [["c", topic, "", 0, offset, now, value, now.date()] for topic, offset, value in rows],
            column_names=[
                "cluster", "topic", "topic_id", "partition", "offset", "kafka_timestamp", "value",
                "batch_date",
            ],
        )  # fmt: skip

    def register_baseline(
        self,
        events: Sequence[Mapping[str, Any]],
        feature_types: Mapping[str, str],
        baseline_id: str = "base",
        version: str = "1",
    ) -> None:
        """Register a baseline of the rows of these events."""
        kept = ("features", "prediction", "segments", "predicted_at", "label")
        values = [
            json.dumps({name: value for name, value in event.items() if name in kept})
            for event in events
        ]
        self.client.insert(
            f"{self.raw}.baseline_rows",
            [[baseline_id, number, value] for number, value in enumerate(values)],
            column_names=["baseline_id", "row_number", "value"],
        )
        self.client.insert(
            f"{self.raw}.baselines",
            [
                [
                    baseline_id, MODEL, version, "", len(values), "{}", dict(feature_types), {},
                    datetime(2025, 12, 1, tzinfo=UTC),
                ]
            ],
            column_names=[
                "baseline_id", "model_name", "model_version", "description", "row_count", "roles",
                "feature_types", "feature_importance", "registered_at",
            ],
        )  # fmt: skip

    def dbt(self, *arguments: str) -> dict[str, tuple[str, str]]:
        """Run dbt and give (status, message) by the name of each node."""
        folders = {
            "DBT_PROJECT_DIR": str(REPOSITORY / "dbt_project"),
            "DBT_PROFILES_DIR": str(REPOSITORY / "profiles"),
            "DBT_TARGET_PATH": str(self.folder / "target"),
            "DBT_LOG_PATH": str(self.folder / "logs"),
        }
        with mock.patch.dict(os.environ, {**self.environment, **folders}):
            run = dbtRunner().invoke(["--quiet", *arguments])
        assert run.result is not None, run.exception
        results: Any = run.result
        return {
            result.node.name: (str(result.status), str(result.message or ""))
            for result in results.results
        }

    @property
    def environment(self) -> dict[str, str]:
        """Where the server, the databases and the seeds are."""
        return {
            **self.server.environment(self.name, self.raw),
            "DRIFTLINE_CONFIGURATION": os.path.relpath(self.seeds, REPOSITORY / "dbt_project"),
        }

    def build(self, *arguments: str) -> None:
        """Run seeds and models up to the selected ones; all must succeed."""
        self.build_only(*self.selected, *arguments)

    def build_only(self, *arguments: str) -> None:
        """Run the seeds and models of these selectors alone; all must succeed."""
        kinds = ("--resource-type", "model", "--resource-type", "seed")
        statuses = self.dbt("build", *kinds, "--select", *arguments)
        failed = {name: found for name, found in statuses.items() if found[0] != "success"}
        assert not failed, failed

    def query(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """Give the rows of a query over the marts; `{marts}` stands for their database."""
        found = self.client.query(sql.replace("{marts}", self.name), parameters=parameters)
        return [dict(row) for row in found.named_results()]

    def mart(self, name: str, key: Sequence[str]) -> pd.DataFrame:
        """Give a mart in order of its key, without the column that differs by run."""
        frame: pd.DataFrame = self.client.query_df(f"select * from {self.name}.{name}")
        return (
            frame.drop(columns="run_version", errors="ignore")
            .sort_values(list(key))
            .reset_index(drop=True)
        )


def assert_same_marts(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    """Compare by the tolerances of the metric definitions."""
    for name, mart in expected.items():
        assert not mart.empty, name
        pd.testing.assert_frame_equal(found[name], mart, rtol=1e-9, atol=1e-12, obj=name)
