"""Python models run by real dbt on a real ClickHouse engine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.dbt_project.adapter.adapter_project import Project
from tests.warehouse_fixtures import ClickHouseProcess


@pytest.fixture
def project(clickhouse_server: ClickHouseProcess, tmp_path: Path) -> Iterator[Project]:
    project = Project(clickhouse_server, tmp_path)
    yield project
    project.client.command(f"drop database if exists {project.database}")


NUMBERS = "select number as n, if(number % 2 = 0, 'even', 'odd') as parity from numbers(6)"


def test_table_is_replaced_whole_and_other_models_read_it(project: Project) -> None:
    project.write("numbers_model.sql", NUMBERS)
    project.write(
        "doubled.py",
        """
        def model(dbt, session):
            dbt.config(materialized="table", order_by="n", partition_by="parity")
            frame = dbt.ref("numbers_model").to_pandas()
            frame["n"] = frame["n"] * 2
            return frame
        """,
    )
    project.write("total.sql", "select sum(n) as total from {{ ref('doubled') }}")
    for _ in range(2):
        project.succeed()
        assert project.rows("doubled", "n, parity")[:2] == [(0, "even"), (2, "odd")]
        assert project.rows("total") == [(30,)]
    assert project.tables() == {"numbers_model", "doubled", "total"}


@pytest.mark.conformance
def test_engine_order_partition_ttl_settings_and_indexes_are_those_configured(
    project: Project,
) -> None:
    project.write(
        "configured.py",
        """
        import pandas as pd

        def model(dbt, session):
            dbt.config(
                materialized="table",
                engine="ReplacingMergeTree(version)",
                order_by=["day", "name"],
                primary_key="day",
                partition_by="toYYYYMM(day)",
                ttl="day + interval 100 year",
                settings={"index_granularity": 1024},
                indexes=[{"name": "by_name", "definition": "name TYPE minmax GRANULARITY 1"}],
            )
            days = pd.to_datetime(["2024-01-01", "2024-01-01", "2024-02-01"])
            return pd.DataFrame({"day": days, "name": ["a", "a", "b"], "version": [1, 2, 1]})
        """,
    )
    project.write(
        "models.yml",
        """
        models:
          - name: configured
            columns:
              - {name: day, data_type: Date}
              - {name: name, data_type: LowCardinality(String)}
              - {name: version, data_type: UInt64}
        """,
    )
    project.succeed()
    statement = project.client.command(f"show create table {project.database}.configured")
    assert "ReplacingMergeTree(version)" in statement
    assert "ORDER BY (day, name)" in statement
    assert "PRIMARY KEY day" in statement
    assert re.search(r"PARTITION BY \(?toYYYYMM\(day\)", statement)
    assert "TTL day + toIntervalYear(100)" in statement
    assert "index_granularity = 1024" in statement
    assert "INDEX by_name name TYPE minmax" in statement
    assert project.types("configured") == {
        "day": "Date",
        "name": "LowCardinality(String)",
        "version": "UInt64",
    }
    assert len(project.rows("configured")) == 2


INCREMENTAL = """
import pandas as pd

def model(dbt, session):
    dbt.config(materialized="incremental", order_by="day", {config})
    if not dbt.is_incremental:
        return pd.DataFrame({{"day": [1, 1, 2], "version": [1, 1, 1]}})
    stored = dbt.this.to_pandas(columns=["day"])
    assert len(stored) == {stored}
    return pd.DataFrame({{"day": [2, 3], "version": [2, 2]}})
"""


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ('incremental_strategy="append"', [(1, 1), (1, 1), (2, 1), (2, 2), (3, 2)]),
        (
            'incremental_strategy="delete_insert", unique_key=["day"]',
            [(1, 1), (1, 1), (2, 2), (3, 2)],
        ),
        (
            'incremental_strategy="delete+insert", unique_key="day"',
            [(1, 1), (1, 1), (2, 2), (3, 2)],
        ),
        (
            'incremental_strategy="insert_overwrite", partition_by="day"',
            [(1, 1), (1, 1), (2, 2), (3, 2)],
        ),
        (
            'unique_key="day", incremental_predicates=["day < 2"]',
            [(1, 1), (1, 1), (2, 1), (2, 2), (3, 2)],
        ),
    ],
    ids=["append", "delete_insert", "delete+insert", "insert_overwrite", "predicates"],
)
def test_incremental_strategy_keeps_and_replaces_the_right_rows(
    project: Project, config: str, expected: list[tuple[int, int]]
) -> None:
    project.write("history.py", INCREMENTAL.format(config=config, stored=3))
    project.succeed()
    assert project.rows("history") == [(1, 1), (1, 1), (2, 1)]
    project.succeed()
    assert project.rows("history") == expected
    assert project.tables() == {"history"}
    project.succeed("--full-refresh")
    assert project.rows("history") == [(1, 1), (1, 1), (2, 1)]


@pytest.mark.conformance
@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('incremental_strategy="merge"', "'merge' is not available to Python models"),
        ('incremental_strategy="delete_insert"', "requires a non-empty 'unique_key'"),
        ('incremental_strategy="insert_overwrite"', "requires non-empty 'partition_by'"),
    ],
)
def test_wrong_incremental_configuration_fails_before_the_model_runs(
    project: Project, config: str, message: str
) -> None:
    project.write(
        "history.py",
        f"""
        def model(dbt, session):
            dbt.config(materialized="incremental", {config})
            raise AssertionError("it ran")
            return None
        """,
    )
    assert message in project.fail("history")


@pytest.mark.conformance
def test_new_column_follows_on_schema_change(project: Project) -> None:
    project.write(
        "growing.py",
        """
        import pandas as pd

        def model(dbt, session):
            dbt.config(
                materialized="incremental",
                incremental_strategy="delete_insert",
                unique_key="n",
                order_by="n",
                on_schema_change="append_new_columns",
            )
            if dbt.is_incremental:
                return pd.DataFrame({"n": [2], "added": ["new"]})
            return pd.DataFrame({"n": [1]})
        """,
    )
    project.succeed()
    project.succeed()
    assert project.rows("growing", "n, added") == [(1, ""), (2, "new")]


def test_columns_of_every_declared_type_come_back_as_written(project: Project) -> None:
    project.write(
        "typed.py",
        """
        from datetime import date, datetime, timezone
        from decimal import Decimal

        import pandas as pd

        def model(dbt, session):
            dbt.config(materialized="table")
            moment = pd.Timestamp("2024-01-02 03:04:05.678", tz="Europe/Berlin")
            return pd.DataFrame({
                "text": ["a", ""],
                "low": ["x", None],
                "whole": [1.0, None],
                "small": [1, 255],
                "real": [0.5, float("nan")],
                "flag": [True, False],
                "moment": [moment, moment],
                "second": [datetime(2024, 1, 2, 3, 4, 5), datetime(2024, 1, 2)],
                "day": [date(2024, 1, 2), date(2024, 1, 3)],
                "price": [Decimal("1.50"), Decimal("2")],
                "list": [[1.0, None], []],
                "nested": [[[1], []], []],
                "weights": [{"a": 1.0}, {}],
                "pair": [{"name": "n", "size": 1}, {"name": "m", "size": 2}],
                "kind": ["on", "off"],
                "nothing": [None, None],
            })
        """,
    )
    declared = {
        "text": "String",
        "low": "LowCardinality(Nullable(String))",
        "whole": "Nullable(Int64)",
        "small": "UInt8",
        "real": "Nullable(Float64)",
        "flag": "Bool",
        "moment": "DateTime64(3, 'UTC')",
        "second": "DateTime('UTC')",
        "day": "Date",
        "price": "Decimal(10, 2)",
        "list": "Array(Nullable(Float64))",
        "nested": "Array(Array(UInt16))",
        "weights": "Map(LowCardinality(String), Float64)",
        "pair": "Tuple(name String, size UInt8)",
        "kind": "Enum8('off' = 0, 'on' = 1)",
        "nothing": "Nullable(Float32)",
    }
    (project.folder / "models" / "models.yml").write_text(
        "models:\n  - name: typed\n    columns:\n"
        + "".join(
            f'      - {{name: {name}, data_type: "{kind}"}}\n' for name, kind in declared.items()
        )
    )
    project.succeed()
    assert {
        name: kind.replace("\n", "").replace("    ", " ").replace("( ", "(")
        for name, kind in project.types("typed").items()
    } == declared
    first, second = project.client.query(
        f"select * from {project.database}.typed order by small"
    ).named_results()
    assert first["moment"].replace(tzinfo=UTC) == datetime(2024, 1, 2, 2, 4, 5, 678000, tzinfo=UTC)
    assert (first["low"], second["low"]) == ("x", None)
    assert (first["whole"], second["whole"]) == (1, None)
    assert (first["real"], second["real"]) == (0.5, None)
    assert (first["list"], first["nested"]) == ([1.0, None], [[1], []])
    assert first["weights"] == {"a": 1.0}
    assert first["pair"] == {"name": "n", "size": 1}
    assert (first["kind"], str(first["price"]), first["nothing"]) == ("on", "1.50", None)


def test_columns_that_do_not_fit_the_yaml_are_named(project: Project) -> None:
    project.write(
        "checked.py",
        """
        import pandas as pd

        def model(dbt, session):
            dbt.config(materialized="table")
            return pd.DataFrame({"y": ["a"], "x": ["b"]})
        """,
    )
    project.write(
        "schema.yml",
        """
        models:
          - name: checked
            columns:
              - {name: n, data_type: Int32}
              - {name: x, data_type: Nullable(Float64)}
        """,
    )
    message = project.fail("checked")
    assert "Python model `checked` returned columns that do not fit models/schema.yml" in message
    assert "column `n`: expected Int32, not returned" in message
    assert "column `x`: expected Nullable(Float64), found" in message
    assert "column `y`: not declared, found" in message
    assert "checked" not in project.tables()


@pytest.mark.conformance
def test_declared_type_that_is_none_fails_before_the_model_runs(project: Project) -> None:
    project.write(
        "checked.py",
        """
        def model(dbt, session):
            dbt.config(materialized="table")
            raise AssertionError("it ran")
            return None
        """,
    )
    project.write(
        "schema.yml",
        """
        models:
          - name: checked
            columns:
              - {name: n, data_type: Integre}
              - {name: m, data_type: Int256}
        """,
    )
    message = project.fail("checked")
    assert "column `n`: `Integre` is not a ClickHouse type" in message
    assert "column `m`: a Python model cannot return `Int256`" in message


def test_exception_shows_the_line_of_the_model_file(project: Project) -> None:
    (project.folder / "models" / "broken.py").write_text(
        "\n\n"
        "def ratio(one, other):\n"
        "    return one / other\n"
        "\n"
        "\n"
        "def model(dbt, session):\n"
        "    dbt.config(materialized='table')\n"
        "    return ratio(1, 0)  # the culprit\n"
    )
    message = project.fail("broken")
    assert "Python model `broken`" in message
    assert "broken.py" in message
    assert "line 9, in model" in message
    assert "return ratio(1, 0)  # the culprit" in message
    assert "line 4, in ratio" in message
    assert "ZeroDivisionError: division by zero" in message
    assert "python_job.py" not in message


def test_failed_model_leaves_the_table_as_it_was_and_the_next_run_repairs(project: Project) -> None:
    broken = """
    import pandas as pd

    def tables():
        yield pd.DataFrame({"n": [2]})
        raise ValueError("half way")

    def model(dbt, session):
        dbt.config(materialized="table")
        return tables()
    """
    good = broken.replace('raise ValueError("half way")', 'yield pd.DataFrame({"n": [3]})')
    project.write("steps.py", good.replace("[2]", "[1]").replace("[3]", "[1]"))
    project.succeed()
    project.write("steps.py", broken)
    message = project.fail("steps")
    assert "ValueError: half way" in message
    assert "line 5, in tables" in message
    assert project.rows("steps") == [(1,), (1,)]
    project.write("steps.py", good)
    project.succeed()
    assert project.rows("steps") == [(2,), (3,)]
    assert project.tables() == {"steps"}


def test_password_in_an_exception_is_masked(project: Project) -> None:
    project.write(
        "leaking.py",
        f"""
        def model(dbt, session):
            dbt.config(materialized="table")
            raise RuntimeError("cannot log in with {project.server.password}")
            return None
        """,
    )
    message = project.fail("leaking")
    assert "cannot log in with *****" in message
    assert project.server.password not in message


def test_secret_of_the_environment_is_masked_where_clickhouse_names_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DBT_ENV_SECRET_BUCKET_KEY", "hush-hush")
    project.write(
        "leaking.py",
        """
        import os
        import pandas as pd

        def model(dbt, session):
            # A column's name is in ClickHouse's complaint about the order.
            dbt.config(materialized="table", order_by="missing")
            return pd.DataFrame({os.environ["DBT_ENV_SECRET_BUCKET_KEY"]: [1]})
        """,
    )
    message = project.fail("leaking")
    assert "Python model `leaking`: writing its result failed" in message
    assert "*****" in message
    assert "hush-hush" not in message


def test_result_that_is_no_table_is_refused(project: Project) -> None:
    project.write(
        "number.py",
        """
        def model(dbt, session):
            dbt.config(materialized="table")
            return 42
        """,
    )
    assert "the model returned int: return a pandas or polars frame" in project.fail("number")


@pytest.mark.parametrize(
    "empty",
    ["pd.DataFrame({'n': [], 'at': []})", "iter([])", "dbt.ref('source_rows').to_arrow()"],
    ids=["pandas", "iterator", "arrow"],
)
def test_empty_result_gives_an_empty_table_of_the_declared_types(
    project: Project, empty: str
) -> None:
    project.write("source_rows.sql", "select toInt32(1) as n, now() as at where 0")
    project.write(
        "nobody.py",
        f"""
        import pandas as pd

        def model(dbt, session):
            dbt.config(materialized="incremental", incremental_strategy="delete_insert",
                       unique_key="n", order_by="n")
            dbt.ref("source_rows")
            return {empty}
        """,
    )
    project.write(
        "schema.yml",
        """
        models:
          - name: nobody
            columns:
              - {name: n, data_type: Int32}
              - {name: at, data_type: DateTime('UTC')}
        """,
    )
    project.succeed()
    project.succeed()
    assert project.rows("nobody") == []
    assert project.types("nobody") == {"n": "Int32", "at": "DateTime('UTC')"}


@pytest.mark.conformance
def test_types_follow_from_the_data_where_none_are_declared(project: Project) -> None:
    project.write(
        "inferred.py",
        """
        import pyarrow as pa

        def model(dbt, session):
            dbt.config(materialized="table")
            return pa.table({
                "n": pa.array([1, 2], pa.uint16()),
                "x": pa.array([1.5, None]),
                "s": ["a", "b"],
                "d": pa.array(["a", None]).dictionary_encode(),
                "t": pa.array([0, 1], pa.timestamp("ms", "UTC")),
                "a": pa.array([[1], []], pa.list_(pa.int8())),
                "b": [True, False],
            })
        """,
    )
    project.succeed()
    assert project.types("inferred") == {
        "n": "UInt16",
        "x": "Nullable(Float64)",
        "s": "String",
        "d": "Nullable(String)",
        "t": "DateTime64(3, 'UTC')",
        "a": "Array(Nullable(Int8))",
        "b": "Bool",
    }


@pytest.mark.conformance
def test_column_of_nulls_without_a_declared_type_is_refused(project: Project) -> None:
    project.write(
        "unknown.py",
        """
        import pandas as pd

        def model(dbt, session):
            dbt.config(materialized="table")
            return pd.DataFrame({"n": [None]})
        """,
    )
    assert "column `n`: no ClickHouse type follows from null" in project.fail("unknown")


def test_lazy_relation_reads_only_what_is_asked_for(project: Project) -> None:
    project.write(
        "events.sql",
        """
        {{ config(materialized='table') }}
        select
            number as n,
            toDateTime('2024-01-01 00:00:00', 'UTC') + toIntervalHour(number) as at,
            if(number % 2 = 0, number, null) as half,
            [at] as times,
            toLowCardinality('x') as kind
        from numbers(48)
        """,
    )
    project.write(
        "reading.py",
        """
        from datetime import datetime, timezone

        import pandas as pd

        def model(dbt, session):
            dbt.config(materialized="table")
            events = dbt.ref("events")
            second_day = {"start": datetime(2024, 1, 2, tzinfo=timezone.utc)}
            where = "at >= {start:DateTime('UTC')}"
            arrow = events.to_arrow(columns=["at", "n"], where=where, parameters=second_day)
            assert arrow.column_names == ["at", "n"]
            assert arrow.num_rows == 24
            assert str(arrow.schema.field("at").type) == "timestamp[s, tz=UTC]"
            frame = events.to_pandas()
            assert list(frame.columns) == ["n", "at", "half", "times", "kind"]
            assert str(frame["half"].dtype) == "UInt64"
            assert frame["half"].isna().sum() == 24
            assert frame["at"][0] == pd.Timestamp("2024-01-01", tz="UTC")
            assert len(events.limit(5).to_pandas(columns=["n"])) == 5
            batches = list(events.to_arrow_batches(columns=["n", "kind"]))
            assert sum(batch.num_rows for batch in batches) == 48
            quoted = events.to_arrow(
                columns=["n"], where="kind = {kind:String}", parameters={"kind": "' or 1 = 1 --"}
            )
            assert quoted.num_rows == 0
            return arrow
        """,
    )
    project.succeed()
    assert project.types("reading") == {"at": "DateTime64(0, 'UTC')", "n": "UInt64"}
    assert len(project.rows("reading")) == 24


@pytest.mark.conformance
def test_source_config_this_and_session_are_given(project: Project) -> None:
    project.client.command(f"create database {project.database}")
    project.client.command(
        f"create table {project.database}.outside engine = MergeTree order by n as select 7 as n"
    )
    project.write(
        "given.py",
        """
        import pandas as pd

        def model(dbt, session):
            dbt.config(materialized="table", factor=3)
            n = dbt.source("external", "outside").to_pandas()["n"][0]
            assert dbt.this.identifier == "given"
            assert str(dbt.this) == f"`{dbt.this.schema}`.`given`"
            one = session.query("select 1").first_row[0]
            factor = dbt.config.get("factor")
            return pd.DataFrame({"n": [int(n) * factor + one]})
        """,
    )
    project.write(
        "schema.yml",
        f"""
        sources:
          - name: external
            schema: {project.database}
            tables: [{{name: outside}}]
        """,
    )
    project.succeed()
    assert project.rows("given") == [(22,)]


@pytest.mark.conformance
def test_stream_of_tables_is_written_while_another_is_read(project: Project) -> None:
    project.write(
        "many.sql", "{{ config(materialized='table') }} select number as n from numbers(600000)"
    )
    project.write(
        "streamed.py",
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        def doubled(batch):
            return pa.table({"n": pc.multiply(batch["n"], 2)})

        def model(dbt, session):
            dbt.config(materialized="table")
            return map(doubled, dbt.ref("many").to_arrow_batches())
        """,
    )
    project.succeed()
    assert project.rows("streamed", "count(), sum(n)") == [(600_000, 600_000 * 599_999)]


@pytest.mark.conformance
def test_relation_that_is_returned_is_streamed_with_nulls_that_come_late(project: Project) -> None:
    project.write(
        "many.sql",
        """
        {{ config(materialized='table', order_by='n') }}
        select number as n, if(number < 200000, toNullable(number), null) as early
        from numbers(300000)
        """,
    )
    project.write(
        "copied.py",
        """
        def model(dbt, session):
            dbt.config(materialized="table")
            return dbt.ref("many")
        """,
    )
    project.succeed()
    assert project.types("copied") == {"n": "UInt64", "early": "Nullable(UInt64)"}
    assert project.rows("copied", "count(), countIf(early is null), max(early)") == [
        (300_000, 100_000, 199_999)
    ]


@pytest.mark.conformance
def test_many_small_frames_become_few_parts_and_stay_few_in_memory(project: Project) -> None:
    project.write(
        "trickling.py",
        """
        import numpy as np
        import pandas as pd
        import pyarrow as pa

        ROWS, MEBIBYTE = 4096, 1024 * 1024

        def frames():
            most = 0
            for number in range(400):
                # Half a mebibyte in four columns, which does not compress.
                noise = np.random.default_rng(number).integers(0, 2**60, (ROWS, 16))
                yield pd.DataFrame({f"c{column}": noise[:, column] for column in range(16)})
                most = max(most, pa.total_allocated_bytes())
            # 200 MiB were returned. One insert holds 64 MiB and its encoded copy.
            assert most < 150 * MEBIBYTE, most

        def model(dbt, session):
            dbt.config(materialized="table")
            return frames()
        """,
    )
    project.succeed()
    assert project.rows("trickling", "count(), uniqExact(c0)") == [(1_638_400, 1_638_400)]
    inserts = project.client.command(
        "select count() from system.parts where level = 0 and table = 'trickling' "
        f"and database = '{project.database}'"
    )
    assert 0 < int(inserts) <= 16


def test_models_run_beside_each_other(clickhouse_server: ClickHouseProcess, tmp_path: Path) -> None:
    project = Project(clickhouse_server, tmp_path, threads=4)
    for number in range(8):
        project.write(
            f"parallel_{number}.py",
            f"""
            import pandas as pd

            def model(dbt, session):
                dbt.config(materialized="table")
                return pd.DataFrame({{"n": [{number}]}})
            """,
        )
    project.succeed()
    assert [project.rows(f"parallel_{number}") for number in range(8)] == [
        [(number,)] for number in range(8)
    ]
    project.client.command(f"drop database {project.database}")


@pytest.mark.conformance
def test_sql_models_seeds_snapshots_and_tests_are_those_of_dbt_clickhouse(project: Project) -> None:
    (project.folder / "seeds").mkdir()
    (project.folder / "seeds" / "letters.csv").write_text("id,letter\n1,a\n2,b\n")
    project.write("view_model.sql", "select * from {{ ref('letters') }}")
    project.write(
        "increment.sql",
        """
        {{ config(materialized='incremental', unique_key='id', order_by='id') }}
        select *, {{ is_incremental() | int }} as is_later from {{ ref('view_model') }}
        """,
    )
    project.write(
        "schema.yml",
        """
        models:
          - name: view_model
            columns:
              - name: id
                data_tests: [unique, not_null]
        snapshots:
          - name: letters_snapshot
            relation: ref('letters')
            config: {unique_key: id, strategy: check, check_cols: all}
        """,
    )
    for is_later in (0, 1):
        results = project.run(command="build")
        assert {result.status.value for result in results.values()} <= {"success", "pass"}
        assert project.rows("increment", "letter, is_later") == [("a", is_later), ("b", is_later)]


@pytest.mark.conformance
def test_view_of_the_same_name_gives_way_to_a_python_table(project: Project) -> None:
    project.write("thing.sql", "select 1 as n")
    project.succeed()
    (project.folder / "models" / "thing.sql").unlink()
    project.write(
        "thing.py",
        """
        import pandas as pd

        def model(dbt, session):
            dbt.config(materialized="table")
            return pd.DataFrame({"n": [2]})
        """,
    )
    project.succeed()
    assert project.rows("thing") == [(2,)]
    assert project.tables() == {"thing"}


def test_native_driver_is_refused_with_the_remedy(project: Project) -> None:
    from dbt.adapters.clickhousepy.credentials import ClickHousePyCredentials
    from dbt.adapters.clickhousepy.python_job import connect
    from dbt_common.exceptions import DbtRuntimeError

    credentials = ClickHousePyCredentials(driver="native", port=9000, schema="default")
    with pytest.raises(DbtRuntimeError, match="set `driver: http`"):
        connect(credentials)


BROKEN_TWICE = """
import pandas as pd

def model(dbt, session):
    dbt.config(materialized="table")
    return pd.DataFrame({"n": [1 / ZERO]})
"""


@pytest.mark.conformance
def test_retry_runs_what_failed_and_what_was_skipped(project: Project) -> None:
    project.write("good.sql", "select 1 as n")
    project.write("broken.py", BROKEN_TWICE.replace("ZERO", "0"))
    project.write("after.sql", "select n from {{ ref('broken') }}")
    assert project.statuses() == {"good": "success", "broken": "error", "after": "skipped"}
    project.write("broken.py", BROKEN_TWICE.replace("ZERO", "1"))
    assert project.statuses(command="retry") == {"broken": "success", "after": "success"}
    assert project.rows("after") == [(1.0,)]


@pytest.mark.conformance
def test_build_selects_a_python_model_with_its_parents_and_tests(project: Project) -> None:
    project.write("source_rows.sql", NUMBERS)
    project.write(
        "doubled.py",
        """
        def model(dbt, session):
            dbt.config(materialized="table", tags=["nightly"])
            frame = dbt.ref("source_rows").to_pandas()
            frame["n"] = frame["n"] * 2
            return frame
        """,
    )
    project.write("after.sql", "select n from {{ ref('doubled') }}")
    project.write(
        "schema.yml",
        """
        models:
          - name: doubled
            columns:
              - {name: n, data_type: UInt64, data_tests: [unique]}
              - {name: parity, data_type: LowCardinality(String)}
        """,
    )
    built = project.statuses("--select", "+tag:nightly", command="build")
    assert built == {"source_rows": "success", "doubled": "success", "unique_doubled_n": "pass"}
    assert project.tables() == {"source_rows", "doubled"}


@pytest.mark.conformance
def test_empty_run_gives_python_models_tables_without_rows(project: Project) -> None:
    project.write("outside.sql", NUMBERS)
    project.write(
        "between.sql",
        "{{ config(materialized='table') }} select * from {{ ref('outside') }}",
    )
    project.write(
        "doubled.py",
        """
        def model(dbt, session):
            dbt.config(materialized="table")
            frame = dbt.ref("between").to_pandas()
            frame["n"] = frame["n"] * 2
            return frame
        """,
    )
    assert set(project.statuses("--empty").values()) == {"success"}
    assert project.rows("doubled") == []
    assert project.types("doubled") == {"n": "UInt64", "parity": "String"}
