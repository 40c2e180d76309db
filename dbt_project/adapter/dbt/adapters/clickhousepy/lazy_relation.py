"""What `dbt.ref()` and `dbt.source()` give a Python model: a table not read yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.driver.binding import quote_identifier
from clickhouse_connect.driver.client import Client
from dbt.adapters.clickhousepy.column_types import read_as

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LazyRelation:
    """A table or view of the warehouse. Nothing is read until one of the `to_…` is called.

    Each of them takes `columns` (names, all by default) and `where` (a ClickHouse condition
    with `{name:Type}` places that the server fills from `parameters`), so that only what the
    model needs leaves ClickHouse::

        dbt.ref("orders").to_pandas(
            columns=["order_id", "price"],
            where="ordered_at >= {start:DateTime}",
            parameters={"start": datetime(2024, 1, 1)},
        )
    """

    client: Client
    name: str
    row_limit: int | None = None

    def __str__(self) -> str:
        return self.name

    def limit(self, rows: int) -> LazyRelation:
        """Give the same relation, cut to `rows` rows when it is read."""
        return replace(self, row_limit=rows)

    def nullable_columns(self) -> frozenset[str]:
        """Name the columns that may hold nulls."""
        described = self.client.query(f"select * from {self.name} limit 0")  # noqa: S608
        columns = zip(described.column_names, described.column_types, strict=True)
        return frozenset(name for name, of in columns if of.nullable)

    def to_arrow(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> pa.Table:
        """Read into an Arrow table; times are timestamps in UTC."""
        query, types = self._query(columns, where, parameters)
        return _typed(self.client.query_arrow(query, dict(parameters or {})), types)

    def to_arrow_batches(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Iterator[pa.Table]:
        """Read block by block: memory holds one block at a time. There is one at least."""
        query, types = self._query(columns, where, parameters)
        has_rows = False
        with self.client.query_arrow_stream(query, dict(parameters or {})) as batches:
            for batch in batches:
                has_rows = True
                block = batch if isinstance(batch, pa.Table) else pa.Table.from_batches([batch])
                yield _typed(block, types)
        if not has_rows:
            yield self.limit(0).to_arrow(columns, where, parameters)

    def to_pandas(
        self,
        columns: Sequence[str] | None = None,
        where: str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Read into a pandas frame. Nullable integers come as pandas' own (`Int64`): as floats
        they would lose digits.
        """  # noqa: D205
        return _to_pandas(self.to_arrow(columns, where, parameters))

    def _query(
        self,
        columns: Sequence[str] | None,
        where: str | None,
        parameters: Mapping[str, Any] | None,
    ) -> tuple[str, Sequence[ClickHouseType]]:
        if isinstance(columns, str):
            raise TypeError(f"columns={columns!r} is one string: give a list of column names")
        selected = "*" if columns is None else ", ".join(quote_identifier(c) for c in columns)
        query = f"select {selected} from {self.name}"  # noqa: S608
        if where is not None:
            query += f" where {where}"
        described = self.client.query(f"{query} limit 0", dict(parameters or {}))
        if self.row_limit is not None:
            query += f" limit {int(self.row_limit)}"
        return query, described.column_types


@dataclass(frozen=True)
class ThisRelation(LazyRelation):
    """What `dbt.this` is: the model's own table, as the last run left it."""

    database: str = ""
    schema: str = ""
    identifier: str = ""

    def __call__(self) -> str:
        """Give the quoted name, as dbt's own `dbt.this()` does elsewhere."""
        return self.name


def _typed(block: pa.Table, types: Sequence[ClickHouseType]) -> pa.Table:
    columns = [read_as(column, of) for column, of in zip(block.columns, types, strict=True)]
    return pa.table(columns, names=block.column_names)


def _to_pandas(block: pa.Table) -> pd.DataFrame:
    import pandas as pd

    nullable_integers = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
    }
    frame: pd.DataFrame = block.to_pandas()
    for name, column in zip(block.column_names, block.columns, strict=True):
        if column.null_count and column.type in nullable_integers:
            frame[name] = column.to_pandas(types_mapper=nullable_integers.get)
    return frame
