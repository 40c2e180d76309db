"""Retraining runs as they stand in raw.retraining_runs: a row when one starts, one when it ends.

The table, not a mart, says what has run: a run counts for the cool-down from its first moment, and
even where it was cut short, while marts wait for dbt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.client import Client

from ingest.landing import insert_block, query_rows
from ingest.raw_tables import RETRAINING_RUNS, raw_table
from orchestration.retraining.evaluation import METRICS, Evaluation

# A run without an end is taken as cut short after so long; until then no other of its model starts.
ABANDONED_AFTER = timedelta(hours=24)

STARTED, PROMOTED, REFUSED, FAILED = "started", "promoted", "refused", "failed"

_SIDES = ("champion", "challenger", "difference")
_BOUNDS = {"": "value", "_lower": "lower", "_upper": "upper"}

_TIME = pa.timestamp("ms", "UTC")
_SCHEMA = pa.schema(
    [
        *(
            (name, pa.string())
            for name in ("run_id", "model_name", "status", "reason", "trigger", "trainer")
        ),
        ("breach_ids", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("metric", "champion_version", "challenger_version")),
        *((name, _TIME) for name in ("as_of", "training_from", "cut_off", "evaluation_until")),
        *(
            (name, pa.uint64())
            for name in (
                "training_row_count",
                "evaluation_row_count",
                "evaluation_positive_count",
            )
        ),
        ("figures", pa.map_(pa.string(), pa.float64())),
        ("challenger_threshold", pa.float64()),
        ("baseline_id", pa.string()),
        ("artefact", pa.string()),
        ("started_at", _TIME),
        ("ended_at", _TIME),
    ]
)


@dataclass(frozen=True)
class RetrainingRun:
    """One run; times in UTC.

    `status` is started, promoted, refused (not better beyond its interval) or failed; `reason` says
    why. `as_of` is the moment whose knowledge counts: training rows lie in
    [training_from, cut_off), evaluation rows in [cut_off, evaluation_until). `figures` has, for
    each metric, `<side>_<metric>`, `…_lower` and `…_upper`, where side is champion, challenger or
    difference; empty where it did not come to a comparison. `baseline_id` is that of the
    challenger, registered only where it was promoted.
    """

    run_id: str
    model_name: str
    status: str
    trigger: str
    trainer: str
    metric: str
    champion_version: str
    as_of: datetime
    training_from: datetime
    cut_off: datetime
    evaluation_until: datetime
    started_at: datetime
    reason: str = ""
    breach_ids: tuple[str, ...] = ()
    challenger_version: str = ""
    training_row_count: int = 0
    evaluation_row_count: int = 0
    evaluation_positive_count: int = 0
    figures: Mapping[str, float] = field(default_factory=dict)
    challenger_threshold: float | None = None
    baseline_id: str = ""
    artefact: str = ""
    ended_at: datetime | None = None

    @property
    def is_ended(self) -> bool:
        """Tell whether the run came to an end, good or bad."""
        return self.status != STARTED

    def is_under_way(self, at: datetime) -> bool:
        """Tell whether the run may still be going on at a moment."""
        return not self.is_ended and at - self.started_at < ABANDONED_AFTER


def figures_of(evaluation: Evaluation) -> dict[str, float]:
    """Give the figures of a run by name; undefined ones are left out."""
    found = {
        f"{side}_{metric}{suffix}": getattr(getattr(evaluation.of(metric), side), bound)
        for metric in METRICS
        for side in _SIDES
        for suffix, bound in _BOUNDS.items()
    }
    return {name: value for name, value in found.items() if value == value}


def record_run(client: Client, raw_database: str, run: RetrainingRun) -> None:
    """Append what is known of a run; the same again changes nothing. Raises LandingError."""
    values = {name: getattr(run, name) for name in _SCHEMA.names}
    values["breach_ids"] = list(run.breach_ids)
    values["figures"] = list(run.figures.items())
    insert_block(
        client,
        raw_table(raw_database, RETRAINING_RUNS),
        pa.RecordBatch.from_pylist([values], schema=_SCHEMA),
        f"{run.run_id}/{'ended' if run.is_ended else STARTED}",
        f"record of retraining run {run.run_id}",
    )


def read_runs(
    client: Client, raw_database: str, *, model_name: str | None = None, run_id: str | None = None
) -> Sequence[RetrainingRun]:
    """Give all runs, or those of a model or id, the latest started first. Raises LandingError.

    The table must exist (ingest.raw_tables.create_raw_tables).
    """
    bound: dict[str, Any] = {}
    conditions = []
    for name, value in (("model_name", model_name), ("run_id", run_id)):
        if value is not None:
            bound[name] = value
            conditions.append(f"{name} = {{{name}:String}}")
    names = ", ".join(_SCHEMA.names)
    # An end outdoes the start; of two ends, which only two processes at once could write, the
    # first one stands.
    rows = query_rows(
        client,
        f"select {names} from {raw_table(raw_database, RETRAINING_RUNS)} "  # noqa: S608 - quoted
        f"where {' and '.join(conditions) or '1'} "
        f"order by status = '{STARTED}', landed_at limit 1 by run_id",
        bound,
        "look-up of retraining runs",
    )
    runs = [_run(dict(zip(_SCHEMA.names, row, strict=True))) for row in rows]
    return sorted(runs, key=lambda run: (run.started_at, run.run_id), reverse=True)


def _run(row: Mapping[str, Any]) -> RetrainingRun:
    values = dict(row)
    values["breach_ids"] = tuple(values["breach_ids"])
    for name in _SCHEMA.names:
        if isinstance(values[name], datetime):
            moment = values[name]
            values[name] = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return RetrainingRun(**values)
