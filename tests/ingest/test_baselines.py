"""Baselines: roles, identity, and registration that is complete or absent."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from ingest.baselines import (
    Baseline,
    BaselineError,
    Roles,
    register_baseline,
    row_values,
)
from ingest.json_columns import ColumnError
from tests.ingest.conftest import Systems

TABLE = pa.table(
    {
        "origin": ["EWR", "JFK", None],
        "carrier": ["UA", "DL", "UA"],
        "distance": [1400.0, None, 700.5],
        "seats": [100, 200, None],
        "is_weekend": [True, False, None],
        "score": [0.3, 0.9, 0.1],
        "truth": ["late", "on_time", None],
        "predicted_at": [datetime(2013, 1, day, 10, tzinfo=UTC) for day in (1, 2, 3)],
        "row_id": [7, 8, 9],
    }
)
ROLES = Roles(
    score="score",
    label="truth",
    time="predicted_at",
    segments=("origin", "carrier"),
    features=("origin",),
    excluded=("row_id",),
)


def register(
    systems: Systems, table: pa.Table = TABLE, roles: Roles = ROLES, **given: Any
) -> Baseline:
    options = {"model_name": "m", "model_version": "1", **given}
    return register_baseline(
        systems.client, table, roles, raw_database=systems.raw_database, **options
    )


def test_baseline_lands_with_roles_types_and_rows(systems: Systems) -> None:
    baseline = register(
        systems, description="first quarter", feature_importance={"distance": 0.75, "origin": 1}
    )
    assert baseline.is_new
    assert baseline.baseline_id.startswith("bl_")
    types = {
        "distance": "numeric",
        "is_weekend": "boolean",
        "origin": "categorical",
        "seats": "numeric",
    }
    assert baseline.feature_types == types
    (row,) = systems.rows(
        """select baseline_id, model_name, model_version, description, row_count, roles,
        feature_types, feature_importance, abs(dateDiff('second', registered_at, now())) < 600
        from raw.baselines"""
    )
    assert row[:5] == (baseline.baseline_id, "m", "1", "first quarter", 3)
    assert json.loads(row[5]) == {
        "carrier": ["segment"],
        "distance": ["feature"],
        "is_weekend": ["feature"],
        "origin": ["feature", "segment"],
        "predicted_at": ["time"],
        "row_id": ["excluded"],
        "score": ["score"],
        "seats": ["feature"],
        "truth": ["label"],
    }
    assert row[6:] == (types, {"distance": 0.75, "origin": 1.0}, 1)
    values = systems.column("select value from raw.baseline_rows order by row_number")
    assert [json.loads(value) for value in values] == [
        {
            "features": {"distance": 1400.0, "is_weekend": True, "origin": "EWR", "seats": 100},
            "prediction": {"score": 0.3},
            "label": "late",
            "segments": {"carrier": "UA", "origin": "EWR"},
            "predicted_at": "2013-01-01T10:00:00.000Z",
        },
        {
            "features": {"distance": None, "is_weekend": False, "origin": "JFK", "seats": 200},
            "prediction": {"score": 0.9},
            "label": "on_time",
            "segments": {"carrier": "DL", "origin": "JFK"},
            "predicted_at": "2013-01-02T10:00:00.000Z",
        },
        {
            "features": {"distance": 700.5, "is_weekend": None, "origin": None, "seats": None},
            "prediction": {"score": 0.1},
            "label": None,
            "segments": {"carrier": "UA", "origin": None},
            "predicted_at": "2013-01-03T10:00:00.000Z",
        },
    ]


def test_registering_the_same_again_changes_nothing(systems: Systems) -> None:
    first = register(systems)
    shuffled = TABLE.select(list(reversed(TABLE.column_names)))
    again = register(systems, table=shuffled, description="another text")
    assert not again.is_new
    assert again.baseline_id == first.baseline_id
    assert systems.rows("select count() from raw.baselines") == [(1,)]
    assert systems.rows("select count() from raw.baseline_rows") == [(3,)]


def test_identity_follows_data_roles_model_and_version(systems: Systems) -> None:
    ids = [
        register(systems).baseline_id,
        register(systems, model_version="2").baseline_id,
        register(systems, model_name="n").baseline_id,
        register(systems, table=TABLE.slice(0, 2)).baseline_id,
        register(systems, table=TABLE.take([1, 0, 2])).baseline_id,
        register(systems, roles=Roles(score="score", segments=("origin",))).baseline_id,
    ]
    assert len(set(ids)) == len(ids)


def test_interrupted_registration_is_completed_by_the_next(systems: Systems) -> None:
    count = 45_000
    table = pa.table({"x": pa.array(range(count)), "y": pa.repeat(pa.scalar("a"), count)})

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register(systems, table=table, roles=Roles(), on_progress=interrupt)
    assert systems.rows("select count() from raw.baselines") == [(0,)]
    assert systems.rows("select count() from raw.baseline_rows") == [(20_000,)]
    done: list[int] = []
    baseline = register(
        systems, table=table, roles=Roles(), on_progress=lambda *rows: done.append(rows[0])
    )
    assert baseline.is_new
    assert done == [20_000, 40_000, 45_000]
    numbers = systems.column("select row_number from raw.baseline_rows")
    assert len(numbers) == count
    assert set(numbers) == set(range(count))
    assert systems.rows("select row_count from raw.baselines") == [(count,)]


def test_outputs_of_every_task_are_written() -> None:
    batch = pa.record_batch({"x": [1], "v": [12.5], "c": ["b"], "p_a": [0.1], "p_b": [0.9]})
    roles = Roles(value="v", predicted_label="c", class_scores={"a": "p_a", "b": "p_b"})
    (value,) = row_values(batch, roles, ["x"]).to_pylist()
    assert json.loads(value) == {
        "features": {"x": 1},
        "prediction": {"value": 12.5, "label": "b", "scores": {"a": 0.1, "b": 0.9}},
    }


def test_nan_of_pandas_is_null() -> None:
    table = pa.Table.from_pandas(pd.DataFrame({"x": [1.5, float("nan")]}), preserve_index=False)
    values = row_values(table.to_batches()[0], Roles(), ["x"]).to_pylist()
    assert [json.loads(value) for value in values] == [
        {"features": {"x": 1.5}},
        {"features": {"x": None}},
    ]


@pytest.mark.parametrize(
    ("table", "roles", "message"),
    [
        (
            TABLE,
            Roles(score="scor"),
            r"'scor', which the data does not have \(did you mean 'score'",
        ),
        (TABLE, Roles(segments=("nowhere",)), "'nowhere', which the data does not have"),
        (TABLE, Roles(score="score", excluded=("score",)), "excluded and also 'score'"),
        (TABLE.slice(0, 0), Roles(), "no rows"),
        (pa.table([[1], [2]], names=["x", "x"]), Roles(), "more than one column 'x'"),
        (pa.table({"x": [1]}), Roles(excluded=("x",)), "no column is a feature"),
        (pa.table({"__score__": [1]}), Roles(), "reserved name"),
        (pa.table({"x": [1, 2], "s": [0.5, 1.5]}), Roles(score="s"), "row 2: 's' is 1.5, not a"),
        (pa.table({"x": [1], "s": ["a"]}), Roles(score="s"), "'s' holds predictions but is of"),
        (pa.table({"x": [1], "t": ["soon"]}), Roles(time="t"), "row 1: 't' is soon, not a time"),
    ],
)
def test_wrong_data_or_roles_are_refused_before_anything_lands(
    systems: Systems, table: pa.Table, roles: Roles, message: str
) -> None:
    with pytest.raises(BaselineError, match=message):
        register(systems, table=table, roles=roles)
    found = systems.client.query(
        "select count() from system.databases where name = {name:String}",
        parameters={"name": systems.raw_database},
    )
    assert found.result_rows == [(0,)]


def test_nested_feature_is_refused_by_name(systems: Systems) -> None:
    with pytest.raises(ColumnError, match="'embedding'"):
        register(systems, table=pa.table({"embedding": [[1.0]]}), roles=Roles())


def test_score_of_another_range_is_taken_on_request(systems: Systems) -> None:
    table = pa.table({"x": [1], "s": [-3.5]})
    assert register(systems, table=table, roles=Roles(score="s"), is_probability=False).is_new


@pytest.mark.parametrize("importance", [{"row_id": 1.0}, {"distance": float("nan")}])
def test_wrong_importance_is_refused(systems: Systems, importance: dict[str, float]) -> None:
    with pytest.raises(BaselineError, match="importance"):
        register(systems, feature_importance=importance)


def test_command_registers_and_says_what_next(systems: Systems, tmp_path: Path) -> None:
    path = tmp_path / "baseline.parquet"
    pyarrow.parquet.write_table(TABLE, path)
    importance = tmp_path / "importance.json"
    importance.write_text('{"distance": 0.5}')
    command = [sys.executable, "-m", "driftline", "baseline", "register", str(path)]
    command += ["--model-name", "m", "--model-version", "1", "--score", "score"]
    command += ["--label", "truth", "--time", "predicted_at", "--segment", "origin"]
    command += ["--segment", "carrier", "--feature", "origin", "--exclude", "row_id"]
    command += ["--importance", str(importance), "--description", "first quarter"]
    for expected in ("3 rows, 4 features; registered", "nothing changed"):
        done = subprocess.run(
            command,
            env=systems.process_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert expected in done.stdout
        assert "next: driftline dbt build" in done.stdout
    importances = systems.rows("select feature_importance from raw.baselines")
    assert importances == [({"distance": 0.5},)]


def test_command_explains_a_wrong_role(systems: Systems, tmp_path: Path) -> None:
    path = tmp_path / "baseline.parquet"
    pyarrow.parquet.write_table(TABLE, path)
    command = [sys.executable, "-m", "driftline", "baseline", "register", str(path)]
    command += ["--model-name", "m", "--model-version", "1", "--label", "trush"]
    done = subprocess.run(
        command,
        env=systems.process_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "did you mean 'truth'?" in done.stderr
    assert "Traceback" not in done.stderr
