"""The adapter: everything of dbt-clickhouse's, and a way to run a Python model."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from dbt.adapters.base.impl import PythonJobHelper
from dbt.adapters.base.meta import available
from dbt.adapters.clickhouse.column import ClickHouseColumn
from dbt.adapters.clickhouse.httpclient import ChHttpClient
from dbt.adapters.clickhouse.impl import ClickHouseAdapter
from dbt.adapters.clickhousepy.connections import ClickHousePyConnectionManager
from dbt.adapters.clickhousepy.described_columns import Columns, DescribedColumns, key_of
from dbt.adapters.clickhousepy.python_job import InProcessJob
from dbt.adapters.contracts.connection import AdapterResponse


class ClickHousePyAdapter(ClickHouseAdapter):
    """dbt-clickhouse, plus Python models run in the dbt process.

    The name is part of the protocol: dbt finds the package of a Python model's adapter by
    cutting `Adapter` off the class name and lower-casing the rest.
    """

    ConnectionManager = ClickHousePyConnectionManager

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        # By thread, what it asked for last.
        self._asked_last: dict[int, tuple[tuple[str, str], list[ClickHouseColumn]]] = {}
        file = str(getattr(self.config.credentials, "described_columns", ""))
        self._of_earlier_runs = DescribedColumns(Path(file)) if file else None

    @available.parse_none
    def get_column_schema_from_query(
        self, sql: str, *arguments: Any, query_settings: Mapping[str, Any] | None = None
    ) -> list[ClickHouseColumn]:
        """Give the columns of a query, for a model's contract.

        dbt-clickhouse plans and runs the query with `LIMIT 0`, and of an incremental model it asks
        twice in a row. To describe it once is enough, and takes 0.4 times as long; it is not asked
        at all where an earlier run has described it (`described_columns` of the profile).
        """
        handle = self.connections.get_thread_connection().handle
        if not isinstance(handle, ChHttpClient):
            return list(
                super().get_column_schema_from_query(sql, *arguments, query_settings=query_settings)
            )
        settings = dict(query_settings or (arguments[0] if arguments else {}))
        question = (sql, repr(settings))
        thread = threading.get_ident()
        if self._asked_last.get(thread, (None,))[0] != question:
            columns = [
                cast("ClickHouseColumn", ClickHouseColumn.create(name, column_type))
                for name, column_type in self._columns_of(handle, sql, settings)
            ]
            self._asked_last[thread] = (question, columns)
        return self._asked_last[thread][1]

    def _columns_of(self, handle: ChHttpClient, sql: str, settings: Mapping[str, Any]) -> Columns:
        if self._of_earlier_runs is None:
            return _describe(handle, sql, settings)
        key = key_of(handle, sql, settings)
        columns = None if key is None else self._of_earlier_runs.get(key)
        if columns is None:
            columns = _describe(handle, sql, settings)
            # Not where a relation changed meanwhile.
            if key is not None and key == key_of(handle, sql, settings):
                self._of_earlier_runs.put(key, columns)
        return columns

    @property
    def python_submission_helpers(self) -> dict[str, type[PythonJobHelper]]:
        """Give the ways to run a Python model: in this process, and no other."""
        # dbt calls what it finds here with the model and the credentials; the job also wants to
        # know where the model's file is, to name its lines.
        root = Path(getattr(self.config, "project_root", ""))
        helper = partial(InProcessJob, project_root=root)
        return {"in_process": cast("type[PythonJobHelper]", helper)}

    @property
    def default_python_submission_method(self) -> str:
        """Name the way taken when a model's config has no `submission_method`."""
        return "in_process"

    def generate_python_submission_response(self, submission_result: int) -> AdapterResponse:
        """Tell dbt how many rows a job wrote."""
        return AdapterResponse(_message=f"OK {submission_result}", rows_affected=submission_result)


def _describe(handle: ChHttpClient, sql: str, settings: Mapping[str, Any]) -> Columns:
    described: Any = handle.query(f"describe table (\n{sql}\n)", settings=dict(settings))  # type: ignore[no-untyped-call]
    return [(name, column_type) for name, column_type, *_ in described.result_rows]
