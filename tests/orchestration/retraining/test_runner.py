"""Whole runs, from events that landed to `fct_retraining_runs`, on a real ClickHouse."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from driftline.command_line import app
from driftline.settings import ClickHouseSettings
from ingest.events import encode_label
from ingest.raw_tables import create_raw_tables
from orchestration.defs.retraining.assets import retraining_decisions
from orchestration.defs.retraining.sensors import sustained_breaches
from orchestration.defs.runs import MODEL_TAG
from orchestration.defs.systems import Systems
from orchestration.retraining import RetrainingError
from orchestration.retraining.dataset import Dataset, Periods, read_champion, read_dataset
from orchestration.retraining.protocol import Challenger
from orchestration.retraining.runner import baseline_table, retrain
from orchestration.retraining.runs import RetrainingRun, read_runs, record_run
from orchestration.retraining.triggers import RetrainingRuleError, read_due, read_rules
from tests.dbt_project.drift_oracle import Model, Row
from tests.dbt_project.warehouse import Message, Warehouse, prediction_of
from tests.orchestration.retraining.trainers import Killed
from tests.warehouse_fixtures import ClickHouseProcess

# Evaluation ends a day before (label maturity) and is 10 days long, training 40 days before that.
NOW = datetime(2026, 3, 1, tzinfo=UTC)
EVALUATION_UNTIL = datetime(2026, 2, 28, tzinfo=UTC)
CUT_OFF = datetime(2026, 2, 18, tzinfo=UTC)
TRAINING_FROM = datetime(2026, 1, 9, tzinfo=UTC)
TRAINERS = "tests.orchestration.retraining.trainers"
TYPES = {"x": "numeric", "kind": "categorical", "is_new": "boolean"}
# What the chance of a yes is by kind, since the world has changed.
CHANCES = {"a": 0.1, "b": 0.4, "c": 0.8}
# changed: the champion does not know the kinds; steady: it does, and more than the trainer learns.
MODELS = ("changed", "steady", "few", "broken", "dying")
RULES = {
    "changed": f"changed,{TRAINERS}:learn_kinds,auc_fell,2,0,24,40,10,30,auc",
    "steady": f"steady,{TRAINERS}:learn_kinds,,2,0,24,40,10,30,f1",
    "few": f"few,{TRAINERS}:learn_kinds,,2,0,24,40,10,1000,auc",
    "broken": f"broken,{TRAINERS}:fail,,2,0,24,40,10,30,auc",
    "dying": f"dying,{TRAINERS}:die_once,,2,0,24,40,10,30,auc",
    "wrong": f"wrong,{TRAINERS}:learn_kinds,,2,0,24,40,10,30,auc",
}


def model_named(name: str) -> Model:
    return Model(name=name, task="binary", types=TYPES, segment_sets=(("region",),))


def make_rows(name: str, seed: int, first: datetime, until: datetime, count: int) -> list[Row]:
    """Give labelled predictions, evenly in time; `label` is the truth, not what was predicted."""
    generator = np.random.default_rng(seed)
    rows = []
    # The steady champion knows half of what decides beyond the kind, too.
    knows = name == "steady"
    for number in range(count):
        kind = str(generator.choice(list(CHANCES)))
        chance = CHANCES[kind]
        surprise = generator.random()
        score = 0.5 * chance + 0.5 * (1 - surprise) if knows else generator.random()
        rows.append(
            Row(
                {
                    "x": round(float(generator.normal()), 3),
                    "kind": kind,
                    "is_new": bool(generator.random() < 0.5),
                },
                first + (until - first) * number / count,
                {"region": str(generator.choice(["north", "south"]))},
                score=round(float(score), 4),
                label="yes" if surprise < chance else "no",
            )
        )
    return rows


def label_of(
    model_name: str, prediction_id: str, label: str, observed_at: datetime, source: str = "till"
) -> Message:
    event = encode_label(
        model_name=model_name,
        prediction_id=f"{model_name}-{prediction_id}",
        label=label,
        observed_at=observed_at,
        source=source,
    )
    return Message("labels", event.value)


@dataclass(frozen=True)
class Oddity:
    """A prediction of `changed` whose label has a story: (label, observed at) in turn."""

    name: str
    predicted_at: datetime
    labels: Sequence[tuple[str, datetime]]


def february(day: int, hour: int = 0) -> datetime:
    return datetime(2026, 2, 1, hour, tzinfo=UTC) + timedelta(days=day - 1)


ODDITIES = [
    Oddity("known_late", february(10), [("yes", CUT_OFF + timedelta(milliseconds=1))]),
    Oddity("known_just_in_time", february(10), [("yes", CUT_OFF)]),
    Oddity("revised_late", february(1), [("no", february(2)), ("yes", february(25))]),
    Oddity("revised_early", february(1), [("no", february(2)), ("yes", february(3))]),
    Oddity("evaluated", february(20), [("yes", february(21))]),
    Oddity("evaluated_then_revised", february(20), [("no", february(21)), ("yes", february(40))]),
    Oddity("known_after_now", february(20), [("yes", NOW + timedelta(seconds=1))]),
    Oddity("not_matured", EVALUATION_UNTIL, [("yes", february(28, 1))]),
    Oddity("at_the_cut_off", CUT_OFF, [("yes", february(19))]),
    Oddity("too_old", TRAINING_FROM - timedelta(milliseconds=1), [("yes", february(1))]),
    Oddity("unlabeled", february(5), []),
]


@pytest.fixture(scope="module")
def warehouse(
    clickhouse_server: ClickHouseProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Warehouse]:
    """Build the marts of five models, two of which have had poor AUC for weeks."""
    warehouse = Warehouse(
        clickhouse_server,
        tmp_path_factory.mktemp("retraining"),
        "retraining_runs",
        seeds={
            "models": [f"{name},binary,yes,0.5,1,24,30,,," for name in MODELS],
            "segment_sets": [f"{name},region" for name in MODELS],
            "monitors": [
                "auc_fell,changed,auc,all,,week,<,0.65,30,2,3,error",
                "steady_auc_fell,steady,auc,all,,week,<,0.65,30,2,3,error",
                "broken_auc_fell,broken,auc,all,,week,<,0.65,30,2,3,error",
            ],
            "retraining": list(RULES.values()),
        },
    )
    for seed, name in enumerate(MODELS):
        model = model_named(name)
        # The champion was trained in December.
        december = datetime(2025, 12, 1, tzinfo=UTC)
        trained = make_rows(name, seed, december, datetime(2026, 1, 1, tzinfo=UTC), 300)
        warehouse.register_baseline(model, "1", [replace(row, label=None) for row in trained])
        served = make_rows(name, 100 + seed, datetime(2026, 1, 5, tzinfo=UTC), NOW, 2_400)
        warehouse.land_rows(name, "1", [replace(row, label=None) for row in served])
        warehouse.land(
            label_of(name, f"1-{number}", str(row.label), row.at + timedelta(hours=12))
            for number, row in enumerate(served)
            if row.at is not None
        )
    warehouse.land(
        Message(
            "predictions",
            prediction_of(
                Row({"x": 1.0, "kind": "a", "is_new": True}, oddity.predicted_at, score=0.5),
                "changed",
                "1",
                oddity.name,
            ),
        )
        for oddity in ODDITIES
    )
    warehouse.land(
        label_of("changed", oddity.name, label, at)
        for oddity in ODDITIES
        for label, at in oddity.labels
    )
    warehouse.run(
        "--select",
        "+fct_breaches",
        "+fct_predictions",
        "+dim_features",
        "+int_retraining_rules",
    )
    yield warehouse
    warehouse.close()


@pytest.fixture(scope="module")
def settings(warehouse: Warehouse) -> ClickHouseSettings:
    return ClickHouseSettings.from_environment(
        warehouse.server.environment(warehouse.database, warehouse.raw_database)
    )


@dataclass(frozen=True)
class Retrainer:
    """Retrains models of a warehouse, at NOW."""

    warehouse: Warehouse
    settings: ClickHouseSettings
    folder: Path

    def __call__(self, model_name: str, run_id: str, **options: Any) -> RetrainingRun:
        return retrain(
            self.warehouse.client,
            self.settings,
            model_name,
            run_id=run_id,
            **{
                "now": NOW,
                "trigger": "test",
                "clock": lambda: NOW,
                "work_folder": self.folder,
                **options,
            },
        )

    def rows_in(self, table: str) -> int:
        counted = self.warehouse.query(
            f"select count() as rows from {self.warehouse.raw_database}.{table}"
        )
        return int(counted[0]["rows"])


@pytest.fixture
def run(warehouse: Warehouse, settings: ClickHouseSettings, tmp_path: Path) -> Iterator[Retrainer]:
    """Give a retrainer; what its runs record and register is gone after the test.

    Tables are dropped, not emptied, as an empty one still remembers the tokens of its inserts.
    """
    raw = warehouse.raw_database
    for table in ("baselines", "baseline_rows"):
        warehouse.client.command(f"create table {raw}.kept_{table} as {raw}.{table}")
        warehouse.client.command(f"insert into {raw}.kept_{table} select * from {raw}.{table}")
    yield Retrainer(warehouse, settings, tmp_path)
    forget_runs(warehouse)
    for table in ("baselines", "baseline_rows"):
        warehouse.client.command(f"drop table {raw}.{table} sync")
        warehouse.client.command(f"rename table {raw}.kept_{table} to {raw}.{table}")


def forget_runs(warehouse: Warehouse) -> None:
    warehouse.client.command(f"drop table {warehouse.raw_database}.retraining_runs sync")
    create_raw_tables(warehouse.client, warehouse.raw_database)


@pytest.fixture(scope="module")
def dataset(warehouse: Warehouse) -> Dataset:
    champion = read_champion(warehouse.client, warehouse.database, "changed")
    periods = Periods.ending(
        NOW, label_maturity=champion.label_maturity, training_days=40, evaluation_days=10
    )
    assert periods == Periods(TRAINING_FROM, CUT_OFF, EVALUATION_UNTIL, NOW)
    return read_dataset(warehouse.client, warehouse.database, champion, periods)


def test_no_row_trains_whose_label_was_not_known_at_the_cut_off(dataset: Dataset) -> None:
    def labels_of(ids: Sequence[str], labels: Sequence[str]) -> dict[str, str]:
        names = {f"changed-{oddity.name}": oddity.name for oddity in ODDITIES}
        return {names[one]: label for one, label in zip(ids, labels, strict=True) if one in names}

    assert labels_of(list(dataset.training.prediction_ids), list(dataset.training.labels)) == {
        "known_just_in_time": "yes",
        "revised_late": "no",
        "revised_early": "yes",
    }
    assert labels_of(list(dataset.evaluation.prediction_ids), list(dataset.evaluation.labels)) == {
        "evaluated": "yes",
        "evaluated_then_revised": "no",
        "at_the_cut_off": "yes",
    }


def test_rows_of_training_and_evaluation_are_disjoint_in_id_and_time(dataset: Dataset) -> None:
    training, evaluation = dataset.training, dataset.evaluation
    assert len(training) > 1_000
    assert len(evaluation) > 300
    assert training.predicted_at.is_monotonic_increasing
    assert training.predicted_at.min() >= TRAINING_FROM
    assert training.predicted_at.max() < CUT_OFF <= evaluation.predicted_at.min()
    assert evaluation.predicted_at.max() < EVALUATION_UNTIL
    assert not set(training.prediction_ids) & set(evaluation.prediction_ids)


def test_rows_have_what_was_logged_in_the_types_of_the_baseline(dataset: Dataset) -> None:
    training = dataset.training
    logged = make_rows("changed", 100, datetime(2026, 1, 5, tzinfo=UTC), NOW, 2_400)
    by_id = {f"changed-1-{number}": row for number, row in enumerate(logged)}
    found = [
        (number, by_id[one]) for number, one in enumerate(training.prediction_ids) if one in by_id
    ]
    assert len(found) == len(training) - 3
    features = training.features
    assert {name: str(features[name].dtype) for name in features} == {
        "is_new": "boolean",
        "kind": "category",
        "x": "float64",
    }
    for number, row in found:
        assert dict(features.iloc[number]) == row.features
        assert dict(training.segments.iloc[number]) == row.segments
        assert training.labels[number] == row.label
        assert training.champion_scores[number] == row.score


def test_rows_that_the_champion_was_trained_on_are_not_compared_on(warehouse: Warehouse) -> None:
    champion = read_champion(warehouse.client, warehouse.database, "changed")
    seen_until = february(22)
    trained_lately = replace(champion, seen_from=february(1), seen_until=seen_until)
    periods = Periods(TRAINING_FROM, CUT_OFF, EVALUATION_UNTIL, NOW)
    found = read_dataset(warehouse.client, warehouse.database, trained_lately, periods)
    all_rows = read_dataset(warehouse.client, warehouse.database, champion, periods)
    assert found.evaluation.predicted_at.min() > seen_until
    assert len(found.training) == len(all_rows.training)
    left_out = int((all_rows.evaluation.predicted_at <= seen_until).sum())
    assert len(found.evaluation) == len(all_rows.evaluation) - left_out
    assert left_out > 100


def test_features_that_are_null_throughout_can_be_a_baseline(dataset: Dataset) -> None:
    rows = replace(
        dataset.training,
        features=dataset.training.features.assign(
            kind=pd.Series([None] * len(dataset.training), dtype="category"), x=np.nan
        ),
    )
    challenger = Challenger("2", np.full(len(rows), 0.5), lambda some: np.full(len(some), 0.5))
    table = baseline_table(rows, challenger)
    assert {name: str(table.schema.field(name).type) for name in TYPES} == {
        "x": "double",
        "kind": "string",
        "is_new": "bool",
    }
    assert table.column("kind").null_count == len(rows)


def test_missing_and_null_features_are_unknown(warehouse: Warehouse, dataset: Dataset) -> None:
    champion = read_champion(warehouse.client, warehouse.database, "changed")
    more = replace(champion, feature_types={**TYPES, "never": "numeric", "nor_this": "categorical"})
    periods = Periods(TRAINING_FROM, CUT_OFF, EVALUATION_UNTIL, NOW)
    features = read_dataset(warehouse.client, warehouse.database, more, periods).training.features
    assert features[["never", "nor_this"]].isna().all(axis=None)
    assert len(features) == len(dataset.training)


def test_better_challenger_is_promoted_and_a_worse_one_refused_visibly(
    run: Retrainer, warehouse: Warehouse
) -> None:
    baselines_before = run.rows_in("baselines")
    due = read_due(warehouse.client, run.settings, NOW)
    assert [one.model_name for one in due] == ["broken", "changed"]
    promoted, refused = run("changed", "run-1"), run("steady", "run-2")

    assert (promoted.status, promoted.reason) == ("promoted", "better_beyond_interval")
    assert promoted.figures["difference_auc_lower"] > 0
    assert promoted.figures["challenger_auc"] > 0.7 > promoted.figures["champion_auc"]
    assert promoted.breach_ids == due[1].breach_ids
    assert (refused.status, refused.reason) == ("refused", "not_better_beyond_interval")
    assert refused.figures["difference_f1_lower"] <= 0
    assert (refused.baseline_id, refused.breach_ids) == ("", ())
    assert run.rows_in("baselines") == baselines_before + 1

    # The mart of the runs, and the baseline of the new version, come with the next build.
    warehouse.run("--select", "+fct_retraining_runs", "+dim_baselines", "int_baseline_rows")
    rows = {
        row["run_id"]: row
        for row in warehouse.query("select * from {database}.fct_retraining_runs")
    }
    assert set(rows) == {"run-1", "run-2"}
    shown = rows["run-1"]
    assert (shown["status"], shown["champion_version"]) == ("promoted", "1")
    assert shown["challenger_version"] == f"{CUT_OFF:%Y%m%d}"
    assert shown["auc_difference_lower"] == promoted.figures["difference_auc_lower"]
    assert shown["challenger_threshold"] == 0.4
    assert shown["training_row_count"] == promoted.training_row_count
    assert shown["cut_off"].replace(tzinfo=UTC) == CUT_OFF
    assert shown["artefact"].endswith("run-1/shares.json")
    assert rows["run-2"]["status"] == "refused"
    assert rows["run-2"]["f1_difference_lower"] == refused.figures["difference_f1_lower"]
    assert rows["run-2"]["baseline_id"] == ""

    registered = warehouse.query(
        "select * from {database}.dim_baselines where baseline_id = {id:String}",
        id=promoted.baseline_id,
    )[0]
    assert registered["model_version"] == promoted.challenger_version
    assert registered["row_count"] == promoted.training_row_count
    assert registered["last_predicted_at"].replace(tzinfo=UTC) < CUT_OFF
    roles = json.loads(registered["roles"])
    assert roles["region"] == ["segment"]
    assert roles["__score__"] == ["score"]
    in_baseline = warehouse.query(
        "select countIf(number_features['x'] = -1) as spoilt, countIf(label = 'yes') as yes "
        "from {database}.int_baseline_rows where baseline_id = {id:String}",
        id=promoted.baseline_id,
    )[0]
    assert in_baseline["spoilt"] < 10
    assert in_baseline["yes"] > 300


def test_models_of_dbt_pass_their_tests_and_a_wrong_rule_is_an_error_with_the_remedy(
    run: Retrainer, warehouse: Warehouse
) -> None:
    run("broken", "run-1")
    warehouse.run("--select", "+fct_retraining_runs")
    tested = ("fct_retraining_runs", "stg_raw__retraining_runs", "int_retraining_rules")
    found = warehouse.dbt("test", "--select", *tested)
    outcomes = {
        one.node.name: (str(one.status), str(one.message))
        for one in found.result
        if one.node.resource_type != "operation"  # the hook before every run
    }
    status, message = outcomes.pop("retraining_is_valid")
    assert status == "error"
    assert "retraining.csv, 'wrong': unknown model: name a model of models.csv" in message
    assert set(outcomes.values()) == {("pass", "None")}
    assert "int_retraining_rules_say_what_is_wrong" in outcomes
    assert len(outcomes) == 6


def test_run_starts_the_cooldown_at_once_and_a_promotion_settles_its_breaches(
    run: Retrainer, warehouse: Warehouse
) -> None:
    assert "changed" in [one.model_name for one in read_due(warehouse.client, run.settings, NOW)]
    run("changed", "run-1")
    for later in (timedelta(0), timedelta(hours=23), timedelta(hours=25)):
        due = read_due(warehouse.client, run.settings, NOW + later)
        assert "changed" not in [one.model_name for one in due]


def test_sensor_asks_for_what_is_due_and_the_asset_retrains_it(
    run: Retrainer, warehouse: Warehouse, tmp_path: Path
) -> None:
    environment = {**warehouse.environment, "DRIFTLINE_HOME": str(tmp_path)}
    resources = {"systems": Systems(environment, now=lambda: NOW)}

    def tick(instance: dg.DagsterInstance) -> dict[str, dg.RunRequest]:
        context = dg.build_sensor_context(instance=instance, resources=resources)
        asked = sustained_breaches(context)
        assert isinstance(asked, dg.SensorResult)
        return {request.tags[MODEL_TAG]: request for request in asked.run_requests or ()}

    with dg.DagsterInstance.ephemeral() as instance:
        requests = tick(instance)
        assert set(requests) == {"broken", "changed"}
        retrained = dg.materialize(
            [retraining_decisions],
            instance=instance,
            resources=resources,
            run_config=requests["changed"].run_config,
        )
        assert retrained.success
        # The next tick waits for the cool-down of the one, and asks for the other again.
        assert set(tick(instance)) == {"broken"}
    [recorded] = read_runs(warehouse.client, run.settings.raw_database, model_name="changed")
    assert (recorded.status, recorded.trigger) == ("promoted", "sensor")
    [shown] = retrained.asset_materializations_for_node("retraining_decisions")
    assert shown.metadata["decided"].value == "changed: promoted"


def test_same_run_again_changes_nothing(run: Retrainer) -> None:
    first = run("changed", "run-1")
    counts = {name: run.rows_in(name) for name in ("retraining_runs", "baselines", "baseline_rows")}
    later = NOW + timedelta(days=3)
    assert run("changed", "run-1", now=later, trigger="other") == first
    assert counts == {name: run.rows_in(name) for name in counts}


def test_too_little_to_compare_on_fails_with_the_numbers(run: Retrainer) -> None:
    found = run("few", "run-1")
    assert found.status == "failed"
    assert found.reason.startswith("too_few_evaluation_rows: ")
    assert "of 1000 each: raise evaluation_days, or wait" in found.reason
    assert found.evaluation_row_count > 300
    assert (found.challenger_version, found.figures) == ("", {})


def test_too_little_to_train_on_fails_with_the_numbers(run: Retrainer) -> None:
    found = run("changed", "run-1", now=datetime(2026, 1, 8, tzinfo=UTC))
    assert found.status == "failed"
    assert found.reason.startswith("too_few_training_rows: 0 positive and 0 negative")


def test_failing_trainer_is_recorded_and_starts_the_cooldown(
    run: Retrainer, warehouse: Warehouse
) -> None:
    found = run("broken", "run-1")
    assert found.status == "failed"
    assert found.reason == (
        "trainer_error: the trainer failed: ZeroDivisionError('no luck with broken')"
    )
    assert found.training_row_count > 1_000
    due = read_due(warehouse.client, run.settings, NOW + timedelta(hours=23))
    assert [one.model_name for one in due] == ["changed"]
    due = read_due(warehouse.client, run.settings, NOW + timedelta(hours=24))
    assert [one.model_name for one in due] == ["broken", "changed"]


def test_killed_run_counts_and_is_done_again_under_its_id(
    run: Retrainer, warehouse: Warehouse
) -> None:
    with pytest.raises(Killed):
        run("dying", "run-1")
    stored = read_runs(warehouse.client, warehouse.raw_database)
    assert [(one.run_id, one.status, one.ended_at) for one in stored] == [
        ("run-1", "started", None)
    ]
    with pytest.raises(RetrainingError, match="--run-id run-1"):
        run("dying", "run-2")
    # The same rows as before, though time has passed.
    again = run("dying", "run-1", now=NOW + timedelta(days=2))
    assert (again.status, again.cut_off, again.as_of) == ("promoted", CUT_OFF, NOW)
    assert [one.status for one in read_runs(warehouse.client, warehouse.raw_database)] == [
        "promoted"
    ]


def test_run_that_was_killed_starts_the_cooldown(run: Retrainer, warehouse: Warehouse) -> None:
    run("changed", "run-1")
    ended = read_runs(warehouse.client, warehouse.raw_database)[0]
    forget_runs(warehouse)
    killed = replace(ended, run_id="killed", status="started", reason="", ended_at=None)
    record_run(warehouse.client, warehouse.raw_database, killed)
    due = read_due(warehouse.client, run.settings, NOW + timedelta(hours=23))
    assert "changed" not in [one.model_name for one in due]
    due = read_due(warehouse.client, run.settings, NOW + timedelta(hours=25))
    assert "changed" in [one.model_name for one in due]


def test_killed_run_blocks_others_for_a_day_only(run: Retrainer) -> None:
    with pytest.raises(Killed):
        run("dying", "run-1")
    later = NOW + timedelta(hours=24)
    # Another work folder's first call, which dies too: what matters is that it starts.
    with pytest.raises(Killed):
        run("dying", "run-2", clock=lambda: later)


def test_version_of_an_earlier_promotion_is_not_used_again(run: Retrainer) -> None:
    assert run("changed", "run-1").status == "promoted"
    # One row fewer, the same day: the version is the same, the baseline would be another one.
    again = run("changed", "run-2", now=NOW + timedelta(hours=1))
    assert again.status == "failed"
    assert again.reason == (
        "trainer_error: version '20260218' was used before: give every challenger a new name"
    )


def test_id_of_another_models_run_is_refused(run: Retrainer) -> None:
    run("broken", "run-1")
    with pytest.raises(RetrainingError, match="run-1 is one of broken, not of changed"):
        run("changed", "run-1")


def test_wrong_and_missing_rules_are_named_with_the_remedy(
    run: Retrainer, warehouse: Warehouse
) -> None:
    problems = {
        rule.model_name: rule.problem for rule in read_rules(warehouse.client, run.settings)
    }
    assert problems == {**dict.fromkeys(MODELS, ""), "wrong": "unknown_model"}
    with pytest.raises(RetrainingRuleError, match="unknown model: name a model of models"):
        run("wrong", "run-1")
    with pytest.raises(RetrainingRuleError, match="no model 'absent'"):
        run("absent", "run-1")
    assert run.rows_in("retraining_runs") == 0


def test_warehouse_without_marts_says_to_build_them(run: Retrainer, warehouse: Warehouse) -> None:
    unbuilt = replace(run.settings, database="retraining_unbuilt")
    with pytest.raises(RetrainingRuleError, match="not built yet: driftline dbt build"):
        read_due(warehouse.client, unbuilt, NOW)


def test_command_prints_decision_and_figures_and_honours_the_cooldown(
    run: Retrainer, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {
        **warehouse.server.environment(warehouse.database, warehouse.raw_database),
        "DRIFTLINE_HOME": str(run.folder),
        "DRIFTLINE_TARGET": "prod",
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = CliRunner()
    # Years have passed since: there is nothing to train on, and the record says so.
    done = command.invoke(app, ["retrain", "changed", "--force"])
    assert done.exit_code == 1
    assert "failed: too_few_training_rows" in done.output
    assert "error: " in done.stderr
    done = command.invoke(app, ["retrain", "changed"])
    assert done.exit_code == 1
    assert "error: changed is not due: cool-down of 24 h until" in done.stderr
    assert "driftline retrain changed --force" in done.stderr
    forget_runs(warehouse)

    # A run of NOW that was cut short, gone on with.
    started = run("changed", "run-1")
    forget_runs(warehouse)
    record_run(
        warehouse.client,
        warehouse.raw_database,
        replace(started, status="started", reason="", ended_at=None),
    )
    done = command.invoke(app, ["retrain", "changed", "--run-id", "run-1"])
    assert done.exit_code == 0, done.output
    assert "run run-1 of changed: promoted, better_beyond_interval" in done.output
    assert f"difference +{started.figures['difference_auc']:.4f} [" in done.output
    assert f"baseline {started.baseline_id} is registered" in done.output
    assert "next: serve version 20260218, name it and its threshold (0.4)" in done.output
