"""The columns a Python model returned, checked against those its YAML declares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from clickhouse_connect.driver.binding import quote_identifier
from dbt.adapters.clickhousepy.column_types import (
    UnfitColumnError,
    UnsupportedTypeError,
    arrow_type,
    clickhouse_type,
    fit,
    inferred_type,
)
from dbt.adapters.clickhousepy.lazy_relation import LazyRelation
from dbt_common.exceptions import DbtRuntimeError


class ReturnedColumnsError(DbtRuntimeError):
    """A model's result is not what its YAML declares. Names each column, expected and found."""


@dataclass(frozen=True)
class DeclaredColumns:
    """The `data_type`s of a model's YAML, by column name; empty when it declares none.

    As soon as one column has a `data_type`, the list of columns is held to be whole: a column
    more or less is an error. Columns listed without a type take the one that follows from the
    data; those in `nullable` may hold nulls that the data do not show yet.
    """

    model_name: str
    yaml_path: str
    types: Mapping[str, str | None]
    nullable: frozenset[str] = frozenset()

    @classmethod
    def of_model(cls, model: Mapping[str, Any]) -> DeclaredColumns:
        """Read what dbt parsed for the model; raise ReturnedColumnsError for a wrong type."""
        types = {
            column["name"]: column.get("data_type") or None
            for column in model.get("columns", {}).values()
        }
        patch_path = str(model.get("patch_path") or "").split("://")[-1]
        declared = cls(
            model_name=str(model["name"]),
            yaml_path=patch_path or "its YAML",
            types=types if any(types.values()) else {},
        )
        declared.refuse_unusable_types()
        return declared

    def refuse_unusable_types(self) -> None:
        """Fail before the model runs when it could not return a column whatever it did."""
        problems = []
        for name, declared in self.types.items():
            try:
                if declared:
                    arrow_type(clickhouse_type(declared))
            except UnsupportedTypeError as error:
                problems.append(f"column `{name}`: {error}")
        if problems:
            raise self._error(f"declares in {self.yaml_path}", problems)

    def check(self, returned: pa.Table) -> CheckedTable:
        """Convert a result to the declared types, in the declared order.

        Raises ReturnedColumnsError listing every column that does not fit.
        """
        names = returned.column_names
        problems = [f"column `{name}`: returned twice" for name in _repeated(names)]
        expected: dict[str, str | None] = dict(self.types) or dict.fromkeys(names)
        columns: dict[str, pa.ChunkedArray] = {}
        types: dict[str, str] = {}
        for name, declared in expected.items():
            if name not in names:
                problems.append(f"column `{name}`: expected {declared or 'any type'}, not returned")
                continue
            column = returned.column(names.index(name))
            try:
                types[name] = declared or inferred_type(column, is_nullable=name in self.nullable)
                columns[name] = fit(column, clickhouse_type(types[name]))
            except UnfitColumnError as error:
                problems.append(f"column `{name}`: expected {declared}, found {error}")
            except UnsupportedTypeError as error:
                problems.append(f"column `{name}`: {error}")
        problems += [
            f"column `{name}`: not declared, found {returned.column(names.index(name)).type}"
            for name in dict.fromkeys(names)
            if name not in expected
        ]
        if problems:
            raise self._error(f"returned columns that do not fit {self.yaml_path}", problems)
        return CheckedTable(pa.table(columns), types)

    def settled(self, types: Mapping[str, str]) -> DeclaredColumns:
        """Hold what is returned later to the types found so far: a table's types do not change."""
        return replace(self, types=types)

    def without_rows(self) -> CheckedTable:
        """Give the columns of a result that came without any table, not even an empty one.

        Raises ReturnedColumnsError when the YAML does not declare them.
        """
        if not all(self.types.values()) or not self.types:
            raise self._error(
                "returned no table",
                [f"nothing tells its columns: declare them in {self.yaml_path}"],
            )
        return self.check(pa.table({name: pa.nulls(0) for name in self.types}))

    def checked_tables(self, result: object) -> Iterator[CheckedTable]:
        """Turn what a model returned into tables of one set of types, the first one's.

        Raises ReturnedColumnsError like `check`.
        """
        declared = self
        if isinstance(result, LazyRelation):
            declared = replace(self, nullable=result.nullable_columns())
        for table in declared.tables_of(result):
            checked = declared.check(table)
            declared = declared.settled(checked.types)
            yield checked

    def tables_of(self, result: object) -> Iterator[pa.Table]:
        """Turn what a model returned into Arrow tables.

        Taken are pandas and polars frames, Arrow tables, batches and readers, a LazyRelation (block
        by block), and iterators of those (read one after the other, so that memory holds one at a
        time).
        """
        if isinstance(result, LazyRelation):
            yield from result.to_arrow_batches()
        elif isinstance(result, pa.Table):
            yield result
        elif isinstance(result, pa.RecordBatch):
            yield pa.Table.from_batches([result])
        elif type(result).__module__.partition(".")[0] == "pandas" and hasattr(result, "columns"):
            yield self._from_pandas(result)
        elif callable(to_arrow := getattr(result, "to_arrow", None)):
            yield from self.tables_of(to_arrow())
        elif isinstance(result, Iterator | pa.RecordBatchReader):
            for part in result:
                yield from self.tables_of(part)
        else:
            raise TypeError(
                f"the model returned {type(result).__name__}: return a pandas or polars frame, an "
                "Arrow table, or an iterator of those"
            )

    def _from_pandas(self, frame: Any) -> pa.Table:
        """Convert column by column; NaN, None and NaT are nulls, the index is left out."""
        names = [str(name) for name in frame.columns]
        columns, problems = [], []
        for position, name in enumerate(names):
            declared = self.types.get(name)
            try:
                columns.append(_series_to_arrow(frame.iloc[:, position], declared))
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                expected = declared or "values of one type"
                problems.append(f"column `{name}`: expected {expected}, found {error}")
            except pa.ArrowNotImplementedError:
                found = frame.iloc[:, position].dtype
                problems.append(f"column `{name}`: expected {declared}, found {found}")
        if problems:
            raise self._error(f"returned columns that do not fit {self.yaml_path}", problems)
        return pa.Table.from_arrays(columns, names=names)

    def _error(self, what: str, problems: Iterable[str]) -> ReturnedColumnsError:
        lines = "".join(f"\n  {problem}" for problem in problems)
        return ReturnedColumnsError(f"Python model `{self.model_name}` {what}:{lines}")


@dataclass(frozen=True)
class CheckedTable:
    """Rows ready to be inserted, and the ClickHouse type of each column."""

    rows: pa.Table
    types: Mapping[str, str]

    @property
    def structure(self) -> str:
        """The columns as ClickHouse writes them in a table function."""
        return ", ".join(f"{quote_identifier(name)} {kind}" for name, kind in self.types.items())


def _repeated(names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]


def _series_to_arrow(series: Any, declared: str | None) -> pa.Array:
    # dicts, tuples and empty lists do not tell their own type
    target = arrow_type(clickhouse_type(declared)) if declared else None
    if target is None or not pa.types.is_nested(target):
        return pa.Array.from_pandas(series)
    # An empty series is one of numbers or objects, whatever it would hold.
    return pa.Array.from_pandas(series, type=target) if len(series) else pa.nulls(0, target)
