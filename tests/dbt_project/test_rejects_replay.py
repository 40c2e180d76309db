"""Judging rejected events again: after a replay all is as if the new rules had always held."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from driftline.command_line import app
from ingest.events import encode_label, encode_prediction
from ingest.rejects import replay as rejects
from ingest.rejects.replay import (
    Correction,
    Fix,
    RejectsError,
    Replay,
    Selection,
    correct_rejects,
    count_rejects,
    replay_rejects,
)
from tests.dbt_project.conftest import MakeWarehouse
from tests.dbt_project.conftest import Replay as Stories
from tests.dbt_project.event_stories import land_happenings
from tests.dbt_project.mart_comparison import OF_THE_RUN, differences, read_marts
from tests.dbt_project.warehouse import Message, Warehouse

SELECTED = ("--select", "+fct_rejected_events", "+fct_predictions", "int_duplicate_predictions")
TABLES = ("fct_rejected_events", "fct_predictions", "int_duplicate_predictions")
# Rules under which only times of an even minute are times: half of the events are rejected.
STRICT = {"time_pattern": "'^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9][02468]:[0-9]{2}'"}
EVERYTHING = Selection()


def prediction(number: int) -> bytes:
    return encode_prediction(
        model_name="m",
        model_version="1",
        # The last two are the fourth and fifth predicted again.
        prediction_id=f"p{number % 10}",
        predicted_at=datetime(2025, 3, 1, 12, number, tzinfo=UTC),
        features={"x": number},
        score=0.5,
    ).value


def label(number: int) -> bytes:
    return encode_label(
        model_name="m",
        prediction_id=f"p{number}",
        label="late",
        observed_at=datetime(2025, 3, 2, 12, number, tzinfo=UTC),
        source="test",
    ).value


BROKEN = [b"{", None, b'{"schema_version": 1}', b"\xff"]
FIXABLE = [prediction(number)[:-1] + b', "extra": NaN}' for number in (6, 7)]


def mended(value: bytes) -> bytes:
    return prediction(8) if value == b"{" else value.replace(b"NaN", b"null")


def without_nan(value: bytes) -> bytes | None:
    return value.replace(b"NaN", b"null") if b"NaN" in value else None


def strict_warehouse(make_warehouse: MakeWarehouse, name: str) -> Warehouse:
    """Land events of which strict rules reject half, and build under these rules."""
    found = make_warehouse(
        name,
        seeds={"models": ["m,binary,late,0.5,1,48,1,,,"]},
        variables={**STRICT, "landing_overlap_minutes": 0},
    )
    predictions = [prediction(number) for number in (0, 1, 2, 3, 4, 5, 13, 14)]
    found.land(Message("predictions", value) for value in [*predictions, *BROKEN, *FIXABLE])
    found.land(Message("labels", value) for value in [*map(label, range(6)), *BROKEN])
    found.run(*SELECTED)
    return found


@pytest.fixture(scope="module")
def built_once(make_warehouse: MakeWarehouse) -> Warehouse:
    return strict_warehouse(make_warehouse, "rejects_read")


@pytest.fixture
def warehouse(built_once: Warehouse) -> Warehouse:
    """Give a warehouse of which no test builds more, without a request of another test."""
    built_once.client.command(f"truncate table {built_once.raw_database}.replays")
    return built_once


def replayed(warehouse: Warehouse, selection: Selection = EVERYTHING) -> Replay:
    return replay_rejects(warehouse.client, warehouse.database, warehouse.raw_database, selection)


def corrected(warehouse: Warehouse, fix: Fix, selection: Selection = EVERYTHING) -> Correction:
    return correct_rejects(
        warehouse.client, warehouse.database, warehouse.raw_database, selection, fix, "a:fix"
    )


def contents(warehouse: Warehouse) -> dict[str, list[str]]:
    """Give all that the tables say, but for when it was said."""
    return {
        name: sorted(
            repr({column: value for column, value in row.items() if column not in OF_THE_RUN})
            for row in warehouse.query(f"select * from {{database}}.{name}")
        )
        for name in TABLES
    }


def rejected(warehouse: Warehouse, topic: str = "predictions") -> dict[int, str]:
    rows = warehouse.query(
        "select kafka_offset, reject_reason from {database}.fct_rejected_events "
        "where topic = {topic:String} order by kafka_offset",
        topic=topic,
    )
    assert len({row["kafka_offset"] for row in rows}) == len(rows)
    return {row["kafka_offset"]: row["reject_reason"] for row in rows}


def raw_count(warehouse: Warehouse) -> list[dict[str, Any]]:
    raw = "{database}_raw"
    return warehouse.query(
        f"select (select count() from {raw}.prediction_events) as predictions, "
        f"(select count() from {raw}.label_events) as labels"
    )


def test_replay_and_corrections_give_what_the_new_rules_give_from_the_start(
    make_warehouse: MakeWarehouse,
) -> None:
    warehouse = strict_warehouse(make_warehouse, "rejects_replay")
    landed = raw_count(warehouse)
    strict = rejected(warehouse)
    assert {strict[offset] for offset in (1, 3, 5, 6)} == {"invalid_predicted_at"}
    assert len(strict) == 10
    warehouse.variables = {"landing_overlap_minutes": 0}

    # New rules change nothing of what was judged before, but where that is asked for.
    labels = Selection(topic="labels", reason="invalid_observed_at")
    assert replayed(warehouse, labels) == Replay(requested=3, gone=0)
    nan = Selection(topic="predictions", reason="invalid_json")
    # Offset 8 is corrected twice: always from the bytes that came, and the later counts.
    seen: list[bytes] = []
    assert corrected(warehouse, lambda _: b"[]", nan).corrected == 3

    def noted(value: bytes) -> bytes:
        seen.append(value)
        return mended(value)

    assert corrected(warehouse, noted, nan) == Correction(3, left=0, empty=0, gone=0)
    assert seen == [b"{", *FIXABLE]
    other = Selection(topic="predictions", reason="invalid_utf8")
    assert corrected(warehouse, lambda _: b"[]", other).corrected == 1
    warehouse.run(*SELECTED)
    assert rejected(warehouse, "labels") == {
        6: "invalid_json", 7: "null_value", 8: "missing_prediction_id", 9: "invalid_utf8",
    }  # fmt: skip
    # Three corrections were accepted; the fourth breaks another rule, and is there once.
    kept = {offset: reason for offset, reason in strict.items() if offset not in (8, 12, 13)}
    assert rejected(warehouse) == {**kept, 11: "not_an_object"}
    [row] = warehouse.query(
        "select raw_value, corrected_by from {database}.fct_rejected_events "
        "where topic = 'predictions' and kafka_offset = 11"
    )
    assert row == {"raw_value": "[]", "corrected_by": "a:fix"}

    # What still fails stays, once; what was asked for before may be asked for again.
    assert replayed(warehouse) == Replay(requested=11, gone=0)
    warehouse.run(*SELECTED)
    assert rejected(warehouse) == {
        9: "null_value", 10: "missing_prediction_id", 11: "not_an_object",
    }  # fmt: skip
    assert raw_count(warehouse) == landed
    predictions = warehouse.query(
        "select prediction_id, label, duplicate_count from {database}.fct_predictions "
        "order by prediction_id"
    )
    assert [tuple(row.values()) for row in predictions] == [
        ("p0", "late", 0), ("p1", "late", 0), ("p2", "late", 0), ("p3", "late", 1),
        ("p4", "late", 1), ("p5", "late", 0), ("p6", None, 0), ("p7", None, 0), ("p8", None, 0),
    ]  # fmt: skip
    after = contents(warehouse)
    warehouse.run(*SELECTED, full_refresh=True)
    assert contents(warehouse) == after


def test_rejects_are_counted_with_an_example(warehouse: Warehouse) -> None:
    client, database = warehouse.client, warehouse.database
    counts = count_rejects(client, database, EVERYTHING)
    assert sum(each.count for each in counts) == 17
    found = {(each.topic, each.reason): each for each in counts}
    assert found["predictions", "invalid_json"].count == 3
    assert found["predictions", "invalid_json"].example_at == "0@13"
    assert found["predictions", "invalid_json"].example == FIXABLE[1][:200]
    assert found["labels", "null_value"].example is None
    assert found["labels", "invalid_utf8"].example == b"\xff"
    assert {each.day for each in counts} == {date(1970, 1, 1)}
    assert count_rejects(client, database, Selection(topic="labels", reason="truncated")) == []
    assert count_rejects(client, database, Selection(since=date(1970, 1, 2))) == []
    day = Selection(since=date(1970, 1, 1), until=date(1970, 1, 1))
    assert count_rejects(client, database, day) == counts


def test_correction_goes_through_pages(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rejects, "_PAGE_ROWS", 3)
    done = corrected(warehouse, lambda value: value + b" ")
    assert done == Correction(corrected=15, left=0, empty=2, gone=0)
    rows = warehouse.query(
        "select raw_table, offset, hex(value) as value from {database}_raw.replays final"
    )
    assert len(rows) == 15
    assert all(bytes.fromhex(row["value"]).endswith(b" ") for row in rows)


def test_function_that_fails_is_named_with_the_event(warehouse: Warehouse) -> None:
    def failing(value: bytes) -> bytes:
        raise KeyError("x")

    with pytest.raises(RejectsError, match=r"a:fix failed on predictions/0@1 .*KeyError\('x'\)"):
        corrected(warehouse, failing)
    wrong: Any = repr
    with pytest.raises(RejectsError, match="a:fix gave a str for predictions/0@1"):
        corrected(warehouse, wrong)


def test_commands_list_and_replay(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mending.py").write_text(
        "def fix(value):\n    return value.replace(b'NaN', b'null')\n"
    )
    for name, text in warehouse.environment.items():
        monkeypatch.setenv(name, text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def driftline(*arguments: str, status: int = 0) -> str:
        done = CliRunner().invoke(app, ["rejects", *arguments])
        assert done.exit_code == status, done.output
        return done.output

    listed = driftline("list", "--topic", "predictions").splitlines()
    [line] = [line for line in listed if "invalid_utf8" in line]
    assert line.split() == ["1970-01-01", "predictions", "invalid_utf8", "1", r"0@11", r"\xff"]
    said = driftline("replay", "--topic", "labels", "--from", "1970-01-01", "--to", "1970-01-01")
    assert "7 rejected events will be judged again" in said
    assert "next: driftline dbt build" in said
    said = driftline("replay", "--fix", "mending:fix")
    assert "2 rejected events were corrected by mending:fix" in said
    said = driftline("replay", "--fix", "no_such_module:fix", status=1)
    assert said.startswith("error: --fix 'no_such_module:fix': there is no module")
    monkeypatch.setenv("CLICKHOUSE_DATABASE", "not_built")
    said = driftline("list", status=1)
    assert said == "error: there is no fct_rejected_events yet: driftline dbt build makes it\n"


def test_events_that_raw_has_no_more_are_counted(warehouse: Warehouse) -> None:
    warehouse.client.command(
        f"alter table {warehouse.raw_database}.prediction_events delete where offset = 8",
        settings={"mutations_sync": 2},
    )
    assert replayed(warehouse, Selection(topic="predictions")) == Replay(requested=10, gone=1)
    done = corrected(warehouse, without_nan, Selection(topic="predictions"))
    assert done == Correction(corrected=2, left=6, empty=1, gone=1)


@pytest.mark.thorough
def test_every_mart_is_that_of_the_new_rules_after_a_replay(replay: Stories) -> None:
    """Half of eight histories is rejected at first; windows, drift and performance follow."""
    warehouse = replay.warehouse
    warehouse.empty()
    variables = {**replay.in_order.variables, "landing_overlap_minutes": 0}
    warehouse.variables = {**variables, **STRICT}
    for story in replay.stories:
        land_happenings(warehouse, story, story.happenings)
    warehouse.run()
    assert len(differences(read_marts(warehouse), replay.expected)) > 50
    warehouse.variables = variables
    assert replayed(warehouse).requested > 1_000
    warehouse.run()
    assert differences(read_marts(warehouse), replay.expected) == []
