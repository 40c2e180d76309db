"""Run a Python model in the dbt process and put what it returns into ClickHouse."""

from __future__ import annotations

import linecache
import math
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error as ClickHouseError
from dbt.adapters.base.impl import PythonJobHelper
from dbt.adapters.clickhouse.credentials import ClickHouseCredentials
from dbt.adapters.clickhousepy.__version__ import version
from dbt.adapters.clickhousepy.lazy_relation import LazyRelation, ThisRelation
from dbt.adapters.clickhousepy.returned_columns import (
    CheckedTable,
    DeclaredColumns,
)
from dbt_common.exceptions import DbtDatabaseError, DbtRuntimeError
from dbt_common.exceptions.base import env_secrets, scrub_secrets

# Rows and bytes per insert: what is in flight stays small whatever the model returns, and an
# iterator of many small frames does not become as many parts of a table.
ROWS_PER_INSERT = 250_000
BYTES_PER_INSERT = 64 * 1024 * 1024

# The place for the columns in the statement that python_model.sql renders.
_COLUMNS_PLACE = "__dbt_python_columns__"


class PythonModelError(DbtRuntimeError):
    """A model's own code failed. The message shows its file, line and the exception."""


class InProcessJob(PythonJobHelper):
    """One run of one Python model."""

    def __init__(
        self,
        parsed_model: dict[str, Any],
        credential: ClickHouseCredentials,
        project_root: Path | None = None,
    ) -> None:
        self._model = parsed_model
        self._credentials = credential
        self._name = str(parsed_model["name"])
        self._path = str(parsed_model["original_file_path"])
        self._file = (project_root or Path()) / self._path

    def submit(self, compiled_code: str) -> int:
        """Run the model and fill its result table; give the number of rows.

        Raises PythonModelError when the model's code fails and ReturnedColumnsError when what it
        returns is not what its YAML declares.
        """
        declared = DeclaredColumns.of_model(self._model)
        client = connect(self._credentials)
        try:
            return self._run(compiled_code, declared, client)
        finally:
            client.close()

    def _run(self, compiled_code: str, declared: DeclaredColumns, client: Client) -> int:
        module = _module_of(f"dbt_python_model_{self._name}", self._path)
        result: _ResultTable | None = None
        try:
            for checked in self._returned_tables(compiled_code, module, declared, client):
                if result is None:
                    result = _ResultTable.create(client, module, checked)
                result.add(checked.rows)
            if result is None:
                result = _ResultTable.create(client, module, declared.without_rows())
            return result.finish()
        except ClickHouseError as error:
            raise DbtDatabaseError(
                self._masked(f"Python model `{self._name}`: writing its result failed: {error}")
            ) from error
        finally:
            sys.modules.pop(module.__name__, None)

    def _returned_tables(
        self, compiled_code: str, module: ModuleType, declared: DeclaredColumns, client: Client
    ) -> Iterator[CheckedTable]:
        """Run the model's code: everything that can fail in it fails in here."""
        source = _at_its_own_lines(compiled_code, self._file)
        # Lets tracebacks quote the line, which is not in any file Python loaded itself.
        linecache.cache[self._path] = (len(source), None, source.splitlines(True), self._path)
        try:
            exec(compile(source, self._path, "exec"), module.__dict__)  # noqa: S102
            dbt = module.__dict__["dbtObj"](lambda name: LazyRelation(client, name))
            dbt.this = ThisRelation(
                client,
                name=repr(dbt.this),
                database=dbt.this.database,
                schema=dbt.this.schema,
                identifier=dbt.this.identifier,
            )
            yield from declared.checked_tables(module.__dict__["model"](dbt, client))
        except (KeyboardInterrupt, GeneratorExit, DbtRuntimeError):
            raise
        except BaseException as error:  # SystemExit too: a model must not end dbt
            raise PythonModelError(self._described(error)) from error

    def _described(self, error: BaseException) -> str:
        """Show the error as Python does, from the model's own frame on."""
        own = error.__traceback__
        while own is not None and own.tb_frame.f_code.co_filename != self._path:
            own = own.tb_next
        lines = "".join(_formatted(error, own))
        return self._masked(f"Python model `{self._name}` ({self._path}) failed:\n{lines}")

    def _masked(self, text: str) -> str:
        """Hide the profile's password, and what dbt itself takes for secrets."""
        secrets = [self._credentials.password, *env_secrets()]
        masked: str = scrub_secrets(text, [secret for secret in secrets if secret])
        return masked


def _formatted(error: BaseException, own: TracebackType | None) -> list[str]:
    return traceback.format_exception(type(error), error, own, chain=False)


def _module_of(name: str, path: str) -> ModuleType:
    """Make the module that the model's code runs in; dataclasses and pickle look it up."""
    module = ModuleType(name)
    module.__file__ = path
    sys.modules[name] = module
    return module


def _at_its_own_lines(code: str, file: Path) -> str:
    """Put back the blank lines that dbt cut off the top, so that line numbers are the file's."""
    if not file.exists():
        return code
    text = file.read_text(encoding="utf-8")
    blank_lines = text[: len(text) - len(text.lstrip())].count("\n")
    return "\n" * blank_lines + code


class _ResultTable:
    """The table the job fills; the materialization then puts it where it belongs."""

    def __init__(self, client: Client, relation: str) -> None:
        self._client = client
        self._relation = relation
        self._waiting: list[pa.Table] = []
        self._row_count = 0

    @classmethod
    def create(cls, client: Client, module: ModuleType, checked: CheckedTable) -> _ResultTable:
        statement: str = module.__dict__["dbt_create_result_relation"]
        structure = "'" + checked.structure.replace("\\", "\\\\").replace("'", "\\'") + "'"
        client.command(statement.replace(_COLUMNS_PLACE, structure))
        return cls(client, module.__dict__["dbt_result_relation"])

    def add(self, rows: pa.Table) -> None:
        """Take rows; they are inserted when there are enough of them."""
        self._waiting.append(rows)
        if (
            sum(table.num_rows for table in self._waiting) >= ROWS_PER_INSERT
            or sum(table.nbytes for table in self._waiting) >= BYTES_PER_INSERT
        ):
            self._insert()

    def finish(self) -> int:
        """Insert what is left; give the number of all rows."""
        if self._waiting:
            self._insert()
        return self._row_count

    def _insert(self) -> None:
        rows = pa.concat_tables(self._waiting)
        self._waiting.clear()
        inserts = max(
            math.ceil(rows.num_rows / ROWS_PER_INSERT), math.ceil(rows.nbytes / BYTES_PER_INSERT), 1
        )
        step = max(math.ceil(rows.num_rows / inserts), 1)
        for start in range(0, rows.num_rows, step):
            self._client.insert_arrow(self._relation, rows.slice(start, step))
        self._row_count += rows.num_rows


def connect(credentials: ClickHouseCredentials) -> Client:
    """Open a client with the profile's credentials and settings.

    It is the job's own, without a session: the model may read a stream while its result is being
    written, and a session would let only one of the two through.
    """
    if credentials.driver == "native":
        raise DbtRuntimeError(
            "Python models need the HTTP interface: set `driver: http` and its port in the profile"
        )
    return clickhouse_connect.get_client(
        host=credentials.host,
        port=credentials.port or (8443 if credentials.secure else 8123),
        username=credentials.user,
        password=credentials.password,
        database=credentials.schema,
        interface="https" if credentials.secure else "http",
        compress=bool(credentials.compression),
        connect_timeout=credentials.connect_timeout,
        send_receive_timeout=credentials.send_receive_timeout,
        verify=credentials.verify,
        server_host_name=credentials.server_host_name,
        client_cert=credentials.client_cert,
        client_cert_key=credentials.client_cert_key,
        client_name=f"dbt-clickhousepy/{version}",
        query_limit=0,
        settings=_settings(credentials),
        autogenerate_session_id=False,
    )


def _settings(credentials: ClickHouseCredentials) -> dict[str, Any]:
    """Give the profile's settings and, on a cluster, what dbt's own connection adds to them."""
    on_cluster = {"insert_quorum": "auto", "insert_distributed_sync": 1}
    return {
        **(on_cluster if credentials.cluster_mode else {}),
        **(credentials.custom_settings or {}),
    }
