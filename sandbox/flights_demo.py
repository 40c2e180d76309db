"""`driftline demo flights`: from logged predictions to verdicts, on real flights.

Trains on January to March, registers that as the baseline, replays April to December through
PredictionLogger, Kafka and the loader, runs dbt, and reports. Run again, it sends only what the
warehouse does not have yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
from rich.console import Console

from driftline import settings
from driftline.settings import ClickHouseSettings, KafkaSettings
from driftline.warehouse_commands import analyst_client
from ingest.baselines import Baseline, Roles, register_baseline
from ingest.label_logger import LabelLogger
from ingest.prediction_logger import PredictionLogger
from ingest.raw_tables import LABEL_EVENTS, PREDICTION_EVENTS, create_raw_tables, raw_table
from ingest.warehouse import connect
from orchestration import execution
from sandbox import flights_data, flights_replay, flights_training, lifecycle
from sandbox.flights_data import FEATURES, MODEL_NAME, MODEL_VERSION, SEGMENTS
from sandbox.flights_marts import read_findings
from sandbox.flights_report import print_report
from sandbox.loader_process import LoaderProcess
from sandbox.problems import MendableError
from sandbox.steps import Steps

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

# Per partition. With the turn that is under way it stays below the 5 MB that the sandbox's broker
# keeps of one, even where messages (some 800 bytes each) are not compressed.
MOST_UNLANDED = 4_000


class DemoError(MendableError):
    """The demo cannot go on. The message says why and what to do."""


@dataclass(frozen=True)
class Landed:
    """What the warehouse has of the flights.

    `weeks` is by how many its predictions were moved, None where it has none. Ids stand once each,
    whatever the number of events.
    """

    weeks: int | None
    predictions: frozenset[str]
    labels: frozenset[str]


def landed_flights(client: Client, raw_database: str) -> Landed:
    """Look up which predictions and labels of the flights have landed, by the key of the event."""
    bound = {"model": MODEL_NAME}
    ids = []
    for table in (PREDICTION_EVENTS, LABEL_EVENTS):
        statement = (
            f"select distinct assumeNotNull(key) from {raw_table(raw_database, table)} "  # noqa: S608
            "where key is not null "
            "and JSONExtractString(assumeNotNull(value), 'model_name') = {model:String}"
        )
        found = client.query(statement, parameters=bound, column_oriented=True).result_set
        ids.append(frozenset(found[0]) if found else frozenset())
    statement = (
        "select JSONExtractInt(assumeNotNull(value), 'metadata', 'weeks_moved') "  # noqa: S608
        f"from {raw_table(raw_database, PREDICTION_EVENTS)} "
        "where JSONExtractString(assumeNotNull(value), 'model_name') = {model:String} "
        "and JSONHas(assumeNotNull(value), 'metadata', 'weeks_moved') limit 1"
    )
    weeks = client.query(statement, parameters=bound).result_rows
    return Landed(int(weeks[0][0]) if weeks else None, ids[0], ids[1])


def choose_weeks(asked: int | None, held: int | None, possible: int) -> int:
    """Choose by how many weeks to move the flights.

    `asked` None means: as the warehouse has them, else (`possible`) so that they end just before
    now. Raises DemoError where the warehouse has them moved by another number.
    """
    if held is not None and asked not in (None, held):
        raise DemoError(
            f"the warehouse has the flights moved by {held} weeks, not {asked}: leave out "
            "--shift-weeks, or begin afresh (driftline sandbox down --delete-data)"
        )
    if asked is not None:
        return asked
    return possible if held is None else held


def run(
    environment: MutableMapping[str, str],
    console: Console,
    *,
    shift_weeks: int | None,
    keep_going: bool,
) -> int:
    """Run the demo and print its report; gives the exit status.

    `shift_weeks` None chooses by itself. With `keep_going` the report is printed even where dbt
    had errors; the exit status stays that of the run.
    """
    steps = Steps(console)
    if settings.target(environment) == "sandbox":
        with steps.step("start the sandbox"):
            lifecycle.up(environment)
    with steps.step("read the flights"):
        flights = flights_data.load_flights()
    weeks = fill_warehouse(environment, steps, flights, shift_weeks=shift_weeks)
    del flights
    with steps.step("dbt build, publication and retraining, by Dagster") as report:
        try:
            outcome = execution.materialize_all(environment, report)
        except execution.ExecutionError as error:
            raise DemoError(f"{error}; run the demo again") from None
    steps.note(f"dbt: {outcome.summary}")
    for step, message in outcome.failures.items():
        steps.note(f"{step}: {message}")
    for check in outcome.failed_checks:
        steps.note(f"failed check: {check}")
    if not outcome.succeeded and not keep_going:
        raise DemoError("the run had errors (above); --keep-going reports all the same")
    if outcome.materializations.get("retraining_decisions", {}).get("runs"):
        # It comes after dbt in the graph; the next run of dbt would bring it, too.
        with steps.step("take the retraining run into its mart") as report:
            execution.materialize_all(environment, report, selection="fct_retraining_runs")
    published = outcome.materializations.get("cloudwatch_publication", {})
    with steps.step("read the marts"), closing(analyst_client(environment)) as client:
        found = read_findings(
            client,
            weeks,
            raw_database=ClickHouseSettings.from_environment(environment).raw_database,
            publication_run_id=outcome.run_id,
        )
    print_report(found, console, published)
    return 0 if outcome.succeeded else 1


def fill_warehouse(
    environment: Mapping[str, str],
    steps: Steps,
    flights: pd.DataFrame,
    *,
    shift_weeks: int | None,
) -> int:
    """Bring the baseline, every prediction and every label of `flights` into the raw tables.

    Gives by how many weeks the flights are moved. What has landed already is not sent again.
    """
    clickhouse = ClickHouseSettings.from_environment(environment)
    with closing(connect(clickhouse)) as client:
        create_raw_tables(client, clickhouse.raw_database)
        landed = landed_flights(client, clickhouse.raw_database)
        possible = flights_data.weeks_until(flights, pd.Timestamp.now("UTC"))
        weeks = choose_weeks(shift_weeks, landed.weeks, possible)
        flights = flights_data.move(flights, weeks)
        replayed = flights_data.replay_rows(flights)
        ids = flights_data.prediction_ids(replayed)
        events = flights_replay.schedule(
            replayed,
            np.fromiter((one in landed.predictions for one in ids), bool, len(ids)),
            np.fromiter((one in landed.labels for one in ids), bool, len(ids)),
        )
        if not len(events):
            steps.note("every prediction and label has landed before: nothing to replay")
            return weeks
        if landed.predictions:
            steps.note(f"going on with an unfinished replay: {len(events):,} events are left")
        rows = flights_data.training_rows(flights)
        with steps.step("train on January to March, weeks held out") as report:
            model = flights_training.train(rows, report)
        with steps.step("register the baseline", len(rows)) as report:
            register_training_set(client, clickhouse.raw_database, rows, model, weeks, report)
        with steps.step("replay April to December", len(events)) as report:
            _replay(environment, replayed, ids, events, model, weeks, report)
        with steps.step("see that every event has landed"):
            _require_landed(
                landed_flights(client, clickhouse.raw_database),
                expected_predictions=frozenset(ids),
                expected_labels=frozenset(
                    one
                    for one, arrived in zip(ids, replayed["arrived_at"].notna(), strict=True)
                    if arrived
                ),
            )
    steps.note(f"{len(events):,} events were sent, and each has landed")
    return weeks


def _replay(
    environment: Mapping[str, str],
    replayed: pd.DataFrame,
    ids: list[str],
    events: flights_replay.Schedule,
    model: flights_training.TrainedModel,
    weeks: int,
    on_progress: Callable[[int, int], None],
) -> None:
    kafka = KafkaSettings.from_environment(environment)
    with (
        LoaderProcess(environment, lifecycle.log_folder(environment) / "loader.log") as loader,
        PredictionLogger(
            MODEL_NAME,
            MODEL_VERSION,
            bootstrap_servers=kafka.bootstrap_servers,
            topic=kafka.predictions_topic,
        ) as predictions,
        LabelLogger(
            MODEL_NAME,
            source=flights_replay.LABEL_SOURCE,
            bootstrap_servers=kafka.bootstrap_servers,
            topic=kafka.labels_topic,
        ) as labels,
    ):
        flights_replay.replay(
            replayed,
            ids,
            events,
            model,
            weeks=weeks,
            predictions=predictions,
            labels=labels,
            wait_for_loader=lambda: loader.wait_until_behind_at_most(MOST_UNLANDED),
            on_progress=on_progress,
        )
        loader.wait_until_behind_at_most(0)


def _require_landed(
    landed: Landed, *, expected_predictions: frozenset[str], expected_labels: frozenset[str]
) -> None:
    for kind, expected, found in (
        ("predictions", expected_predictions, landed.predictions),
        ("labels", expected_labels, landed.labels),
    ):
        missing = expected - found
        if missing:
            raise DemoError(
                f"{len(missing):,} of {len(expected):,} {kind} have not landed, such as "
                f"{min(missing)}: run the demo again, it sends what is missing"
            )


def register_training_set(
    client: Client,
    raw_database: str,
    rows: pd.DataFrame,
    model: flights_training.TrainedModel,
    weeks: int,
    on_progress: Callable[[int, int], None],
) -> Baseline:
    """Register the training rows, with their out-of-fold scores, as the baseline of the model."""
    columns = {name: rows[name] for name in FEATURES}
    training_set = pd.DataFrame(
        {
            **columns,
            "score": model.out_of_fold_scores,
            "label": rows["label"],
            "predicted_at": rows["predicted_at"],
        }
    )
    return register_baseline(
        client,
        pa.Table.from_pandas(training_set, preserve_index=False),
        Roles(
            score="score",
            label="label",
            time="predicted_at",
            segments=SEGMENTS,
            # The segments are what the model sees, too.
            features=SEGMENTS,
        ),
        model_name=MODEL_NAME,
        model_version=MODEL_VERSION,
        raw_database=raw_database,
        description=f"Flights of January to March 2013, moved by {weeks} weeks",
        feature_importance=model.importance,
        on_progress=on_progress,
    )
