"""The columns of queries that earlier runs have described, in a file.

To describe a model's query for its contract takes ClickHouse about as long as to plan it. A query
whose text, settings, server version and relations' columns are those of an earlier one has the same
columns.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dbt.adapters.clickhouse.httpclient import ChHttpClient
from dbt.adapters.events.logging import AdapterLogger
from dbt_common.exceptions import DbtDatabaseError

Columns = Sequence[tuple[str, str]]

_log = AdapterLogger("ClickHouse")

# Of queries that changed since there is nothing to know any more: the newest are kept.
_MOST_QUERIES = 2_000
# Relations as dbt writes them, and others.
_RELATION = r"`(?P<database>[^`]+)`\.`(?P<table>[^`]+)`"
_OTHER_RELATION = re.compile(r"\b(?:from|join)\s+(?!`[^`]+`\.`)[^\s(),]+\.", re.IGNORECASE)
# A text is matched to be kept: what looks like a comment in it is none.
_COMMENT = re.compile(r"('(?:[^'\\]|\\.)*')|--[^\n]*|/\*.*?\*/", re.DOTALL)
# What differs from run to run: large integers, and texts that are times. Only its type counts. (A
# text before `=` may be a name in a type.)
_VARYING = re.compile(
    rf"{_RELATION}|\b(?P<integer>\d{{10,18}})\b"
    r"|'\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d:\d\d(?:\.\d+)?)?'(?!\s*=)",
    re.ASCII,
)
_STATE = """
select
    version(),
    (
        select arraySort(groupArray((name, value))) from system.settings
        where changed and name not in ('database', 'log_comment')
    ),
    (
        select groupArray((database, table, columns)) from (
            select database, table, groupArray((name, type, default_kind)) as columns
            from (select * from system.columns order by position)
            where (database, table) in {relations:Array(Tuple(String, String))}
            group by database, table
        )
    )
"""


class DescribedColumns:
    """A file of columns by query, which runs share; threads may use one object.

    Runs that write at the same time may lose one another's entries, which costs a description.
    """

    def __init__(self, file: Path) -> None:
        self._file = file.resolve()
        self._lock = threading.Lock()
        self._is_writable = True
        self._columns = self._read()

    def get(self, key: str) -> Columns | None:
        """Give the columns (name, type) of a query, or None where no run has described it."""
        return self._columns.get(key)

    def put(self, key: str, columns: Columns) -> None:
        """Add the columns of a query; warn, once, where the file can't be written."""
        with self._lock:
            found = {**self._read(), **self._columns, key: columns}
            self._columns = dict(list(found.items())[-_MOST_QUERIES:])
            if self._is_writable:
                self._write(json.dumps(self._columns))

    def _read(self) -> dict[str, Columns]:
        try:
            found = json.loads(self._file.read_bytes())
            return {key: _checked(columns) for key, columns in found.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            # Whatever stands there: a query described anew takes its place.
            return {}

    def _write(self, text: str) -> None:
        name = f"{self._file.name}.{os.getpid()}-{threading.get_ident()}"
        unfinished = self._file.with_name(name)
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            try:
                unfinished.write_text(text)
                unfinished.replace(self._file)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            self._is_writable = False
            _log.warning(
                f"described_columns of the profile: {self._file} cannot be written "
                f"({error.strerror}), so each run describes the queries of its contracts: name a "
                "file in a folder that can be written, or leave it out"
            )


def _checked(columns: Any) -> Columns:
    found = [(name, column_type) for name, column_type in map(list.copy, columns)]
    if not all(isinstance(part, str) for column in found for part in column):
        raise TypeError
    return found


def key_of(handle: ChHttpClient, sql: str, settings: Mapping[str, object]) -> str | None:
    """Give the key of a query: equal only where its columns are; None where that can't be said.

    A relation counts by its name and columns, under whatever database it stands. What functions
    defined by users, dictionaries and table functions give is not looked at.
    """
    if _OTHER_RELATION.search(_COMMENT.sub(r"\1", sql)):
        return None
    relations = sorted(set(re.findall(_RELATION, sql)))
    try:
        state: Any = handle.query(_STATE, parameters={"relations": relations})  # type: ignore[no-untyped-call]
    except DbtDatabaseError:
        return None
    version, changed_settings, found = state.first_row
    columns = {(database, table): columns for database, table, columns in found}
    if len(columns) < len(relations):
        return None

    def type_of(varying: re.Match[str]) -> str:
        if table := varying["table"]:
            return f"`{table}`{columns[varying['database'], table]}"
        if integer := varying["integer"]:
            # With and without a sign the type changes at these.
            return f"<{sum(int(integer) >= 2**bits for bits in (31, 32))}>"
        return "<text>"

    text = _VARYING.sub(type_of, sql)
    question = json.dumps([text, version, changed_settings, sorted(settings.items())], default=str)
    return hashlib.sha256(question.encode()).hexdigest()
