"""Model performance from raw events to marts: against scikit-learn, and in any cut into runs."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from dbt.cli.main import dbtRunner
from sklearn import metrics

from ingest.raw_tables import create_raw_tables
from tests.dbt_project.warehouse import SEED_HEADERS
from tests.warehouse_fixtures import ClickHouseProcess

REPOSITORY = Path(__file__).parents[2]
START = datetime(2024, 1, 1, tzinfo=UTC)
ROWS = {
    "segment_sets": "late,origin\nlate,origin|carrier\n",
    "monitors": "f1_fell,late,f1,all,,month,<,0.1,300,1,1,error\n",
}
KEY = ["model_name", "model_version", "window_start", "segment_key", "segment_value"]


@dataclass(frozen=True)
class Prediction:
    """One prediction, with the label that will be observed for it."""

    number: int
    at: datetime
    score: float
    is_late: bool
    origin: str = "EWR"
    carrier: str = "UA"
    version: str = "1"

    @property
    def prediction_id(self) -> str:
        return f"prediction-{self.number}"

    def event(self) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "prediction_id": self.prediction_id,
            "model_name": "late",
            "model_version": self.version,
            "predicted_at": _time(self.at),
            "features": {"distance": 100.0 + self.number % 7},
            "prediction": {"score": self.score},
            "segments": {"origin": self.origin, "carrier": self.carrier},
        }

    def label(self, *, is_late: bool | None = None, lag_hours: float = 3) -> dict[str, Any]:
        return {
            "schema_version": 1,
            "prediction_id": self.prediction_id,
            "model_name": "late",
            "label": "yes" if (self.is_late if is_late is None else is_late) else "no",
            "observed_at": _time(self.at + timedelta(hours=lag_hours)),
            "source": "test",
        }


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def some_predictions(count: int, seed: int, first: int = 0, days: int = 40) -> list[Prediction]:
    generator = np.random.default_rng(seed)
    return [
        Prediction(
            number=first + number,
            at=START + timedelta(minutes=int(generator.integers(0, days * 24 * 60))),
            score=round(float(score := generator.beta(2, 4)), 2),
            is_late=bool(generator.random() < score),
            origin=str(generator.choice(["EWR", "JFK", "LGA"])),
            carrier=str(generator.choice(["UA", "B6"])),
        )
        for number in range(count)
    ]


@dataclass
class Warehouse:
    """The dbt project over two databases of its own, emptied for each test."""

    server: ClickHouseProcess
    folder: Path
    landed: int = 0

    database = "performance_marts"
    raw = "performance_marts_raw"

    def __post_init__(self) -> None:
        self.client = self.server.client()
        self.seeds = self.folder / "seeds"
        self.seeds.mkdir(parents=True, exist_ok=True)
        for name, header in SEED_HEADERS.items():
            (self.seeds / f"{name}.csv").write_text(f"{header}\n{ROWS.get(name, '')}")
        self.empty()

    def empty(self) -> None:
        self.configure()
        for database in (self.database, self.raw):
            self.client.command(f"drop database if exists {database}")
            self.client.command(f"create database {database}")
        create_raw_tables(self.client, self.raw)

    def configure(self, threshold: float = 0.3, min_rows: int = 50) -> None:
        row = f"late,binary,yes,{threshold},1,48,{min_rows},,,"
        (self.seeds / "models.csv").write_text(f"{SEED_HEADERS['models']}\n{row}\n")

    def land(self, table: str, events: Iterable[dict[str, Any]]) -> None:
        """Insert events as the loader would."""
        rows = []
        for event in events:
            self.landed += 1
            rows.append((table, self.landed, event["prediction_id"], json.dumps(event)))
        self.client.insert(
            f"{self.raw}.{table}",
            [["c", t, "", 0, n, START, key, [], value, START.date()] for t, n, key, value in rows],
            column_names=[
                "cluster",
                "topic",
                "topic_id",
                "partition",
                "offset",
                "kafka_timestamp",
                "key",
                "headers",
                "value",
                "batch_date",
            ],
        )

    def predict(self, predictions: Iterable[Prediction]) -> None:
        self.land("prediction_events", [prediction.event() for prediction in predictions])

    def register_baseline(self, predictions: list[Prediction], baseline_id: str = "base") -> None:
        rows = [
            {
                key: value
                for key, value in prediction.event().items()
                if key in ("features", "prediction", "segments", "predicted_at")
            }
            | {"label": "yes" if prediction.is_late else "no"}
            for prediction in predictions
        ]
        self.client.insert(
            f"{self.raw}.baseline_rows",
            [[baseline_id, number, json.dumps(row)] for number, row in enumerate(rows)],
            column_names=["baseline_id", "row_number", "value"],
        )
        self.client.insert(
            f"{self.raw}.baselines",
            [
                [
                    baseline_id, "late", "1", "", len(rows), '{"distance": ["feature"]}',
                    {"distance": "numeric"}, {}, START,
                ]
            ],
            column_names=[
                "baseline_id", "model_name", "model_version", "description", "row_count", "roles",
                "feature_types", "feature_importance", "registered_at",
            ],
        )  # fmt: skip

    def build(self, *arguments: str, until: str = "") -> None:
        """Run seeds and models as far as the performance marts need them, in one invocation.

        `until` names a model that is the last one to run, as if the run had died after it.
        """
        environment = {
            **self.server.environment(self.database, self.raw),
            "DRIFTLINE_CONFIGURATION": os.path.relpath(self.seeds, REPOSITORY / "dbt_project"),
            "DBT_PROJECT_DIR": str(REPOSITORY / "dbt_project"),
            "DBT_PROFILES_DIR": str(REPOSITORY / "profiles"),
            "DBT_TARGET_PATH": str(self.folder / "target"),
            "DBT_LOG_PATH": str(self.folder / "logs"),
        }
        marts = [f"fct_model_performance_{g}" for g in ("daily", "weekly", "monthly")]
        selected = [f"+{name}" for name in ([until] if until else marts)]
        kinds = ["--resource-type", "model", "--resource-type", "seed"]
        with mock.patch.dict(os.environ, environment):
            run = dbtRunner().invoke(
                ["--quiet", "build", *kinds, "--select", *selected, *arguments]
            )
        results: Any = run.result or []
        assert run.success, run.exception or [result.message for result in results]

    def mart(self, granularity: str) -> pd.DataFrame:
        """Give the mart in order of its key, without the column that differs by run."""
        frame: pd.DataFrame = self.client.query_df(
            "select * except (run_version) "
            f"from {self.database}.fct_model_performance_{granularity}"
        )
        return frame.sort_values(KEY).reset_index(drop=True)

    def marts(self) -> dict[str, pd.DataFrame]:
        return {name: self.mart(name) for name in ("daily", "weekly", "monthly")}

    def row(
        self, granularity: str, day: int = 1, segment: str = "all", month: int = 1
    ) -> dict[str, Any]:
        rows = self.client.query(
            f"select * from {self.database}.fct_model_performance_{granularity} "
            "where segment_value = {segment:String} and window_start = {window:DateTime('UTC')}",
            parameters={"segment": segment, "window": datetime(2024, month, day, tzinfo=UTC)},
        )
        found = list(rows.named_results())
        assert len(found) == 1, found
        return dict(found[0])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hold what dbt parsed: the next run need not parse it again."""
    return tmp_path_factory.mktemp("performance_marts")


@pytest.fixture
def warehouse(clickhouse_server: ClickHouseProcess, folder: Path) -> Warehouse:
    return Warehouse(clickhouse_server, folder)


def assert_same_marts(found: dict[str, pd.DataFrame], expected: dict[str, pd.DataFrame]) -> None:
    for granularity, mart in expected.items():
        assert not mart.empty
        pd.testing.assert_frame_equal(found[granularity], mart, rtol=1e-9, atol=1e-12)


def test_performance_equals_scikit_learn_on_the_same_rows(warehouse: Warehouse) -> None:
    predictions = some_predictions(2_000, seed=1, days=20)
    baseline = some_predictions(1_000, seed=2)
    labeled = [prediction for prediction in predictions if prediction.number % 10]
    warehouse.predict(predictions)
    warehouse.land("label_events", [prediction.label() for prediction in labeled])
    warehouse.register_baseline(baseline)
    warehouse.build("--vars", "{as_of: 2024-01-16 12:00:00}")

    for granularity in ("daily", "weekly", "monthly"):
        mart = warehouse.mart(granularity)
        for row in mart.to_dict("records"):
            inside = [
                prediction
                for prediction in predictions
                if row["window_start"] <= pd.Timestamp(prediction.at).tz_localize(None)
                < row["window_end"]
                and _is_in_segment(prediction, row)
            ]  # fmt: skip
            _assert_row_equals_scikit_learn(row, inside)
    # labels of a day are complete two days after its end
    daily = warehouse.mart("daily")
    is_final = daily["window_start"] <= pd.Timestamp("2024-01-13")
    assert list(daily["status"] == "final") == list(is_final)
    _assert_baseline_equals_scikit_learn(warehouse.row("monthly"), baseline)


def _is_in_segment(prediction: Prediction, row: dict[Hashable, Any]) -> bool:
    values = {
        "all": "all",
        "origin": prediction.origin,
        "origin|carrier": f"{prediction.origin}|{prediction.carrier}",
    }
    return bool(values[row["segment_key"]] == row["segment_value"])


def _assert_row_equals_scikit_learn(row: dict[Hashable, Any], inside: list[Prediction]) -> None:
    labeled = [prediction for prediction in inside if prediction.number % 10]
    label = np.array([prediction.is_late for prediction in labeled], dtype=int)
    score = np.array([prediction.score for prediction in labeled])
    predicted = (score >= 0.3).astype(int)
    assert row["prediction_count"] == len(inside)
    assert row["labeled_count"] == len(labeled)
    assert row["label_lag_p50_seconds"] == 3 * 3600
    tn, fp, fn, tp = metrics.confusion_matrix(label, predicted, labels=[0, 1]).ravel()
    assert (row["true_negatives"], row["false_positives"]) == (tn, fp)
    assert (row["false_negatives"], row["true_positives"]) == (fn, tp)
    expected = {
        "label_coverage": len(labeled) / len(inside),
        "prevalence": label.mean(),
        "accuracy": metrics.accuracy_score(label, predicted),
        "brier": np.mean((label - score) ** 2),
        "precision": tp / (tp + fp) if tp + fp else np.nan,
        "recall": tp / (tp + fn) if tp + fn else np.nan,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else np.nan,
    }
    if 0 < label.sum() < len(label):
        expected["auc"] = metrics.roc_auc_score(label, score)
        expected["pr_auc"] = metrics.average_precision_score(label, score)
        expected["log_loss"] = metrics.log_loss(label, np.clip(score, 1e-15, 1 - 1e-15))
    else:
        expected["auc"] = np.nan
        assert "single_class" in row["reason"]
    for name, value in expected.items():
        found = np.nan if pd.isna(row[name]) else row[name]
        np.testing.assert_allclose(found, value, rtol=1e-9, atol=1e-12, err_msg=name)


def _assert_baseline_equals_scikit_learn(row: dict[str, Any], baseline: list[Prediction]) -> None:
    label = np.array([prediction.is_late for prediction in baseline], dtype=int)
    score = np.array([prediction.score for prediction in baseline])
    auc = metrics.roc_auc_score(label, score)
    f1 = metrics.f1_score(label, score >= 0.3)
    assert row["baseline_id"] == "base"
    assert row["baseline_scope"] == "segment"
    assert row["baseline_auc"] == pytest.approx(auc)
    assert row["auc_difference"] == pytest.approx(row["auc"] - auc)
    assert row["is_auc_beyond_interval"] == int(not row["auc_lower"] <= auc <= row["auc_upper"])
    assert row["baseline_f1"] == pytest.approx(f1)
    assert row["f1_difference"] == pytest.approx(row["f1"] - f1)


@pytest.mark.thorough
def test_any_cut_into_runs_gives_the_marts_of_one_run(warehouse: Warehouse) -> None:
    """Late rows and labels, revisions, duplicates, orphans found, a baseline that comes last."""
    predictions = some_predictions(900, seed=3, days=20)
    displaced = [
        replace(one, at=one.at - timedelta(days=2), origin="BOS") for one in predictions[:20]
    ]
    labels = [prediction.label() for prediction in predictions[: 800]]  # fmt: skip
    revisions = [
        prediction.label(is_late=not prediction.is_late, lag_hours=30)
        for prediction in predictions[100:150]
    ]
    baseline = some_predictions(400, seed=4)
    as_of = ("--vars", "{as_of: 2024-01-20 00:00:00}")

    warehouse.register_baseline(baseline)
    warehouse.predict([*displaced, *predictions])
    warehouse.land("label_events", [*labels, *revisions])
    warehouse.build(*as_of)
    at_once = warehouse.marts()

    warehouse.empty()
    # labels before their predictions, newest rows first
    warehouse.land("label_events", [*revisions, *labels[400:]])
    warehouse.predict(predictions[500:])
    warehouse.build("--vars", "{as_of: 2024-01-08 00:00:00}")
    warehouse.predict(predictions[:600])
    warehouse.build(*as_of)
    warehouse.land("label_events", [*labels[:450], *labels[:50]])
    warehouse.predict(displaced)
    warehouse.build(*as_of, until="int_performance_inputs")
    warehouse.build(*as_of)
    warehouse.register_baseline(baseline)
    warehouse.build(*as_of)
    assert_same_marts(warehouse.marts(), at_once)

    warehouse.build(*as_of)
    assert_same_marts(warehouse.marts(), at_once)
    warehouse.build("--full-refresh", *as_of)
    assert_same_marts(warehouse.marts(), at_once)


@pytest.mark.thorough
def test_only_groups_whose_rows_or_labels_changed_are_computed_again(warehouse: Warehouse) -> None:
    predictions = some_predictions(300, seed=5, days=30)
    warehouse.predict(predictions)
    warehouse.land("label_events", [prediction.label() for prediction in predictions])
    warehouse.build()
    late = replace(
        predictions[0], number=9_999, at=START + timedelta(days=9), origin="JFK", carrier="B6"
    )
    warehouse.predict([late])
    warehouse.build()
    # a prediction without a label changes no statistics
    inputs = f"{warehouse.database}.int_performance_inputs"
    assert warehouse.client.query(f"select count() from {inputs}").first_row[0] == 0
    warehouse.land("label_events", [late.label()])
    warehouse.build()
    touched = warehouse.client.query(
        f"select granularity, toDate(window_start), segment_value from {inputs}"
    ).result_rows
    day, week, month = (datetime(2024, 1, d, tzinfo=UTC).date() for d in (10, 8, 1))
    assert sorted(touched) == [
        (granularity, window, segment)
        for granularity, window in (("day", day), ("month", month), ("week", week))
        for segment in ("JFK", "JFK|B6", "all")
    ]
    recomputed = warehouse.client.query(
        f"select count() from {warehouse.database}.int_performance_statistics "
        f"where run_version = (select max(run_version) from {inputs})"
    ).first_row[0]
    assert recomputed == 9


def test_undefined_values_are_null_with_a_reason(warehouse: Warehouse) -> None:
    late = [Prediction(n, START + timedelta(minutes=n), 0.9, is_late=True) for n in range(3)]
    silent = Prediction(10, START + timedelta(days=1), 0.9, is_late=True)
    after_a_gap = [
        Prediction(20 + n, START + timedelta(days=4, minutes=n), 0.1, is_late=n % 2 == 0)
        for n in range(80)
    ]
    warehouse.predict([*late, silent, *after_a_gap])
    warehouse.land("label_events", [one.label() for one in [*late, *after_a_gap]])
    warehouse.build()

    single_class = warehouse.row("daily", day=1)
    assert single_class["reason"] == "single_class,no_baseline"
    assert single_class["auc"] is None
    assert single_class["precision"] == 1.0
    assert single_class["baseline_scope"] == "none"
    assert single_class["auc_difference"] is None
    assert single_class["is_f1_beyond_interval"] is None
    no_labels = warehouse.row("daily", day=2)
    assert (no_labels["prediction_count"], no_labels["labeled_count"]) == (1, 0)
    assert no_labels["label_coverage"] == 0
    assert no_labels["label_lag_p50_seconds"] is None
    assert no_labels["reason"] == "no_labels,no_baseline"
    for day in (3, 4):
        empty = warehouse.row("daily", day=day)
        assert (empty["prediction_count"], empty["label_coverage"]) == (0, None)
        assert empty["reason"] == "no_predictions,no_labels,no_baseline"
    unpredicted = warehouse.row("daily", day=5)
    assert unpredicted["reason"] == "no_predicted_positives,no_baseline"
    assert unpredicted["precision"] is None
    assert unpredicted["f1"] == 0
    assert unpredicted["auc"] == 0.5
    assert unpredicted["auc_lower"] < 0.5 < unpredicted["auc_upper"]


def test_labels_without_a_prediction_are_orphans_until_it_comes(warehouse: Warehouse) -> None:
    predictions = some_predictions(60, seed=6, days=2)
    stray = Prediction(500, START + timedelta(hours=20), 0.5, is_late=True)
    warehouse.predict(predictions)
    warehouse.land("label_events", [stray.label(lag_hours=2), predictions[0].label()])
    warehouse.build()
    assert warehouse.row("daily", day=1)["orphan_label_count"] == 1
    assert warehouse.row("monthly")["orphan_label_count"] == 1
    assert warehouse.row("daily", day=1, segment="EWR")["orphan_label_count"] == 0
    warehouse.predict([stray])
    warehouse.build()
    assert warehouse.row("daily", day=1)["orphan_label_count"] == 0
    assert warehouse.row("monthly")["labeled_count"] == 2


def test_changed_threshold_reaches_every_window_and_the_baseline(warehouse: Warehouse) -> None:
    predictions = some_predictions(200, seed=7, days=3)
    warehouse.predict(predictions)
    warehouse.land("label_events", [prediction.label() for prediction in predictions])
    warehouse.register_baseline(some_predictions(100, seed=8))
    warehouse.build()
    before = warehouse.row("daily", day=2)
    warehouse.configure(threshold=0.0)
    warehouse.build()
    after = warehouse.row("daily", day=2)
    assert before["recall"] < 1
    assert after["recall"] == after["baseline_recall"] == 1
    assert after["auc"] == before["auc"]
    assert after["threshold"] == 0


def test_small_baseline_segment_gives_way_to_everyone(warehouse: Warehouse) -> None:
    predictions = some_predictions(300, seed=9, days=2)
    warehouse.predict(predictions)
    warehouse.land("label_events", [prediction.label() for prediction in predictions])
    # 90 rows from EWR, 10 from JFK: fewer than min_rows
    origins = ["EWR"] * 90 + ["JFK"] * 10
    warehouse.register_baseline(
        [
            replace(one, origin=origin, carrier="UA")
            for one, origin in zip(some_predictions(100, seed=10), origins, strict=True)
        ]
    )
    warehouse.build()
    everyone, newark, kennedy = (
        warehouse.row("monthly", segment=segment) for segment in ("all", "EWR", "JFK")
    )
    assert [row["baseline_scope"] for row in (everyone, newark, kennedy)] == [
        "segment", "segment", "all",
    ]  # fmt: skip
    assert kennedy["baseline_auc"] == everyone["baseline_auc"] != newark["baseline_auc"]
