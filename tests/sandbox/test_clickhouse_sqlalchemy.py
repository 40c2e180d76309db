"""SQLAlchemy's dialect `clickhousedb`, and pandas through it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pytest
import sqlalchemy as sa
from clickhouse_connect.cc_sqlalchemy import engines, types
from clickhouse_connect.cc_sqlalchemy.ddl.custom import CreateDatabase, DropDatabase

from tests.warehouse_fixtures import ClickHouseProcess


@pytest.fixture
def engine(clickhouse_server: ClickHouseProcess, database: str) -> Iterator[sa.Engine]:
    url = sa.URL.create(
        "clickhousedb",
        username=clickhouse_server.user,
        password=clickhouse_server.password,
        host=clickhouse_server.host,
        port=clickhouse_server.port,
        database=database,
    )
    engine = sa.create_engine(url)
    yield engine
    engine.dispose()


@pytest.fixture
def orders(engine: sa.Engine) -> sa.Table:
    table = sa.Table(
        "orders",
        sa.MetaData(),
        sa.Column("id", types.UInt32),
        sa.Column("city", types.LowCardinality(types.String)),
        sa.Column("price", types.Nullable(types.Decimal(9, 2))),
        sa.Column("at", types.DateTime64(3, "UTC")),
        engines.MergeTree(order_by="id"),
    )
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(
            table.insert(),
            [
                {"id": 1, "city": "Rome", "price": 1.5, "at": pd.Timestamp("2024-01-01")},
                {"id": 2, "city": "Oslo", "price": None, "at": pd.Timestamp("2024-01-02")},
                {"id": 3, "city": "Oslo", "price": 4, "at": pd.Timestamp("2024-01-03")},
            ],
        )
    return table


def test_table_is_made_and_reflected(engine: sa.Engine, orders: sa.Table) -> None:
    inspector = sa.inspect(engine)
    assert inspector.get_table_names() == ["orders"]
    assert inspector.has_table("orders")
    assert not inspector.has_table("nothing")
    assert "system" in inspector.get_schema_names()
    reflected = sa.Table("orders", sa.MetaData(), autoload_with=engine)
    assert [column.name for column in reflected.columns] == [c.name for c in orders.columns]
    assert [repr(c.type) for c in reflected.columns] == [repr(c.type) for c in orders.columns]


def test_expressions_are_selected(engine: sa.Engine, orders: sa.Table) -> None:
    by_city = (
        sa.select(orders.c.city, sa.func.count().label("orders"), sa.func.sum(orders.c.price))
        .where(orders.c.id.in_([2, 3, 9]), orders.c.city.like("O%"))
        .group_by(orders.c.city)
        .having(sa.func.count() > 1)
        .order_by(sa.desc("orders"))
        .limit(5)
    )
    with engine.connect() as connection:
        assert connection.execute(by_city).fetchall() == [("Oslo", 2, 4)]


def test_tables_are_joined(engine: sa.Engine, orders: sa.Table) -> None:
    other = orders.alias("other")
    pairs = (
        sa.select(orders.c.id, other.c.id)
        .select_from(orders.join(other, orders.c.city == other.c.city))
        .where(orders.c.id < other.c.id)
    )
    with engine.connect() as connection:
        assert connection.execute(pairs).fetchall() == [(2, 3)]


def test_parameters_are_bound(engine: sa.Engine, orders: sa.Table) -> None:
    text = sa.text("select id from orders where city = :city order by id")
    with engine.connect() as connection:
        assert connection.execute(text, {"city": "it's"}).fetchall() == []
        assert connection.scalars(text, {"city": "Oslo"}).all() == [2, 3]


def test_error_of_the_server_is_raised(engine: sa.Engine) -> None:
    with (
        engine.connect() as connection,
        pytest.raises(sa.exc.DatabaseError, match="UNKNOWN_TABLE"),
    ):
        connection.execute(sa.text("select * from nothing"))


def test_databases_are_made_and_dropped(engine: sa.Engine, database: str) -> None:
    name = f"{database}_more"
    with engine.begin() as connection:
        connection.execute(CreateDatabase(name, engine="Atomic"))
        assert name in sa.inspect(connection).get_schema_names()
        connection.execute(DropDatabase(name))
        assert name not in sa.inspect(connection).get_schema_names()


def test_pandas_reads_and_appends(engine: sa.Engine, orders: sa.Table) -> None:
    more = pd.DataFrame({"id": [4], "city": ["Bern"], "at": [pd.Timestamp("2024-01-04")]})
    more.to_sql("orders", engine, if_exists="append", index=False)
    frame = pd.read_sql("select id, city, at from orders order by id", engine)
    assert frame["id"].tolist() == [1, 2, 3, 4]
    assert frame["city"].tolist() == ["Rome", "Oslo", "Oslo", "Bern"]
    pieces = pd.read_sql(sa.select(orders.c.id).order_by(orders.c.id), engine, chunksize=3)
    assert [piece["id"].tolist() for piece in pieces] == [[1, 2, 3], [4]]
