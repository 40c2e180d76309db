"""The columns of queries that earlier runs have described, in a file.

To describe a model's query for its contract takes ClickHouse about as long as to plan it. A query
whose text, settings, server version and relations' columns are those of an earlier one has the same
columns.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from dbt.adapters.clickhouse.httpclient import ChHttpClient
from dbt_common.exceptions import DbtRuntimeError

Columns = Sequence[tuple[str, str]]

# Of queries that changed since there is nothing to know any more: the newest are kept.
_MOST_QUERIES = 2_000
_RELATION = re.compile(r"`([^`]+)`\.`([^`]+)`")
# What differs from run to run: large integers, and texts that are times. Only its type counts.
_VARYING = re.compile(r"\b(\d{10,18})\b|'\d{4}-\d\d-\d\d[^']*'")
_STATE = """
select
    version(),
    (
        select arraySort(groupArray((name, value))) from system.settings
        where changed and name not in ('database', 'log_comment')
    ),
    (
        select groupArray((database, table, columns)) from (
            select database, table, groupArray((name, type)) as columns
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
        self._file = file
        self._lock = threading.Lock()
        self._columns = self._read()

    def get(self, key: str) -> Columns | None:
        """Give the columns (name, type) of a query, or None where no run has described it."""
        return self._columns.get(key)

    def put(self, key: str, columns: Columns) -> None:
        """Add the columns of a query. Raises DbtRuntimeError where the file can't be written."""
        with self._lock:
            found = {**self._read(), key: columns}
            newest = list(found.items())[-_MOST_QUERIES:]
            self._columns = dict(newest)
            self._write(json.dumps(self._columns))

    def _read(self) -> dict[str, Columns]:
        try:
            found = json.loads(self._file.read_bytes())
            return {
                key: [(name, column_type) for name, column_type in columns]
                for key, columns in found.items()
            }
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError):
            # Whatever stands there, a query described anew takes its place.
            return {}

    def _write(self, text: str) -> None:
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(
                "w", dir=self._file.parent, prefix=self._file.name, delete=False
            ) as unfinished:
                unfinished.write(text)
            Path(unfinished.name).replace(self._file)
        except OSError as error:
            raise DbtRuntimeError(
                f"described_columns of the profile: {self._file} cannot be written "
                f"({error.strerror}): name a file in a folder that can be written, or leave it out"
            ) from error


def key_of(handle: ChHttpClient, sql: str, settings: Mapping[str, object]) -> str:
    """Give the key of a query: equal where its columns are.

    A relation counts by its columns, under whatever database it stands. What functions defined by
    users, dictionaries and table functions give is not looked at.
    """
    relations = sorted(set(_RELATION.findall(sql)))
    version, changed_settings, found = handle.query(  # type: ignore[no-untyped-call]
        _STATE, parameters={"relations": relations}, settings=dict(settings)
    ).first_row
    columns = {(database, table): columns for database, table, columns in found}
    text = _RELATION.sub(
        lambda match: f"`{match[2]}`" if match.groups() in columns else match[0],
        _VARYING.sub(_type_of_literal, sql),
    )
    known = sorted((table, columns[database, table]) for database, table in columns)
    question = json.dumps([text, version, changed_settings, known], default=str)
    return hashlib.sha256(question.encode()).hexdigest()


def _type_of_literal(match: re.Match[str]) -> str:
    if match[1] is None:
        return "<String>"
    return "<UInt32>" if int(match[1]) < 2**32 else "<UInt64>"
