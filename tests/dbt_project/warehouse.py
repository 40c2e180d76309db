"""A warehouse for one test module: two databases of its own, filled by ingest, built by dbt."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from dbt.cli.main import dbtRunner

from driftline.dbt_command import dbt_command, dbt_environment
from ingest.baselines import Roles, register_baseline
from ingest.batches import Batch
from ingest.events import encode_label, encode_prediction, repaired
from ingest.landing import ClickHouseSink
from ingest.messages import message_block
from ingest.offsets import PartitionId
from ingest.raw_tables import (
    BASELINE_ROWS,
    BASELINES,
    LABEL_EVENTS,
    PREDICTION_EVENTS,
    create_raw_tables,
    raw_table,
)
from tests.dbt_project.drift_oracle import Model, Row
from tests.warehouse_fixtures import ClickHouseProcess

DBT_PROJECT = Path(__file__).parents[2] / "dbt_project"
_TABLES = {"predictions": PREDICTION_EVENTS, "labels": LABEL_EVENTS}
_ARROW_TYPES = {"numeric": pa.float64(), "categorical": pa.string(), "boolean": pa.bool_()}
# What every run writes anew or what depends on when a row came, so not part of a mart's meaning.
_OF_THE_RUN = ("run_version", "landed_at", "invocation_id")

SEED_HEADERS = {
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


@dataclass(frozen=True)
class Message:
    """What Kafka holds of an event; `value` None is a tombstone."""

    topic: str
    value: bytes | None
    partition: int = 0
    offset: int = -1


def prediction_of(row: Row, model_name: str, version: str, prediction_id: str) -> bytes:
    """Encode a row as a prediction event."""
    return encode_prediction(
        model_name=model_name,
        model_version=version,
        prediction_id=f"{model_name}-{prediction_id}",
        predicted_at=row.at,
        features=row.features,
        score=row.score,
        value=row.value,
        label=row.label,
        segments=row.segments,
        entity_id=row.entity,
    ).value


def label_of(row: Row, model_name: str, prediction_id: str) -> bytes:
    """Encode what came true of a row as a label event, an hour after its prediction."""
    assert row.at is not None
    return encode_label(
        model_name=model_name,
        prediction_id=f"{model_name}-{prediction_id}",
        label=row.truth,
        observed_at=row.at + timedelta(hours=1),
        source="test",
    ).value


def baseline_value(row: Row) -> dict[str, Any]:
    """Give a row as a baseline row's JSON object."""
    prediction = {"score": row.score, "value": row.value, "label": row.label}
    found: dict[str, Any] = {
        "features": row.features,
        "prediction": {name: part for name, part in prediction.items() if part is not None},
        "segments": row.segments,
    }
    if row.truth is not None:
        found["label"] = row.truth
    return found if row.at is None else {**found, "predicted_at": row.at}


@dataclass
class Warehouse:
    """The dbt project over databases that only one test module uses.

    `seeds` gives the lines of the configuration seeds, without their headers. `variables` are dbt
    vars of every run.
    """

    server: ClickHouseProcess
    folder: Path
    name: str
    seeds: Mapping[str, Sequence[str]] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.database = self.name
        self.raw_database = f"{self.name}_raw"
        self.client: Client = self.server.client(autogenerate_session_id=False)
        self._next_offsets: dict[str, int] = {}
        self._batches = 0
        self.configure(self.seeds)
        self.empty()

    def configure(self, seeds: Mapping[str, Sequence[str]]) -> None:
        """Write the configuration seeds: those not given are empty."""
        self._seeds_folder.mkdir(parents=True, exist_ok=True)
        for name, header in SEED_HEADERS.items():
            lines = [header, *seeds.get(name, ())]
            (self._seeds_folder / f"{name}.csv").write_text("\n".join(lines) + "\n")

    @property
    def _seeds_folder(self) -> Path:
        return self.folder / "seeds"

    def empty(self) -> None:
        """Drop all that landed and all that was built."""
        self._next_offsets.clear()
        for database in (self.database, self.raw_database):
            self.client.command(f"drop database if exists {database} sync")
        self.client.command(f"create database {self.database}")
        create_raw_tables(self.client, self.raw_database)

    def close(self) -> None:
        """Drop both databases."""
        for database in (self.database, self.raw_database):
            self.client.command(f"drop database if exists {database} sync")
        self.client.close()

    def drop_marts(self) -> None:
        """Drop all that was built, and keep what landed."""
        self.client.command(f"drop database {self.database} sync")
        self.client.command(f"create database {self.database}")

    def land(self, messages: Iterable[Message]) -> None:
        """Land messages as the loader does, one batch for each topic and partition.

        A message without an offset gets the next one.
        """
        by_partition: dict[tuple[str, int], list[tuple[int, bytes | None]]] = {}
        for message in messages:
            offset = message.offset
            if offset < 0:
                offset = self._next_offsets.get(message.topic, 0)
            self._next_offsets[message.topic] = max(
                offset + 1, self._next_offsets.get(message.topic, 0)
            )
            by_partition.setdefault((message.topic, message.partition), []).append(
                (offset, message.value)
            )
        sink = ClickHouseSink(self.client, self.raw_database, _TABLES)
        for (topic, number), rows in by_partition.items():
            partition = PartitionId("test", topic, "", number)
            rows.sort(key=lambda row: row[0])
            values = [value for _, value in rows]
            batch = Batch(
                partition=partition,
                batch_date=date(2026, 1, 1),
                blocks=(
                    message_block(
                        offsets=[offset for offset, _ in rows],
                        timestamps=[0] * len(rows),
                        keys=[None] * len(rows),
                        headers=[()] * len(rows),
                        values=values,
                    ),
                ),
            )
            # A token of its own: the same offsets may land again, as in a repair.
            self._batches += 1
            sink.insert(batch, f"{partition}/{self._batches}")

    def register_baseline(self, model: Model, version: str, rows: Sequence[Row]) -> str:
        """Register a baseline by ingest and give its id."""
        columns: dict[str, pa.Array] = {
            name: pa.array([row.features.get(name) for row in rows], _ARROW_TYPES[feature_type])
            for name, feature_type in model.types.items()
        }
        roles: dict[str, Any] = {}
        if any(row.at for row in rows):
            columns["at"] = pa.array([row.at for row in rows], pa.timestamp("ms", "UTC"))
            roles["time"] = "at"
        outputs = {
            "score": "numeric", "value": "numeric", "label": "categorical", "truth": "categorical"
        }  # fmt: skip
        for name, feature_type in outputs.items():
            values = [getattr(row, name) for row in rows]
            if any(value is not None for value in values):
                columns[f"{name} column"] = pa.array(values, _ARROW_TYPES[feature_type])
                roles[{"label": "predicted_label", "truth": "label"}.get(name, name)] = (
                    f"{name} column"
                )
        segments = sorted({key for keys in model.segment_sets for key in keys})
        for key in segments:
            columns[key] = pa.array([row.segments.get(key) for row in rows], pa.string())
        return register_baseline(
            self.client,
            pa.table(columns),
            Roles(**roles, segments=tuple(segments)),
            model_name=model.name,
            model_version=version,
            raw_database=self.raw_database,
        ).baseline_id

    def land_baseline(
        self, model: Model, version: str, rows: Sequence[Row], baseline_id: str, at: datetime
    ) -> None:
        """Land a baseline of a given id as if it had been registered at a given time."""
        values = [json.dumps(repaired(baseline_value(row))) for row in rows]
        self.client.insert(
            raw_table(self.raw_database, BASELINE_ROWS),
            [[baseline_id, number, value] for number, value in enumerate(values)],
            column_names=["baseline_id", "row_number", "value"],
        )
        columns = {
            "baseline_id": baseline_id,
            "model_name": model.name,
            "model_version": version,
            "row_count": len(rows),
            "feature_types": dict(model.types),
            "registered_at": at,
        }
        self.client.insert(
            raw_table(self.raw_database, BASELINES),
            [list(columns.values())],
            column_names=list(columns),
        )

    def land_rows(self, model_name: str, version: str, rows: Iterable[Row]) -> None:
        """Land predictions and what came true of them, encoded as the loggers do."""
        messages = []
        for number, row in enumerate(rows):
            name = f"{version}-{number}"
            messages.append(Message("predictions", prediction_of(row, model_name, version, name)))
            if row.truth is not None:
                messages.append(Message("labels", label_of(row, model_name, name)))
        self.land(messages)

    def run(self, *arguments: str, full_refresh: bool = False) -> None:
        """Build seeds and models in this process; raise with dbt's messages if anything fails."""
        run = self.dbt("build", *arguments, *(["--full-refresh"] if full_refresh else []))
        messages = [
            f"{result.node.name}: {result.message}"
            for result in run.result or []
            if result.status not in ("success", "pass", "warn", "no-op")
        ]
        if not run.success:
            raise AssertionError(run.exception or "\n".join(messages))

    def dbt(self, command: str, *arguments: str) -> Any:
        """Invoke dbt in this process and give its result."""
        with mock.patch.dict(os.environ, self.environment):
            return dbtRunner().invoke(self._arguments(command, arguments))

    def start_dbt(self, command: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start dbt as a process of its own, which a test may kill."""
        with self.process_log.open("ab") as log:
            return subprocess.Popen(
                dbt_command(self._arguments(command, arguments)),
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
            )

    def _arguments(self, command: str, arguments: Sequence[str]) -> list[str]:
        found = ["--quiet", command, *arguments]
        if self.variables:
            found += ["--vars", json.dumps(dict(self.variables))]
        if command == "build":
            # The tests of the project itself are the demo's and `test_conventions`'.
            found += ["--resource-type", "seed", "--resource-type", "model"]
        return found

    @property
    def process_log(self) -> Path:
        """Where dbt as a process of its own writes."""
        return self.folder / "process.log"

    @property
    def target(self) -> Path:
        """Where dbt's artefacts are."""
        return Path(self.environment["DBT_TARGET_PATH"])

    @property
    def environment(self) -> dict[str, str]:
        """What dbt needs to find the server, the project and this warehouse's seeds."""
        own = {
            **self.server.environment(self.database, self.raw_database),
            "DRIFTLINE_HOME": str(self.folder),
            # The models are the same in all warehouses of a test session.
            "DRIFTLINE_DESCRIBED_COLUMNS": os.environ.get("DRIFTLINE_DESCRIBED_COLUMNS", ""),
            "DRIFTLINE_TARGET": "sandbox",
            "DRIFTLINE_CONFIGURATION": os.path.relpath(self._seeds_folder, DBT_PROJECT),
        }
        return {name: text for name, text in dbt_environment(own).items() if text}

    def replacing_tables(self) -> list[str]:
        """Name the tables in which merges drop rows that newer ones replace."""
        rows = self.query(
            "select concat(database, '.', name) as name from system.tables "
            "where database = '{database}' and engine = 'ReplacingMergeTree'"
        )
        return [row["name"] for row in rows]

    def query(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """Give the rows of a statement; `{database}` in it is the database of the marts."""
        text = statement.replace("{database}", self.database)
        result = self.client.query(text, parameters=parameters)
        return [dict(row) for row in result.named_results()]

    def mart(self, name: str) -> pd.DataFrame:
        """Give all rows of a mart in a stable order, without the columns that differ by run."""
        result = self.client.query(f"select * from {self.database}.{name}")
        frame = pd.DataFrame(result.result_rows, columns=list(result.column_names))
        frame = frame.drop(columns=[column for column in _OF_THE_RUN if column in frame])
        keys = frame.astype(str).apply(" ".join, axis=1) if len(frame) else pd.Series(dtype=str)
        return frame.loc[keys.sort_values(kind="stable").index].reset_index(drop=True)
